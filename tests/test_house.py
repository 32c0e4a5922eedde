"""The house keeps its floors: imports go down, verbs stand alone, the plain values stay light."""

import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "cnntune"

# The table of docs/architecture.md, from the ground up. `data` and `models` are folders.
FLOORS = (
    "errors clock findings texts problems searchable seeds schedule recipe recipe_files space"
    " space_check rungs runs own_code borders failures chance curves flags prescribe verdict logs"
    " reading plot pictures event_files"
    " cores memory forks lifeline torchvision_import",
    "data models augment build contracts device arithmetic checkpoint samplers average optimizers"
    " transfer views parallel opening",
    "evaluate train ledger shared_ledger server",
    "workers trainer preload capacity probe importance search_findings adapt winner budget",
    "trials shared",
    "sanity lr_sweep search refine final judge inspect",
    "tune report checks",
    "show cli",
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms.split()}
VERBS = FLOORS[5].split()
PLAIN = (*FLOORS[0].split()[:-1], "logs.find", "judge")  # all but torchvision_import
BESIDES = ("__init__", "__main__")  # the version, and two lines that start the command line
HEAVY = ("torch", "torchvision", "pandas", "optuna", "sklearn", "matplotlib", "numpy")


def room_of(path: Path) -> str:
    """The module, or the folder that it is in."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def names_imported(path: Path) -> set[str]:
    """Full names of what a file imports, wherever in the file it does so."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are written in full"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def rooms_imported(path: Path) -> set[str]:
    """The rooms of cnntune that a file imports from, its own left out."""
    ours = {name.split(".")[1] for name in names_imported(path) if name.startswith("cnntune.")}
    return ours - {"__version__", room_of(path)}


FILES = sorted(PACKAGE.rglob("*.py"))
ROOMS = sorted({room_of(path) for path in FILES} - set(BESIDES))
IMPORTED = {
    room: set().union(*(rooms_imported(path) for path in FILES if room_of(path) == room))
    for room in ROOMS
}


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_has_a_floor(room: str) -> None:
    assert room in FLOOR, f"give {room} a place in FLOORS and in docs/architecture.md"


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_from_its_own_floor_and_below(room: str) -> None:
    above = {other for other in IMPORTED[room] if FLOOR[other] > FLOOR[room]}
    assert not above


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_imports_no_other_verb(verb: str) -> None:
    assert not IMPORTED[verb] & set(VERBS)


def test_no_room_imports_itself_over_others() -> None:
    TopologicalSorter(IMPORTED).prepare()  # raises CycleError


@pytest.mark.parametrize("room", ["data", "models"])
def test_data_and_models_know_nothing_of_recipes_and_runs(room: str) -> None:
    known = "borders cores device errors findings forks memory searchable seeds torchvision_import"
    assert IMPORTED[room] <= set(known.split())


def test_nothing_draws_but_show_and_nothing_prints_but_the_command_line() -> None:
    printing = {
        room_of(path)
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
    }
    drawing = {
        room_of(path)
        for path in FILES
        if any(name.split(".")[0] == "rich" for name in names_imported(path))
    }
    assert printing <= {"cli"}
    assert drawing <= {"show"}


@pytest.mark.parametrize("room", PLAIN)
def test_plain_values_load_nothing_heavy(room: str) -> None:
    code = f"import sys, cnntune.{room}; print(*sorted(set(sys.modules) & set({HEAVY!r})))"
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == []


def test_a_coordinator_loads_no_torch() -> None:
    rooms = "search trials shared shared_ledger capacity workers"
    imports = "; ".join(f"import cnntune.{room}" for room in rooms.split())
    code = f"import sys; {imports}; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_file_is_left_unfinished(path: Path) -> None:
    assert not re.findall(r"\b(TODO|FIXME|XXX)\b", path.read_text(encoding="utf-8"))
