"""Files are known by their first bytes."""

from __future__ import annotations

import gzip
import io
import pickle
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from syncvis.content import EMPTY, HTML, LFS_POINTER, SAFETENSORS, TORCH, content_of, content_of_file


def _zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("results.json", "[]")
    return buffer.getvalue()


def _tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("results.json"))
    return buffer.getvalue()


def _torch(zipped: bool = True) -> bytes:
    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(2)}, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (gzip.compress(b"{}"), "a gzip archive"),
        (_zip(), "a zip archive"),
        (_tar(), "a tar archive"),
        (pickle.dumps({}), "a Python pickle"),
        (b"<!DOCTYPE html>\n<html><body>Quota exceeded</body></html>", HTML.name),
        (b'<?xml version="1.0"?><annotations><track/></annotations>', "an XML file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n", LFS_POINTER.name),
        (b"", EMPTY.name),
        (b"<!-- moved -->\n<html><head>", HTML.name),
        (b"<track>1</track>", None),
        (_torch(), TORCH.name),
        (_torch(zipped=False), TORCH.name),
        (save({"a": torch.zeros(2)}), SAFETENSORS.name),
        (b"\x08\x07\x12\x07pytorch\x1a\x032.0", "an ONNX model"),
        (b"\x1c\x00\x00\x00TFL3", "a TensorFlow Lite model"),
    ],
    ids=lambda value: value if isinstance(value, str) else "content",  # archives hold the time
)
def test_known_kinds(content: bytes, name: str, tmp_path: Path) -> None:
    path = tmp_path / "train.json"
    path.write_bytes(content)
    assert getattr(content_of_file(path), "name", None) == name


@pytest.mark.parametrize("content", [b"{}", b"[1, 2]", b"\xef\xbb\xbf{}", '{"a": 1}'.encode("utf-16"), b"base: x.yaml"])
def test_text_is_of_no_special_kind(content: bytes) -> None:
    assert content_of(content) is None


def test_no_file(tmp_path: Path) -> None:
    assert content_of_file(tmp_path / "absent.json") is None
