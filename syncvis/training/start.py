"""What the initial weights of a run bring: what starts fresh all the same, and whose classes a class head is of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from syncvis.config import RunConfig
from syncvis.data.entries import read_categories
from syncvis.data.jsonfile import JsonFile
from syncvis.errors import DataError
from syncvis.methods.base import Method
from syncvis.training.checkpoint import CLASS_HEAD, CLASS_TEXT, EXCHANGE, is_within, match, part, spell
from syncvis.weights import Header, Shape, read_header


@dataclass(frozen=True)
class Start:
    """What a run begins with.

    Attributes:
        fresh: names of the tensors that the file does not bring.
        words: what of that, and of the class head, a user must know; empty if there is nothing to say.
    """

    fresh: tuple[str, ...] = ()
    words: str = ""


def start_from(model: Method, path: str | Path, classes: Sequence[str] | None) -> Start:
    """Compare a model, which may be without storage, with the header of its initial weights.

    Args:
        classes: names of the model's classes in the order of its class head; None if nobody knows them.

    Raises:
        StorageError: The file cannot be read, or does not fit.
    """
    header = read_header(path)
    state = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = match(state, header.shapes, path, model.fresh)
    fresh = tuple(name for name, source in found.items() if source is None)
    taken = {source for source in found.values() if source is not None}
    left = [name for name in header.shapes.keys() - taken if not name.endswith(".num_batches_tracked")]
    sentences = [
        _listed("fresh", _fresh_parts(fresh, state, header, model.fresh)),
        _taken_over(header, classes) if any(CLASS_HEAD in name for name in taken) else "",
        _listed("not used", _left_parts(left)),
    ]
    return Start(fresh, "; ".join(sentence for sentence in sentences if sentence))


def class_names(config: RunConfig) -> tuple[str, ...] | None:
    """Names of the classes of the training split; None if it is not there, or damaged."""
    path = Path(config.data.root) / config.data.train
    try:
        return tuple(category.name for category in read_categories(JsonFile(path)))
    except DataError:
        return None


def compare_classes(theirs: Sequence[str], ours: Sequence[str]) -> str:
    """What is different between two lists of classes; empty if nothing is."""
    if list(theirs) == list(ours):
        return ""
    if sorted(theirs) == sorted(ours):
        differ = [(a, b) for a, b in zip(theirs, ours, strict=True) if a != b]
        first, second = (spell(map(repr, names)) for names in zip(*differ, strict=True))
        return f"the same classes in another order: {first} in the file, {second} here"
    gone, new = (Counter(a) - Counter(b) for a, b in ((theirs, ours), (ours, theirs)))
    kept = [[name for name in names if name in set(others)] for names, others in ((theirs, ours), (ours, theirs))]
    order = "" if kept[0] == kept[1] else "; the others stand in another order"
    return f"other classes: {spell(map(repr, gone))} in the file, {spell(map(repr, new))} here{order}"


def _fresh_parts(fresh: Iterable[str], state: Mapping[str, Shape], header: Header, new: Sequence[str]) -> list[str]:
    brought = {part(name) for name in header.shapes}
    words = []
    for name in fresh:
        if part(name) not in brought:
            words.append(f"{part(name).replace('_', ' ')} (not in the file)")
        elif CLASS_HEAD in name:
            theirs, ours = num_classes(header.shapes), num_classes(state)
            words.append(f"class head ({theirs or 'no'} classes in the file, {ours} here)")
        elif CLASS_TEXT in name:
            words.append("text of the classes")
        else:
            words.append(_group(name, new))
    return list(dict.fromkeys(words))


def _left_parts(names: Iterable[str]) -> list[str]:
    """Parts of a file that the model does not take; what is of other classes has been named."""
    counts = Counter(_group(n) for n in sorted(names) if CLASS_HEAD not in n and CLASS_TEXT not in n)
    return [f"{count} tensors of {group}" for group, count in counts.items()]


def _taken_over(header: Header, classes: Sequence[str] | None) -> str:
    if header.classes is None:
        count = num_classes(header.shapes)
        return f"class head of {count} classes taken over; the classes of the file are unknown"
    difference = "" if classes is None else compare_classes(header.classes, classes)
    return f"class head taken over from {difference}" if difference else ""


def num_classes(shapes: Mapping[str, Shape]) -> int | None:
    """K of the class head, whose last row is for no class."""
    return next((shape[0] - 1 for name, shape in shapes.items() if name.endswith(f"{CLASS_HEAD}bias")), None)


def _group(name: str, new: Sequence[str] = ()) -> str:
    """What a tensor belongs to: an exchange, something that the method declares new, or a top-level part."""
    before, exchange, _ = name.partition(EXCHANGE)
    if exchange:
        return f"exchange ({before}{EXCHANGE.rstrip('.')})"
    return next((one for one in new if is_within(name, (one,))), part(name).replace("_", " "))


def _listed(kind: str, groups: Sequence[str]) -> str:
    return f"{kind}: {', '.join(groups)}" if groups else ""
