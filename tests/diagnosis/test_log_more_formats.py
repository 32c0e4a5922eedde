"""Notebooks, tables without a header, and runs whose epochs or splits are separate files."""

import json
from pathlib import Path

import pytest

from cnntune.diagnosis.load_runs import ReadRun, read_paths
from cnntune.errors import DataError

LOSSES = ((1, 2.0, 2.5), (2, 1.0, 1.5), (3, 0.5, 1.25), (4, 0.25, 1.75))


def read(path: Path) -> list[ReadRun]:
    """All runs at or below a path, of which nothing may be skipped."""
    runs, skipped = read_paths([path])
    assert skipped == []
    return runs


def run_in(folder: Path, name: str, content: str) -> ReadRun:
    """The only run in a file of this name and content."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    (run,) = read(path)
    return run


def notebook(*cells: list[dict[str, object]]) -> str:
    """A notebook, on one line, of code cells with these outputs."""
    code = [{"cell_type": "code", "source": [], "outputs": outputs} for outputs in cells]
    return json.dumps({"cells": code, "metadata": {}, "nbformat": 4})


def printed(*lines: str) -> dict[str, object]:
    return {"output_type": "stream", "name": "stdout", "text": [f"{line}\n" for line in lines]}


def displayed(names: str, *rows: str) -> dict[str, object]:
    """A table in HTML; cells are separated by blanks."""
    head = "".join(f"<th>{name}</th>" for name in names.split())
    body = "".join(
        "<tr>" + "".join(f"<td>{cell}</td>" for cell in row.split()) + "</tr>" for row in rows
    )
    html = (
        f"<style>td {{}}</style><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )
    return {"output_type": "display_data", "data": {"text/html": [html], "text/plain": ["<obj>"]}}


EPOCH_LINES = [f"Epoch {e}/4 - loss: {train} - val_loss: {val}" for e, train, val in LOSSES]


def test_a_notebook_on_one_line_is_read_by_what_its_cells_printed(tmp_path: Path) -> None:
    source = {"cell_type": "markdown", "source": ["Epoch 9 loss: 9.0"]}
    document = json.loads(notebook([printed(*EPOCH_LINES)]))
    document["cells"].insert(0, source)
    run = run_in(tmp_path, "fit.ipynb", json.dumps(document))
    assert run.curve.epochs == [1, 2, 3, 4]
    assert run.curve.train_loss == [2.0, 1.0, 0.5, 0.25]
    assert run.curve.val_loss == [2.5, 1.5, 1.25, 1.75]


def test_a_progress_bar_in_a_notebook_ends_its_lines_with_returns(tmp_path: Path) -> None:
    bars = [f"Epoch {e}/4 - loss: 9.0\rEpoch {e}/4 - loss: {loss}" for e, loss, _ in LOSSES]
    run = run_in(tmp_path, "fit.ipynb", notebook([printed(*bars)]))
    assert run.curve.epochs == [1, 2, 3, 4]
    assert run.curve.train_loss[-1] == 0.25  # as the notebook shows it


def test_a_cell_that_cannot_be_read_does_not_hide_the_others(tmp_path: Path) -> None:
    broken = printed('{"loss": [0.5, 0.25')
    run = run_in(tmp_path, "fit.ipynb", notebook([broken], [printed(*EPOCH_LINES)]))
    assert run.curve.train_loss == [2.0, 1.0, 0.5, 0.25]


def test_two_cells_of_a_notebook_are_two_runs(tmp_path: Path) -> None:
    (tmp_path / "fit.ipynb").write_text(
        notebook([printed(*EPOCH_LINES)], [printed("done")], [printed(*EPOCH_LINES[:3])])
    )
    first, second = read(tmp_path / "fit.ipynb")
    assert (first.part, second.part) == ("cell 1", "cell 3")
    assert second.curve.epochs == [1, 2, 3]


def test_the_table_that_fastai_displays_is_read(tmp_path: Path) -> None:
    rows = [f"{e - 1} {train} {val} 0.{e} 00:10" for e, train, val in LOSSES]
    table = displayed("epoch train_loss valid_loss accuracy time", *rows)
    run = run_in(tmp_path, "fit.ipynb", notebook([printed("warming up"), table]))
    assert run.format == "fastai"
    assert run.curve.epochs == [0, 1, 2, 3]
    assert run.curve.val_loss == [2.5, 1.5, 1.25, 1.75]
    assert run.curve.val_acc == [0.1, 0.2, 0.3, 0.4]


def test_html_with_unclosed_cells_is_read_or_left_out(tmp_path: Path) -> None:
    html = "<table><tr><th>epoch<tr>td>0<table>1<td>2</table>"
    output: dict[str, object] = {"output_type": "display_data", "data": {"text/html": html}}
    run = run_in(tmp_path, "fit.ipynb", notebook([output], [printed(*EPOCH_LINES)]))
    assert run.curve.epochs == [1, 2, 3, 4]


def test_the_last_rows_of_a_displayed_history_are_not_a_run(tmp_path: Path) -> None:
    tail = displayed("index loss epoch", "96 0.5 96", "97 0.4 97", "98 0.3 98")
    unnumbered = displayed("model loss accuracy", "a 0.5 0.8", "b 0.4 0.8", "c 0.3 0.9")
    (tmp_path / "fit.ipynb").write_text(notebook([tail, unnumbered]))
    with pytest.raises(DataError, match="not a training log in a known format"):
        read_paths([tmp_path / "fit.ipynb"])


def test_a_notebook_that_is_cut_off_is_not_read_as_printed_lines(tmp_path: Path) -> None:
    (tmp_path / "fit.ipynb").write_text(notebook([printed(*EPOCH_LINES)])[:-10])
    with pytest.raises(DataError, match="incomplete JSON"):
        read_paths([tmp_path / "fit.ipynb"])


def yolo_row(epoch: int, *losses: float) -> str:
    cells = [f"{epoch}/3", "1.2G", *losses, sum(losses), 20, 640, 0.5, 0.4, 0.3, 0.2, *losses]
    return "".join(f" {cell:>10}" for cell in cells)


def test_yolo_writes_results_without_a_header(tmp_path: Path) -> None:
    rows = [yolo_row(epoch, 0.5 / (epoch + 1), 0.25, 0.125) for epoch in range(4)]
    run = run_in(tmp_path, "results.txt", "\n".join(rows) + "\n")
    assert run.format == "yolo"
    assert run.curve.epochs == [0, 1, 2, 3]
    assert run.curve.train_loss[:2] == [0.875, 0.625]
    assert run.curve.val_loss[:2] == [0.875, 0.625]
    assert run.curve.val_acc == [0.3, 0.3, 0.3, 0.3]


def test_a_table_as_of_yolo_whose_total_is_no_sum_has_unknown_columns(tmp_path: Path) -> None:
    rows = [yolo_row(epoch, 0.5, 0.25, 0.125).replace("0.875", "0.500") for epoch in range(4)]
    (tmp_path / "results.txt").write_text("\n".join(rows) + "\n")
    with pytest.raises(DataError, match="columns are unknown"):
        read_paths([tmp_path / "results.txt"])


def test_darknet_prints_a_running_loss(tmp_path: Path) -> None:
    lines = []
    for step in range(1, 5):
        lines.append(f" {step}: {8.5 / step}, {9.0 / step} avg loss, 0.001 rate, 8.4 seconds")
        lines.append("Loaded: 0.00004 seconds")
    lines.insert(5, " mean average precision (mAP@0.50) = 0.75, or 75.00 %")
    run = run_in(tmp_path, "train.log", "\n".join(lines) + "\n")
    assert run.format == "darknet"
    assert run.curve.epochs == [1, 2, 3, 4]
    assert run.curve.train_loss == [9.0, 4.5, 3.0, 2.25]
    assert run.curve.lr == [0.001, 0.001, 0.001, 0.001]


def test_allennlp_prints_a_table_of_splits_after_each_epoch(tmp_path: Path) -> None:
    prefix = "2024-01-01 10:00:00,000 - INFO - allennlp.training - "
    lines = []
    for epoch, train, val in LOSSES:
        lines += [
            f"{prefix}Epoch {epoch - 1}/3",
            f"{prefix}        Training |  Validation",
            f"{prefix}loss        |  {train}  |  {val}",
            f"{prefix}memory_MB   |  1580.612  |  N/A",
        ]
    run = run_in(tmp_path, "stdout.log", "\n".join(lines) + "\n")
    assert run.format == "allennlp"
    assert run.curve.epochs == [0, 1, 2, 3]
    assert run.curve.train_loss == [2.0, 1.0, 0.5, 0.25]
    assert run.curve.val_loss == [2.5, 1.5, 1.25, 1.75]


def test_one_json_file_per_epoch_is_one_run(tmp_path: Path) -> None:
    for epoch, train, val in LOSSES:
        content = {"training_loss": train, "validation_loss": val, "best_epoch": 3}
        (tmp_path / f"metrics_epoch_{epoch + 7}.json").write_text(json.dumps(content))
    (run,) = read(tmp_path)
    assert run.path == tmp_path
    assert run.curve.epochs == [8, 9, 10, 11]  # in order of numbers, not of names
    assert run.curve.val_loss == [2.5, 1.5, 1.25, 1.75]


def test_one_json_file_per_trial_is_not_one_run(tmp_path: Path) -> None:
    for trial in (1, 2, 3):
        content = {"loss": 1.0 / trial, "val_loss": 1.5, "epoch": 30}
        (tmp_path / f"trial_{trial}.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="no training log found"):
        read_paths([tmp_path])


def test_catboost_writes_one_table_per_split(tmp_path: Path) -> None:
    for at, name in enumerate(("learn_error.tsv", "test_error.tsv")):
        rows = "".join(f"{e - 1}\t{losses[at]}\n" for e, *losses in LOSSES)
        (tmp_path / name).write_text(f"iter\tLogloss\n{rows}")
    (tmp_path / "time_left.tsv").write_text("iter\tPassed\tRemaining\n0\t1\t2\n1\t2\t3\n")
    (run,) = read(tmp_path)
    assert run.format == "catboost"
    assert run.curve.train_loss == [2.0, 1.0, 0.5, 0.25]
    assert run.curve.val_loss == [2.5, 1.5, 1.25, 1.75]


def test_catboost_names_the_metrics_of_its_json_apart_from_their_values(tmp_path: Path) -> None:
    metrics = [{"name": "Accuracy", "best_value": "Max"}, {"name": "Logloss", "best_value": "Min"}]
    meta = {
        "learn_metrics": metrics[1:],
        "test_metrics": metrics,
        "learn_sets": ["learn"],
        "test_sets": ["test"],
    }
    iterations = [
        {"learn": [train], "iteration": 10 * e, "test": [e / 10, val]} for e, train, val in LOSSES
    ]
    content = json.dumps({"meta": meta, "iterations": iterations})
    for name in ("learn_error.tsv", "test_error.tsv"):  # the same numbers
        (tmp_path / name).write_text("iter\tLogloss\n" + "".join(f"{e}\t1\n" for e in range(4)))
    run = run_in(tmp_path, "catboost_training.json", content)
    assert run.curve.epochs == [10, 20, 30, 40]
    assert run.curve.train_loss == [2.0, 1.0, 0.5, 0.25]
    assert run.curve.val_loss == [2.5, 1.5, 1.25, 1.75]
    assert run.curve.val_acc == [0.1, 0.2, 0.3, 0.4]
    assert len(read(tmp_path)) == 1


def test_a_data_set_in_two_tables_is_not_a_run(tmp_path: Path) -> None:
    for name in ("train.csv", "test.csv"):
        (tmp_path / name).write_text("id,width,label\n1,2.0,0\n2,3.0,1\n3,4.0,0\n")
    with pytest.raises(DataError):
        read_paths([tmp_path])


def test_a_file_of_one_number_per_line_is_named_by_its_file(tmp_path: Path) -> None:
    run = run_in(tmp_path, "val_loss.txt", "2.5e+00\n1.5e+00\n1.25e+00\n1.75e+00\n")
    assert run.curve.epochs == [1, 2, 3, 4]
    assert run.curve.val_loss == [2.5, 1.5, 1.25, 1.75]
    assert "each line is taken for one epoch" in run.notes[0]
    (tmp_path / "train_loss.txt").write_text("2\n1\n0.5\n0.25\n")
    (tmp_path / "ages.txt").write_text("2\n1\n5\n25\n")
    (both,) = read(tmp_path)
    assert both.path == tmp_path
    assert both.curve.train_loss == [2.0, 1.0, 0.5, 0.25]
    assert both.curve.val_loss == [2.5, 1.5, 1.25, 1.75]
