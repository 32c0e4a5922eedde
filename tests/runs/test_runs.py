"""The run folder: what survives a kill, what is refused, and who may write."""

import errno
import fcntl
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cnntune.errors import StudyError
from cnntune.runs.files import locked, read_json, write_json
from cnntune.runs.run import COLUMNS, Epoch, Run, best_epoch, read_metrics
from cnntune.runs.study import RECORD_LOCK, Study, this_command

HEADER = "epoch,lr,train_loss,train_acc,val_loss,val_acc,grad_norm,seconds\n"
FIRST = Epoch(1, 0.1, 2.0, 0.25, 2.1, 0.2, 1.5, 3.0)
SECOND = Epoch(2, 0.05, 1.0, 0.5, 1.1, 0.4, 1.25, 3.5)


def metrics(folder: Path, text: str) -> Path:
    path = folder / "metrics.csv"
    path.write_bytes(text.encode())
    return path


def epoch(val_acc: float, val_loss: float = 1.0, *, number: int = 1) -> Epoch:
    return Epoch(number, 0.1, 1.0, 0.5, val_loss, val_acc, 1.0, 1.0)


# Rows


def test_the_columns_are_those_of_the_contract() -> None:
    assert ",".join(COLUMNS) + "\n" == HEADER


def test_rows_come_back_as_they_were_logged(tmp_path: Path) -> None:
    run = Run(tmp_path / "trial-0001")
    run.begin({"name": "a"})
    run.log(FIRST)
    assert run.rows() == [FIRST]
    run.log(SECOND)
    assert run.rows() == [FIRST, SECOND]


def test_an_interrupted_run_is_taken_up_and_one_of_another_recipe_makes_way(tmp_path: Path) -> None:
    run = Run(tmp_path / "trial-0001")
    assert run.begin({"name": "a"}) == 0
    run.log(FIRST)
    assert run.begin({"name": "a"}) == 1
    assert run.rows() == [FIRST]
    run.checkpoint.write_bytes(b"of a")
    assert run.begin({"name": "b"}) == 0
    assert run.rows() == []
    assert not run.checkpoint.exists()


def test_a_torn_line_makes_way_for_the_row_that_comes_next(tmp_path: Path) -> None:
    run = Run(tmp_path / "trial-0001")
    run.begin({"name": "a"})
    run.log(FIRST)
    with run.metrics.open("a") as file:
        file.write("2,0.05,1.")
    assert run.begin({"name": "a"}) == 1
    run.log(SECOND)
    assert run.rows() == [FIRST, SECOND]


@pytest.mark.parametrize("kept", range(1, 30))
def test_a_torn_last_line_is_dropped_wherever_it_is_torn(tmp_path: Path, kept: int) -> None:
    whole = "1,0.1,2.0,0.25,2.1,0.2,1.5,3.0\r\n"
    torn = "2,0.05,1.0,0.5,1.1,0.4,1.25,3.5\r\n"[:kept]
    assert read_metrics(metrics(tmp_path, HEADER + whole + torn)) == [FIRST]


def test_a_run_killed_before_its_header_was_whole_has_no_rows(tmp_path: Path) -> None:
    for written in ("", "epoch,lr,train_"):
        assert read_metrics(metrics(tmp_path, written)) == []


@pytest.mark.parametrize(
    "line",
    [
        "2,0.05,1.0",
        "2,0.05,1.0,0.5,1.1,0.4,1.25,3.5,9.9",
        "2,0.05,1.0,0.5,1.1,0.4,1.25,",
        "2,0.05,1.0,0.5,1.1,0.4,fast,3.5",
        "",
        "nan,0.05,1.0,0.5,1.1,0.4,1.25,3.5",
        "\0\0\0\0",
    ],
)
def test_a_line_without_a_number_in_every_column_is_dropped(tmp_path: Path, line: str) -> None:
    whole = "1,0.1,2.0,0.25,2.1,0.2,1.5,3.0\n"
    assert read_metrics(metrics(tmp_path, HEADER + line + "\n" + whole)) == [FIRST]


def test_an_epoch_that_two_machines_wrote_counts_once(tmp_path: Path) -> None:
    run = Run(tmp_path / "trial-0001")
    run.begin({"name": "a"})
    for row in (FIRST, FIRST, SECOND, SECOND):
        run.log(row)
    assert run.rows() == [FIRST, SECOND]
    assert run.begin({"name": "a"}) == 2


def test_a_diverged_epoch_is_kept_with_its_nan(tmp_path: Path) -> None:
    run = Run(tmp_path / "trial-0001")
    run.begin({})
    run.log(Epoch(1, 0.1, *(math.nan,) * 5, 3.0))
    (row,) = run.rows()
    assert row.diverged
    assert math.isnan(row.val_acc)
    assert (row.epoch, row.lr, row.seconds) == (1, 0.1, 3.0)


@pytest.mark.parametrize("header", ["epoch,loss\n", "a\n", HEADER.replace("lr", "rate"), "\0\n"])
def test_foreign_columns_are_refused(tmp_path: Path, header: str) -> None:
    path = metrics(tmp_path, header + "1,2\n")
    with pytest.raises(StudyError, match="must have the columns epoch,lr,train_loss") as caught:
        read_metrics(path)
    assert caught.value.lines[0].startswith(str(path))


def test_no_file_is_no_rows(tmp_path: Path) -> None:
    assert read_metrics(tmp_path / "metrics.csv") == []


# The best epoch


def test_the_best_epoch_has_the_highest_accuracy() -> None:
    rows = [epoch(0.4), epoch(0.6), epoch(0.5)]
    assert best_epoch(rows) is rows[1]


def test_of_two_with_one_accuracy_the_lower_loss_is_better_and_then_the_earlier() -> None:
    rows = [epoch(0.6, 2.0), epoch(0.6, 1.5, number=2), epoch(0.6, 1.5, number=3)]
    assert best_epoch(rows) is rows[1]


def test_a_run_that_diverged_has_no_best_epoch() -> None:
    assert best_epoch([epoch(0.9), epoch(math.nan, math.nan)]) is None
    assert best_epoch([epoch(0.9), epoch(0.9, math.inf)]) is None
    assert best_epoch([]) is None


# Whole files


def test_a_file_appears_by_rename_and_leaves_no_draft(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    write_json(path, {"a": 1})
    before = path.stat().st_ino
    write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 2}
    assert path.stat().st_ino != before  # another file took its place
    assert [entry.name for entry in tmp_path.iterdir()] == ["summary.json"]


def test_a_document_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["summary.json"]


def test_json_is_strict(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"a": math.nan, "b": [math.inf, 1.0], "c": {"d": (-math.inf, "x")}})
    assert path.read_text().count("null") == 3
    assert read_json(path) == {"a": None, "b": [None, 1.0], "c": {"d": [None, "x"]}}


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe", b"{" * 3, b"[" * 100_000])
def test_what_is_not_json_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "study.json"
    path.write_bytes(content)
    with pytest.raises(StudyError, match="is not JSON"):
        read_json(path)


def test_json_that_is_no_object_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "study.json"
    path.write_text("[1]")
    with pytest.raises(StudyError, match=r"must hold a JSON object \(got list\)"):
        read_json(path)


def test_a_run_is_finished_once_it_has_a_summary(tmp_path: Path) -> None:
    run = Run(tmp_path / "trial-0001")
    run.begin({"name": "a"})
    assert run.summary() is None
    assert run.config() == {"name": "a"}
    run.finish({"state": "complete"})
    assert run.summary() == {"state": "complete"}


# Studies


def test_a_trials_folder_has_four_digits(tmp_path: Path) -> None:
    study = Study(tmp_path / "digits")
    assert study.trial(7).path == tmp_path / "digits" / "trial-0007"
    assert study.trial(12345).path.name == "trial-12345"


def test_the_record_keeps_what_was_asked_before(tmp_path: Path) -> None:
    study = Study(tmp_path / "digits")
    study.record("seed = 0\n", device="cpu")
    study.record("seed = 1\n", device="cpu", code=tmp_path)
    about = study.read("study")
    assert about is not None
    assert len(about["commands"]) == 2
    assert about["format"] == 1
    assert about["name"] == "digits"
    assert about["code"] == str(tmp_path)
    assert (study.path / "recipe.toml").read_text() == "seed = 1\n"


RECORDER = """
import sys
from pathlib import Path
from cnntune.runs.study import Study

print("ready", flush=True)
sys.stdin.readline()
Study(Path(sys.argv[1])).record("", device="cpu")
"""


def test_eight_commands_at_once_are_all_recorded(tmp_path: Path) -> None:
    path = tmp_path / "digits"
    commands = [
        subprocess.Popen(
            [sys.executable, "-c", RECORDER, str(path), f"command-{number}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(8)
    ]
    for command in commands:
        assert command.stdout is not None
        command.stdout.readline()
    for command in commands:
        command.communicate("\n")
        assert command.returncode == 0
    about = Study(path).read("study")
    assert about is not None
    recorded = sorted(command["argv"][-1] for command in about["commands"])
    assert recorded == [f"command-{number}" for number in range(8)]


def test_a_command_that_records_twice_is_listed_once(tmp_path: Path) -> None:
    study = Study(tmp_path / "digits")
    command = this_command()
    study.record("", device="cpu", command=command)
    study.record_command(command)
    about = study.read("study")
    assert about is not None
    assert about["commands"] == [command]
    assert about["device"] == "cpu"


@pytest.mark.parametrize(
    "word",
    [
        "postgresql://me:s3cret@host:5432/db",
        "--storage=postgresql+psycopg://me:s3cret@host/db",
        "postgresql://me:s3cret/with@signs@host/db",
        "postgresql:///db?host=/run&password=s3cret&user=me",
    ],
)
def test_the_record_holds_no_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    monkeypatch.setattr("sys.argv", ["cnntune", "search", word])
    study = Study(tmp_path / "digits")
    study.record("", device="cpu")
    text = (study.path / "study.json").read_text()
    assert "s3cret" not in text
    assert "***" in text
    assert "/db" in text


# The lock

HOLDER = """
import sys, time
from pathlib import Path
from cnntune.runs.study import Study

with Study(Path(sys.argv[1])).lock():
    print("held", flush=True)
    time.sleep(60)
"""


def hold(folder: Path) -> subprocess.Popen[str]:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    return holder


def test_a_study_that_another_process_holds_is_refused_until_that_process_is_killed(
    tmp_path: Path,
) -> None:
    study = Study(tmp_path / "digits")
    with hold(study.path) as holder:
        with pytest.raises(StudyError, match="locked by another cnntune process"), study.lock():
            pass
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        with study.lock():
            pass


def test_a_lock_is_free_again_after_its_block(tmp_path: Path) -> None:
    study = Study(tmp_path / "digits")
    with study.lock():
        pass
    with study.lock():
        pass


def test_a_lock_is_free_again_after_an_error(tmp_path: Path) -> None:
    study = Study(tmp_path / "digits")
    with pytest.raises(RuntimeError), study.lock():
        raise RuntimeError
    with study.lock():
        pass


def test_two_studies_are_locked_apart(tmp_path: Path) -> None:
    with Study(tmp_path / "a").lock(), Study(tmp_path / "b").lock():
        pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_not_taken_for_a_study_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def no_locks(_file: object, _how: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    study = Study(tmp_path / "digits")
    with pytest.raises(StudyError) as caught, study.lock():
        pass
    (line,) = caught.value.lines
    assert line.startswith(f"{study.path}: its file system has no locks")
    assert "--storage" in line
    study.record("", device="cpu")  # a study on a server needs no lock
    assert study.read("study") is not None


def test_a_lock_may_be_waited_for_with_a_word(tmp_path: Path) -> None:
    folder = tmp_path / "digits"
    with hold(folder) as holder:
        said: list[str] = []

        def kill() -> None:
            said.append("waiting")
            holder.kill()

        with locked(folder, waiting=kill) as ours:
            assert ours
    assert said == ["waiting"]


def test_a_lock_of_another_name_is_another_lock(tmp_path: Path) -> None:
    with hold(tmp_path) as holder:
        with locked(tmp_path, RECORD_LOCK) as ours:
            assert ours
        holder.kill()


@pytest.mark.parametrize("place", ["runs", "runs/digits"])
def test_a_file_in_the_place_of_a_folder_is_a_line(tmp_path: Path, place: str) -> None:
    path = tmp_path / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")
    study = Study(tmp_path / "runs/digits")
    for write in (lambda: study.record("", device="cpu"), lambda: study.write("sanity", {})):
        with pytest.raises(StudyError) as caught:
            write()
        (line,) = caught.value.lines
        assert line == f"{study.path}: cannot be written: a file has this path"


def test_a_folder_that_nobody_may_write_to_is_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "runs")

    monkeypatch.setattr(Path, "mkdir", refuse)  # as root everything may be written
    study = Study(tmp_path / "digits")
    with pytest.raises(StudyError, match="cannot be written: Permission denied"), study.lock():
        pass


@pytest.mark.parametrize("name", ["study.json", "trial-0000/config.json"])
def test_a_document_of_a_newer_version_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"format": 2}))
    with pytest.raises(StudyError) as caught:
        read_json(path)
    assert caught.value.lines[0].startswith(f"{path}: written by a newer cnntune (format 2;")


def test_the_config_of_a_newer_version_is_not_taken_for_a_damaged_one(tmp_path: Path) -> None:
    run = Run(tmp_path / "trial-0001")
    run.begin({"name": "a", "format": 2})
    with pytest.raises(StudyError, match="newer cnntune"):
        run.config()


@pytest.mark.parametrize("content", ["", "{", "[1]", "\0"])
def test_a_damaged_file_of_a_run_counts_as_missing(tmp_path: Path, content: str) -> None:
    run = Run(tmp_path / "trial-0001")
    run.begin({"name": "a"})
    for name in ("config.json", "summary.json", "metrics.csv"):
        (run.path / name).write_text(content)
    assert (run.config(), run.summary(), run.rows()) == ({}, None, [])
