"""Threads beside other processes: how many are worth it, by arithmetic done here by hand."""

import json
import os
from pathlib import Path

import pytest
from commands import Outcome, call

from cnntune.cli.command import Command
from cnntune.cli.screen import Screen
from cnntune.cli.session import decide
from cnntune.config.recipe import parse
from cnntune.machine import cpus
from cnntune.machine.cpus import load_of_others, threads_beside
from cnntune.runs.run import Epoch, Run
from cnntune.training import precision

RECIPE = """
name = "own"
[data]
name = "shapes"
size = 100
[model]
width = 2
[train]
batch_size = 32
epochs = 2
"""  # 32 images of 32x32: the smallest batch that has every core


def test_an_idle_machine_gives_a_run_all_its_cores() -> None:
    assert threads_beside(0.0, 2, machine=2) == (2, "")
    assert threads_beside(0.4, 2, machine=2) == (2, "")  # 1.6 cores are idle, rounded 2


def test_where_others_keep_every_core_busy_a_run_has_one_thread() -> None:
    line = "2 cores, load 4.1 from other processes: using 1 thread"
    assert threads_beside(4.1, 2, machine=2) == (1, line)
    assert threads_beside(0.6, 2, machine=2)[0] == 1  # 1.4 cores are idle


def test_a_large_machine_leaves_a_run_the_cores_that_are_idle() -> None:
    line = "16 cores, load 4.2 from other processes: using 12 threads"
    assert threads_beside(4.2, 16, machine=16) == (12, line)


def test_others_may_be_busy_on_the_cores_that_are_not_ours() -> None:
    assert threads_beside(30.0, 8, machine=64) == (8, "")  # 34 are idle
    assert threads_beside(60.0, 8, machine=64)[0] == 4


def test_threads_that_were_given_stay() -> None:
    line = "2 cores, load 4.0 from other processes: 2 threads are required, and will be slow"
    assert threads_beside(4.0, 2, machine=2, given=2) == (2, line)
    assert threads_beside(4.0, 2, machine=2, given=1) == (1, "")
    assert threads_beside(0.0, 2, machine=2, given=2) == (2, "")


def test_what_wants_a_core_now_is_counted_without_us(tmp_path: Path) -> None:
    proc = tmp_path / "loadavg"
    proc.write_text("0.20 0.18 0.12 5/345 11206\n")  # five run, and one of them reads this
    assert load_of_others(proc) == 4.0
    proc.write_text("7.50 0.18 0.12 1/345 11206\n")  # a command that has just ended
    assert load_of_others(proc) == 0.0


def test_elsewhere_the_load_is_the_average_over_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (2.5, 1.0, 0.5))
    assert load_of_others(tmp_path / "missing") == 2.5
    (tmp_path / "pretended").write_text("0.00 0.00 0.00 0/0 0\n")
    assert load_of_others(tmp_path / "pretended") == 2.5


@pytest.fixture
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "cores", lambda: 2)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(cpus, "load_of_others", lambda: 4.0)
    monkeypatch.setattr(precision, "load_of_others", lambda: 4.0)


def train(folder: Path, *words: str) -> Outcome:
    (folder / "own.toml").write_text(RECIPE)
    return call("train", "own.toml", "--no-test", *words, cwd=folder)


def threads_of(folder: Path, run: str) -> int:
    config = json.loads((folder / "runs/own" / run / "config.json").read_text())
    return int(config["train"]["threads"])


@pytest.mark.usefixtures("two_cores")
def test_a_run_beside_others_has_one_thread_and_says_so(tmp_path: Path) -> None:
    outcome = train(tmp_path, "--set=train.epochs=1")
    assert outcome.code == 0, outcome.err
    assert "2 cores, load 4.0 from other processes: using 1 thread" in outcome.err
    assert threads_of(tmp_path, "train-0001") == 1


@pytest.mark.usefixtures("two_cores")
@pytest.mark.parametrize("word", ["--set=train.threads=2", "--deterministic"])
def test_a_number_that_is_promised_is_kept_beside_others(tmp_path: Path, word: str) -> None:
    outcome = train(tmp_path, word, "--set=train.epochs=1")
    assert outcome.code == 0, outcome.err
    assert "2 threads are required, and will be slow" in " ".join(outcome.err.split())
    assert threads_of(tmp_path, "train-0001") == 2


@pytest.mark.slow
def test_an_interrupted_run_goes_on_in_its_threads_whatever_runs_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, two_cores: None
) -> None:
    log = Run.log

    def log_or_stop(run: Run, row: Epoch) -> None:
        if row.epoch == 2:
            raise KeyboardInterrupt
        log(run, row)

    with monkeypatch.context() as idle:
        idle.setattr(precision, "load_of_others", lambda: 0.0)
        idle.setattr(Run, "log", log_or_stop)
        assert train(tmp_path).code == 130
    assert threads_of(tmp_path, "train-0001") == 2
    outcome = train(tmp_path)
    assert "was interrupted after epoch 1; resuming" in " ".join(outcome.err.split())
    assert threads_of(tmp_path, "train-0001") == 2
    assert not (tmp_path / "runs/own/train-0002").exists()


@pytest.mark.usefixtures("two_cores")
def test_a_search_says_that_the_threads_of_its_recipe_will_be_slow(
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = Command("search", json=False, screen=Screen(quiet=False))
    recipe = parse({"train": {"threads": 2}}, file="test")
    decide(command, recipe, ["cpu"], 1, None)
    assert "2 threads are required, and will be slow" in " ".join(capsys.readouterr().err.split())
    decide(command, recipe.with_values({"train.threads": 1}), ["cpu"], 1, None)
    assert "slow" not in capsys.readouterr().err
