"""detectron2 is optional: only one package imports it, and says how to get it where it is missing."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
PACKAGE = ROOT / "syncvis" / "interop" / "detectron2"


def _imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_only_its_own_package_imports_it() -> None:
    outside = [p for name in ("syncvis", "sweeps", "analysis") for p in (ROOT / name).rglob("*.py")]
    outside = [path for path in outside if PACKAGE not in path.parents]
    optional = ("detectron2", "fvcore", "iopath", "syncvis.interop.detectron2")
    found = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in outside
        for name in _imported(path)
        for package in optional
        if name == package or name.startswith(f"{package}.")
    }
    assert not found
    assert any("detectron2.data" in _imported(path) for path in PACKAGE.glob("*.py"))


def test_what_a_user_reads_where_it_is_missing() -> None:
    code = "import sys; sys.modules['detectron2'] = None; from syncvis.interop import detectron2"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    last = done.stderr.strip().splitlines()[-1]
    assert "MissingDependencyError: detectron2 is not installed" in last
    assert "docs/detectron2.md" in last
    assert (ROOT / "docs" / "detectron2.md").exists()
