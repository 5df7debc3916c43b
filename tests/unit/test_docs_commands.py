"""Every command in a block of the documentation is one that there is, with options that it takes."""

from __future__ import annotations

import itertools
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer

from analysis.cli import app as analysis_app
from sweeps.bases import Place
from sweeps.cli import app as sweeps_app
from sweeps.placement.slurm import SlurmSettings
from syncvis.cli import app

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = {
    **typer.main.get_command(app).commands,
    "sweep": typer.main.get_command(sweeps_app),
    "report": typer.main.get_command(analysis_app),
}
SHELL = "sh", "bash"
CONTINUED = re.compile(r"\\\n\s*")


def blocks(page: Path) -> Iterator[tuple[str, str]]:
    """Kind and text of the fenced blocks."""
    text = page.read_text(encoding="utf-8")
    for found in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield found[1], found[2]


def commands(kind: str, text: str) -> Iterator[list[str]]:
    """The words after ``syncvis`` of each command in a block; beside output, commands begin with "$ "."""
    for line in CONTINUED.sub(" ", text).splitlines():
        if "syncvis " not in line or (kind not in SHELL and not line.startswith("$ ")):
            continue
        lexer = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars="|&;<>")
        lexer.whitespace_split = True
        words = list(lexer)
        pairs = enumerate(itertools.pairwise(words))
        places = [n for n, (word, name) in pairs if Path(word).name == "syncvis" and name in COMMANDS]
        if places:
            end = next((n for n, word in enumerate(words) if n > places[0] and set(word) <= set("|&;<>")), len(words))
            yield words[places[0] + 1 : end]


def parsed(words: list[str]) -> click.Context:
    """As the command line does; raises UsageError."""
    command, name, words = COMMANDS[words[0]], words[0], words[1:]
    while words and words[0] in getattr(command, "commands", {}):
        command, name, words = command.commands[words[0]], words[0], words[1:]
    return command.make_context(name, list(words))


FOUND = [(page.name, shlex.join(words)) for page in PAGES for block in blocks(page) for words in commands(*block)]


def test_the_pages_have_commands() -> None:
    assert len(FOUND) > 50
    assert {"one_node.md", "slurm.md", "placement.md", "README.md"} < {page for page, _ in FOUND}


@pytest.mark.parametrize(("page", "command"), dict.fromkeys(FOUND))
def test_a_command_of_the_documentation_can_be_given(page: str, command: str) -> None:
    values = parsed(shlex.split(command)).params
    SlurmSettings.parse(values.get("slurm") or [])
    for name in values.get("on") or []:
        file = next(
            part for _, part in blocks(ROOT / "docs" / "one_node.md") if part.startswith("# vita_in_passes.yaml")
        )
        if name != file.split()[1]:
            assert name in Place(ROOT / "experiments" / "nk.yaml", "paper").recipes("recipes/syncvis_{on}.yaml")


@pytest.mark.parametrize("page", ["one_node.md", "slurm.md"])
def test_shell_takes_the_blocks(page: str) -> None:
    scripts = [text for kind, text in blocks(ROOT / "docs" / page) if kind in SHELL]
    assert len(scripts) > 3
    for script in scripts:
        done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, ""), script
