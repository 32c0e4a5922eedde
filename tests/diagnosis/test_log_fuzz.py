"""Any bytes: a reader returns what the file holds, or an error."""

import ast
import contextlib
import io
import json
import math
import re
import struct
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from log_files import event_file, mlflow_database, study_database, wandb_file

from cnntune.diagnosis import logs as package
from cnntune.diagnosis.logs import (
    catboost,
    darknet,
    delimited,
    dvclive,
    find,
    history,
    joined,
    json_documents,
    json_lines,
    long_tables,
    mlflow,
    named_lists,
    notebook,
    optuna_study,
    split_table,
    tensorboard,
    text,
    thin,
    wandb,
    yolo,
)
from cnntune.diagnosis.logs.align import align
from cnntune.diagnosis.logs.cells import decode
from cnntune.diagnosis.logs.choose import choose
from cnntune.diagnosis.logs.record import Record, UnreadableLogError

FEW, MANY = 150, 20_000  # examples per reader: in every test run, and with -m slow
PATIENCE_SECONDS = 2.0  # for one small file on a busy machine; they take milliseconds

TABLE = "epoch,train_loss,val_loss,val_acc\n1,1.5,1.25,51%\n2,1.0,nan,\n3,0.5,6.25e-1,tensor(0.7)\n"
LINES = "".join(
    json.dumps({"epoch": e, "train": {"loss": 3.5 / e}, "val_loss": "NaN", "lr": 1e-3}) + "\n"
    for e in (1, 2, 3)
)
HISTORY = json.dumps({"loss": [3.5, 2.5, math.nan], "val_loss": [4.5, None, 3.25]})
STATE = json.dumps({"log_history": [{"epoch": 0.5 * e, "step": e, "loss": 3.5} for e in (1, 2)]})
PEOPLE = (
    "2023-02-06 11:42:43,804 - mmcls - INFO - Epoch [1][100/391]\tlr: 1.0e-01, loss: 2.5000\n"
    "Epoch: [2][50/391] Time 0.1 (0.1) Loss 0.31 (0.29) Prec@1 89.1 (90.2)\n * Prec@1 84.700\n"
    "Test set: Average loss: 0.0523, Accuracy: 9826/10000 (98%)\n\nEpoch 3/9 val_loss=nan acc 7%\n"
)
EVENTS = event_file([("train/loss", e, 3.5 / e) for e in (1, 2, 3)] + [("val/loss", 3, math.inf)])
OFFLINE = wandb_file([{"epoch": e, "loss": 3.5 / e, "val/loss": 4.5} for e in (1, 2, 3)])
STEPS = "1700000000000 3.5 0\n1700000000001 nan 1\n1700000000002 2.5 2\n"
TSV = "timestamp\tstep\tloss\n1.5\t0\t3.5\n2.5\t1\tnan\n3.5\t2\t2.5\n"

YOLO = "0/2 1.2G 0.1 0.2 0.3 0.6 20 640\n1/2 1.2G 0.1 0.1 0.3 0.5 20 640\n"
DARKNET = " 1: 3.5, 3.5 avg loss, 0.001 rate, 8 seconds\n 2: 2.5, nan avg, 0.001 rate, 8 seconds\n"
SPLITS = "".join(f"Epoch {e}/1\nTraining | Validation\nloss | 3.5 | nan\n" for e in (0, 1))
BOOST = json.dumps(
    {
        "meta": {
            "learn_metrics": [{"name": "Logloss"}],
            "test_metrics": [{"name": "AUC"}],
            "learn_sets": ["learn"],
            "test_sets": ["test"],
        },
        "iterations": [{"iteration": e, "learn": [3.5], "test": [0.5]} for e in (0, 1)],
    }
)
TABLE_HTML = "<table><tr><th>epoch<th>loss</tr><tr><td>0<td>3.5</tr><tr><td>1<td>2.5</tr></table>"
OUTPUTS = [{"text": [PEOPLE]}, {"data": {"text/html": TABLE_HTML, "text/plain": "1"}}]
CELLS = json.dumps({"cells": [{"cell_type": "code", "outputs": [out]} for out in OUTPUTS]})

LONG = "epoch,metric,value\n1,loss,3.5\n2,loss,nan\n3,loss,2.5\n1,val_loss,0.5\n"
LISTS = "loss = [3.5, 2.5, nan]\nval loss: [3.5 2.5\n 1.5]\nval_acc:\n- 0.5\n- 0.25\n- 0.75\n"
JOURNAL = "".join(
    json.dumps(entry) + "\n"
    for entry in (
        {"op_code": 0, "study_name": "s", "directions": [1]},
        {"op_code": 4, "study_id": 0},
        {"op_code": 7, "trial_id": 0, "step": 1, "intermediate_value": 3.5},
        {"op_code": 7, "trial_id": 0, "step": 2, "intermediate_value": 2.5},
    )
)
TABLE_OF_TWO_LINES = (
    "| Epoch | Mini | Val |\n|  | Loss | Loss |\n| 1 | 3.5 | 2.5 |\n| 2 | 1.5 | nan |\n"
)

BY_STEP = b"iter\tLogloss\n0\t3.5\n1\t2.5\n2\tnan\n"

Reader = Callable[[bytes], list[Record]]


def of_text(read: Callable[[str], list[Record]]) -> Reader:
    return lambda data: read(decode(data))


def of_points(read: Callable[[str], Any]) -> Reader:
    return lambda data: [Record("points", {"loss": read(decode(data))})]


def of_files(read: Callable[[Path], Any], *names: str, **fixed: str) -> Reader:
    """A reader of a folder in which files of these names hold the data, or of the only one.

    `fixed` maps further names, with two underscores for the dot, to what these files hold.
    """

    def read_folder(data: bytes) -> list[Record]:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for file in names:
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                (folder / file).write_bytes(data)
            for file, content in fixed.items():
                (folder / file.replace("__", ".")).write_text(content)
            return list(read(folder / names[0] if len(names) == 1 and not fixed else folder))

    return read_folder


def of_groups(folder: Path) -> list[Record]:
    names = sorted(path.name for path in folder.iterdir())
    return [record for group in joined.groups(folder, names) for record in group.read()]


def thinned(data: bytes) -> list[Record]:
    """What is left of a log that is too long, where a hundred bytes are many."""
    with mock.patch.object(thin, "THIN_ABOVE", 100), mock.patch.object(thin, "KEPT_BYTES", 400):
        kept, _ = thin.read_lines(data[:50], io.BytesIO(data[50:]))
    return find.read_data(kept)


def of_values(read: Callable[[Any], list[Record]]) -> Reader:
    def read_values(data: bytes) -> list[Record]:
        try:
            value = json_documents.loads(decode(data))
        except (ValueError, RecursionError):
            return []
        return read(value)

    return read_values


READERS: dict[str, tuple[Reader, bytes]] = {
    "delimited": (of_text(delimited.read), TABLE.encode()),
    "json lines": (of_text(json_lines.read), LINES.encode()),
    "json history": (of_text(json_documents.read), HISTORY.encode()),
    "hugging face": (of_text(json_documents.read), STATE.encode()),
    "text": (of_text(text.read), PEOPLE.encode()),
    "tensorboard": (lambda data: tensorboard.read([data]), EVENTS),
    "wandb": (wandb.read, OFFLINE),
    "mlflow file": (of_points(mlflow.read_metric), STEPS.encode()),
    "dvclive": (of_points(dvclive.read_metric), TSV.encode()),
    "yolo": (of_text(yolo.read), YOLO.encode()),
    "darknet": (of_text(darknet.read), DARKNET.encode()),
    "table of splits": (of_text(split_table.read), SPLITS.encode()),
    "catboost": (of_text(catboost.read), BOOST.encode()),
    "notebook": (of_text(lambda content: notebook.read(content, find.read_text)), CELLS.encode()),
    "long table": (of_text(long_tables.read), LONG.encode()),
    "named lists": (of_text(named_lists.read), LISTS.encode()),
    "optuna journal": (of_text(optuna_study.read_journal), JOURNAL.encode()),
    "header of two lines": (of_text(delimited.read), TABLE_OF_TWO_LINES.encode()),
    "any": (find.read_data, TABLE.encode()),
    "any event file": (find.read_data, EVENTS),
    "file": (of_files(find.read_file, "run.csv"), TABLE.encode()),
    "file in a folder": (of_files(find.read_found_file, "train.log"), PEOPLE.encode()),
    "document in a folder": (of_files(find.read_found_file, "run.md"), PEOPLE.encode()),
    "folder of dvclive": (
        of_files(
            dvclive.read_folder,
            *("plots/metrics/loss.tsv", "plots/metrics/val/acc.tsv"),
        ),
        TSV.encode(),
    ),
    "folder of mlflow": (
        of_files(
            mlflow.read_folder,
            *("metrics/loss", "metrics/val/acc"),
            meta__yaml="lifecycle_stage: active\n",
        ),
        STEPS.encode(),
    ),
    "tables per split": (of_files(of_groups, "learn_error.tsv", "test_error.tsv"), BY_STEP),
    "files per epoch": (of_files(of_groups, "epoch_0.json", "epoch_1.json"), b'{"loss": 3.5}'),
    "files of values": (of_files(of_groups, "train_loss.txt", "val_loss.txt"), b"3.5\n2.5\n1.5\n"),
    "values": (of_text(lambda content: joined.read_values(content, "loss")), b"3.5\n2.5\nnan\n"),
    "values of a document": (of_values(json_documents.read_value), STATE.encode()),
    "history": (of_values(history.records_of), HISTORY.encode()),
    "thinned": (thinned, LINES.encode()),
}
# Return bytes, or rows that a reader above has split already.
NO_READERS = {"delimited.read_rows", "find.read_bytes", "find.read_head", "long_tables.read_rows"}

QUOTIENTS = (  # read 9826/10000 correct answers
    *("text", "notebook", "any", "any event file", "file", "file in a folder"),
    *("document in a folder", "thinned"),
)

PIECES = st.sampled_from(
    (
        *(
            "epoch",
            "train_loss",
            "val_acc",
            "loss",
            "Epoch 3",
            "step",
            '"',
            "{",
            "}",
            "[",
            "]",
            "'",
        ),
        *(
            ",",
            ";",
            "\t",
            "\n",
            "\r\n",
            "\0",
            " ",
            ":",
            "=",
            "%",
            "(",
            ")",
            "|",
            "/",
            "#",
            "\ufeff",
        ),
        *("0.7", "0.", "1e5", "nan", "inf", "-1", "1e999", "99999999999999999999", "tensor(0.5)"),
        *(
            "NA",
            "null",
            "12:30",
            "2023-02-06 11:42:43",
            "٣",
            "1_0",
            "é",
            "{'loss': nan}",
            "val loss",
        ),
    )
)
FREE_TEXT = st.lists(PIECES, max_size=40).map("".join).map(lambda content: content.encode())


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """A well-formed file after a few flips, cuts, doublings and insertions."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        length = draw(st.integers(1, 40))
        kind = draw(st.sampled_from(("flip", "cut", "end", "double", "insert")))
        if kind == "flip" and data:
            data[at] ^= draw(st.integers(1, 255))
        elif kind == "cut":
            del data[at : at + length]
        elif kind == "end":
            del data[at:]
        elif kind == "double":
            data[at:at] = data[at : at + length]
        else:
            data[at:at] = draw(PIECES).encode()
    return bytes(data)


def inputs(whole: bytes) -> st.SearchStrategy[bytes]:
    return st.one_of(damaged(whole), damaged(whole), FREE_TEXT, st.binary(max_size=200))


NUMBER = re.compile(r"[-+]?(?:\d+[.,]?\d*|[.,]\d+)(?:[eE][-+]?\d+)?")


def numbers_in(data: bytes) -> set[float]:
    """Every number that somebody could read in a text, each also as a percentage."""
    content = decode(data)
    found: set[float] = set()
    for at in range(len(content)):
        if at and content[at - 1] in "0123456789.":
            continue
        if match := NUMBER.match(content, at):
            spelled = {match[0].replace(",", "."), match[0].partition(",")[0]} - {"", "+", "-"}
            found |= {float(word) for word in spelled}
            found |= {float(f"{word}e-2") for word in spelled if "e" not in word.lower()}
            found |= {float(word) / 100 for word in spelled if "e" in word.lower()}
    return found | {-value for value in found}


def is_in(value: float, data: bytes, numbers: set[float], *, quotients: bool = False) -> bool:
    """Whether a value stands in the bytes, as text or as a float of 2, 4 or 8 bytes."""
    if not math.isfinite(value) or value in numbers:
        return True
    if quotients and any(value == a / b for a in numbers for b in numbers if b):
        return True  # 9826/10000 correct answers
    return any(_packed(code, value) in data for code in ("<d", ">d", "<f", "<e"))


def _packed(code: str, value: float) -> bytes:
    try:
        return struct.pack(code, value)
    except OverflowError:
        return b"\0no such bytes\0"


def check(read: Reader, data: bytes, *, quotients: bool) -> None:
    """Reading ends soon, in records or in the one error that it may end in, and invents nothing."""
    if seconds_to_check(read, data, quotients=quotients) > PATIENCE_SECONDS:
        # Again, since Python may have collected garbage of other tests.
        assert seconds_to_check(read, data, quotients=quotients) <= PATIENCE_SECONDS


def seconds_to_check(read: Reader, data: bytes, *, quotients: bool) -> float:
    """Computed by this thread while the log was read and its records were checked."""
    begin = time.thread_time()
    try:
        records = read(data)
    except UnreadableLogError:
        return time.thread_time() - begin
    numbers = numbers_in(data)
    for record in records:
        for points in record.columns.values():
            assert points or record.format == "points"
            for x, value in points:
                assert math.isfinite(x)
                assert is_in(value, data, numbers, quotients=quotients), value
        aligned = align(record, choose(record))
        lengths = {len(aligned.curve.epochs)}
        values = (aligned.curve.train_loss, aligned.curve.val_loss, aligned.curve.val_acc)
        assert {len(series) for series in values if series} <= lengths
        assert list(aligned.curve.epochs) == sorted(set(aligned.curve.epochs))
    return time.thread_time() - begin


def fuzz(reader: str, examples: int) -> None:
    read, whole = READERS[reader]

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,  # the same inputs each time: CI must not fail by chance
        suppress_health_check=list(HealthCheck),
    )
    @given(inputs(whole))
    def any_bytes(data: bytes) -> None:
        check(read, data, quotients=reader in QUOTIENTS)

    any_bytes()


@pytest.mark.parametrize("reader", READERS)
def test_a_reader_takes_any_bytes_and_invents_nothing(reader: str) -> None:
    fuzz(reader, FEW)


def test_every_reader_is_fuzzed() -> None:
    here = Path(__file__).read_text(encoding="utf-8")
    for path in Path(package.__file__).parent.glob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if not isinstance(node, ast.FunctionDef):
                continue
            name = f"{path.stem}.{node.name}"
            if re.fullmatch(r"read(_\w+)?|records_of|groups", node.name) and name not in NO_READERS:
                assert re.search(rf"\b{name}\b", here), name


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Generating overly large repr")
@pytest.mark.parametrize("reader", READERS)
def test_a_reader_takes_twenty_thousand_files(reader: str) -> None:
    fuzz(reader, MANY)


@pytest.mark.parametrize("reader", READERS)
def test_the_files_that_are_damaged_here_can_be_read_undamaged(reader: str) -> None:
    read, whole = READERS[reader]
    assert sum(len(points) for record in read(whole) for points in record.columns.values()) >= 2


def whole_mlflow(path: Path) -> None:
    metrics = [
        ("a", key, 3.5 / (e + 1), e, False) for key in ("loss", "val_loss") for e in range(4)
    ]
    mlflow_database(path, metrics)


def whole_optuna(path: Path) -> None:
    study_database(path, "MINIMIZE", [3.5, 1.75, 0.875])


DATABASES: dict[str, tuple[Callable[[Path], list[Record]], Callable[[Path], object]]] = {
    "mlflow": (mlflow.read_database, whole_mlflow),
    "optuna": (optuna_study.read_database, whole_optuna),
}


def fuzz_databases(tool: str, tmp_path: Path, examples: int) -> None:
    read, write = DATABASES[tool]
    path = tmp_path / f"{tool}.db"
    write(path)
    whole = path.read_bytes()

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,  # the same inputs each time: CI must not fail by chance
        suppress_health_check=list(HealthCheck),
    )
    @given(damaged(whole))
    def any_database(data: bytes) -> None:
        path.write_bytes(data)
        check_database(read, path, data)

    any_database()


def check_database(read: Callable[[Path], list[Record]], path: Path, data: bytes) -> None:
    begin = time.process_time()
    try:
        records = read(path)
    except UnreadableLogError:
        return
    for record in records:
        for points in record.columns.values():
            for _, value in points:
                whole = value == int(value) if math.isfinite(value) else True
                assert whole or is_in(value, data, set())  # SQLite stores 1.0 as the integer 1
    assert time.process_time() - begin < PATIENCE_SECONDS


@pytest.mark.parametrize("tool", DATABASES)
def test_a_damaged_database_is_read_or_an_error(tool: str, tmp_path: Path) -> None:
    fuzz_databases(tool, tmp_path, FEW)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Generating overly large repr")
@pytest.mark.parametrize("tool", DATABASES)
def test_twenty_thousand_damaged_databases_are_read_or_an_error(tool: str, tmp_path: Path) -> None:
    fuzz_databases(tool, tmp_path, MANY)


@pytest.mark.parametrize(
    "content",
    [
        b"loss" + b" " * 500_000 + b"x",
        b"{" * 500_000,
        b'{"a": {' * 50_000,
        b"[" * 500_000,
        b"1" * 500_000,
        b"loss " * 100_000,
        b"epoch,loss\n" + b"\n" * 500_000 + b"1,2\n",
        b"Epoch " * 50_000,
        b"Epoch 1 loss: 0.5\n" * 10_000,
        b"epoch,val_loss\n1,2\n" * 10_000,
        b"epoch,train_loss,val_loss\n" + b"1,1,1\n" * 30_000,
        b'"' * 500_000,
        b"a,loss\n" + b'1,"' * 100_000,
        b"Train | Val\na" + b"|" * 500_000,
        b"Train | Val\n" + b"a | " * 100_000 + b"\n",
        b'{"cells": [{"cell_type": "code", "outputs": [{"data": {"text/html": "'
        + b"<table><tr><td>" * 30_000
        + b'"}}]}]}',
        b"0/1 1G " * 50_000,
    ],
    ids=lambda content: repr(content[:12]),
)
def test_the_time_for_a_strange_file_is_linear_in_its_length(content: bytes) -> None:
    begin = time.process_time()
    with contextlib.suppress(UnreadableLogError):
        for record in find.read_data(content):
            align(record, choose(record))
    assert time.process_time() - begin < PATIENCE_SECONDS
