"""Logs that are too long or too wide to be kept whole, and what is read of them."""

import random
from pathlib import Path
from statistics import median

import pytest

from cnntune.diagnosis.curve import rolling_median
from cnntune.diagnosis.load_runs import ReadRun, read_paths

EPOCHS, STEPS = 50, 1000


@pytest.fixture
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log is long from 300 kB on, of which a third is kept."""
    monkeypatch.setattr("cnntune.diagnosis.logs.thin.THIN_ABOVE", 300_000)
    monkeypatch.setattr("cnntune.diagnosis.logs.thin.KEPT_BYTES", 100_000)
    monkeypatch.setattr("cnntune.diagnosis.logs.thin.CHUNK", 65_536)


def run_in(path: Path, content: str) -> ReadRun:
    path.write_bytes(content.encode())
    (run,), skipped = read_paths([path])
    assert skipped == []
    return run


def steps_and_validation(train: str, val: str, end: str = "\n") -> str:
    """A log with `STEPS` lines of training and one of validation per epoch."""
    lines = []
    for epoch in range(EPOCHS):
        for step in range(epoch * STEPS, (epoch + 1) * STEPS):
            lines.append(train.format(epoch=epoch, step=step, loss=f"{5 - epoch / 10:.4f}"))
        lines.append(val.format(epoch=epoch, step=step, loss=f"{6 - epoch / 10:.4f}"))
    return end.join(lines) + end


@pytest.mark.usefixtures("small_limits")
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_the_few_rows_of_validation_in_a_long_table_are_all_kept(tmp_path: Path, end: str) -> None:
    rows = steps_and_validation("{epoch},{step},{loss},", "{epoch},{step},,{loss}", end)
    run = run_in(tmp_path / "log.csv", f"epoch,step,train_loss,val_loss{end}{rows}")
    assert run.curve.val_loss == pytest.approx([6 - e / 10 for e in range(EPOCHS)])
    assert run.curve.train_loss == pytest.approx([5 - e / 10 for e in range(EPOCHS)])
    assert run.curve.epochs == list(range(EPOCHS))
    assert any("the log is long" in note for note in run.notes)


@pytest.mark.usefixtures("small_limits")
def test_printed_lines_are_thinned_by_kind(tmp_path: Path) -> None:
    lines = steps_and_validation(
        "Epoch {epoch} [{step}] lr 0.1 loss: {loss}", "Epoch {epoch} val loss: {loss}"
    )
    run = run_in(tmp_path / "train.log", lines)
    assert run.curve.epochs == list(range(EPOCHS))
    assert run.curve.val_loss == pytest.approx([6 - e / 10 for e in range(EPOCHS)])


@pytest.mark.usefixtures("small_limits")
def test_a_long_log_with_one_curve_is_kept_over_its_whole_length(tmp_path: Path) -> None:
    rows = "".join(f"{epoch},{1 / epoch:.6f}\n" for epoch in range(1, 100_001))
    run = run_in(tmp_path / "log.csv", "epoch,val_loss\n" + rows)
    assert len(run.curve.epochs) < 10_000
    assert run.curve.epochs[0] == 1
    assert run.curve.epochs[-1] > 99_900
    for epoch, loss in zip(run.curve.epochs, run.curve.val_loss, strict=True):
        assert loss == pytest.approx(1 / epoch, abs=1e-6)


def test_of_very_many_columns_those_are_read_that_may_be_curves(tmp_path: Path) -> None:
    weights = range(5_000)
    header = ",".join(["epoch", *(f"w{at}" for at in weights), "loss", "val_loss"])
    rows = [",".join([str(e), *("0.5" for _ in weights), f"{e}.5", f"{e}.75"]) for e in range(4)]
    run = run_in(tmp_path / "log.csv", "\n".join([header, *rows]) + "\n")
    assert run.curve.train_loss == [0.5, 1.5, 2.5, 3.5]
    assert run.curve.val_loss == [0.75, 1.75, 2.75, 3.75]
    assert "of 5003 columns the 3 that may be curves were read" in run.notes


@pytest.mark.parametrize("window", [1, 2, 3, 10])
def test_a_rolling_median_is_that_of_each_window(window: int) -> None:
    draw = random.Random(1)
    values = [draw.choice((0.1, 0.25, 3.0, -2.0, draw.random())) for _ in range(200)]
    expected = [median(values[max(0, end - window) : end]) for end in range(1, 201)]
    assert rolling_median(values, window) == expected


@pytest.mark.usefixtures("small_limits")
def test_a_line_longer_than_several_chunks_is_no_crash(tmp_path: Path) -> None:
    lines = "".join(f"epoch {e} loss: {2.0 / e}\n" for e in (1, 2, 4))
    run = run_in(tmp_path / "run.log", f"{'x' * 500_000}\n{lines}")
    assert run.curve.train_loss == [2.0, 1.0, 0.5]
