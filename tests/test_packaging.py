"""What is said of the package in its files: versions, dependencies, what CI runs."""

import ast
import re
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml
from source_files import parsed, statements

import cnntune

REPOSITORY = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
WORKFLOWS = sorted((REPOSITORY / ".github/workflows").glob("*.yml"))
# Optuna, Jinja and pydantic are made of these, and none of them goes without.
BROUGHT = {"alembic", "sqlalchemy", "markupsafe", "pydantic_core"}


def sources() -> list[ast.Module]:
    """All of cnntune, parsed when a test asks: every process that tests loads this file."""
    return [parsed(path) for path in sorted((REPOSITORY / "cnntune").rglob("*.py"))]


def bounds(requirements: list[str]) -> dict[str, str]:
    """Lower bounds by name: `{"torch": "2.11"}` of `["torch>=2.11"]`."""
    found = [re.match(r"([\w-]+)(?:\[\w+\])?>=([\d.]+)", text) for text in requirements]
    assert all(found), requirements
    return {match[1]: match[2] for match in found if match}


DEPENDENCIES = bounds(PROJECT["dependencies"])
EXTRAS = bounds(list(chain.from_iterable(PROJECT["optional-dependencies"].values())))


def normal(name: str) -> str:
    """A distribution's name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def imported() -> set[str]:
    """Top names of all modules that cnntune imports, wherever in a file it does so."""
    names: set[str] = set()
    for node in chain.from_iterable(statements(tree) for tree in sources()):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names - {"cnntune"} - set(sys.stdlib_module_names)


def modules_of(name: str) -> set[str]:
    """The top names that an installed distribution brings."""
    try:
        files = distribution(name).files or []
    except PackageNotFoundError:  # an extra
        return set()
    return {file.parts[0].removesuffix(".py") for file in files}


def test_whatever_is_imported_is_a_dependency_or_an_extra() -> None:
    declared = {*DEPENDENCIES, *EXTRAS}
    names = imported() - BROUGHT
    others = {module for module in names if normal(module) not in declared}
    renamed = declared - {normal(module) for module in names}
    assert others <= set(chain.from_iterable(map(modules_of, renamed)))


def test_the_newest_release_in_the_changelog_is_the_version() -> None:
    changelog = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    releases = re.findall(r"^## (\d+\.\d+\.\d+) - (\d{4}-\d{2}-\d{2})$", changelog, re.MULTILINE)
    assert releases[0][0] == cnntune.__version__
    assert releases == sorted(releases, reverse=True)
    headings = re.findall(r"^## (.*)$", changelog, re.MULTILINE)
    assert [text for text in headings if text != "Unreleased"] == [" - ".join(x) for x in releases]


def test_ci_installs_the_lower_bound_of_every_dependency() -> None:
    lines = (REPOSITORY / ".ci/lowest-versions.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.partition(" ")[0].split("==") for line in lines if not line.startswith("#"))
    assert pins.keys() >= DEPENDENCIES.keys()
    for name, bound in DEPENDENCIES.items():
        assert f"{pins[name]}.".startswith(f"{bound}."), name


def test_ci_tests_every_python_that_the_package_is_said_to_run_on() -> None:
    said = [
        text.rsplit(" ", 1)[1]
        for text in PROJECT["classifiers"]
        if re.fullmatch(r"Programming Language :: Python :: 3\.\d+", text)
    ]
    jobs = yaml.safe_load((REPOSITORY / ".github/workflows/ci.yml").read_text())["jobs"]
    assert jobs["test"]["strategy"]["matrix"]["python"] == said
    assert PROJECT["requires-python"] == f">={said[0]}"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_ends_in_time_and_names_the_versions_of_its_actions(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert workflow["permissions"] == {"contents": "read"}
    assert "concurrency" in workflow
    for name, job in workflow["jobs"].items():
        assert job["timeout-minutes"] <= 120, name
        actions = [step["uses"] for step in job["steps"] if "uses" in step]
        assert all(re.fullmatch(r"actions/[\w-]+@v\d+", action) for action in actions), actions


def calls(tree: ast.AST, name: str) -> list[dict[str | None, Any]]:
    """The keyword arguments of each call of `name`, such as `torch.load`, in a file."""
    return [
        {word.arg: getattr(word.value, "value", None) for word in node.keywords}
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == name
    ]


def test_files_of_weights_and_arrays_run_no_code() -> None:
    loads = [call for tree in sources() for call in calls(tree, "torch.load")]
    assert loads
    assert all(call["weights_only"] is True for call in loads)
    arrays = [call for tree in sources() for call in calls(tree, "np.load")]
    assert arrays
    assert not any(call.get("allow_pickle") for call in arrays)
