"""The reference is what the code says, and the documents are what the reference says."""

import functools
import json
import runpy
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from commands import COMMANDS, QUICK, Workflow, call
from jsonschema import Draft202012Validator
from PIL import Image

from cnntune import cli
from cnntune.config import files
from cnntune.config.recipe import Recipe, flatten
from cnntune.diagnosis.rules import Label
from cnntune.diagnosis.signs import MEANINGS
from cnntune.steps.inspect import first_recipe
from cnntune.steps.sanity import RULES

DOCS = Path(__file__).parents[2] / "docs"
REFERENCE = DOCS / "reference"
MORE_COMMANDS = {  # than those of the workflow
    "sanity explained": ("sanity", "--explain", "loss"),
    "inspect": ("inspect", *QUICK),
    "diagnose a file": ("diagnose", "log.csv"),
    "train diverged": ("train", *QUICK, "--set", "train.lr=1e6"),
    "no such recipe": ("search", "no-such-recipe"),
}
WEIGHTS = "runs/digits/train-0001/best.pt"
FILES = {
    "study": "runs/digits/study.json",
    "sanity": "runs/digits/sanity.json",
    "lr-sweep": "runs/digits/lr-sweep.json",
    "search": "runs/digits/search.json",
    "plan": "runs/digits/refine-1/plan.json",
    "refine": "runs/digits/refine-1/refine.json",
    "test": "runs/digits/test.json",
    "summary": "runs/digits/trial-0000/summary.json",
    "errors": "runs/digits/train-0001/errors.json",
    "config": "runs/digits/trial-0000/config.json",
}


@functools.cache
def written() -> dict[str, str]:
    """What the script would write."""
    pages: Callable[[], dict[str, str]] = runpy.run_path(str(DOCS / "write_reference.py"))["pages"]
    return pages()


def schema(name: str) -> Any:
    return json.loads((REFERENCE / "schema" / f"{name}.json").read_text(encoding="utf-8"))


def problems(name: str, document: Any) -> list[str]:
    """What is wrong with a document by its schema."""
    found = Draft202012Validator(schema(name)).iter_errors(document)
    return [f"{error.json_path}: {error.message}" for error in found]


def test_the_reference_is_what_the_script_writes() -> None:
    there = {str(path.relative_to(REFERENCE)) for path in REFERENCE.rglob("*") if path.is_file()}
    old = [
        name
        for name, text in written().items()
        if name not in there or (REFERENCE / name).read_text(encoding="utf-8") != text
    ]
    assert not old, f"{', '.join(old)} differ from the code: run `python docs/write_reference.py`"
    assert there == written().keys(), "remove the files that the script does not write"


@pytest.mark.parametrize(
    ("page", "columns", "meaning"), [("recipe", 6, 4), ("documents", 4, 3), ("commands", 4, 3)]
)
def test_every_line_of_a_table_has_a_meaning(page: str, columns: int, meaning: int) -> None:
    lines = [line for line in written()[f"{page}.md"].splitlines() if line.startswith("| `")]
    rows = [line.removeprefix("| ").removesuffix(" |").split(" | ") for line in lines]
    wide = [row for row in rows if len(row) == columns]
    assert len(wide) > 60
    assert [row for row in wide if not row[meaning].strip()] == []


def test_every_key_of_a_recipe_is_listed_with_its_default_and_limits() -> None:
    page = written()["recipe.md"]
    for key in flatten(Recipe().as_values()):
        assert f"| `{key.rpartition('.')[2]}` |" in page
    # the lecture's coarse range is within what is allowed: a learning rate is any number > 0
    assert "| `lr` | number | `0.05` | > 0 |" in page
    assert '| `optimizer` | `"sgd"`, `"adam"`, `"adamw"` | `"sgd"` |' in page
    assert "| `val_fraction` | number | `0.2` | >= 0, < 1 |" in page
    assert "must be" not in page
    assert "an integer >= 8, or a list with one per stage" in page  # block-net's widths


def test_a_key_that_no_search_may_vary_says_why() -> None:
    rows = {line.split(" | ")[0]: line for line in written()["recipe.md"].splitlines()}
    assert rows["| `deterministic`"].endswith(
        "no: it is decided once, for all trials of a search |"
    )
    assert "yes, with a warning: " in rows["| `patience`"]
    assert rows["| `lr`"].endswith("| yes |")


@pytest.mark.parametrize("rule", RULES)
def test_a_sanity_rule_stands_with_its_lesson_and_severities(rule: str) -> None:
    _, _, section = written()["sanity.md"].partition(f"\n## {rule}\n")
    severities, lesson = section.strip().split("\n\n")[:2]
    assert "`ok`" in severities
    assert "`fail`" in severities or "`warn`" in severities
    assert len(lesson) > 40


@pytest.mark.parametrize("label", get_args(Label))
def test_a_label_stands_with_its_meaning_and_its_advice(label: str) -> None:
    _, _, section = written()["diagnose.md"].partition(f"\n### {label}\n")
    section, _, _ = section.partition("\n### ")
    assert "\n1. " in section
    before, _, _ = section.partition("Advice")
    assert len(before) > 40


def test_every_sign_stands_with_its_meaning() -> None:
    page = written()["diagnose.md"]
    assert all(f"| `{sign}` | {meaning} |" in page for sign, meaning in MEANINGS.items())
    (ended,) = (line for line in page.splitlines() if line.startswith("| `schedule-ended`"))
    assert "stretch the schedule" in ended


def test_every_command_option_and_exit_code_is_listed() -> None:
    page = written()["commands.md"]
    for command in cli.app.registered_commands:
        assert command.callback is not None
        name = command.callback.__name__.replace("_", "-")
        section = page.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        assert f"cnntune {name}" in section
        assert "`--json`" in section
    assert "| `--budget` | `TRIALS` | `50` |" in page
    assert "| `--epochs` | integer >= 1 |" in page
    for code in (0, 1, 2, 3, 130, 141):
        assert f"| `{code}` |" in page


@pytest.mark.parametrize("path", sorted(REFERENCE.glob("schema/*.json")), ids=lambda p: p.stem)
def test_a_schema_is_itself_valid(path: Path) -> None:
    Draft202012Validator.check_schema(schema(path.stem))


@pytest.mark.parametrize("name", COMMANDS)
def test_what_a_command_prints_is_as_its_schema_says(name: str, workflow: Workflow) -> None:
    assert problems(name, workflow.document(name)) == []


@pytest.mark.parametrize("name", MORE_COMMANDS)
def test_what_else_a_command_prints_is_as_its_schema_says(name: str, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("epoch,loss,val_loss\n1,2.3,2.3\n2,1.9,2.0\n3,1.5,1.8\n")
    outcome = call(*MORE_COMMANDS[name], "--json", cwd=tmp_path)
    described = "could-not-run" if outcome.code == 2 else outcome.document["command"]
    assert (outcome.code == 2) == (name == "no such recipe"), outcome.err
    assert problems(described, outcome.document) == []


def test_what_predict_prints_is_as_its_schema_says(workflow: Workflow, tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "black.png")
    (tmp_path / "torn.png").write_bytes(b"\x89PNG")
    outcome = call("predict", WEIGHTS, str(tmp_path), "--json", cwd=workflow.folder)
    assert len(outcome.document["predictions"]) == len(outcome.document["skipped"]) == 1
    assert problems("predict", outcome.document) == []


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_a_study_is_as_its_schema_says(name: str, workflow: Workflow) -> None:
    assert problems(name, json.loads((workflow.folder / FILES[name]).read_text())) == []


OWN_MODEL = """
import math
from torch import nn

def build(*, num_classes, in_shape, fails: bool = False):
    if fails:
        raise ValueError("this one fails")
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(in_shape), num_classes))
"""
OWN_RECIPE = """
data.size = 300
model.name = "own_model:build"
space.model.fails = { choice = [true] }
"""


def test_the_summary_of_a_failed_trial_is_as_its_schema_says(tmp_path: Path) -> None:
    (tmp_path / "own_model.py").write_text(OWN_MODEL)
    (tmp_path / "mine.toml").write_text(OWN_RECIPE)
    words = ("search", "mine.toml", "--budget", "1", "--workers", "1", "--json")
    outcome = call(*words, cwd=tmp_path)
    assert outcome.code == 2, outcome.err  # all failed by own code
    searched = {key: value for key, value in outcome.document.items() if key != "errors"}
    assert problems("search", searched) == []
    summary = json.loads((tmp_path / "runs/mine/trial-0000/summary.json").read_text())
    assert (summary["status"], summary["error_kind"]) == ("failed", "user-code")
    assert problems("summary", summary) == []


def test_the_document_of_init_is_as_its_schema_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(first_recipe, "_step_seconds", lambda *_: 0.01)  # measured elsewhere
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(10):
            image = Image.new("RGB", (16, 16), (number * 20, 80, 120))
            image.save(tmp_path / name / f"{number}.png")
    outcome = call("init", "--json", cwd=tmp_path)
    assert outcome.code == 0, outcome.err
    assert problems("init", outcome.document) == []
    assert problems("recipe", tomllib.loads((tmp_path / "cnntune.toml").read_text())) == []


@pytest.mark.slow
def test_the_document_and_the_rounds_of_tune_are_as_their_schemas_say(tmp_path: Path) -> None:
    outcome = call("tune", *QUICK, "--budget", "20", "--epochs", "1", "--json", cwd=tmp_path)
    assert outcome.code == 0, outcome.err
    assert problems("tune", outcome.document) == []
    for path in (tmp_path / "runs/digits").glob("**/refine.json"):
        assert problems("refine", json.loads(path.read_text())) == []


def test_the_shipped_recipes_are_as_the_schema_of_recipes_says() -> None:
    for path in files.shipped().values():
        assert problems("recipe", tomllib.loads(path.read_text())) == []


def test_a_schema_refuses_what_the_code_never_writes(workflow: Workflow) -> None:
    document = workflow.document("search")
    assert problems("search", document | {"more": 1}) != []
    assert problems("search", {k: v for k, v in document.items() if k != "best"}) != []
    assert problems("search", document | {"ok": "yes"}) != []
    assert problems("recipe", {"train": {"lr": 0}}) != []
    assert problems("recipe", {"space": {"train": {"lr": {"log": [1]}}}}) != []
