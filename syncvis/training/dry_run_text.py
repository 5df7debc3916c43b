"""The dry run of a training as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from pydantic import BaseModel

from syncvis.preflight import Missing, listed
from syncvis.training.cost import Memory, Parameters, counting_device
from syncvis.training.dry_run import DryRun, gib

NOT_COUNTED = """\
Counted on shapes, with the kernels of a {} device: matrix products, attention and convolutions. A multiply-add is two
FLOPs, and the backward pass costs twice the forward pass (less where parts are frozen). Half precision is estimated:
autocast around the whole forward pass. Not counted: sampling of deformable attention, elementwise work, matching and
losses (also the passes of subclips.placement=decode); of the memory also work space, fragmentation and the CUDA
context."""


def render(run: DryRun) -> str:
    """The dry run as aligned text."""
    sections = [
        _table(_run_rows(run)),
        _table([("PARAMETERS", "total", "trainable", "frozen"), *_parameter_rows(run.parameters)], right=True),
        _table([("A STEP, PER GPU", "TFLOP", "kept for backward"), *_cost_rows(run)], right=True),
        NOT_COUNTED.format(counting_device().upper()),
        _table([("MEMORY PER GPU", ""), *_memory_rows(run.memory)], right=True),
        "\n".join(["DIFFERS FROM THE PUBLISHED RECIPE", *(f"  {line}" for line in run.differs)]) if run.differs else "",
        "\n".join(["GOOD TO KNOW", *(f"  {line}" for line in run.notes)]) if run.notes else "",
        _missing_text(run.missing),
    ]
    return "\n\n".join(section for section in sections if section)


def _run_rows(run: DryRun) -> list[tuple[str, ...]]:
    config, train, data = run.config, run.config.train, run.config.data
    milestones = ", ".join(f"{m:,.0f}" if m > 1 else f"{m:.0%}" for m in train.milestones)
    height, width = run.size
    method = f"{_settings(config.method)}, {config.model.backbone.name}, scale {config.scale}"
    start = [("weights", f"{train.init}: {run.initial_weights}")] if run.initial_weights else []
    return [
        ("model", f"{method}, K = {run.num_classes} ({run.classes_from})"),
        ("steps", f"{train.steps:,}, lr {train.lr:g} x {train.gamma:g} at {milestones}, {train.precision}"),
        ("batch", f"{train.batch_size} clips = {run.gpus} (GPUs) x {train.accumulate} (passes) x {run.clips}"),
        ("clip", f"{data.frames} frames of {height} x {width}: the largest short side at 16:9, padded"),
        *start,
    ]


def _settings(method: BaseModel) -> str:
    """Name and settings of a method: choices by name, which speak for themselves, and what is not at its default.

    What is off is left out.
    """
    changed = method.model_dump(mode="json", exclude_defaults=True, exclude_none=True)
    settings = {k: v for k, v in method.model_dump(mode="json").items() if isinstance(v, str) or k in changed}
    settings = {k: v for k, v in settings.items() if v != "off"}
    return ", ".join(value if isinstance(value, str) else f"{key} {value}" for key, value in settings.items())


def _parameter_rows(parameters: dict[str, Parameters]) -> list[tuple[str, ...]]:
    rows = {**parameters, "total": sum(parameters.values(), Parameters())}
    return [(part, f"{n.total:,}", f"{n.trainable:,}", f"{n.frozen:,}") for part, n in rows.items()]


def _cost_rows(run: DryRun) -> list[tuple[str, ...]]:
    flops, saved = run.step_flops, run.forward.saved
    parts = dict.fromkeys([*flops, *saved])
    rows = [(part.replace("_", " "), flops.get(part, 0), saved.get(part, 0)) for part in parts]
    rows.append(("total", sum(flops.values()), sum(saved.values())))
    return [(part, f"{n / 1e12:,.2f}", gib(size)) for part, n, size in rows]


def _memory_rows(needed: Memory) -> list[tuple[str, ...]]:
    names = {"optimizer": "Adam moments"}
    rows = [(names.get(part, part), size) for part, size in asdict(needed).items()]
    return [(part, gib(size)) for part, size in [*rows, ("total", needed.total)]]


def _missing_text(missing: Sequence[Missing]) -> str:
    if not missing:
        return "MISSING ON THIS MACHINE: nothing"
    return "\n".join(["MISSING ON THIS MACHINE", *listed(missing)])


def _table(rows: Sequence[tuple[str, ...]], right: bool = False) -> str:
    """Columns two spaces apart; with ``right`` all but the first are flush right."""
    columns = []
    for index, column in enumerate(zip(*rows, strict=True)):
        width = max(map(len, column))
        columns.append([cell.rjust(width) if right and index else cell.ljust(width) for cell in column])
    return "\n".join("  ".join(row).rstrip() for row in zip(*columns, strict=True))
