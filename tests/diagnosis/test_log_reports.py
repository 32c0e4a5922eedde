"""What is read in a folder, what is reported there as skipped, and logs without a usual name."""

import gzip
import os
import threading
from pathlib import Path

import pytest

from cnntune.diagnosis.load_runs import read_paths

LINES = "".join(f"Epoch {e} loss: {2.0 / e} val_loss: {3.0 / e}\n" for e in (1, 2, 4, 5))
UNREADABLE = "".join(f"loss, accuracy -> 0.{e}, 0.{e}\n" for e in range(1, 5))


@pytest.mark.parametrize("name", ["run.md", "run.out", "run", "run.log.1", "slurm-17.txt"])
def test_printed_lines_are_read_whatever_the_extension(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(LINES)
    for path in (tmp_path, tmp_path / name):
        (run,), skipped = read_paths([path])
        assert run.curve.epochs == [1, 2, 4, 5]
        assert skipped == []


def test_a_file_in_a_folder_that_looks_like_a_log_is_reported(tmp_path: Path) -> None:
    (tmp_path / "good.log").write_text(LINES)
    (tmp_path / "bad.log").write_text(UNREADABLE)
    (tmp_path / "val_acc.dat").write_text("1 2 3\n4 5 6\n7 8 9\n")  # which column is it?
    (tmp_path / "old.log.gz").write_bytes(gzip.compress(LINES.encode()))
    runs, skipped = read_paths([tmp_path])
    assert [run.path.name for run in runs] == ["good.log"]
    assert [(Path(entry["path"]).name, entry["reason"]) for entry in skipped] == [
        ("bad.log", "not a training log in a known format"),
        ("old.log.gz", "compressed: decompress it first"),
        ("val_acc.dat", "not a training log in a known format"),
    ]


@pytest.mark.parametrize("name", ["train.log", "slurm-17.out", "job.err", "nested/a.LOG"])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"Traceback (most recent call last):\nValueError: no data\n", "known format"),
        (b"", "holds no text"),
        (b"\x00\x01\x02\x03" * 100, "holds no text"),
        ("Обучение закончено\n".encode("cp1251"), "known format"),
    ],
)
def test_a_log_by_its_extension_is_reported_whatever_it_holds(
    tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    (tmp_path / "good.csv").write_text("epoch,loss\n1,2\n2,1\n3,0.5\n")
    (tmp_path / "nested").mkdir()
    (tmp_path / name).write_bytes(content)
    _, (skipped,) = read_paths([tmp_path])
    assert Path(skipped["path"]) == tmp_path / name
    assert reason in skipped["reason"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("log.txt", "epoch;Loss\neins;zwei\ndrei;vier\nLoss 1\nLoss 2\nLoss 3\n"),
        ("results.json", '{"loss": "falls"}\nloss 1\nloss 2\nloss 3\n'),
        ("metrics.csv", "when,what\n1,2\n3,4\n5,6\n"),
        ("history.tsv", "1\t2\n3\t4\n5\t6\n"),
        ("training.jsonl", '{"loss": 1\n{"loss": 2\n{"loss": 3\n'),
        ("run.yaml", "epoch 1 loss one\nepoch 2 loss 2 of\nepoch 3 loss 3 of\nepoch 4 loss 4 of\n"),
    ],
)
def test_a_log_of_any_kind_of_text_is_read_or_reported(
    tmp_path: Path, name: str, content: str
) -> None:
    (tmp_path / "good.csv").write_text("epoch,loss\n1,2\n2,1\n3,0.5\n")
    (tmp_path / name).write_text(content)
    runs, skipped = read_paths([tmp_path])
    paths = {run.path.name.partition("#")[0] for run in runs} | {
        Path(entry["path"]).name for entry in skipped
    }
    assert name in paths
    assert all(entry["reason"] for entry in skipped)


def test_other_files_of_a_project_are_not_reported(tmp_path: Path) -> None:
    (tmp_path / "good.log").write_text(LINES)
    (tmp_path / "README.md").write_text(
        "# Net\nTrained for 30 epochs, the loss is 0.2.\n\n"
        "| Model | Accuracy | Loss |\n|---|---|---|\n| A | 0.9 | 0.2 |\n| B | 0.8 | 0.3 |\n"
    )
    (tmp_path / "requirements.txt").write_text("torch==2.2.0\nnumpy==1.26\npandas==2.1\n")
    (tmp_path / "config.json").write_text('{\n"epochs": 3,\n"loss": 1,\n"val_loss": 2\n}')
    (tmp_path / "train.txt").write_text("images/1.png\nimages/2.png\nimages/3.png\nimages/4.png\n")
    (tmp_path / "classes.csv").write_text("id,label\n1,cat\n2,dog\n")
    runs, skipped = read_paths([tmp_path])
    assert [run.path.name for run in runs] == ["good.log"]
    assert skipped == []


def test_a_table_of_epochs_in_a_markdown_document_is_read(tmp_path: Path) -> None:
    rows = "".join(f"| {e} | {2.0 / e} | {3.0 / e} |\n" for e in (1, 2, 4))
    document = f"# Results\n\n| epoch | loss | val_loss |\n|---|---|---|\n{rows}\nDone.\n"
    (tmp_path / "notes.md").write_text(document)
    (run,), _ = read_paths([tmp_path])
    assert run.curve.epochs == [1, 2, 4]
    assert run.curve.val_loss == [3.0, 1.5, 0.75]


def test_a_log_can_come_through_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=(LINES,))
    writer.start()
    (run,), _ = read_paths([pipe])
    writer.join()
    assert run.curve.epochs == [1, 2, 4, 5]
