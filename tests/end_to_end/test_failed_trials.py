"""A trial that fails says why, whatever it fails at, and the others go on."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import call

from cnntune.config.recipe import Recipe
from cnntune.runs import summary
from cnntune.runs.summary import Summary
from cnntune.training import precision
from cnntune.training.open_recipe import load_recipe
from cnntune.workers import worker
from cnntune.workers.pool import Event, Job, in_order, run_jobs

# Own code that fails where its argument says so, with an error that says nothing of a disk.
OWN = """
from torch import nn
import torch
from torch.utils.data import Dataset

STEPS = 2  # an epoch has 64 images in batches of 32


def fail():
    raise FileNotFoundError(2, "No such file or directory", "gone.bin")


class Images(Dataset):
    def __init__(self, fails):
        self.fails = fails

    def __len__(self):
        return 64

    def __getitem__(self, index):
        if self.fails and index == 50:
            fail()
        generator = torch.Generator().manual_seed(index)
        return torch.rand(1, 4, 4, generator=generator), index % 2


def data(*, seed, fails="nowhere"):
    return Images(fails == "data"), Images(False)


class Net(nn.Module):
    def __init__(self, fails):
        super().__init__()
        self.layer, self.fails, self.steps = nn.Linear(16, 2), fails, 0

    def forward(self, x):
        self.steps += self.training
        if (self.fails, self.steps) in (("first batch", 1), ("epoch 2", STEPS + 1)):
            fail()
        return self.layer(x.flatten(1))


def build(*, num_classes, in_shape, fails="nowhere"):
    if fails == "build":
        fail()
    return Net(fails)
"""
RECIPE = """
name = "own"
[data]
name = "own_failing:data"
[model]
name = "own_failing:build"
[train]
batch_size = 32
[search]
epochs = 2
[space]
"""
STAGES = ("data", "resolve", "build", "first batch", "epoch 2", "finish")
BUDGET = 5


def raise_as_own_code_does(values: Any, *_: Any) -> None:
    raise FileNotFoundError(2, "No such file or directory", "gone.bin")


# With --deterministic nothing is built and tried before training begins.
@pytest.mark.parametrize(
    ("stage", "exact"),
    [
        *[(stage, ()) for stage in STAGES],
        ("build", ("--deterministic",)),
        *[
            pytest.param(stage, ("--deterministic",), marks=pytest.mark.slow)
            for stage in STAGES
            if stage != "build"
        ],
    ],
)
def test_whatever_a_trial_fails_at_its_message_is_told_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, exact: tuple[str, ...]
) -> None:
    (tmp_path / "own_failing.py").write_text(OWN)
    key = "data.fails" if stage == "data" else "model.fails"
    space = f'{key} = {{ choice = ["nowhere", "{stage}"] }}\n'
    (tmp_path / "own.toml").write_text(RECIPE + space)
    failing: list[Any] = []

    def resolve_or_fail(recipe: Recipe, *more: Any) -> Recipe:
        failing[:] = [recipe.get("model.fails")]
        if failing == ["resolve"]:
            raise_as_own_code_does(recipe)
        return precision.with_threads(recipe, *more)

    def summarise_or_fail(rows: Any, *more: Any) -> Any:
        if failing == ["finish"]:
            raise_as_own_code_does(rows)
        return summary.summarise(rows, *more)

    monkeypatch.setattr(worker, "with_threads", resolve_or_fail)
    monkeypatch.setattr(worker, "summarise", summarise_or_fail)
    outcome = call("search", "own.toml", "--budget", str(BUDGET), "--json", *exact, cwd=tmp_path)
    assert outcome.code in (0, 1), outcome.err  # so little training may learn nothing
    failed: list[dict[str, Any]] = []
    complete: list[dict[str, Any]] = []
    for trial in sorted((tmp_path / "runs/own").glob("trial-*")):
        document = json.loads((trial / "summary.json").read_text())
        section, _, name = key.partition(".")
        bad = json.loads((trial / "config.json").read_text())[section].get(name) == stage
        (failed if bad else complete).append(document)
    assert failed
    assert complete
    assert len(failed) + len(complete) == BUDGET
    assert {document["status"] for document in complete} == {"complete"}
    for document in failed:
        assert document["status"] == "failed"
        assert "No such file or directory: 'gone.bin'" in document["error"]
        ours = stage in ("resolve", "finish")
        assert document["error_kind"] == ("bug" if ours else "user-code")
    (said,) = (f for f in outcome.document["findings"] if f["rule"] == "failed-trials")
    assert said["severity"] == "warn"
    assert "No such file or directory: 'gone.bin'" in said["evidence"]
    assert "space" not in outcome.err.lower().replace("[space]", "")


BROKEN_DATA = """
import numpy
import torch
from torch.utils.data import Dataset


class Images(Dataset):
    def __init__(self, width):
        self.width = width

    def __len__(self):
        return 64

    def __getitem__(self, index):
        if index == 50:
            return {}["no picture"], 0
        return torch.rand(1, 4, 4), index % 2


class Odd(Images):
    def __getitem__(self, index):
        return torch.full((1, 4, 4 + index % 2), index / 64), index % 2


def raising(*, seed):
    return Images(4), Images(4)


def unequal(*, seed):
    return Odd(4), Odd(4)
"""


@pytest.mark.parametrize(
    ("data", "line"),
    [
        ('{name="folder", path="gone"}', "gone"),
        ('{name="npz", path="half.npz"}', "half.npz"),
        ('{name="own_broken:raising"}', "reading image 50 of train: KeyError: 'no picture'"),
        ('{name="own_broken:unequal"}', "[1, 4, 5], but image 0 is [1, 4, 4]"),
    ],
)
def test_data_that_cannot_be_read_are_told_before_there_is_a_trial(
    tmp_path: Path, data: str, line: str
) -> None:
    import numpy as np

    (tmp_path / "own_broken.py").write_text(BROKEN_DATA)
    np.savez(tmp_path / "half.npz", images=np.zeros((40, 4, 4, 1), np.uint8), labels=np.zeros(20))
    outcome = call("search", "digits", "--set", f"data={data}", "--budget", "2", cwd=tmp_path)
    assert outcome.code == 2
    assert line in outcome.err
    assert "Traceback" not in outcome.err
    assert "free disk space" not in outcome.err
    assert not list(tmp_path.glob("runs/*/trial-*"))


# From here on workers are processes.

LIVE = """
import os
import time
from pathlib import Path

import cnntune.workers.worker
from torch import nn

FOLDER = Path(__file__).parent


class Net(nn.Module):
    def __init__(self, waits):
        super().__init__()
        self.layer, self.waits = nn.Linear(64, 10), waits

    def forward(self, x):
        while self.waits and not (FOLDER / "hungry").exists():
            time.sleep(0.01)
        return self.layer(x.flatten(1))


def build(*, num_classes, in_shape, does="trains"):
    with open(FOLDER / "builds", "a") as file:
        file.write(f"{does} {os.getpid()}\\n")
    if does == "breaks":
        # As an accelerator does that hit an assertion: what is asked of it next fails too.
        cnntune.workers.worker.still_works = lambda device: False
        raise RuntimeError("CUDA error: device-side assert triggered")
    if does == "hungers always" or (does == "hungers" and not (FOLDER / "hungry").exists()):
        (FOLDER / "hungry").touch()
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
    return Net(does == "waits")
"""


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "own_live.py").write_text(LIVE)
    monkeypatch.syspath_prepend(str(tmp_path))

    def made(*doing: str) -> list[Job]:
        sets = ["data.size=100", "model={name='own_live:build'}", "train.precision=float32"]
        recipe = load_recipe("digits", [*sets, "train.threads=1", "space={}", "train.epochs=2"])
        return [
            Job(number, recipe.with_values({"model.does": does}), tmp_path / f"trial-{number}")
            for number, does in enumerate(doing)
        ]

    return made


def summaries(events: list[Event]) -> dict[int, Summary]:
    return {event.job.number: event.summary for event in events if event.summary is not None}


def builds(folder: Path) -> Iterator[list[str]]:
    yield from (line.rsplit(" ", 1) for line in (folder / "builds").read_text().splitlines())


def test_a_device_that_broke_takes_its_worker_with_it_and_no_other_trial(
    tmp_path: Path, jobs: Any
) -> None:
    doing = ["breaks", "trains", "trains", "breaks", "trains"]
    events = list(run_jobs(in_order(jobs(*doing)), workers=1, devices=("cpu",)))
    ended = summaries(events)
    assert [ended[number].status for number in range(5)] == [
        "failed",
        "complete",
        "complete",
        "failed",
        "complete",
    ]
    broken = ended[0].error
    assert broken is not None
    assert broken.kind == "user-code"
    assert "device-side assert" in broken.message
    done, pids = zip(*builds(tmp_path), strict=True)
    assert list(done) == doing  # each was begun once
    assert pids[0] != pids[1] == pids[2] == pids[3] != pids[4]
    assert str(os.getpid()) not in pids


def test_a_trial_without_memory_is_tried_again_alone(tmp_path: Path, jobs: Any) -> None:
    asked = jobs("waits", "hungers", "trains", "hungers always")
    events = list(run_jobs(in_order(asked), workers=2, devices=("cpu",)))
    ended = summaries(events)
    statuses = [ended[number].status for number in range(4)]
    assert statuses == ["complete", "complete", "complete", "failed"]
    hungry = ended[3].error
    assert hungry is not None
    assert hungry.kind == "out-of-memory"
    assert hungry.message.startswith("out of memory")
    done = [does for does, _ in builds(tmp_path)]
    assert done.count("hungers") == 2
    assert done.count("hungers always") == 2
    ends = [event.job.number for event in events if event.summary is not None]
    began = [(event.job.number, event.epoch) for event in events]
    first_row = next(at for at, (job, row) in enumerate(began) if job == 1 and row)
    waiting_ended = next(
        at for at, event in enumerate(events) if event.job.number == 0 and event.summary
    )
    assert waiting_ended < first_row  # nothing else trained meanwhile
    assert began.index((2, None)) > next(
        at for at, event in enumerate(events) if event.job.number == 1 and event.summary
    )
    assert ends.index(0) < ends.index(1)


FAILS = "return self.layer(x)"  # 1x4x4 pixels do not fit 16 numbers
LR = "train.lr = { log = [1e-3, 1e-1] }\n"


def test_where_own_code_fails_every_trial_search_says_what_train_says(tmp_path: Path) -> None:
    (tmp_path / "own_failing.py").write_text(OWN.replace("return self.layer(x.flatten(1))", FAILS))
    (tmp_path / "own.toml").write_text(RECIPE + LR)
    trained = call("train", "own.toml", "--device", "cpu", cwd=tmp_path)
    searched = call(
        "search", "own.toml", "--budget", "2", "--device", "cpu", "--json", cwd=tmp_path
    )
    assert (trained.code, searched.code) == (2, 2)
    where = tmp_path / "own_failing.py"
    lines = [line for line in trained.err.splitlines() if str(where) in line]
    lines += [line for line in trained.err.splitlines() if "RuntimeError" in line]
    assert len(lines) == 3  # the error, the line of `forward`, and the line that makes the layer
    errors = searched.document["errors"]
    assert all(line in errors for line in lines)
    assert searched.document["trials"]["failed"] == 2


def test_trials_that_own_code_failed_are_trained_again_in_their_slots(tmp_path: Path) -> None:
    own = tmp_path / "own_failing.py"
    own.write_text(OWN.replace("return self.layer(x.flatten(1))", FAILS))
    (tmp_path / "own.toml").write_text(RECIPE + LR)
    again = ("search", "own.toml", "--budget", "2", "--device", "cpu", "--json")
    study = tmp_path / "runs" / "own"

    def drawn() -> list[float]:
        configs = [json.loads(path.read_text()) for path in sorted(study.glob("*/config.json"))]
        return [config["train"]["lr"] for config in configs]

    assert call(*again, cwd=tmp_path).code == 2
    failed = drawn()
    own.write_text(OWN)
    outcome = call(*again, cwd=tmp_path)
    assert outcome.document["trials"]["complete"] == 2
    assert outcome.document["trials"]["failed"] == 0
    assert "2 trials that failed by an error of your code or recipe are" in outcome.err
    assert len(set(failed)) == 2
    assert drawn() == failed
    there = sorted(path.name for path in study.glob("*trial*"))
    assert there == ["trial-0000", "trial-0001", "trials.csv"]
