"""``syncvis weights import``: a published file in, a file for ``train.init`` and an account of all names out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from syncvis.config import RunConfig
from syncvis.errors import StorageError
from syncvis.files import write_text
from syncvis.interop.checkpoints import Converted, Misfit, convert
from syncvis.interop.stored import read_stored, spell
from syncvis.interop.translate import translate
from syncvis.methods import build
from syncvis.training.checkpoint import save_tensors


def import_file(file: Path, config: RunConfig, out: Path) -> list[str]:
    """Convert ``file`` for the model of ``config``, write ``out`` and ``<out>.report.txt``.

    The class head keeps the classes of the file; ``train.init`` starts it fresh for data of another number of classes.

    Returns:
        Lines that sum up what was done, one per part.

    Raises:
        StorageError: The file cannot be read or does not fit; then the report lists every name concerned.
    """
    stored = read_stored(file)
    model = build(config, _num_classes(stored, file))
    report = out.with_name(f"{out.name}.report.txt")
    try:
        converted = convert(stored, model.state_dict(), file)
    except Misfit as error:
        write_text(report, error.listing + "\n")
        raise StorageError(error.problem, file=file, fix=f"{error.fix}; all names are in {report}") from None
    metadata = {"source": file.name, "sha256": _sha256(file), "kind": converted.kind}
    save_tensors(out, converted.tensors, metadata)
    write_text(report, "\n".join(_report(converted)) + "\n")
    return [*summary(converted), f"weights: {out}   all names: {report}"]


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


def _num_classes(stored: Mapping[str, Tensor], file: Path) -> int:
    """K of the class head in the file; 1 where there is none, for then none is written."""
    head = translate(stored, file).tensors.get("decoder.stacks.0.heads.class_embed.weight")
    return 1 if head is None else max(head.shape[0] - 1, 1)


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
