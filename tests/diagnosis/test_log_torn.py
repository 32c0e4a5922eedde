"""Ends of files, single values and other notations: what is kept of a log, and what is said."""

from pathlib import Path

import pytest

from cnntune.diagnosis.load_runs import ReadRun, read_paths
from cnntune.errors import DataError
from cnntune.runs.run import COLUMNS, Epoch, Run
from cnntune.runs.summary import Summary

EPOCHS = (1, 2, 3, 4)


def run_in(path: Path, content: str) -> ReadRun:
    path.write_text(content, encoding="utf-8")
    (run,), skipped = read_paths([path])
    assert skipped == []
    return run


@pytest.mark.parametrize(("end", "epochs"), [("0.3125", 4), ("0.31", 3), ("0.", 3)])
def test_a_last_number_is_kept_if_it_is_as_long_as_those_before(
    tmp_path: Path, end: str, epochs: int
) -> None:
    lines = [f"epoch {e} loss 0.5000 val_loss 0.{9 - e}000\n" for e in EPOCHS[:3]]
    run = run_in(tmp_path / "a.log", "".join(lines) + f"epoch 4 loss 0.5000 val_loss {end}")
    assert run.curve.epochs == [1, 2, 3, 4][:epochs]
    assert any("truncated" in note for note in run.notes) == (epochs == 3)


@pytest.mark.parametrize("exponent", ["D-01", "d-1", "f-1", "E-01"])
def test_exponents_of_fortran_and_julia_are_read(tmp_path: Path, exponent: str) -> None:
    lines = [
        f"epoch {e} train loss = {9 - e}.0{exponent} val loss = {8 - e}.5{exponent}" for e in EPOCHS
    ]
    run = run_in(tmp_path / "a.log", "\n".join(lines) + "\n")
    assert run.curve.train_loss == pytest.approx([0.8, 0.7, 0.6, 0.5])
    assert run.curve.val_loss == pytest.approx([0.75, 0.65, 0.55, 0.45])


def test_a_single_value_at_the_end_does_not_decide_whose_the_others_are(tmp_path: Path) -> None:
    lines = [
        f"Epoch {e} - train_loss: 0.{9 - e} val_loss: 0.{8 - e}\nEpoch {e} - Score: 0.{4 + e}"
        for e in EPOCHS
    ]
    run = run_in(tmp_path / "a.log", "\n".join([*lines, "cv score: 0.61", ""]))
    assert run.columns["val_acc"] == "Score"
    assert run.curve.val_acc == [0.5, 0.6, 0.7, 0.8]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("README.md", "# Mine\n\nepoch\ttrain_loss\tvalid_loss\n" + "{e}\t0.{t}\t0.{v}\n"),
        ("README.md", "# Mine\n\n" + "Epoch {e}/5\nloss: 0.{t} - val_loss: 0.{v}\n"),
        (
            "run.yaml",
            "history:\n" + "  - {{epoch: {e}, train: {{loss: 0.{t}}}, val: {{loss: 0.{v}}}}}\n",
        ),
    ],
)
def test_a_folder_is_searched_for_curves_in_documents(
    tmp_path: Path, name: str, content: str
) -> None:
    lines = content.splitlines(keepends=True)
    head = [line for line in lines if "{e}" not in line and "{t}" not in line]
    row = "".join(lines[len(head) :])
    rows = [row.format(e=e, t=9 - e, v=8 - e) for e in EPOCHS]
    (tmp_path / name).write_text("".join([*head, *rows]), encoding="utf-8")
    (run,), _ = read_paths([tmp_path])
    assert run.curve.train_loss == [0.8, 0.7, 0.6, 0.5]
    assert run.curve.val_loss == [0.7, 0.6, 0.5, 0.4]


def test_settings_in_yaml_are_no_log(tmp_path: Path) -> None:
    text = "train:\n  epochs: 30\n  loss: 0.5\nval:\n  accuracy: 0.9\nepoch: 3\n"
    (tmp_path / "config.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match="no training log found"):
        read_paths([tmp_path])


def skipped_reason(path: Path) -> str:
    """Why a folder holds nothing to diagnose."""
    with pytest.raises(DataError) as error:
        read_paths([path])
    (line,) = error.value.lines
    return line.removeprefix(f"{path}: ")


def test_a_run_that_failed_is_skipped_with_its_error(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.begin({"seed": 1})
    error = "the command ended with exit code 1\nTraceback (most recent call last):\nKeyError: 'lr'"
    run.finish(Summary.failed("user-code", error).to_json())
    assert skipped_reason(tmp_path) == (
        "failed before its first epoch: the command ended with exit code 1 (KeyError: 'lr')"
    )
    run.log(Epoch(1, 0.1, 2.0, 0.1, 2.0, 0.1, 1.0, 0.5))
    (read,), _ = read_paths([tmp_path])
    assert read.notes[0].startswith("failed after epoch 1: the command ended with exit code 1 (")


def test_runs_that_failed_alike_are_told_in_a_line(tmp_path: Path) -> None:
    for number in range(3):
        run = Run(tmp_path / f"trial-000{number}")
        run.begin({"seed": 1})
        run.finish(Summary.failed("user-code", "no such option").to_json())
    reason = "failed before its first epoch: no such option"
    assert skipped_reason(tmp_path) == f"{tmp_path / 'trial-0000'} and 2 more: {reason}"


def test_a_trial_that_has_no_end_yet_is_said_to_have_none(tmp_path: Path) -> None:
    run = Run(tmp_path / "trial-0000")
    run.begin({"seed": 1})
    assert skipped_reason(run.path) == (
        "has no completed epoch: it is running, or was interrupted; its command resumes it"
    )
    run.log(Epoch(1, 0.1, 2.0, 0.1, 2.0, 0.1, 1.0, 0.5))
    (alone,), _ = read_paths([run.path])
    assert alone.notes == ()  # its summary.json may be what was not copied
    (tmp_path / "study.db").touch()
    (read,), _ = read_paths([run.path])
    assert read.notes == (
        "is not finished: it is running, or was interrupted (there is no summary.json)",
    )


def test_a_torn_header_of_ours_is_named(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text(",".join(COLUMNS)[:20], encoding="utf-8")
    with pytest.raises(DataError, match=r"metrics\.csv holds 20 bytes and no whole row; train"):
        read_paths([tmp_path])


def test_steps_within_two_epochs_are_a_curve_of_steps(tmp_path: Path) -> None:
    losses = [2.0 - 0.1 * step for step in range(12)]
    lines = [f"epoch={at // 6} i={at % 6}/6 loss={loss:.2f}" for at, loss in enumerate(losses)]
    run = run_in(tmp_path / "a.log", "\n".join([*lines, ""]))
    assert run.curve.train_loss == pytest.approx(losses)
    assert run.curve.unit == "step"
    assert any("fewer than 3 epochs" in note for note in run.notes)
