"""A run that was interrupted goes on bit for bit, whatever trains it."""

from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import rows

from cnntune.config.recipe import Recipe
from cnntune.runs.run import Epoch, Run
from cnntune.training import checkpoint
from cnntune.training.build import load_data
from cnntune.training.loop import train
from cnntune.training.open_recipe import load_recipe
from cnntune.workers.pool import Job
from cnntune.workers.worker import Trainer

CPU = torch.device("cpu")
SMALL = (
    "data.size=120",
    "model.width=4",
    "train.batch_size=32",
    "train.epochs=5",
    "train.precision=float32",
)


def recipe(*changes: str) -> Recipe:
    return load_recipe("digits", [*SMALL, *changes]).for_run()


def without_seconds(found: list[Epoch]) -> list[tuple[Any, ...]]:
    return [tuple(vars(row).values())[:-1] for row in found]


@pytest.mark.parametrize(
    "changes",
    [
        ("train.optimizer=sgd",),
        ("train.optimizer=adam", "train.schedule=cosine"),
        ("train.optimizer=adamw", "train.schedule=one-cycle"),
        ("model.dropout=0.5", "train.warmup_epochs=2.0"),
        ("train.ema=0.9",),
        ("augment.mixup=0.4", "augment.cutout=2"),
        ("train.patience=2", "train.lr=1e-6"),
    ],
    ids=lambda changes: changes[0],
)
@pytest.mark.parametrize("done", [1, 3])
def test_a_run_goes_on_as_if_nothing_had_happened(
    changes: tuple[str, ...], done: int, tmp_path: Path
) -> None:
    asked = recipe(*changes)
    data = load_data(asked, CPU)
    through = list(train(asked, data, CPU))
    saved = tmp_path / "checkpoint.pt"
    interrupted = list(islice(train(asked, data, CPU, saved=saved), done))
    assert without_seconds(interrupted) == without_seconds(through[:done])
    resumed = list(train(asked, data, CPU, saved=saved))
    assert without_seconds(resumed) == without_seconds(through)


def test_no_epoch_is_trained_twice(tmp_path: Path) -> None:
    asked, saved = recipe(), tmp_path / "checkpoint.pt"
    data = load_data(asked, CPU)
    first = list(islice(train(asked, data, CPU, saved=saved), 3))
    again = list(islice(train(asked, data, CPU, saved=saved), 3))
    assert [row.seconds for row in again] == [row.seconds for row in first]


def test_a_damaged_checkpoint_is_none(tmp_path: Path) -> None:
    asked, saved = recipe(), tmp_path / "checkpoint.pt"
    data = load_data(asked, CPU)
    list(islice(train(asked, data, CPU, saved=saved), 2))
    whole = saved.read_bytes()
    for damaged in (b"", b"no checkpoint", whole[:100], whole[: len(whole) // 2]):
        saved.write_bytes(damaged)
        assert checkpoint.load(saved) is None
    assert checkpoint.load(tmp_path / "missing.pt") is None


def test_a_pause_and_another_trainer_change_nothing(tmp_path: Path) -> None:
    asked = recipe("train.threads=1")
    whole = Job(0, asked, tmp_path / "whole")
    list(Trainer(CPU).train(whole))
    folder = tmp_path / "paused"
    first, second = Trainer(CPU), Trainer(CPU)
    (*_, last) = first.train(Job(0, asked, folder, until=1))
    assert last.paused
    list(first.train(Job(0, asked, folder, until=2)))  # held in memory
    (*_, end) = second.train(Job(0, asked, folder))  # from the checkpoint
    assert end.summary is not None
    assert rows(folder) == rows(whole.folder)
    assert not Run(folder).checkpoint.exists()
