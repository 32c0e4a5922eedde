"""What the numbers of a log count: epochs, steps, batches, and lists of different lengths."""

import json
from pathlib import Path

import pytest

import cnntune
from cnntune.diagnosis.judge import judge_paths
from cnntune.diagnosis.load_runs import ReadRun, read_paths

# As the tutorial of PyTorch prints, with a blank before short counts
PAIRS = "".join(
    f"[{epoch}, {batch:5d}] loss: {loss}\n"
    for epoch, batch, loss in (
        *((1, 200, 2.0), (1, 400, 1.5), (1, 600, 1.25)),
        *((2, 200, 1.0), (2, 400, 0.75), (2, 600, 0.5)),
    )
)


def run_in(folder: Path, content: str, name: str = "train.log") -> ReadRun:
    path = folder / name
    path.write_text(content, encoding="utf-8")
    (run,), _ = read_paths([path])
    return run


def test_an_epoch_and_a_batch_of_it_count_steps(tmp_path: Path) -> None:
    run = run_in(tmp_path, PAIRS + "Finished Training\n")
    assert run.curve.epochs == [200, 400, 600, 800, 1000, 1200]
    assert run.curve.train_loss == [2.0, 1.5, 1.25, 1.0, 0.75, 0.5]
    assert run.curve.unit == "step"
    assert "[1, 200] is an epoch and a batch of it: each batch is a step, 600 per epoch" in str(
        run.notes
    )


def test_many_epochs_with_batches_count_epochs(tmp_path: Path) -> None:
    lines = "".join(
        f"[{e}, {b}] loss: {4.0 / e + b / 100}\n" for e in range(1, 7) for b in (50, 100)
    )
    run = run_in(tmp_path, lines)
    assert run.curve.epochs == [1, 2, 3, 4, 5, 6]
    assert run.curve.unit == "epoch"
    assert list(run.curve.train_loss)[:2] == [4.75, 2.75]  # the mean of 4.5 and 5, of 2.5 and 3


def test_the_unit_of_the_best_and_of_the_last_point_is_said(tmp_path: Path) -> None:
    (tmp_path / "train.log").write_text(PAIRS)
    (judged,), _ = judge_paths([tmp_path / "train.log"])
    entry = judged.as_json()
    assert (entry["best_epoch"], entry["last_epoch"], entry["unit"]) == (1200, 1200, "step")
    assert entry["epochs"] == 6


def test_batches_without_an_epoch_are_steps(tmp_path: Path) -> None:
    lines = "".join(f"Batch {b}/8 | Loss: {2.0 / b} | Acc: 0.{b}\n" for b in range(1, 9))
    run = run_in(tmp_path, lines)
    assert run.curve.epochs == [1, 2, 3, 4, 5, 6, 7, 8]
    assert run.curve.unit == "step"
    assert "counts batches and no epochs: each batch is a step" in run.notes


def test_an_epoch_begins_where_the_batches_begin_again(tmp_path: Path) -> None:
    lines = "".join(f"Batch {b}/2 loss: {4.0 / e + b}\n" for e in (1, 2, 4) for b in (1, 2))
    run = run_in(tmp_path, lines)
    assert run.curve.epochs == [1, 2, 3]
    assert run.curve.train_loss == [5.5, 3.5, 2.5]
    assert "names no epoch: one begins where the count of batches goes back" in run.notes


def test_a_printed_line_is_not_the_heading_of_a_table(tmp_path: Path) -> None:
    lines = "".join(f"epoch {e} loss {1.0 / e}\nval_acc 0.{e}\n" for e in (1, 2, 4, 5))
    run = run_in(tmp_path, lines)
    assert run.format == "text"
    assert run.curve.epochs == [1, 2, 4, 5]
    assert run.curve.train_loss == [1.0, 0.5, 0.25, 0.2]
    assert run.curve.val_acc == [0.1, 0.2, 0.4, 0.5]


@pytest.mark.parametrize("name", ["epoch 5 - val_loss", "loss 1", "mAP 0.5"])
def test_a_name_with_a_number_is_still_a_heading(tmp_path: Path, name: str) -> None:
    run = run_in(tmp_path, f"{name},val_loss\n1.5,2.5\n1.25,2.25\n1.0,2.0\n", "log.csv")
    assert run.format == "csv"
    assert run.curve.val_loss == [2.5, 2.25, 2.0]


@pytest.mark.parametrize(
    "summary", ["current best: recall: 0.0, train_loss: inf", "Best: loss 9.0"]
)
def test_what_follows_the_word_best_is_of_an_earlier_epoch(tmp_path: Path, summary: str) -> None:
    lines = "".join(f"epoch {e} train_loss: {1.0 / e}\n{summary}\n" for e in (1, 2, 4))
    run = run_in(tmp_path, lines)
    assert run.curve.train_loss == [1.0, 0.5, 0.25]
    assert set(run.columns) == {"train_loss"}


def test_a_value_named_after_the_best_of_something_else_stays(tmp_path: Path) -> None:
    lines = "".join(f"epoch {e} loss: {1.0 / e} best 0.5 val_loss: {2.0 / e}\n" for e in (1, 2, 4))
    run = run_in(tmp_path, lines)
    assert run.curve.val_loss == [2.0, 1.0, 0.5]


def test_the_largest_f_over_thresholds_is_a_score_and_not_a_best_so_far(tmp_path: Path) -> None:
    lines = "".join(f"[epoch: {e}] val_MAE: {0.5 / e} val_maxF1: 0.{e}\n" for e in (1, 2, 4))
    run = run_in(tmp_path, lines)
    assert run.columns["val_acc"] == "val_maxF1"
    assert run.curve.val_acc == [0.1, 0.2, 0.4]


def test_an_evaluation_every_second_epoch_is_counted_in_epochs() -> None:
    train = [4.0, 3.0, 2.0, 1.5, 1.0, 0.75, 0.5, 0.4, 0.3, 0.25, 0.2, 0.1]
    found = cnntune.diagnose({"loss": train, "val_loss": [2.2, 1.8, 1.4, 1.5, 1.6, 1.7]})
    assert (found.best_epoch, found.last_epoch, found.unit) == (6, 12, "epoch")
    assert found.runs[0].curve.train_loss[:2] == [3.5, 1.75]
    assert "keep the weights of the best epoch, 6 of 12" in found.advice
    (note,) = found.runs[0].run.notes
    assert "'val_loss' has 6 values and 'loss' 12" in note
    assert "an evaluation every 2 of 12 epochs" in note
    assert "averaged in between" in note
    assert "'val_loss' has 6 values" in " ".join(str(found).split())
    assert "&#x27;val_loss&#x27; has 6 values" in found._repr_html_()


def test_a_list_with_a_value_per_step_is_spread_over_the_epochs(tmp_path: Path) -> None:
    steps = [4.0] * 20 + [2.0] * 20 + [1.0] * 20
    run = run_in(tmp_path, json.dumps({"train_loss": steps, "val_loss": [2.5, 1.5, 1.25]}))
    assert run.curve.epochs == [1, 2, 3]
    assert run.curve.train_loss == [4.0, 2.0, 1.0]
    assert "20 values per epoch of 3 epochs" in str(run.notes)


def test_lists_of_nearly_the_same_length_are_counted_from_the_first_epoch(tmp_path: Path) -> None:
    run = run_in(tmp_path, json.dumps({"loss": [4, 3, 2, 1, 1], "val_loss": [4, 3, 2]}))
    assert run.curve.epochs == [1, 2, 3]
    assert "both are counted from the first epoch" in str(run.notes)


def test_a_percent_sign_in_one_column_does_not_scale_it_twice(tmp_path: Path) -> None:
    lines = "".join(
        f"Train Epoch: {e} Loss: {4.0 / e} Acc@1 {10.0 * e}\nTest: Acc@1: {5 * e}.0%\n"
        for e in (1, 2, 4)
    )
    run = run_in(tmp_path, lines)
    assert run.curve.train_acc == [0.1, 0.2, 0.4]
    assert run.curve.val_acc == [0.05, 0.1, 0.2]


def test_an_epoch_glued_to_its_number_is_no_part_of_a_name(tmp_path: Path) -> None:
    lines = "".join(f"Epoch{e} loss = {8.0 / (e + 1)}\nValidation Acc = 0.5\n" for e in range(3))
    run = run_in(tmp_path, lines)
    assert run.curve.epochs == [0, 1, 2]
    assert run.curve.train_loss == [8.0, 4.0, 8.0 / 3]


@pytest.mark.parametrize(("best", "curve"), [("Min", "val_loss"), ("Max", "val_acc")])
def test_what_is_best_says_what_a_metric_of_catboost_is(
    tmp_path: Path, best: str, curve: str
) -> None:
    metrics = [{"name": "Multi", "best_value": best}]
    meta = {"learn_metrics": metrics, "test_metrics": metrics}
    document = {
        "meta": meta | {"learn_sets": ["learn"], "test_sets": ["test"]},
        "iterations": [
            {"iteration": e, "learn": [0.5], "test": [value]}
            for e, value in enumerate((0.75, 0.5, 0.25))
        ],
    }
    run = run_in(tmp_path, json.dumps(document), "catboost_training.json")
    assert getattr(run.curve, curve) == [0.75, 0.5, 0.25]
