"""Every command continues a study that 0.1.0 left.

tests/helpers/study_0_1_0 was written by cnntune 0.1.0: `search study.toml --budget 3 --workers 1`
and `refine runs/old --budget 2 --seeds 1 --epochs 2 --workers 1`; afterwards the pages of its
databases were made smaller, and the folder of the code was replaced.
"""

import json
import shutil
from pathlib import Path

import pytest
from commands import call

LEFT = Path(__file__).parents[1] / "helpers/study_0_1_0"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(LEFT, tmp_path / "runs")
    return tmp_path


def values(folder: Path, trial: str) -> dict[str, float]:
    """The learning rate and the width that a trial of the search was given."""
    config = json.loads((folder / "runs/old" / trial / "config.json").read_text())
    return {"train.lr": config["train"]["lr"], "model.width": config["model"]["width"]}


def test_the_study_is_one_of_0_1_0() -> None:
    for name in ("old/study.json", "old/refine-1/study.json"):
        assert json.loads((LEFT / name).read_text())["versions"]["cnntune"] == "0.1.0"


def test_its_trials_are_diagnosed(folder: Path) -> None:
    outcome = call("diagnose", "runs", "--json", cwd=folder)
    assert outcome.code == 0, outcome.err
    runs = outcome.document["runs"]
    assert len(runs) == 5  # three trials of the search, two of the refinement
    assert {(run["format"], run["epochs"]) for run in runs} == {("cnntune", 2)}
    assert outcome.document["skipped"] == []


def test_it_has_a_page(folder: Path) -> None:
    outcome = call("report", "runs/old", "--json", cwd=folder)
    assert outcome.code == 0, outcome.err
    page = (folder / "runs/old/report.html").read_text()
    assert "refine-1" in page
    assert "0.9081" in page  # val acc of its best trial


@pytest.mark.slow
def test_a_further_refinement_trains_the_best_of_its_rounds_again(folder: Path) -> None:
    refine = ("refine", "runs/old", "--budget", "2", "--epochs", "2", "--seeds", "1", "--json")
    outcome = call(*refine, cwd=folder)
    assert outcome.code == 0, outcome.err
    assert outcome.document["study"] == "runs/old/refine-2"
    assert outcome.document["trials"]["complete"] == 2
    best_of_0_1_0 = ("trial-0000", "refine-1/trial-0001")
    assert all(
        (folder / f"runs/old/{trial}-seed-1/summary.json").is_file() for trial in best_of_0_1_0
    )


def test_a_larger_budget_extends_its_search(folder: Path) -> None:
    before = [values(folder, f"trial-{number:04}") for number in range(3)]
    search = ("search", "runs/old/recipe.toml", "--budget", "4", "--workers", "1", "--json")
    outcome = call(*search, cwd=folder)
    assert outcome.code == 0, outcome.err
    assert outcome.document["trials"]["complete"] == 4
    assert outcome.document["best"]["number"] == 0  # as 0.1.0 had it
    assert [values(folder, f"trial-{number:04}") for number in range(3)] == before
    assert values(folder, "trial-0003") not in before


def test_a_trial_is_trained_and_tested(folder: Path) -> None:
    outcome = call("train", "runs/old/trial-0000/config.json", "--json", cwd=folder)
    assert outcome.code == 0, outcome.err
    assert outcome.document["epochs"] == 2
    assert outcome.document["test_images"] == 359
    assert (folder / "runs/old/train-0001/best.pt").is_file()
