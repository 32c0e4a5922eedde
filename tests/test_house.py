"""The layers of docs/architecture.md: imports point down, and what should be light stays light."""

import ast
import functools
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from itertools import chain
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "cnntune"

# From the bottom; a package imports only from the lines before its own (docs/architecture.md).
LAYERS = (
    "errors",
    "findings seeds texts machine",
    "runs",
    "config",
    "user_code",
    "data models diagnosis script",
    "training",
    "workers",
    "study",
    "steps",
    "cli",
    "api",
)
LAYER = {name: layer for layer, names in enumerate(LAYERS) for name in names.split()}
COMPOSED = ("checks", "report", "tune")  # the steps that are made of other steps
SHARED = (
    "budget",
    "lr_sweep",
    "next_space",
    "optimism",
    "search_findings",
    "repeats",
    "winner",
)  # what several steps need
HEAVY = ("torch", "torchvision", "pandas", "optuna", "sklearn", "matplotlib", "numpy")
LIGHT = (
    "errors findings seeds texts machine.cpus machine.memory machine.forks machine.clock"
    " runs.study runs.summary runs.chance runs.tensorboard config.recipe config.files config.space"
    " config.combinations config.signatures user_code.imports user_code.borders"
    " study.pruning study.trial workers.processes"
    " diagnosis.judge diagnosis.logs.find script.launch script.rules cli"
)
WITHOUT_TORCH = (
    "steps.search study.coordinator study.shared_coordinator study.shared_ledger workers.capacity"
    " workers.pool"
)
MAX_TOP_ENTRIES = 18
MAX_IMPORTS = 100


def parts_of(path: Path) -> tuple[str, ...]:
    """`("study", "ledger")` of cnntune/study/ledger.py."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


FILES = sorted(PACKAGE.rglob("*.py"))
NAMES = {parts_of(path) for path in FILES}
INSIDE = [path for path in FILES if parts_of(path) not in {(), ("__main__",)}]
TOP_NAMES = sorted({parts_of(path)[0] for path in INSIDE})


# Read when a test asks: every process that tests loads this file.
@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@functools.cache
def names_imported(path: Path) -> set[str]:
    """Full names of what a file imports, wherever in the file it does so."""
    found: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are written in full"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def ours_imported(path: Path) -> set[tuple[str, ...]]:
    """The modules of cnntune that a file imports, as parts of their names."""
    found = set()
    for name in names_imported(path):
        top, *parts = name.split(".")
        while top == "cnntune" and parts and tuple(parts) not in NAMES:
            parts.pop()  # a name in a module
        if top == "cnntune" and parts:
            found.add(tuple(parts))
    return found - {parts_of(path)}


@functools.cache
def graph(depth: int) -> dict[tuple[str, ...], set[tuple[str, ...]]]:
    """What imports what, modules below `depth` counted as the package that they are in."""
    imports: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
    for path in INSIDE:
        here = parts_of(path)[:depth]
        there = {parts[:depth] for parts in ours_imported(path)}
        imports.setdefault(here, set()).update(there - {here})
    return imports


@pytest.mark.parametrize("name", TOP_NAMES)
def test_a_package_imports_from_the_layers_below_it(name: str) -> None:
    assert name in LAYER, f"add {name} to LAYERS and to docs/architecture.md"
    above = {other for (other,) in graph(1)[(name,)] if LAYER[other] >= LAYER[name]}
    assert not above


def test_no_module_imports_itself_over_others() -> None:
    modules = {}
    for path in INSIDE:
        here = parts_of(path)
        modules[here] = {
            parts
            for parts in ours_imported(path)
            # a package's __init__ collects what its modules export
            if here[: len(parts)] != parts and parts[: len(here)] != here
        }
    TopologicalSorter(modules).prepare()  # raises CycleError


def test_the_top_of_the_package_has_few_names_and_few_imports_between_them() -> None:
    assert len(TOP_NAMES) <= MAX_TOP_ENTRIES
    assert len(list(chain.from_iterable(graph(1).values()))) < MAX_IMPORTS


@pytest.mark.parametrize("path", [path for path in INSIDE if path.name == "__init__.py"], ids=str)
def test_a_package_says_what_it_is_and_a_top_one_what_it_must_not_know(path: Path) -> None:
    lesson = ast.get_docstring(tree(path)) or ""
    assert lesson
    if len(parts_of(path)) == 1:
        assert "must not know" in " ".join(lesson.split()), path


def test_a_step_imports_no_other_step() -> None:
    imports = graph(2)
    alone = {
        parts
        for parts in imports
        if parts[0] == "steps" and len(parts) == 2 and parts[1] not in {*SHARED, *COMPOSED}
    }
    for step in alone:
        assert not imports[step] & alone, step


@pytest.mark.parametrize(
    ("name", "never"),
    [
        ("data", "models runs training workers study"),
        ("models", "config data runs training workers study"),
    ],
)
def test_data_and_models_import_neither_each_other_nor_runs(name: str, never: str) -> None:
    assert not {other for (other,) in graph(1)[(name,)]} & set(never.split())


def test_only_the_screen_draws_and_only_the_command_line_prints() -> None:
    printing = {
        parts_of(path)[0]
        for path in FILES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
    }
    drawing = {
        parts_of(path)
        for path in FILES
        if any(name.split(".")[0] == "rich" for name in names_imported(path))
    }
    assert printing <= {"cli"}
    assert drawing <= {("cli", "screen")}


def test_plain_values_load_nothing_heavy() -> None:
    # One after the other in one process: a module is named beside what it is the first to load.
    code = f"""if True:
        import importlib, sys
        loaded = set()
        for module in {LIGHT.split()!r}:
            importlib.import_module(f"cnntune.{{module}}")
            heavy = set({HEAVY!r}) & set(sys.modules) - loaded
            if heavy:
                print(module, *sorted(heavy))
            loaded |= heavy
        """
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    assert run.stdout.splitlines() == []


def test_a_coordinator_loads_no_torch() -> None:
    imports = "; ".join(f"import cnntune.{module}" for module in WITHOUT_TORCH.split())
    code = f"import sys; {imports}; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


def test_the_page_on_the_architecture_names_every_module_of_a_package() -> None:
    page = (PACKAGE.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", page, re.MULTILINE))
    for here in {parts for parts in NAMES if len(parts) == 2}:
        assert here[0] in rows
        assert re.search(rf"`{here[1]}\b", rows[here[0]]), here


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_file_is_left_unfinished(path: Path) -> None:
    assert not re.findall(r"\b(TODO|FIXME|XXX)\b", path.read_text(encoding="utf-8"))
