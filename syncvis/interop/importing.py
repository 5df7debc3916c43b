"""``syncvis weights import``: a published file in, a file for ``train.init`` and an account of all names out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from syncvis.config import RunConfig
from syncvis.errors import StorageError
from syncvis.files import write_text
from syncvis.interop.checkpoints import Converted, Misfit, convert
from syncvis.interop.names.mask2former import CLASS_HEAD
from syncvis.interop.stored import read_stored
from syncvis.interop.translate import translate
from syncvis.methods import build
from syncvis.training.checkpoint import save_tensors, spell
from syncvis.training.start import class_names


def import_file(file: Path, config: RunConfig, out: Path, prefix: str | None = None) -> list[str]:
    """Convert ``file`` for the model of ``config``, write ``out`` and ``<out>.report.txt``.

    The class head keeps the classes of the file; ``train.init`` starts it fresh for data of another number of classes.

    Args:
        prefix: which weights to take, where the file holds more than one set of them.

    Returns:
        Lines that sum up what was done, one per part.

    Raises:
        StorageError: The file cannot be read or does not fit; then the report lists every name concerned.
    """
    stored = read_stored(file, prefix)
    head = translate(stored.tensors, file).tensors.get(CLASS_HEAD)
    classes = None if head is None else max(head.shape[0] - 1, 1)
    model = build(config, classes or 1)  # without a head in the file none is written
    report = out.with_name(f"{out.name}.report.txt")
    try:
        converted = convert(stored.tensors, model.state_dict(), file, model.fresh)
    except Misfit as error:
        write_text(report, error.listing + "\n")
        raise StorageError(error.problem, file=file, fix=f"{error.fix}; all names are in {report}") from None
    notes = (*stored.notes, *converted.notes)
    converted = replace(converted, notes=notes, skipped={**stored.passed, **converted.skipped})
    save_tensors(out, converted.tensors, {"source": file.name, "sha256": _sha256(file), "kind": converted.kind})
    head_line = [] if classes is None else [_class_head(classes, class_names(config))]
    write_text(report, "\n".join([*_report(converted), *head_line]) + "\n")
    return [*summary(converted), *head_line, f"weights: {out}   all names: {report}"]


def _class_head(theirs: int, names: tuple[str, ...] | None) -> str:
    """What becomes of the class head in a run of the config."""
    begin = f"class head: {theirs} classes in the file"
    if names is None:
        return f"{begin}, those of the config are not there to compare: starts fresh on data of another number"
    if len(names) != theirs:
        return f"{begin}, {len(names)} in the config: starts fresh"
    return f"{begin} and in the config: taken over; the classes of the file are unknown"


def summary(converted: Converted) -> list[str]:
    """What was done with each part of the model and of the file, one line each."""
    lines = [f"file: {converted.kind}", *(f"note: {note}" for note in converted.notes)]
    parts = dict.fromkeys(name.split(".")[0] for name in (*converted.loaded, *converted.fresh))
    for part in parts:
        loaded = sum(name.startswith(f"{part}.") for name in converted.loaded)
        fresh = {name: reason for name, reason in converted.fresh.items() if name.startswith(f"{part}.")}
        lines.append("; ".join([f"{part}: {loaded} loaded", *(f"fresh {text}" for text in _counted(fresh))]))
    lines += [f"left out {text}" for text in _counted(converted.skipped, names=True)]
    return lines + [f"not used {text}" for text in _counted(converted.unused, names=True)]


def _counted(reasons: Mapping[str, str], names: bool = False) -> list[str]:
    """``2 (reason): name, name`` for every reason."""
    grouped: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        grouped.setdefault(reason, []).append(name)
    return [f"{len(g)} ({reason})" + (f": {spell(g)}" if names else "") for reason, g in grouped.items()]


def _report(converted: Converted) -> list[str]:
    """Every name on both sides, one a line."""
    return [
        *summary(converted),
        *(f"loaded: {name} from {key}" for name, key in converted.loaded.items()),
        *(f"fresh: {name}: {reason}" for name, reason in converted.fresh.items()),
        *(f"left out: {key}: {reason}" for key, reason in converted.skipped.items()),
        *(f"not used: {key}: {part}" for key, part in converted.unused.items()),
    ]


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
