"""Irregularities of real logs. Each case is a small file written by hand."""

import json
import math
import os
from pathlib import Path

import pytest
from log_files import crc32c, event_file

from cnntune.diagnosis.load_runs import ReadRun, read_paths
from cnntune.diagnosis.logs import named_lists
from cnntune.diagnosis.logs.cells import number, percentage, without_time
from cnntune.diagnosis.logs.tensorboard import crc32c as masked_crc
from cnntune.errors import DataError

NAN = math.nan


def runs_in(folder: Path, name: str, content: str | bytes) -> list[ReadRun]:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    runs, _ = read_paths([path])
    return runs


def run_in(folder: Path, content: str | bytes, name: str = "log.csv") -> ReadRun:
    (run,) = runs_in(folder, name, content)
    return run


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("0.7", 0.7),
        (" 1e-3 ", 0.001),
        ("65%", 0.65),
        ("88.1 %", 0.881),
        ("tensor(0.7)", 0.7),
        ("tensor(0.7, device='cuda:0')", 0.7),
        ("np.float64(0.25)", 0.25),
        ("[0.5]", 0.5),
        ("inf", math.inf),
        ("-Infinity", -math.inf),
        ("1.#INF", math.inf),
        ("NA", None),
        ("#na#", None),
        ("", None),
        ("None", None),
        ("1_000", None),
        ("1_051%", None),
        ("٣", None),
        ("12:30", None),
        ("0x10", None),
        ("1,5", None),
        ("cat", None),
    ],
)
def test_a_cell_holds(cell: str, value: float | None) -> None:
    assert number(cell) == value


@pytest.mark.parametrize("cell", ["nan", "NaN", "-nan", "-nan(ind)", "1.#QNAN", "tensor(nan)"])
def test_nan_is_a_value(cell: str) -> None:
    value = number(cell)
    assert value is not None
    assert math.isnan(value)


def test_a_percentage_keeps_the_digits_that_were_written() -> None:
    assert percentage("88.1") == 0.881
    assert 88.1 / 100 != 0.881


@pytest.mark.parametrize(
    ("last_line", "epochs"),
    [
        ("4,0.7,0.", [1, 2, 3]),  # read as a number it would be a loss of 0
        ("4,0.7", [1, 2, 3]),
        ("4,0.70,0.6", [1, 2, 3]),  # shorter than every cell above it
        ("4,0.7,", [1, 2, 3]),
        ("4,0.70,0.61", [1, 2, 3, 4]),  # complete: an editor removed the last newline
        ("4,0.70,0.6\n", [1, 2, 3, 4]),
    ],
)
def test_a_truncated_last_line_is_skipped(
    tmp_path: Path, last_line: str, epochs: list[int]
) -> None:
    head = "epoch,train_loss,val_loss\n1,1.00,1.20\n2,0.90,1.00\n3,0.80,0.85\n"
    run = run_in(tmp_path, head + last_line)
    assert run.curve.epochs == epochs
    assert 0.0 not in run.curve.val_loss
    assert any("truncated" in note for note in run.notes) == (len(epochs) == 3)


def test_a_truncated_last_json_line_is_skipped(tmp_path: Path) -> None:
    lines = [json.dumps({"epoch": e, "train_loss": 1.0 / e}) for e in (1, 2, 3, 4)]
    run = run_in(tmp_path, "\n".join(lines)[:-3])
    assert run.curve.epochs == [1, 2, 3]


def test_a_truncated_json_document_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "history.json").write_text('{"loss": [1.0, 0.5')
    with pytest.raises(DataError, match=r"history\.json: incomplete JSON"):
        read_paths([tmp_path / "history.json"])


def test_a_truncated_event_file_is_read_up_to_its_last_record(tmp_path: Path) -> None:
    data = event_file([("val/loss", step, 1.0 / step) for step in (1, 2, 4, 8)])
    run = run_in(tmp_path, data[:-10], "events.out.tfevents.1")
    assert run.curve.val_loss == [1.0, 0.5, 0.25]
    assert "the truncated last record was skipped" in run.notes


def test_an_event_with_a_wrong_checksum_is_skipped(tmp_path: Path) -> None:
    records = [event_file([("val/loss", step, 1.0 / step)]) for step in (1, 2, 4, 8)]
    version = len(event_file([]))
    data = bytearray(records[0] + b"".join(record[version:] for record in records[1:]))
    place = data.index(b"val/loss", len(records[0])) + 12  # in the value of the second event
    data[place] ^= 0x40
    run = run_in(tmp_path, bytes(data), "events.out.tfevents.1")
    assert run.curve.epochs == [1, 4, 8]
    assert "1 records with a wrong checksum were skipped" in run.notes


def test_the_checksum_is_that_of_rfc_3720() -> None:
    assert crc32c(bytes(32)) == 0x8A9136AA  # appendix B.4, 32 bytes of zeros
    crc = crc32c(b"123456789")
    assert masked_crc(b"123456789") == ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def test_rows_of_another_width_are_skipped_with_a_note(tmp_path: Path) -> None:
    run = run_in(
        tmp_path,
        "epoch,train_loss,val_loss\n1,1.0,1.2\n2,0.9\n3,0.8,0.9,7\n4,0.7,0.8\n5,0.6,0.7\n",
    )
    assert run.curve.epochs == [1, 4, 5]
    assert "2 rows with more or fewer cells than the header were skipped" in run.notes


def test_zero_bytes_left_by_a_crash_are_skipped(tmp_path: Path) -> None:
    content = b"epoch,val_loss\n1,1.2\n2,1.0\n" + bytes(100) + b"3,0.9\n4,0.8\n5,0.7\n"
    run = run_in(tmp_path, content)
    assert run.curve.epochs == [1, 2, 4, 5]  # the zeros may have replaced a digit
    assert run.curve.val_loss == [1.2, 1.0, 0.8, 0.7]


def test_a_repeated_header_continues_the_run_that_was_resumed(tmp_path: Path) -> None:
    run = run_in(
        tmp_path,
        "epoch,train_loss,val_loss\n1,1.0,1.2\n2,0.9,1.1\n3,0.8,1.0\n"
        "epoch,train_loss,val_loss\n3,0.7,0.9\n4,0.6,0.8\n",
    )
    assert run.curve.epochs == [1, 2, 3, 4]
    assert run.curve.val_loss == [1.2, 1.1, 0.9, 0.8]
    assert "resumed at epoch 3: the later values are used" in run.notes


def test_a_header_with_other_columns_applies_from_there_on(tmp_path: Path) -> None:
    run = run_in(
        tmp_path,
        "epoch,train_loss\n1,1.0\n2,0.9\n3,0.8\nepoch,val_loss,train_loss\n4,0.9,0.7\n5,0.8,0.6\n"
        "6,0.7,0.5\n",
    )
    assert run.curve.epochs == [4, 5, 6]
    assert run.curve.val_loss == [0.9, 0.8, 0.7]
    assert run.curve.train_loss[1:] == [0.6, 0.5]


def test_epochs_that_restart_are_a_new_run(tmp_path: Path) -> None:
    rows = [f"{epoch},{loss}\n" for loss in (1.0, 2.0) for epoch in (0, 1, 2, 3)]
    first, second = runs_in(tmp_path, "log.csv", "epoch,val_loss\n" + "".join(rows))
    assert first.curve.val_loss == [1.0] * 4
    assert second.curve.val_loss == [2.0] * 4
    assert [first.path.name, second.path.name] == ["log.csv#1", "log.csv#2"]


def test_an_epoch_that_was_logged_twice_counts_once(tmp_path: Path) -> None:
    rows = "1,1.0,1.2\n2,0.9,1.1\n2,0.7,0.9\n3,0.6,0.8\n"
    run = run_in(tmp_path, "epoch,train_loss,val_loss\n" + rows)
    assert run.curve.epochs == [1, 2, 3]
    assert run.curve.train_loss == [1.0, 0.7, 0.6]
    assert run.curve.val_loss == [1.2, 0.9, 0.8]


def test_a_run_that_was_restarted_at_once_is_skipped_with_a_note(tmp_path: Path) -> None:
    rows = "0,9.0\n1,8.0\n0,1.0\n1,0.9\n2,0.8\n3,0.7\n"
    run = run_in(tmp_path, "epoch,val_loss\n" + rows)
    assert run.path.name == "log.csv#2"
    assert run.curve.val_loss == [1.0, 0.9, 0.8, 0.7]
    assert "skipped 1 other run(s) with fewer than 3 points in this file" in run.notes


TABLE = "epoch,train_loss,val_loss\n1,1.5,1.25\n2,1.0,0.75\n3,0.5,0.625\n"


@pytest.mark.parametrize(
    "content",
    [
        TABLE,
        TABLE.replace(",", ";"),
        TABLE.replace(",", "\t"),
        TABLE.replace(",", " | "),
        TABLE.replace(",", "   "),
        TABLE.replace(",", ";").replace(".", ","),  # as a German Excel writes it
        TABLE.replace("\n", "\r\n"),
        TABLE.replace("\n", "\n\n"),
        TABLE.replace(",", " , "),
        "# " + TABLE,
        "\ufeff" + TABLE,
        TABLE.encode("utf-16"),
        TABLE.encode("utf-16-le"),
        TABLE.replace("epoch", '"epoch"').replace("1.5", '"1.5"'),
        ",epoch,train_loss,val_loss\n0,1,1.5,1.25\n1,2,1.0,0.75\n2,3,0.5,0.625\n",
        "run of 3 May\n\n" + TABLE,
        "val_loss,epoch,train_loss\n1.25,1,1.5\n0.75,2,1.0\n0.625,3,0.5\n",
    ],
)
def test_a_table_reads_the_same_in_any_notation(tmp_path: Path, content: str | bytes) -> None:
    run = run_in(tmp_path, content)
    assert run.curve.epochs == [1, 2, 3]
    assert run.curve.train_loss == [1.5, 1.0, 0.5]
    assert run.curve.val_loss == [1.25, 0.75, 0.625]


def test_percent_strings_and_percentages_and_errors_become_accuracies(
    tmp_path: Path,
) -> None:
    for name, cells in {
        "val_acc": ("50%", "75%", "87.5%"),
        "val_accuracy": ("50", "75", "87.5"),
        "Val Acc": ("0.5", "0.75", "0.875"),
        "val_error": ("0.5", "0.25", "0.125"),
        "val_top1_err": ("50.0", "25.0", "12.5"),
    }.items():
        rows = "".join(f"{epoch},{cell}\n" for epoch, cell in enumerate(cells, start=1))
        run = run_in(tmp_path, f"epoch,{name}\n{rows}")
        assert run.curve.val_acc == [0.5, 0.75, 0.875], name


def test_a_word_error_rate_above_one_is_not_a_percentage(tmp_path: Path) -> None:
    run = run_in(tmp_path, "epoch,val_loss,val_wer\n1,3.0,1.25\n2,2.0,0.75\n3,1.0,0.5\n")
    assert run.curve.val_acc == [-0.25, 0.25, 0.5]


def test_the_last_row_of_a_separate_validation_is_skipped(tmp_path: Path) -> None:
    rows = "".join(
        f"{epoch},{100 * epoch + 50},0.5,\n{epoch},{100 * epoch + 99},,{0.9 - epoch / 10}\n"
        for epoch in range(4)
    )
    run = run_in(tmp_path, f"epoch,step,train_loss,val_loss\n{rows}4,400,,0.1\n")
    assert run.curve.epochs == [0, 1, 2, 3]
    assert any("skipped the last evaluation" in note for note in run.notes)


def test_a_test_phase_beside_a_validation_does_not_count(tmp_path: Path) -> None:
    rows = "1,1.0,1.2,9.0\n2,0.9,1.1,9.0\n3,0.8,1.0,9.0\n"
    run = run_in(tmp_path, f"epoch,train_loss,val_loss,test_loss\n{rows}")
    assert run.columns["val_loss"] == "val_loss"


def test_training_that_became_nan_after_the_last_validation_is_kept(tmp_path: Path) -> None:
    rows = "0,99,1.0,\n0,99,,1.1\n1,199,0.9,\n1,199,,1.0\n2,299,0.8,\n2,299,,0.9\n3,350,nan,\n"
    run = run_in(tmp_path, f"epoch,step,train_loss,val_loss\n{rows}")
    assert run.curve.epochs == [0, 1, 2, 3]
    assert math.isnan(run.curve.train_loss[-1] or 0)
    assert run.curve.val_loss[-1] is None


def test_one_nan_step_does_not_hide_the_epoch_around_it(tmp_path: Path) -> None:
    steps = "1,1.0,\n1,nan,\n1,3.0,1.1\n2,1.0,\n2,1.0,1.0\n3,0.5,\n3,0.5,0.9\n"
    run = run_in(tmp_path, f"epoch,train_loss,val_loss\n{steps}")
    assert run.curve.train_loss == [2.0, 1.0, 0.5]


def test_lists_of_steps_and_of_epochs_are_spread_over_the_same_epochs(tmp_path: Path) -> None:
    history = {"train_loss": [4.0, 2.0, 2.0, 1.0, 1.0, 0.5], "val_loss": [2.5, 1.25, 1.0]}
    run = run_in(tmp_path, json.dumps(history))
    assert run.curve.epochs == [2, 4, 6]
    assert run.curve.train_loss == [3.0, 1.5, 0.75]
    assert any("an evaluation every 2 of 6 epochs" in note for note in run.notes)


@pytest.mark.parametrize(
    ("header", "row", "columns"),
    [
        ("loss,acc,val_loss,val_acc", "1.0,0.5,1.1,0.6", "loss acc val_loss val_acc"),
        ("train_loss,val_loss,acc", "1.0,1.1,0.6", "train_loss - val_loss acc"),
        ("loss,acc", "1.0,0.5", "loss acc - -"),
        ("loss,test_acc", "1.0,0.5", "loss - - test_acc"),
        ("train_loss,test_loss,test_acc", "1.0,1.1,0.6", "train_loss - test_loss test_acc"),
        ("train_loss,f1,val_f1", "1.0,0.7,0.6", "train_loss f1 - val_f1"),
        ("train_ce,val_ce,val_mse", "1.0,1.1,0.6", "train_ce - val_ce -"),
        ("train_mse,val_mse", "1.0,1.1", "train_mse - val_mse -"),
        (
            "train_loss,val_loss,val_acc,best_val_acc",
            "1,1,0.6,0.7",
            "train_loss - val_loss val_acc",
        ),
        ("train_acc,train_f1,val_f1", "0.9,0.7,0.6", "- train_f1 - val_f1"),
    ],
)
def test_which_column_is_which(tmp_path: Path, header: str, row: str, columns: str) -> None:
    run = run_in(tmp_path, f"epoch,{header}\n" + "".join(f"{e},{row}\n" for e in (1, 2, 3)))
    roles = ("train_loss", "train_acc", "val_loss", "val_acc")
    assert " ".join(run.columns.get(role, "-") for role in roles) == columns


def test_a_guess_is_noted(tmp_path: Path) -> None:
    run = run_in(tmp_path, "epoch,train_loss,val_loss,acc\n1,1,1,0.5\n2,1,1,0.6\n3,1,1,0.7\n")
    assert any(note.startswith("val_acc is taken from 'acc'") for note in run.notes)
    told = run_in(tmp_path, "epoch,train_loss,val_loss,val_acc\n1,1,1,0.5\n2,1,1,0.6\n3,1,1,0.7\n")
    assert told.notes == ()


def test_a_metric_belongs_to_the_split_that_it_was_logged_with(tmp_path: Path) -> None:
    rows = "1,1.0,0.5,\n1,0.9,0.6,\n1,,,1.1\n2,0.8,0.7,\n2,,,1.0\n3,0.7,0.8,\n3,,,0.9\n"
    run = run_in(tmp_path, f"epoch,train_loss,accuracy,val_loss\n{rows}")
    assert run.columns["train_acc"] == "accuracy"


def test_a_column_may_name_the_split_of_a_row(tmp_path: Path) -> None:
    rows = "".join(f"{e},train,{2.0 / e}\n{e},val,{3.0 / e}\n" for e in (1, 2, 4))
    table = run_in(tmp_path, f"epoch,phase,loss\n{rows}")
    lines = [{"epoch": e, "type": t, "loss": v / e} for e in (1, 2, 4) for t, v in PHASES.items()]
    objects = run_in(tmp_path, "".join(json.dumps(line) + "\n" for line in lines))
    for run in (table, objects):
        assert run.curve.epochs == [1, 2, 4]
        assert run.curve.train_loss == [2.0, 1.0, 0.5]
        assert run.curve.val_loss == [3.0, 1.5, 0.75]


PHASES = {"train": 2.0, "val": 3.0}


def test_train_steps_and_validation_epochs_get_one_scale(tmp_path: Path) -> None:
    scalars = [("train/loss", step, 400.0 / step) for step in (100, 200, 300, 400)]
    scalars += [("val/loss", epoch, 5.0 - epoch) for epoch in (1, 2, 3, 4)]
    run = run_in(tmp_path, event_file(scalars), "events.out.tfevents.1")
    assert run.curve.epochs == [1, 2, 3, 4]
    assert run.curve.train_loss == pytest.approx([4.0, 2.0, 4 / 3, 1.0])
    assert any("counts steps" in note for note in run.notes)


def test_a_printed_history_is_read(tmp_path: Path) -> None:
    content = "{'loss': [1.0, np.float32(0.5), nan], 'val_loss': [1.5, 0.75, None], 'name': 'x'}"
    run = run_in(tmp_path, content, "history.txt")
    assert run.curve.train_loss[:2] == [1.0, 0.5]
    assert math.isnan(run.curve.train_loss[2] or 0)
    assert run.curve.val_loss == [1.5, 0.75, None]


def test_a_text_log_may_count_only_iterations(tmp_path: Path) -> None:
    lines = ["max_epochs: 100", "lr: 0.5, loss: 9.0"]
    for step in (50, 100, 150, 200):
        lines.append(f"mmseg - INFO - Iter [{step}/200]\tlr: 1.0e-02, loss: {100 / step}")
        lines.append(f"mmseg - INFO - Iter(val) [25]\tmIoU: {step / 400}")
    run = run_in(tmp_path, "\n".join(lines) + "\n", "20230101.log")
    assert run.curve.epochs == [50, 100, 150, 200]
    assert run.curve.train_loss == [2.0, 1.0, 100 / 150, 0.5]
    assert run.curve.val_acc == [0.125, 0.25, 0.375, 0.5]


def test_a_setting_is_not_an_epoch(tmp_path: Path) -> None:
    lines = [f"Epoch {e} loss: {2.0 / e}\nwith epochs: 100 val loss: {3.0 / e}" for e in (1, 2, 4)]
    run = run_in(tmp_path, "\n".join(lines) + "\n", "train.log")
    assert run.curve.epochs == [1, 2, 4]
    assert run.curve.val_loss == [3.0, 1.5, 0.75]


def test_links_hidden_folders_and_other_files_are_skipped(tmp_path: Path) -> None:
    for name in ("run/log.csv", ".git/log.csv", "elsewhere/log.csv"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(TABLE)
    outside = tmp_path.with_name(f"{tmp_path.name}-outside")
    outside.mkdir()
    (outside / "log.csv").write_text(TABLE)
    (tmp_path / "linked.csv").symlink_to(outside / "log.csv")
    (tmp_path / "folder").symlink_to(outside)
    (tmp_path / "notes.txt").write_text("the loss of a train is an error\n")
    (tmp_path / "data.csv").write_text("id,label\n1,cat\n2,dog\n")
    (tmp_path / "package.json").write_text('{"name": "x", "version": "1.0"}')
    (tmp_path / "weights.dat").write_bytes(os.urandom(5000))
    runs, skipped = read_paths([tmp_path])
    assert sorted(run.path for run in runs) == [
        tmp_path / "elsewhere" / "log.csv",
        tmp_path / "run" / "log.csv",
    ]
    assert skipped == []


def test_a_file_that_is_named_and_cannot_be_read_is_skipped_with_a_reason(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(TABLE)
    (tmp_path / "weights.bin").write_bytes(os.urandom(5000))
    (tmp_path / "trials.csv").write_text("epoch,width\n1,16\n2,32\n")
    paths = [tmp_path / name for name in ("log.csv", "weights.bin", "trials.csv")]
    runs, skipped = read_paths(paths)
    assert [run.path for run in runs] == paths[:1]
    assert skipped[0]["reason"] == "not a training log in a known format"
    assert "--map val_loss=COLUMN" in skipped[1]["reason"]


def test_where_nothing_can_be_read_each_reason_is_a_line(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(DataError) as error:
        read_paths([tmp_path / "empty.csv"])
    expected = f"{tmp_path}/empty.csv: not a training log in a known format"
    (line,) = error.value.lines
    assert line.startswith(expected)
    assert "CSV" in line  # what could be read instead
    with pytest.raises(DataError, match="no training log found"):
        read_paths([tmp_path])
    with pytest.raises(DataError, match="nowhere: no such file or folder"):
        read_paths([tmp_path / "nowhere"])


def test_a_run_in_two_logs_is_reported_once(tmp_path: Path) -> None:
    losses = [(epoch, 1.0 / epoch, 1.5 / epoch) for epoch in (1, 2, 3, 4)]
    csv = "epoch,train/loss,val/loss,metrics/accuracy_top1\n"
    csv += "".join(f"{e},{train:.5f},{val:.5f},0.5\n" for e, train, val in losses)
    scalars = [("train/loss", e, train) for e, train, _ in losses]
    scalars += [("val/loss", e, val) for e, _, val in losses]
    (tmp_path / "results.csv").write_text(csv)
    (tmp_path / "events.out.tfevents.1").write_bytes(event_file(scalars))
    (run,), skipped = read_paths([tmp_path])
    assert run.path == tmp_path / "results.csv"  # it has the accuracy too
    reason = f"same run as {tmp_path / 'results.csv'}"
    assert skipped == [{"path": str(tmp_path / "events.out.tfevents.1"), "reason": reason}]


def test_two_runs_in_two_logs_are_two(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(TABLE)
    (tmp_path / "b.csv").write_text(TABLE)  # one tool, the same numbers: two seeds that agree
    scalars = [("val/loss", e, 3.0 / e) for e in (1, 2, 3, 4)]
    (tmp_path / "events.out.tfevents.1").write_bytes(event_file(scalars))
    runs, skipped = read_paths([tmp_path])
    assert len(runs) == 3
    assert skipped == []


def test_checkpoints_of_a_run_are_not_runs(tmp_path: Path) -> None:
    log = [{"epoch": e, "step": 10 * e, "eval_loss": 1.0 / e} for e in (1.0, 2.0, 3.0, 4.0, 5.0)]
    for steps in (30, 40, 50):
        folder = tmp_path / "out" / f"checkpoint-{steps}"
        folder.mkdir(parents=True)
        state = {"log_history": log[: steps // 10]}
        (folder / "trainer_state.json").write_text(json.dumps(state))
    (run,), skipped = read_paths([tmp_path])
    assert run.path.parent.name == "checkpoint-50"
    assert len(skipped) == 2


def test_the_copy_that_mmengine_writes_is_not_a_run(tmp_path: Path) -> None:
    lines = [
        {"lr": 0.1, "data_time": 0.01, "loss": 3.0 / e, "epoch": e, "step": 100 * e}
        for e in (1, 2, 3)
    ]
    content = "".join(json.dumps(line) + "\n" for line in lines)
    for name in ("20240101_120000.json", "scalars.json"):
        path = tmp_path / "20240101_120000" / "vis_data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    runs, skipped = read_paths([tmp_path])
    assert len(runs) == 1
    assert len(skipped) == 1


def test_a_long_document_is_read_up_to_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cnntune.diagnosis.logs.find.MAX_BYTES", 2**20)
    scalars = [("val/loss", step, 1 / step) for step in range(1, 40_000)]
    (tmp_path / "events.out.tfevents.1").write_bytes(event_file(scalars))
    (run,), _ = read_paths([tmp_path / "events.out.tfevents.1"])
    assert 10_000 < len(run.curve.epochs) < 39_999
    assert "only the first 1 MB were read" in run.notes


def test_rows_with_one_cell_more_than_the_header_begin_with_an_index(tmp_path: Path) -> None:
    rows = "".join(f'"{row}"\t{row - 1}\t{2.0 / row}\t{3.0 / row}\n' for row in (1, 2, 3))
    run = run_in(tmp_path, f"epoch\tloss\tval_loss\n{rows}", "r.tsv")
    assert run.curve.epochs == [0, 1, 2]
    assert run.curve.val_loss == [3.0, 1.5, 1.0]


def test_an_additional_cell_that_is_no_index_does_not_shift_the_columns(tmp_path: Path) -> None:
    rows = "".join(f"{row}\t10:0{row}\t0.1\t{2.0 / row}\t\t{3.0 / row}\n" for row in (1, 2, 3))
    path = tmp_path / "loss.tsv"
    path.write_text(f"epoch\ttime\tlr\tloss\tval_loss\n{rows}")
    with pytest.raises(DataError, match="more or fewer cells than the header"):
        read_paths([path])


def test_a_time_that_a_digit_follows_at_once_is_no_time_before_a_message() -> None:
    assert without_time("2023-02-06 11:42:43 3,0.5") == "3,0.5"
    assert without_time("2023-02-06 11:42:43,120 3,0.5") == "3,0.5"
    assert without_time("2023-02-06 11:42:433,0.5") == "2023-02-06 11:42:433,0.5"


def test_a_digit_behind_a_tensor_makes_no_other_number_of_it() -> None:
    whole, damaged = (f"val_loss = [3.5, 2.5, tensor(0.5){end}]\n" for end in ("", "5"))
    (record,) = named_lists.read(whole)
    assert [value for _, value in record.columns["val_loss"]] == [3.5, 2.5, 0.5]
    found = [v for one in named_lists.read(damaged) for _, v in one.columns.get("val_loss", [])]
    assert 0.55 not in found
