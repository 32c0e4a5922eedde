"""`log.txt` of a study: every event on a line, whatever happens, and no command fails by it."""

import os
import re
import shutil
from pathlib import Path

import pytest
from commands import Workflow, call, run

from cnntune.cli.log import EventLog

SMALL = """
name = "small"
[data]
name = "digits"
size = 120
[model]
width = 2
[train]
batch_size = 64
epochs = 1
[search]
epochs = 1
[space]
train.lr = { log = [1e-2, 3e-1] }
"""
LINE = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00)  pid (\d+)  (\S+)  (\S.*)")
SEARCH = ("search", "small.toml", "--workers", "1", "--device", "cpu")
LOG = Path("runs/small/log.txt")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "small.toml").write_text(SMALL)
    return tmp_path


def events(folder: Path) -> list[str]:
    """What happened, by line; each line has a time, a process and a device before it."""
    lines = [LINE.fullmatch(line) for line in (folder / LOG).read_text().splitlines()]
    assert all(lines)
    return [line[4] for line in lines if line]


def test_a_search_logs_what_was_typed_each_trial_and_the_exit_code(folder: Path) -> None:
    outcome = call(*SEARCH, "--budget", "2", cwd=folder)
    first, start, end, *_ = events(folder)
    assert first == "search started: cnntune search small.toml --workers 1 --device cpu --budget 2"
    assert re.fullmatch(r"trial-0000 started: train\.lr=0\.\d+", start)
    assert re.fullmatch(r"trial-0000 complete after 1 epoch: val acc 0\.\d{4}, val loss .+", end)
    assert events(folder)[-1] == f"search ended with exit code {outcome.code}"
    line = LINE.fullmatch((folder / LOG).read_text().splitlines()[1])
    assert line is not None
    assert line[3] == "cpu"


def test_a_resumed_search_adds_to_the_log(folder: Path) -> None:
    call(*SEARCH, "--budget", "1", cwd=folder)
    before = (folder / LOG).read_text()
    call(*SEARCH, "--budget", "2", cwd=folder)
    after = (folder / LOG).read_text()
    assert after.startswith(before)
    added = after.removeprefix(before)
    assert "search started: cnntune search" in added
    assert "trial-0001 started" in added
    assert "trial-0000" not in added


def test_train_and_the_search_of_its_recipe_share_a_log(folder: Path) -> None:
    assert call("train", "small.toml", cwd=folder).code == 0
    found = events(folder)
    assert found[0] == "train started: cnntune train small.toml"
    assert found[1] == "train-0001 started"
    assert found[2].startswith("train-0001 complete after 1 epoch: val acc ")
    assert found[-1] == "train ended with exit code 0"


def test_a_refinement_logs_in_the_study_that_it_refines(workflow: Workflow) -> None:
    study = workflow.folder / "runs/digits"
    text = (study / "log.txt").read_text()
    assert "refine started: cnntune refine --budget 2 --epochs 4" in text
    assert "refine-1/trial-0000 complete after 4 epochs" in text
    assert re.search(r"trial-\d{4}-seed-1 started: train.lr=", text)
    assert "refine ended with exit code 0" in text
    assert not (study / "refine-1/log.txt").exists()


def test_warnings_and_failures_are_logged(folder: Path) -> None:
    words = ("--set", "space.train.lr={log=[1e6,1e7]}", "--budget", "1")
    assert call(*SEARCH, *words, cwd=folder).code == 1
    found = events(folder)
    assert any(event.startswith("trial-0000 diverged after 1 epoch") for event in found)
    assert any(event.startswith("fail diverged-trials: 1 of 1 trial diverged") for event in found)
    assert found[-1] == "search ended with exit code 1"


def test_an_error_is_logged_with_exit_code_2(folder: Path) -> None:
    call(*SEARCH, "--budget", "1", cwd=folder)
    assert call(*SEARCH, "--budget", "1", "--set", "model.width=4", cwd=folder).code == 2
    assert events(folder)[-3].startswith("error: runs/small: holds another recipe: model.width")
    assert events(folder)[-1] == "search ended with exit code 2"


def test_a_bug_is_logged_with_its_exception(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr("cnntune.steps.search.result", broken)
    assert call(*SEARCH, "--budget", "1", cwd=folder).code == 3
    assert events(folder)[-2:] == [
        "error: ZeroDivisionError: planted",
        "search ended with exit code 3",
    ]


DYING = """
import os
import signal
from pathlib import Path

from cnntune.models.small import small_cnn


def build(*, num_classes, in_shape, width=2):
    with open("builds", "a") as file:
        file.write("x")
    if Path("builds").stat().st_size == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return small_cnn(num_classes=num_classes, in_shape=in_shape, width=width)
"""


@pytest.mark.slow
def test_a_worker_that_died_is_logged_with_its_exit_code(folder: Path) -> None:
    (folder / "dying.py").write_text(DYING)
    (folder / "small.toml").write_text(SMALL.replace("width = 2", 'name = "dying:build"'))
    words = ("--budget", "2", "--set", "train.precision=float32")
    outcome = run(*SEARCH, *words, cwd=folder)
    assert outcome.code in (0, 1), outcome.err
    found = events(folder)
    (died,) = (event for event in found if "died" in event)
    assert re.fullmatch(r"trial-000\d: its worker died \(exit code -9\)", died)
    name = died.partition(":")[0]
    ends = [event for event in found[found.index(died) :] if event.startswith(f"{name} complete")]
    assert len(ends) == 1  # another worker took it up


@pytest.mark.parametrize("verb", ["search", "train"])
def test_verbose_shows_the_lines_of_the_log_on_stderr(folder: Path, verb: str) -> None:
    words = (verb, "small.toml", *(("--budget", "1") if verb == "search" else ()))
    plain = call(*words, cwd=folder)
    assert "started: cnntune" not in plain.err
    shutil.rmtree(folder / "runs")
    verbose = call(*words, "-v", cwd=folder)
    shown = " ".join(verbose.err.split())
    lines = (folder / LOG).read_text().splitlines()
    assert len(lines) >= 4
    for line in lines:
        assert " ".join(line.split()) in shown
    assert "started: cnntune" not in verbose.out


def test_a_log_that_cannot_be_written_changes_nothing(folder: Path) -> None:
    plain = call(*SEARCH, "--budget", "1", cwd=folder)
    shutil.rmtree(folder / "runs")
    (folder / LOG).mkdir(parents=True)  # root may write read-only files, but no folder
    outcome = call(*SEARCH, "--budget", "1", "-v", cwd=folder)
    assert (outcome.code, outcome.out) == (plain.code, plain.out)
    assert "search ended with exit code" in outcome.err
    assert list((folder / LOG).iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to a read-only file")
def test_a_read_only_log_stays_as_it_is_and_changes_nothing(folder: Path) -> None:
    plain = call(*SEARCH, "--budget", "1", cwd=folder)
    shutil.rmtree(folder / "runs")
    (folder / "runs/small").mkdir(parents=True)
    (folder / LOG).write_text("kept\n")
    (folder / LOG).chmod(0o444)
    outcome = call(*SEARCH, "--budget", "1", cwd=folder)
    assert (outcome.code, outcome.out) == (plain.code, plain.out)
    assert (folder / LOG).read_text() == "kept\n"


def test_what_could_not_be_written_is_written_with_the_next_event(tmp_path: Path) -> None:
    log = EventLog()
    log.write("before there is a study")
    log.open(tmp_path / "study", "cpu")
    log.write("first")
    assert not (tmp_path / "study").exists()  # a log makes no folder
    (tmp_path / "study").mkdir()
    log.write("second\nof two lines")
    lines = (tmp_path / "study/log.txt").read_text().splitlines()
    assert [line.rpartition("  ")[2] for line in lines] == ["first", "second | of two lines"]


def test_a_log_holds_no_password(tmp_path: Path) -> None:
    log = EventLog()
    log.open(tmp_path, "cpu")
    log.write("search started: cnntune search --storage postgresql://me:secret@host/db")
    text = (tmp_path / "log.txt").read_text()
    assert "secret" not in text
    assert "postgresql://me:***@host/db" in text
