"""`cnntune diagnose` on the logs of other tools, and the same from Python."""

import json
import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from commands import call
from log_files import event_file

import cnntune
from cnntune.errors import DataError

TABLE = "epoch,train_loss,val_loss,acc\n"
FALLING = "".join(f"{e},{2.0 / e:.4f},{2.2 / e:.4f},{0.5 + e / 100}\n" for e in range(1, 13))
RISING = "".join(
    f"{e},{2.0 / e:.4f},{abs(e - 4) / 4 + 0.8:.4f},{0.5 + e / 100}\n" for e in range(1, 13)
)
DIVERGED = "".join(f"{e},{2.0 / e if e < 4 else math.nan},1.0,0.5\n" for e in range(1, 9))


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    (tmp_path / "falling.csv").write_text(TABLE + FALLING)
    (tmp_path / "rising.csv").write_text(TABLE + RISING)
    (tmp_path / "two.csv").write_text(TABLE + FALLING + DIVERGED)
    return tmp_path


def test_files_are_listed_worst_first_and_the_runs_of_a_file_in_order(logs: Path) -> None:
    outcome = call("diagnose", "--json", ".", cwd=logs)
    said = [(entry["path"], entry["label"]) for entry in outcome.document["runs"]]
    assert said == [
        ("two.csv#1", "still-improving"),
        ("two.csv#2", "unstable"),
        ("rising.csv", "overfitting"),
        ("falling.csv", "still-improving"),
    ]
    assert outcome.code == 0


def test_a_run_has_its_format_its_columns_and_what_was_guessed(logs: Path) -> None:
    outcome = call("diagnose", "--json", "rising.csv", cwd=logs)
    (entry,) = outcome.document["runs"]
    assert entry["format"] == "csv"
    columns = {"train_loss": "train_loss", "val_loss": "val_loss", "val_acc": "acc"}
    assert entry["columns"] == columns
    assert entry["command"] is None
    assert any(note.startswith("val_acc is taken from 'acc'") for note in entry["notes"])
    assert "val_acc is taken from 'acc'" in " ".join(outcome.err.split())


def test_map_names_a_column(logs: Path) -> None:
    (logs / "own.csv").write_text(TABLE.replace("val_loss", "alpha") + RISING)
    plain = call("diagnose", "--json", "own.csv", cwd=logs).document["runs"][0]
    assert "val_loss" not in plain["columns"]
    words = ("--map", "val_loss=alpha", "--map", "val_err=acc")
    mapped = call("diagnose", "--json", *words, "own.csv", cwd=logs).document["runs"][0]
    assert mapped["columns"]["val_loss"] == "alpha"
    assert mapped["columns"]["val_acc"] == "acc"
    assert mapped["label"] == "overfitting"
    assert mapped["notes"] == []


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--map", "val_loss=nope"), "--map val_loss=nope: no such column; found: train_loss"),
        (("--map", "loss=x"), "--map loss=x: 'loss' must be one of train_loss, val_loss"),
        (("--map", "val_loss"), "--map val_loss: must be CURVE=COLUMN"),
        (("--fail-on", "bad"), "--fail-on bad: must be one of overfitting, underfitting"),
    ],
)
def test_a_wrong_option_is_one_line(logs: Path, words: tuple[str, ...], line: str) -> None:
    outcome = call("diagnose", *words, "rising.csv", cwd=logs)
    assert outcome.code == 2
    assert outcome.err.startswith(line)
    assert outcome.err.count("\n") == 1


def test_fail_on_a_label_is_exit_code_1(logs: Path) -> None:
    assert call("diagnose", "rising.csv", cwd=logs).code == 0
    assert call("diagnose", "--fail-on", "unstable", "rising.csv", cwd=logs).code == 0
    outcome = call("diagnose", "--json", "--fail-on", "unstable,overfitting", ".", cwd=logs)
    assert outcome.code == 1
    assert outcome.document["ok"] is False
    failed = {f["where"] for f in outcome.document["findings"] if f["severity"] == "fail"}
    assert failed == {"two.csv#2", "rising.csv"}


def test_what_cannot_be_read_is_skipped_and_no_log_at_all_is_exit_code_2(logs: Path) -> None:
    (logs / "broken.json").write_text('{"loss": [1.0')
    outcome = call("diagnose", "--json", "broken.json", "rising.csv", cwd=logs)
    assert outcome.code == 0
    assert outcome.document["skipped"] == [{"path": "broken.json", "reason": "incomplete JSON"}]
    alone = call("diagnose", "broken.json", cwd=logs)
    assert alone.code == 2
    assert alone.err.startswith("broken.json: incomplete JSON; known formats: ")
    assert len(alone.err.splitlines()) == 1
    document = call("diagnose", "--json", "broken.json", cwd=logs).document
    assert document["runs"] == []
    assert document["skipped"] == [{"path": "broken.json", "reason": "incomplete JSON"}]


def test_csv_and_event_file_of_a_run_have_one_label(tmp_path: Path) -> None:
    rows = [line.split(",") for line in RISING.splitlines()]
    scalars = [
        (tag, int(row[0]), float(row[place]))
        for row in rows
        for place, tag in enumerate(("Loss/train", "Loss/val"), start=1)
    ]
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "log.csv").write_text(TABLE + RISING)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "events.out.tfevents.1").write_bytes(event_file(scalars))
    first, second = call("diagnose", "--json", ".", cwd=tmp_path).document["runs"]
    assert {first["format"], second["format"]} == {"csv", "tensorboard"}
    assert first["label"] == second["label"]
    assert first["best_epoch"] == second["best_epoch"]


def test_reading_logs_loads_nothing_heavy(logs: Path) -> None:
    code = (
        "import pathlib, sys, cnntune\n"
        "assert 'cnntune.diagnosis.judge' not in sys.modules\n"
        "assert cnntune.diagnose({'loss': [3, 2, 1]}).epochs == 3\n"
        "from cnntune import diagnose\nfrom cnntune.diagnosis import judge\n"
        "import cnntune.cli\n"
        "assert len(judge.judge_paths([pathlib.Path(sys.argv[1])])[0]) == 4\n"
        "heavy = {'torch', 'pandas', 'optuna', 'sklearn', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    words = [sys.executable, "-W", "error", "-c", code, str(logs)]
    subprocess.run(words, cwd=Path(__file__).parents[2], check=True, timeout=60)


HISTORY = {
    "loss": [2.0 / e for e in range(1, 13)],
    "val_loss": [abs(e - 4) / 4 + 0.8 for e in range(1, 13)],
}
FRAME = pd.DataFrame(HISTORY)


@pytest.mark.parametrize(
    "history",
    [
        HISTORY,
        SimpleNamespace(history=HISTORY),  # what keras' fit() returns
        [dict(zip(HISTORY, row, strict=True)) for row in zip(*HISTORY.values(), strict=True)],
        FRAME,
        FRAME.rename_axis("epoch"),
        {name: FRAME[name].to_numpy() for name in FRAME},
        {name: tuple(values) for name, values in HISTORY.items()},
        {"train": {"loss": HISTORY["loss"]}, "val": {"loss": HISTORY["val_loss"]}},
    ],
    ids=["dict", "keras", "records", "frame", "indexed frame", "arrays", "tuples", "nested"],
)
def test_a_history_in_python_is_judged_like_a_log(history: object) -> None:
    diagnosis = cnntune.diagnose(history)
    assert isinstance(diagnosis, cnntune.Diagnosed)
    assert diagnosis.label == "overfitting"
    assert diagnosis.epochs == 12


def test_nan_in_a_frame_is_a_gap_or_a_divergence() -> None:
    gaps = pd.DataFrame(
        {
            "epoch": [1, 1, 2, 2, 3, 3],
            "train_loss": [1.0, None, 0.9, None, 0.8, None],
            "val_loss": [None, 1.1, None, 1.0, None, 0.9],
        }
    )
    assert cnntune.diagnose(gaps).label != "unstable"
    ends = pd.DataFrame({"loss": [1.0, 0.5, None, None, None], "val_loss": [1.0] * 5})
    assert cnntune.diagnose(ends).label == "unstable"


@pytest.mark.parametrize("history", [{}, {"lr": [0.1, 0.1]}, 3, [], {"loss": "x"}])
def test_a_history_without_curves_is_an_error(history: object) -> None:
    with pytest.raises(DataError, match="history: must hold one loss or accuracy per epoch"):
        cnntune.diagnose(history)


def test_a_list_of_records_from_json_is_a_history(tmp_path: Path) -> None:
    records = json.loads(json.dumps([{"epoch": e, "loss": 1.0} for e in range(5)]))
    assert cnntune.diagnose(records).epochs == 5
