"""What ends a search from outside: SIGTERM, a reader that went away, a full disk. It goes on."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from commands import CNNTUNE, PATIENCE_SECONDS, Outcome, call, rows, run

SMALL = """
name = "small"
[data]
name = "digits"
size = 120
[model]
width = 4
[train]
batch_size = 32
[search]
epochs = 3
[space]
train.lr = { log = [1e-3, 1e-1] }
"""
SEARCH = ("search", "small.toml", "--budget", "6", "--json")
CURVES = tuple(f"trial-{number:04d}" for number in range(6))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "small.toml").write_text(SMALL)
    return tmp_path


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[list[str]]:
    """The curves of the search that nothing stopped."""
    place = tmp_path_factory.mktemp("undisturbed")
    (place / "small.toml").write_text(SMALL)
    assert call(*SEARCH, cwd=place).code == 0
    return [rows(place / "runs/small" / trial) for trial in CURVES]


@contextlib.contextmanager
def searching(folder: Path, *words: str) -> Iterator["subprocess.Popen[str]"]:
    """A real search in a process group of its own."""
    process = subprocess.Popen(
        [*CNNTUNE, *SEARCH, "--workers", "2", *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("whom", ["coordinator", "group"])
def test_sigterm_ends_a_search_with_a_line_and_it_goes_on(
    folder: Path, undisturbed: list[list[str]], whom: str
) -> None:
    with searching(folder) as process:
        until(lambda: (folder / "runs/small/trial-0001/config.json").exists())
        (os.kill if whom == "coordinator" else os.killpg)(process.pid, signal.SIGTERM)
        out, err = process.communicate(timeout=PATIENCE_SECONDS)  # workers hold stderr too
    assert process.returncode == 130, err
    assert err.splitlines()[-1] == "interrupted; run the same command again to resume"
    assert "Traceback" not in err
    assert out == ""
    assert_goes_on(folder, undisturbed)


def assert_goes_on(folder: Path, undisturbed: list[list[str]], *words: str) -> Outcome:
    again = run(*SEARCH, "--workers", "1", *words, cwd=folder)
    assert again.code == 0, again.err
    assert again.document["trials"]["complete"] == len(CURVES)
    study = folder / again.document["study"]
    assert [rows(study / trial) for trial in CURVES] == undisturbed
    return again


@pytest.mark.slow
def test_a_search_whose_progress_nobody_reads_any_more_goes_on_to_its_result(
    folder: Path, undisturbed: list[list[str]]
) -> None:
    with searching(folder) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        process.stderr.readline()
        process.stderr.close()
        with process.stdout as stdout:
            out = stdout.read()
        assert process.wait(timeout=PATIENCE_SECONDS) == 0
    outcome = Outcome(0, out, "")
    assert outcome.document["trials"]["complete"] == len(CURVES)
    assert [rows(folder / "runs/small" / trial) for trial in CURVES] == undisturbed


@contextlib.contextmanager
def small_disk(place: Path, kilobytes: int) -> Iterator[Callable[[int], None]]:
    """A disk of this size at `place`; what is yielded gives it another size."""
    place.mkdir()
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a small disk")
    words = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(place)]
    if subprocess.run(words, capture_output=True, check=False).returncode:
        pytest.skip("needs a system that lets root mount a small disk")

    def resize(size: int) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}k", str(place)], check=True)

    try:
        yield resize
    finally:
        subprocess.run(["umount", str(place)], check=True)


# study.db needs 140 kB or so, so the first disk is full before a trial has begun.
@pytest.mark.slow
@pytest.mark.parametrize("kilobytes", [100, 140, 190])
def test_a_search_that_fills_the_disk_says_so_and_goes_on_when_there_is_space(
    folder: Path, undisturbed: list[list[str]], kilobytes: int
) -> None:
    where = ("--runs", "disk/runs")
    with small_disk(folder / "disk", kilobytes) as resize:
        full = run(*SEARCH, "--workers", "1", *where, cwd=folder)
        assert full.code == 2, full.err
        (line,) = full.document["errors"]
        assert "no space left" in line.lower()
        assert "run the same command to resume" in line
        assert "Traceback" not in full.err
        resize(10_000)
        assert_goes_on(folder, undisturbed, *where)


@pytest.mark.slow
def test_a_training_run_that_fills_the_disk_says_so_and_goes_on_when_there_is_space(
    folder: Path,
) -> None:
    words = ("train", "small.toml", "--set", "train.epochs=6", "--json")
    wanted = folder / call(*words, cwd=folder).document["run"]
    with small_disk(folder / "disk", 24) as resize:
        full = run(*words, "--runs", "disk/runs", cwd=folder)
        assert full.code == 2, full.err
        (line,) = full.document["errors"]
        assert "run the same command to resume" in line
        resize(1000)
        again = run(*words, "--runs", "disk/runs", cwd=folder)
        assert again.code == 0, again.err
        assert rows(folder / again.document["run"]) == rows(wanted)
