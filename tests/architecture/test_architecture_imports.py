"""The import rules of the design, the size of files, and text that would only be true on one machine."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("syncvis", "sweeps", "analysis")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

# Lowest first: a part of syncvis imports only what stands before it.
ORDER = (
    "errors", "gpus", "execution", "options", "references", "privacy", "content", "predictions", "transfer",
    "structures", "outputs", "config", "files", "feature_cache", "weights", "source", "distributed", "visualization",
    "ops", "models", "online", "losses", "data", "preflight", "rehearsal", "evaluation", "sync", "methods", "training",
    "interop", "data_cli", "cli", "__main__",
)  # fmt: skip

MAX_LINES = 400
TRAINING = {"sweeps.worker", "sweeps.rerun"}
"""Modules beside the workbench that know the training."""


def _module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _nodes(tree: ast.AST, top_level: bool) -> Iterator[ast.AST]:
    """All nodes, or only those that run when the module is imported."""
    for node in ast.iter_child_nodes(tree):
        checking = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if top_level and (checking or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)):
            continue
        yield node
        yield from _nodes(node, top_level)


def _imports(path: Path, top_level: bool = False) -> set[str]:
    """Full names of what a file imports; ``from a import b`` gives ``a`` and ``a.b``."""
    found: set[str] = set()
    for node in _nodes(ast.parse(path.read_text(encoding="utf-8")), top_level):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _within(names: set[str], *packages: str) -> set[str]:
    return {name for name in names for package in packages if name == package or name.startswith(f"{package}.")}


def _part(module: str) -> str | None:
    """``syncvis.data.loader`` -> ``data``."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[0] == "syncvis" else None


def _ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_every_part_has_its_place() -> None:
    parts = {_part(_module(path)) for path in SOURCES} - {None}
    assert parts <= set(ORDER)


@pytest.mark.parametrize("path", [p for p in SOURCES if _part(_module(p))], ids=_ids)
def test_parts_import_only_what_stands_before_them(path: Path) -> None:
    own = _part(_module(path))
    assert own is not None
    used = {part for name in _imports(path) if (part := _part(name)) and part in ORDER}
    above = {part for part in used if ORDER.index(part) > ORDER.index(own)}
    # The command line names the packages that it offers; errors are raised everywhere.
    assert not above


@pytest.mark.parametrize("path", SOURCES, ids=_ids)
def test_packages_keep_apart(path: Path) -> None:
    package, imports = _module(path).split(".")[0], _imports(path)
    if package == "syncvis":
        assert not _within(imports, "sweeps", "analysis")
    if package == "analysis":
        assert not _within(imports, "torch", "torchvision", "sweeps")
    if package != "syncvis" and _module(path) not in TRAINING:
        light = ["syncvis.config", "syncvis.errors", "syncvis.execution", "syncvis.files", "syncvis.gpus"]
        light += ["syncvis.options", "syncvis.references", "syncvis.source"]
        light += ["syncvis.distributed"] * (_module(path) == "sweeps.ranks")  # in the processes that train
        light += ["syncvis.rehearsal"] * (_module(path) == "sweeps.rehearsal")
        light += ["syncvis.preflight"] * (_module(path) in ("sweeps.readiness", "sweeps.estimate"))
        assert not _within(imports, "syncvis") - _within(imports, *light) - {"syncvis"}
        heavy = "torch", "torchvision", "syncvis.preflight", "syncvis.rehearsal"
        assert not _within(_imports(path, top_level=True), *heavy)


def test_only_workers_and_reruns_of_a_sweep_train() -> None:
    of_sweeps = [path for path in SOURCES if path.is_relative_to(ROOT / "sweeps")]
    assert {_module(path) for path in of_sweeps if _within(_imports(path), "syncvis.training")} <= TRAINING


def test_no_cycles() -> None:
    """Between modules, over imports at any place in the file."""
    modules = {_module(path) for path in SOURCES}
    graph = {_module(path): (_imports(path) & modules) - {_module(path)} for path in SOURCES}
    assert list(TopologicalSorter(graph).static_order())


def test_planning_and_reporting_start_without_torch() -> None:
    """Whatever is imported on the way: everything of analysis, and of sweeps what runs before a worker."""
    light = [_module(p) for p in SOURCES if p.is_relative_to(ROOT / "analysis") or p.is_relative_to(ROOT / "sweeps")]
    light = [module for module in light if module != "sweeps.worker"]
    code = (
        f"import sys\nfor m in {light!r}: __import__(m)\nprint(sorted({{'torch', 'torchvision'}} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_the_look_before_a_run_needs_no_torch() -> None:
    code = "import sys, syncvis.preflight as p; print(p.look.__name__, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == ["look", "False"]


def test_results_are_evaluated_without_torch() -> None:
    code = "import sys, syncvis.cli, syncvis.evaluation.files as f; print(f.evaluate.__name__, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == ["evaluate", "False"]


@pytest.mark.parametrize("path", SOURCES, ids=_ids)
def test_files_stay_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES


def test_exchanges_are_built_in_one_place() -> None:
    """No method has a copy of the modules: all get them from the builders."""
    places: dict[str, set[str]] = {"Exchange": set(), "QuerySync": set()}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = node.func if isinstance(node, ast.Call) else None
            called = name.id if isinstance(name, ast.Name) else name.attr if isinstance(name, ast.Attribute) else ""
            if called in places:
                places[called].add(f"{_module(path)}:{node.lineno}")  # type: ignore[attr-defined]
    assert all(len(found) == 1 for found in places.values()), places


def _text_files() -> list[Path]:
    """What belongs to the repository; where there is no git, the tree as it is."""
    if (ROOT / ".git").exists() and shutil.which("git"):
        command = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
        paths = [ROOT / name for name in names]
    else:
        skipped = {".venv", "outputs", "wandb", "build", "__pycache__"}
        paths = [p for p in ROOT.rglob("*") if not skipped & set(p.relative_to(ROOT).parts)]
    binary = {".safetensors", ".png", ".svg", ".db", ".pt", ".gz"}
    return [path for path in paths if path.is_file() and path.suffix not in binary]


def test_no_path_of_one_machine() -> None:
    folders = "|".join(("work", "home", "root", "Users", "mnt", "tmp"))
    pattern = re.compile(rf"(?<![\w.~$}})*-])/(?:{folders})/[\w.-]+|[A-Z]:\\\\?Users")
    found = []
    for path in _text_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{path.relative_to(ROOT)}: {match}" for match in pattern.findall(text)]
    assert not found
