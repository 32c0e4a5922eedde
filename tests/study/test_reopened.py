"""Which failed trials are trained again by the next command, and when their failures count."""

from pathlib import Path

from cnntune.config.recipe import parse
from cnntune.runs.study import Study
from cnntune.runs.summary import Summary
from cnntune.study.failures import Failures
from cnntune.study.ledger import Ledger
from cnntune.workers.pool import Event, Job

RECIPE = parse({"space": {"train.lr": {"log": [1e-3, 1e-1]}}}, file="test")
USER = Summary.failed("user-code", "model own:build: ValueError: no")
SOUND = Summary("complete", 3, val_acc=0.5, val_loss=1.0)


def record(folder: Path, *summaries: Summary) -> Ledger:
    """A search whose trials ended so."""
    ledger = Ledger.create(Study(folder), RECIPE, asked=RECIPE)
    for number, summary in enumerate(summaries):
        ledger.begin(RECIPE.space, {"train.lr": 0.01 * (number + 1)})
        ledger.study.trial(number).finish(summary.to_json())
        ledger.tell(number, summary)
    return ledger


def test_only_what_the_user_can_fix_is_trained_again(tmp_path: Path) -> None:
    memory, bug = Summary.failed("out-of-memory", "x"), Summary.failed("bug", "x")
    ledger = record(tmp_path, SOUND, USER, memory, bug).reopened()
    statuses = [trial.status for trial in ledger.trials()]
    assert statuses == ["complete", "running", "failed", "failed"]
    assert ledger.again == {1}
    assert [trial.values["train.lr"] for trial in ledger.trials()] == [0.01, 0.02, 0.03, 0.04]
    assert ledger.trials()[0].val_acc == 0.5
    assert ledger.asked == RECIPE
    assert not (tmp_path / "trial-0001").exists()


def test_a_command_that_was_killed_before_a_folder_was_removed_loses_no_slot(
    tmp_path: Path,
) -> None:
    ledger = record(tmp_path, USER)
    folder = tmp_path / "trial-0000"
    kept = (folder / "summary.json").read_bytes()
    ledger.reopened()
    folder.mkdir()  # as if the kill had come before
    (folder / "summary.json").write_bytes(kept)
    # What `LocalCoordinator.reconcile` does for a trial that a dead command left RUNNING.
    ledger = Ledger.open(Study(tmp_path))
    ledger.tell(0, USER)
    assert Ledger.open(Study(tmp_path)).reopened().again == {0}


def test_trials_that_fail_again_do_not_stop_a_search_with_sound_ones(tmp_path: Path) -> None:
    ledger = record(tmp_path, USER, USER, USER, SOUND).reopened()
    failures = Failures(ledger)
    for number in range(3):
        failures.note(Event(Job(number, RECIPE, ledger.study.trial(number).path), summary=USER))
    assert failures.last == []
