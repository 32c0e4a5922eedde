"""Trials that were pruned, or still run: there is no curve to judge yet, and they say so."""

from pathlib import Path

import pytest

from cnntune.diagnosis.judge import JudgedRun, judge_paths
from cnntune.diagnosis.load_runs import grouped
from cnntune.errors import DataError
from cnntune.runs.run import Epoch, Run


def begun(folder: Path, epochs: int, planned: int = 9) -> Run:
    """A trial that has trained some of its epochs, and whose losses fall."""
    run = Run(folder)
    run.begin({"train": {"epochs": planned}})
    for epoch in range(1, epochs + 1):
        loss = 2.3 - 0.2 * epoch
        run.log(Epoch(epoch, 0.1, loss, 0.1 * epoch, loss, 0.1 * epoch, 1.0, 1.0))
    return run


def pruned(folder: Path, epochs: int, planned: int = 9) -> None:
    begun(folder, epochs, planned).finish({"status": "pruned", "epochs": epochs})


def judged(folder: Path) -> tuple[list[JudgedRun], dict[str, str]]:
    runs, skipped = judge_paths([folder])
    return runs, {Path(entry["path"]).name: entry["reason"] for entry in skipped}


def test_a_trial_that_was_pruned_early_is_no_short_run(tmp_path: Path) -> None:
    pruned(tmp_path / "trial-0000", 1)
    begun(tmp_path / "trial-0001", 2)
    begun(tmp_path / "trial-0002", 9).finish({"status": "complete", "epochs": 9})
    runs, skipped = judged(tmp_path)
    assert [run.path.name for run in runs] == ["trial-0002"]
    assert skipped == {
        "trial-0000": "pruned at epoch 1 of 9, which is too early to judge",
        "trial-0001": "still running, at epoch 2 of 9, which is too early to judge",
    }


def test_trials_that_were_pruned_at_one_epoch_are_one_line(tmp_path: Path) -> None:
    for number in range(3):
        pruned(tmp_path / f"trial-{number:04d}", 1)
    pruned(tmp_path / "trial-0003", 2)
    begun(tmp_path / "trial-0004", 9).finish({"status": "complete", "epochs": 9})
    assert grouped(judge_paths([tmp_path])[1]) == [
        f"{tmp_path}/trial-0000 and 2 more: pruned at epoch 1 of 9, which is too early to judge",
        f"{tmp_path}/trial-0003: pruned at epoch 2 of 9, which is too early to judge",
    ]


def test_a_short_run_that_has_all_its_epochs_is_one(tmp_path: Path) -> None:
    begun(tmp_path / "trial-0000", 2, planned=2).finish({"status": "complete", "epochs": 2})
    begun(tmp_path / "trial-0001", 2, planned=2)  # killed before its summary
    runs, skipped = judged(tmp_path)
    assert [run.diagnosis.label for run in runs] == ["too-short", "too-short"]
    assert skipped == {}


def test_a_trial_that_was_pruned_later_is_not_told_to_complete_its_epochs(tmp_path: Path) -> None:
    pruned(tmp_path / "trial-0000", 5)
    begun(tmp_path / "trial-0001", 5)
    (first, second), skipped = judged(tmp_path)
    assert skipped == {}
    assert first.diagnosis.label == second.diagnosis.label == "still-improving"
    assert first.run.notes == ("pruned at epoch 5 of 9",)
    assert first.diagnosis.advice == []
    assert second.diagnosis.advice == ["let the run complete its 9 epochs"]


def test_where_all_trials_were_pruned_early_the_line_says_so(tmp_path: Path) -> None:
    pruned(tmp_path / "trial-0000", 1)
    with pytest.raises(DataError, match="pruned at epoch 1 of 9, which is too early to judge"):
        judge_paths([tmp_path])
