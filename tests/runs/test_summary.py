"""`summary.json`: one value in memory, the same keys on disk, and files of older versions."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from cnntune import errors
from cnntune.runs.chance import Chance
from cnntune.runs.run import Epoch, Run
from cnntune.runs.summary import Failure, Summary, summarise

COMPLETE = {  # as version 0.1 wrote it, key by key
    "status": "complete",
    "epochs": 2,
    "best_epoch": 1,
    "train_loss": 1.25,
    "train_acc": 0.5,
    "val_loss": 1.5,
    "val_acc": 0.25,
    "parameters": 1234,
    "chance_acc": 0.1,
    "chance_loss": 2.3,
    "val_images": 100,
    "waited_seconds": 0.5,
    "seconds": 3.0,
}
PRUNED = {key: COMPLETE[key] for key in list(COMPLETE)[:7]} | {"status": "pruned", "seconds": 3.0}
DIVERGED = {
    "status": "diverged",
    "epochs": 1,
    "best_epoch": None,
    "parameters": 1234,
    "chance_acc": 0.1,
    "chance_loss": 2.3,
    "val_images": 100,
    "waited_seconds": 0.5,
    "seconds": 3.0,
}
FAILED = {
    "status": "failed",
    "epochs": 0,
    "best_epoch": None,
    "error": "out of memory: lower train.batch_size",
    "error_kind": "out-of-memory",
    "seconds": 3.0,
}
OLD_FAILED = {"status": "failed", "epochs": 0, "best_epoch": None, "error": "out of memory"}


@pytest.mark.parametrize("document", [COMPLETE, PRUNED, DIVERGED, FAILED, OLD_FAILED])
def test_what_is_read_is_written_again_key_by_key(tmp_path: Path, document: dict[str, Any]) -> None:
    summary = Summary.from_json(document)
    assert summary is not None
    Run(tmp_path).finish(summary.to_json())
    written = (tmp_path / "summary.json").read_text()
    assert written == json.dumps(document, indent=2) + "\n"


def test_an_error_without_a_kind_is_not_out_of_memory_whatever_its_text() -> None:
    old, new = Summary.from_json(OLD_FAILED), Summary.from_json(FAILED)
    assert old is not None
    assert new is not None
    assert old.error == Failure("unknown", "out of memory")
    assert new.error == Failure("out-of-memory", "out of memory: lower train.batch_size")
    later = Summary.from_json(FAILED | {"error_kind": "meteorite"})
    assert later is not None
    assert later.error == Failure("unknown", "out of memory: lower train.batch_size")


@pytest.mark.parametrize(
    "document",
    [
        None,
        {},
        {"status": "running"},
        {"status": "well"},
        {"status": "complete", "epochs": 2},
        {"status": "pruned", "val_acc": 0.5},
        {"status": "complete", "epochs": 2, "val_acc": None},
    ],
)
def test_a_summary_without_what_trials_are_compared_by_is_none(document: Any) -> None:
    assert Summary.from_json(document) is None


def test_a_loss_that_json_cannot_hold_is_nan_and_other_keys_are_left_out() -> None:
    document = {
        "status": "complete",
        "epochs": 1,
        "val_acc": 0.5,
        "val_loss": None,
        "test_acc": 0.4,
    }
    summary = Summary.from_json(document)
    assert summary is not None
    assert math.isnan(summary.val_loss or 0.0)
    assert "test_acc" not in summary.to_json()


def test_chance_is_known_where_all_three_of_its_numbers_are() -> None:
    whole = Summary.from_json(COMPLETE)
    assert whole is not None
    assert whole.chance == Chance(0.1, 2.3, 100)
    assert Summary("complete", val_images=100).chance is None


def test_a_run_is_summarised_by_its_best_epoch() -> None:
    rows = [Epoch(1, 0.1, 1.25, 0.5, 1.5, 0.25, 1.0, 1.0), Epoch(2, 0.1, 1, 0.75, 2, 0.125, 1, 1)]
    assert summarise(rows) == Summary("complete", 2, 1, 1.25, 0.5, 1.5, 0.25)
    assert summarise([]) == Summary("diverged", 0)


@pytest.mark.parametrize(
    "error",
    [errors.CnntuneError, *errors.CnntuneError.__subclasses__()],
    ids=lambda error: str(error.kind),
)
def test_every_error_of_a_trial_keeps_its_kind(error: type[errors.CnntuneError]) -> None:
    summary = Summary.failed(error.kind, "gone")
    assert summary.to_json()["error_kind"] == error.kind
