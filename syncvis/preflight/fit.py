"""A look at whether the initial weights fit the models of several runs, without torch in this process.

A process of its own builds the models' shapes (:mod:`syncvis.training.fit`). What fits is remembered; what does not is
looked at again, as the code may have changed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from syncvis.config import RunConfig
from syncvis.errors import ConfigError, StorageError
from syncvis.files import fingerprint
from syncvis.preflight.asking import ask
from syncvis.preflight.findings import Findings, Problem
from syncvis.preflight.memory import recall, remember
from syncvis.preflight.weights import INITIAL_WEIGHTS, KEY
from syncvis.references import allowed
from syncvis.source.plugins import files_of, sums

MODULE = "syncvis.training.fit"
VERSION = "fit 2"

Classes = tuple[str, ...]


def look_at_fit(runs: Sequence[tuple[RunConfig, Classes]]) -> Findings:
    """Weights that do not fit a model are problems; what they leave fresh is a note.

    Args:
        runs: configs whose weights are whole files, each with the names of its classes. Models of code from outside
            that is not allowed here are left out.
    """
    known = [(config, classes) for config, classes in runs if set(config.plugins) <= set(allowed())]
    asked = {_key(config, classes): (config, classes) for config, classes in known}
    answers = {key: found for key in asked if (found := recall(key)) is not None and "words" in found}
    left = {key: run for key, run in asked.items() if key not in answers}
    told = dict(zip(left, _ask(list(left.values())), strict=True))
    answers |= {key: answer for key, answer in told.items() if answer is not None}
    for key, answer in told.items():
        if answer is not None and "words" in answer:
            remember(key, answer)
    problems = [_problem(asked[key][0], answer) for key, answer in answers.items() if "problem" in answer]
    notes = [
        f"{INITIAL_WEIGHTS} {asked[key][0].train.init}: {a['words']}" for key, a in answers.items() if a.get("words")
    ]
    return Findings(tuple({str(p.error): p for p in problems}.values()), tuple(dict.fromkeys(notes)))


def _key(config: RunConfig, classes: Classes) -> tuple[str, ...]:
    """What decides the answer."""
    model = config.model_dump_json(
        include={"model": True, "method": True, "sync": True, "subclips": True, "train": {"trained"}}
    )
    init, code = str(config.train.init), [json.dumps(sums(files_of(module))) for module in config.plugins]
    return VERSION, model, init, fingerprint(Path(init)), *code, *classes


def _ask(runs: Sequence[tuple[RunConfig, Classes]]) -> list[dict[str, Any] | None]:
    """The answers in order; None where a process cannot tell, as each run looks for itself before its first step."""
    return ask(MODULE, [{"config": config.model_dump(mode="json"), "classes": classes} for config, classes in runs])


def _problem(config: RunConfig, answer: dict[str, Any]) -> Problem:
    """Of the weights, or of the settings that say what learns."""
    if answer["key"] not in (None, KEY):
        return Problem(answer["key"], ConfigError(answer["problem"], key=answer["key"], fix=answer["fix"]))
    error = StorageError(answer["problem"], file=config.train.init, key=KEY, fix=answer["fix"])
    return Problem(INITIAL_WEIGHTS, error)
