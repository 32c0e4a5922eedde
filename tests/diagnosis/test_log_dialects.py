"""Habits of printed logs: the same three epochs as different tools write them."""

from pathlib import Path

import pytest

from cnntune.diagnosis.load_runs import ReadRun, read_paths
from cnntune.errors import DataError

TRAIN, VAL = [2.5, 1.5, 0.75], [2.75, 2.0, 1.25]


def read(folder: Path, content: str) -> ReadRun:
    path = folder / "train.log"
    path.write_text(content, encoding="utf-8")
    (run,), _ = read_paths([path])
    return run


def printed(line: str) -> str:
    return "".join(
        line.format(at=at, next=at + 1, train=train, val=val) + "\n"
        for at, (train, val) in enumerate(zip(TRAIN, VAL, strict=True))
    )


@pytest.mark.parametrize(
    "line",
    [
        "[{at}]\ttrain-mlogloss:{train:.5f}\teval-mlogloss:{val:.5f}",
        "[10:22:07] [{at}]\ttrain-rmse:{train:.5f}\tvalid-rmse:{val:.5f}",
        "[{next}]\ttraining's multi_logloss: {train}\tvalid_1's multi_logloss: {val}",
        "{at}:\tlearn: {train:.7f}\ttest: {val:.7f}\tbest: {val:.7f} ({at})\ttotal: 61ms",
        "---------\n| train/     |    |\n|    train_loss | {train} |\n|    val_loss   | {val} |",
        "(:epoch, {next}, :trnloss, {train}, :tstloss, {val}, :time, 1.5)",
        "[Tool I 2026-01-02 10:00:00 loss:170] epoch {next}: loss {train} val_loss {val}",
        "epoch {next} iter 1 loss {val}\nepoch {next} iter 2 loss {val}\n"
        "epoch {next} done: loss {train}\nepoch {next} val loss {val} saved as top 3",
        "[Epoch {at}] train={train:.6f} val={val:.6f} time: 12.3",
        "Epoch {next}: Loss (train/val): {train}/{val}",
        "Epoch {next}, train/val loss: {train} / {val}",
        "E{next} tr_loss={train} va_loss={val}",
        "Epoch: {next}/3.. Training Loss: {train:.3f}.. Test Loss: {val:.3f}..",
        "ITERATION {next:02d}: TRAIN AVG.LOSS {train:.4f}, CROSSVAL AVG.LOSS {val:.4f}, accepted",
        "train ({next}/3) loss: {train}\nvalid ({next}/3) loss: {val}\n* Epoch ({next}/3)",
        "train loss {train}\nvalid loss {val}\nEpoch {next} finished",
        "epoch {next} {{'train_loss': tensor({train}), 'val_loss': Array({val}, dtype=float32)}}",
    ],
)
def test_both_losses_are_read_from(line: str, tmp_path: Path) -> None:
    curve = read(tmp_path, printed(line)).curve
    assert (list(curve.train_loss or ()), list(curve.val_loss or ())) == (TRAIN, VAL)


def test_numbers_with_decimal_commas_are_read(tmp_path: Path) -> None:
    run = read(tmp_path, printed("Epoca {next}: perdita validazione = {val};").replace(".", ","))
    assert list(run.curve.val_loss or ()) == VAL


def test_values_that_rise_in_training_are_an_accuracy(tmp_path: Path) -> None:
    content = "".join(f"[Epoch {at}] train=0.{at}5 val=0.{at}\n" for at in (1, 2, 3))
    run = read(tmp_path, content)
    assert list(run.curve.train_acc or ()) == [0.15, 0.25, 0.35]
    assert any("from its trend" in note for note in run.notes)


def test_a_perplexity_is_compared_with_a_loss_by_its_logarithm(tmp_path: Path) -> None:
    # e^2, e^1 and e^0
    ppl = (7.38905609893065, 2.718281828459045, 1.0)
    content = "".join(
        f"epoch {at} train ppl {value} valid loss 2.5\n" for at, value in enumerate(ppl, start=1)
    )
    assert list(read(tmp_path, content).curve.train_loss or ()) == pytest.approx([2, 1, 0])


def test_a_classification_report_is_no_run(tmp_path: Path) -> None:
    rows = "".join(f"{at:12d}       0.8{at}      0.81      0.82       100\n" for at in range(5))
    with pytest.raises(DataError):
        read(tmp_path, f"              precision    recall  f1-score   support\n\n{rows}")


def test_the_rounds_of_a_federated_run_are_evaluations(tmp_path: Path) -> None:
    line = "INFO :      fit progress: ({next}, {val}, {{'accuracy': 0.{next}}}, 12.5)"
    curve = read(tmp_path, printed(line)).curve
    assert (list(curve.epochs), list(curve.val_loss)) == ([1, 2, 3], VAL)
    assert list(curve.val_acc) == [0.1, 0.2, 0.3]
    assert not any(curve.series("train_acc").values)
