"""Small git repositories with a source tree like ours."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

IDENTITY = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
FILES = {
    "syncvis/__init__.py": "",
    "syncvis/model.py": "".join(f"line {n}\n" for n in range(20)),
    "sweeps/__init__.py": "",
    "analysis/__init__.py": "",
    "pyproject.toml": "[project]\n",
    "experiments/nk.yaml": "id: nk\n",
    "README.md": "read me\n",
    "LICENSE": "do as you like\n",
    ".gitignore": "outputs/\nignored.py\n",
}


def git(folder: Path, *words: str) -> str:
    """What git prints; a test without git is skipped."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *IDENTITY, *words], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("git is not installed")
    return done.stdout.decode().strip()


def write(folder: Path, files: Mapping[str, str | bytes]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def make_repository(folder: Path, files: Mapping[str, str | bytes] = FILES) -> Path:
    """A repository with these files in its first commit."""
    folder.mkdir(parents=True, exist_ok=True)
    git(folder, "init", "-q")
    write(folder, files)
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "first")
    return folder
