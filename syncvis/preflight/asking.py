"""Questions that need torch, put to processes of their own."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from subprocess import DEVNULL, PIPE, Popen
from typing import Any

from syncvis.references import allowed

Answer = dict[str, Any]


def ask(
    module: str, questions: Sequence[Any], processes: int = 1, told: Callable[[], object] = lambda: None
) -> list[Answer | None]:
    """The answers of ``python -m module PLUGIN...`` in the order of the questions; None where there is none.

    Args:
        module: reads a JSON list of questions from stdin, and prints the answer to each, a JSON object, in a line of
            its own. What else it prints is skipped.
        processes: that share the questions; each imports torch.
        told: called after each answer, in any thread.
    """
    shares = [questions[first::processes] for first in range(min(processes, len(questions)))]
    found: list[Answer | None] = [None] * len(questions)
    with ThreadPoolExecutor(max(len(shares), 1)) as pool:
        for first, answers in enumerate(pool.map(lambda share: _answers(module, share, told), shares)):
            found[first :: len(shares)] = answers
    return found


def _answers(module: str, questions: Sequence[Any], told: Callable[[], object]) -> list[Answer | None]:
    found: list[Answer | None] = []
    for answer in islice(_printed(module, questions), len(questions)):
        found.append(answer)
        told()
    return [*found, *[None] * (len(questions) - len(found))]


def _printed(module: str, questions: Sequence[Any]) -> Iterator[Answer]:
    words = [sys.executable, "-m", module, *allowed()]
    with Popen(words, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            with process.stdin:
                json.dump(questions, process.stdin)
        except BrokenPipeError:  # it has ended without reading them
            return
        for line in process.stdout:
            try:
                answer = json.loads(line)
            except ValueError:
                continue
            if isinstance(answer, dict):
                yield answer
