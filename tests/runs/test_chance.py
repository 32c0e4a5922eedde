"""Has a run learned anything? What guessing gives, by hand, and what commands make of it."""

import math
from pathlib import Path

import pytest
from commands import call

from cnntune.runs.chance import Chance
from cnntune.runs.run import Epoch, Run
from cnntune.runs.summary import summarise

TEN = Chance(0.1, math.log(10), 1000)  # ten classes of 100 images


def row(epoch: int, loss: float, acc: float) -> Epoch:
    return Epoch(epoch, 0.1, loss, acc, loss, acc, 1.0, 1.0)


def test_guessing_answers_the_largest_class_and_loses_the_entropy_of_the_labels() -> None:
    chance = Chance.of([0] * 60 + [1] * 40)
    assert chance.acc == 0.6
    assert chance.loss == pytest.approx(0.6730, abs=1e-4)  # -(0.6 ln 0.6 + 0.4 ln 0.4)
    assert chance.noise == pytest.approx(0.1470, abs=1e-4)  # 3 sqrt(0.6 * 0.4 / 100)
    assert not chance.beaten_by(0.74)
    assert chance.beaten_by(0.75)


def test_few_images_or_one_class_tell_nothing() -> None:
    assert not Chance.of([0, 1] * 19).tells
    assert Chance.of([0, 1] * 20).tells
    assert not Chance.of([3] * 100).tells


def test_a_summary_keeps_what_guessing_gives_and_an_old_one_lacks_it() -> None:
    assert Chance.in_summary(TEN.as_json()) == TEN
    assert Chance.in_summary({"val_images": 1000, "val_acc": 0.5}) is None


@pytest.mark.parametrize(
    ("loss", "acc", "status"),
    [
        (1.4e24, 0.1, "diverged"),
        (231.0, 0.1, "diverged"),  # 100 ln 10 = 230.3
        (229.0, 0.1, "complete"),
        (1.4e24, 0.85, "complete"),  # large logits, of a network that is right all the same
        (math.nan, 0.85, "diverged"),
    ],
)
def test_a_run_has_diverged_where_its_loss_is_hopeless_and_it_only_guesses(
    loss: float, acc: float, status: str
) -> None:
    assert summarise([row(1, 2.3, 0.1), row(2, loss, acc)], TEN).status == status


def test_a_run_that_comes_back_has_not_diverged() -> None:
    summary = summarise([row(1, 1e9, 0.1), row(2, 1.0, 0.7)], TEN)
    assert (summary.status, summary.best_epoch) == ("complete", 2)


ASLEEP = """
name = "asleep"
[data]
name = "digits"
size = 300
[model]
width = 4
[train]
batch_size = 64
[search]
epochs = 3
[space]
train.lr = { log = [1e-12, 1e-10] }
"""


@pytest.fixture(scope="module")
def asleep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study at rates with which nothing is learned."""
    folder = tmp_path_factory.mktemp("asleep")
    (folder / "asleep.toml").write_text(ASLEEP)
    outcome = call("search", "asleep.toml", "--budget", "2", "--json", cwd=folder)
    assert outcome.code == 1
    document = outcome.document
    assert [finding["rule"] for finding in document["findings"]] == ["nothing-learned"]
    (finding,) = document["findings"]
    assert "cnntune sanity" in finding["advice"]
    assert document["trials"]["complete"] == 2
    assert "next: cnntune sanity asleep.toml" in outcome.err
    return folder


def test_a_refinement_of_nothing_is_refused(asleep: Path) -> None:
    outcome = call("refine", cwd=asleep)
    assert outcome.code == 2
    (line,) = outcome.err.splitlines()
    assert "nothing was learned to refine" in line
    assert "chance is" in line
    assert not (asleep / "runs/asleep/refine-1").exists()


def test_no_run_at_chance_has_converged(asleep: Path) -> None:
    document = call("diagnose", "runs", "--json", cwd=asleep).document
    assert {run["label"] for run in document["runs"]} == {"underfitting"}
    assert all("guessing gives" in run["evidence"] for run in document["runs"])
    assert all("at-chance" in run["flags"] for run in document["runs"])


def test_a_page_says_that_nothing_was_learned(asleep: Path) -> None:
    assert call("report", cwd=asleep).code == 0
    assert "nothing-learned" in (asleep / "runs/asleep/report.html").read_text()


def test_a_study_of_an_old_version_is_not_judged(asleep: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(asleep, tmp_path / "old")
    for number in range(2):
        run = Run(tmp_path / f"old/runs/asleep/trial-{number:04d}")
        summary = run.summary() or {}
        run.finish({k: v for k, v in summary.items() if not k.startswith("chance_")})
    again = call("search", "asleep.toml", "--budget", "2", "--json", cwd=tmp_path / "old")
    assert again.code == 0
