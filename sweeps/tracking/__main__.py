"""The mirror's process; :class:`sweeps.tracking.process.MirrorProcess` starts it, and again if it hangs.

It says "." or "+" (a run is complete) on its standard output when it has done something. "finish" on its standard
input lets it copy what is left and end; if that closes without a word, its starter is dead and it ends soon.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from sweeps.ledger import Ledger
from sweeps.tracking.mirror import Mirror
from sweeps.tracking.notes import only_mirror
from sweeps.tracking.process import POLL_SECONDS
from sweeps.tracking.processes import end_service_of
from sweeps.view import StudyKey
from sweeps.worker import STORAGE_VARIABLE

ORPHAN_SECONDS = 2.0
MAX_RUNS, RENEW = 2000, 3
"""After so many runs a new process goes on (this one ends with the code): wandb keeps some memory of each."""
PATIENCE_SECONDS = 10.0
"""How long to wait for the ledger; after that, a new process tries."""


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    pulse, finish = _own_output(), _finish_asked()
    with only_mirror(options.folder) as alone:
        if alone:
            return _mirror(options, pulse, finish)
    print(f"{options.folder}: another process mirrors to it", flush=True)
    return 1


def _mirror(options: argparse.Namespace, pulse: int, finish: threading.Event) -> int:
    view = Ledger(os.environ[STORAGE_VARIABLE], PATIENCE_SECONDS, is_open=True).view
    keys = [StudyKey.parse(name) for name in options.studies] if options.studies else None
    mirror = Mirror(view, options.folder, options.mode, keys, options.artifacts, lambda end: _say(pulse, end))
    while True:
        last_time = finish.is_set()
        more = mirror.step()
        _say(pulse, False)
        if (last_time and not more) or mirror.completed >= MAX_RUNS:
            break
        if not more:
            finish.wait(options.poll)
    mirror.close()
    return 0 if last_time and not more else RENEW


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sweeps.tracking", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--mode", choices=("offline", "online"), default="offline")
    parser.add_argument("--studies", nargs="*", help="names such as nk-small; default: all")
    parser.add_argument("--poll", type=float, default=POLL_SECONDS, help="seconds between two looks at the ledger")
    parser.add_argument("--artifacts", action="store_true")
    return parser


def _own_output() -> int:
    """Keep standard output for ourselves, out of reach of what wandb prints and of its service."""
    pulse = os.dup(1)
    os.dup2(2, 1)
    return pulse


def _say(pulse: int, completed: bool) -> None:
    os.write(pulse, b"+" if completed else b".")


def _finish_asked() -> threading.Event:
    """Set once the word comes; without it, the end of standard input ends this process, whatever it waits for."""
    asked = threading.Event()

    def listen() -> None:
        if sys.stdin.readline().strip() == "finish":
            asked.set()
            sys.stdin.read()
            return
        asked.set()
        threading.Event().wait(ORPHAN_SECONDS)
        end_service_of(os.getpid())
        os._exit(1)

    threading.Thread(target=listen, daemon=True).start()
    return asked


if __name__ == "__main__":
    sys.exit(main())
