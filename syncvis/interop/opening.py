"""Opening a file of weights by its content, whatever its ending says; what is something else is named."""

from __future__ import annotations

import json
import re
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from syncvis.content import HEAD, PICKLE, SAFETENSORS, TORCH, ZIP, content_of
from syncvis.errors import StorageError
from syncvis.interop.pickles import RefusedGlobal, load_arrays
from syncvis.training.checkpoint import read_weights, spell
from syncvis.weights import AGAIN, PUBLISHED, no_weights

TORCH_ENDINGS = (".pth", ".pt", ".bin", ".pyth", ".ckpt")
PICKLE_ENDINGS = (".pkl", ".pickle")
USUAL = {"safetensors": (".safetensors",), "a torch file": TORCH_ENDINGS, "a pickle": PICKLE_ENDINGS}
"""Endings that a kind of file has as a rule."""

STATE_ALONE = "store the state dict alone"

_OLD_PICKLE = re.compile(
    rb"\([dl]p\d|[}\]]q|c(collections|copy_?reg|numpy[\w.]*|__builtin__|builtins|torch[\w.]*|posix|nt|os)\n"
)
"""Beginnings of a pickle of protocol 0 or 1, which has no mark."""

LARGEST_INDEX = 2**26
"""Bytes of a JSON file that is looked into."""

_SHARD = re.compile(r"-(\d{5})-of-(\d{5})$")
_YAML = re.compile(r"(\s*(#.*|---)\n)*\s*[\w.-]+:(\s|$)")
"""A key, behind comments."""

_BY_ENDING = (
    (r"\.onnx$", "an ONNX model"),
    (r"\.(pb|pbtxt)$", "a TensorFlow graph"),
    (r"\.(data-\d+-of-\d+|index|meta)$", "a part of a TensorFlow checkpoint"),
    (r"\.(msgpack|flax)$", "a Flax file"),
    (r"\.(caffemodel|prototxt)$", "a Caffe model"),
    (r"\.pdparams$", "a Paddle file"),
)
_CUT = re.compile(
    r"EOF|truncated|ran out of (input|data)|wrong byte size|unexpected end|central directory", re.IGNORECASE
)


def open_weights(path: Path) -> tuple[Any, list[str]]:
    """The content of a file, and remarks on the file; runs nothing of it.

    Raises:
        StorageError: The file is missing, damaged, names code, or is no file of weights.
    """
    kind, read = recognise(path)
    shard = _SHARD.search(path.stem)
    if shard and int(shard[2]) > 1:
        problem = f"is part {int(shard[1])} of {int(shard[2])} of a model; parts are not put together here"
        raise StorageError(problem, file=path, fix="load the model with the library that wrote it, save it as one file")
    usual = path.suffix.lower() in USUAL[kind]
    remarks = [] if usual else [f"read as {kind}, which it is, whatever the ending {path.suffix!r} says"]
    return read(path), remarks


def recognise(path: Path) -> tuple[str, Callable[[Path], Any]]:
    """What kind of file of weights a file is, and its reader.

    Raises:
        StorageError: It is missing, cut short or something else.
    """
    if path.is_dir():
        raise _folder(path)
    head = _head(path)
    content = content_of(head)
    if content is SAFETENSORS or (content is None and len(head) < 9 and path.suffix == ".safetensors"):
        return "safetensors", read_weights
    if content in (TORCH, ZIP):
        _require_torch(path, head)
        return "a torch file", _load_torch
    if content is PICKLE or (content is None and _OLD_PICKLE.match(head)):
        return "a pickle", _load_pickle
    if content is not None:
        raise _archive(path) if content.name == "a tar archive" else no_weights(path, content)
    raise _of_text_or_unknown(path, head)


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(HEAD)
    except OSError as error:
        raise StorageError(f"cannot be read ({error.strerror})", file=path, fix="check the path") from None


def _require_torch(path: Path, head: bytes) -> None:
    """A torch file is a zip archive with a pickle of its own name for it; or, of old, pickles one after another."""
    if not head.startswith(b"PK"):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
    except Exception:  # damage may raise any
        what = "is a torch file that" if content_of(head) is TORCH else "is a zip archive that"
        size = path.stat().st_size
        problem = f"{what} ends early or is damaged: {size:,} bytes, without the list of contents at their end"
        raise StorageError(problem, file=path, fix=AGAIN) from None
    names = {Path(name).name for name in members}
    code = any(re.search(r"(^|/)code/.*\.py$", name) for name in members)
    if code and {"constants.pkl", "data.pkl"} <= names:
        raise StorageError(
            "is a TorchScript archive, a program with weights", file=path, fix=f"{STATE_ALONE}, torch.save(state)"
        )
    if "data.pkl" not in names:
        raise _zip(path, members)


def _zip(path: Path, members: Sequence[str]) -> StorageError:
    if any(name.endswith(".weights.h5") for name in members):
        return StorageError("is a Keras model", file=path, fix=PUBLISHED)
    if members and all(name.endswith(".npy") for name in members):
        return StorageError("is a NumPy archive of arrays", file=path, fix=PUBLISHED)
    return _holding("is a zip archive", path, members, "unzip")


def _archive(path: Path) -> StorageError:
    try:
        with tarfile.open(path, "r:") as archive:
            members = [member.name for member, _ in zip(archive, range(1000), strict=False)]
    except Exception:
        return StorageError("is a tar archive that ends early or is damaged", file=path, fix=AGAIN)
    if {"pickle", "storages", "tensors"} <= {Path(name).name for name in members}:
        return StorageError("is a torch file of before version 0.2", file=path, fix="load it with torch, save it again")
    return _holding("is a tar archive", path, members, "tar -xf")


def _holding(what: str, path: Path, members: Sequence[str], tool: str) -> StorageError:
    weights = [name for name in members if Path(name).suffix.lower() in _ENDINGS]
    shown = spell(weights or members)
    fix = f"unpack it ({tool}), and give {weights[0]}" if weights else PUBLISHED
    return StorageError(f"{what} that holds {shown or 'nothing'}", file=path, fix=fix)


def _folder(path: Path) -> StorageError:
    try:
        names = sorted(entry.name for entry in path.iterdir())
    except OSError as error:
        return StorageError(f"cannot be read ({error.strerror})", file=path, fix="mend its rights")
    if "saved_model.pb" in names:
        return StorageError("is a folder with a TensorFlow model", file=path, fix=PUBLISHED)
    weights = [name for name in names if Path(name).suffix.lower() in _ENDINGS]
    if weights:
        return StorageError(f"is a folder that holds {spell(weights)}", file=path, fix=f"give {path / weights[0]}")
    return StorageError("is a folder without weights", file=path, fix="give the file of weights")


def _of_text_or_unknown(path: Path, head: bytes) -> StorageError:
    named = next((words for pattern, words in _BY_ENDING if re.search(pattern, path.name)), None)
    if named:
        return StorageError(f"is {named}", file=path, fix=PUBLISHED)
    if len(head) < 4 or not _is_text(head):
        problem = f"is no file of weights that is known here ({path.stat().st_size:,} bytes)"
        return StorageError(problem, file=path, fix=f"give a torch file, a pickle of arrays or safetensors; or {AGAIN}")
    text = head.decode(errors="replace").removeprefix("\N{BYTE ORDER MARK}").lstrip()
    if text.startswith(("{", "[")):
        return _json(path)
    if path.suffix.lower() in (".yaml", ".yml") or _YAML.match(text):
        problem, fix = "is a YAML file, a config perhaps", "give the weights first, the config second"
        return StorageError(problem, file=path, fix=fix)
    begin = text.splitlines()[0][:60] if text else ""
    return StorageError(f"is text ({begin!r})", file=path, fix="read it: it may say why the download gave it")


def _is_text(head: bytes) -> bool:
    if b"\0" in head:
        return False
    try:
        head.decode()
    except UnicodeDecodeError as error:
        return error.start > len(head) - 4  # a letter cut in two
    return True


def _json(path: Path) -> StorageError:
    try:
        content = json.loads(path.read_bytes()) if path.stat().st_size < LARGEST_INDEX else None
    except (ValueError, OSError, RecursionError):
        content = None
    weight_map = content.get("weight_map") if isinstance(content, dict) else None
    if isinstance(weight_map, dict):
        files = sorted(set(map(str, weight_map.values())))
        problem = f"is the index of weights that lie in {len(files)} files ({spell(files)})"
        fix = "load the model with the library that wrote it, save it as one file, and give that"
        return StorageError(problem, file=path, fix=fix)
    return StorageError("is a JSON file, no weights", file=path, fix="give the weights first, the config second")


def _load_torch(path: Path) -> Any:
    def load() -> Any:
        with path.open("rb") as stream:  # a path would be read by its ending
            return torch.load(stream, map_location="cpu", weights_only=True)

    return _guarded(path, load)


def _load_pickle(path: Path) -> Any:
    def load() -> Any:
        with path.open("rb") as stream:
            return load_arrays(stream)

    return _guarded(path, load)


def _guarded(path: Path, load: Callable[[], Any]) -> Any:
    """Damage may raise any exception there is."""
    try:
        return load()
    except OSError as error:
        raise StorageError(f"cannot be read ({error.strerror})", file=path, fix="check the path") from None
    except Exception as error:
        raise _no_weights(path, error) from None


def _no_weights(path: Path, error: Exception) -> StorageError:
    """Why nothing came out: something was refused (by us, or by torch, whose message names it), or damage."""
    by_torch = re.search(r"GLOBAL ([\w.]+)", str(error))
    refused = error.name if isinstance(error, RefusedGlobal) else by_torch and by_torch[1]
    if refused:
        problem = f"names {refused}, which is neither a tensor nor a plain container; nothing of it was run"
        return StorageError(problem, file=path, fix=f"{STATE_ALONE}, and use files of trusted sources only")
    if isinstance(error, EOFError) or _CUT.search(str(error)):
        return StorageError(f"ends early: {path.stat().st_size:,} bytes are not all of it", file=path, fix=AGAIN)
    return StorageError(f"is not a whole file of weights ({type(error).__name__})", file=path, fix=AGAIN)


_ENDINGS = (".safetensors", *TORCH_ENDINGS, *PICKLE_ENDINGS)
