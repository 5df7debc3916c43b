"""What the sweeps print: lines as they are, so that a name or an error of somebody else cannot steer the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

_STEERING = dict.fromkeys(code for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\t\n")
"""Characters that a terminal obeys."""


def plain(text: object) -> Text:
    """Text for a table as it is: no markup, nothing that steers a terminal."""
    return Text(str(text).translate(_STEERING))


def say(console: Console, text: object) -> None:
    """Print lines as they are."""
    console.print(plain(text), highlight=False, soft_wrap=True)
