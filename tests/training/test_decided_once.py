"""What all trials of a study share is decided once, before the first, and stays on record."""

import gc
import json
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import pytest
import torch
from commands import Outcome, call
from torch import Tensor, nn

from cnntune.config.recipe import Recipe, parse
from cnntune.data import Data
from cnntune.errors import DataError, DeviceError, UserCodeError
from cnntune.machine import memory
from cnntune.runs.study import Study
from cnntune.study.ledger import Ledger
from cnntune.training import precision
from cnntune.training.build import load_few
from cnntune.training.contracts import guard_forward
from cnntune.training.open_recipe import load_recipe
from cnntune.training.precision import resolve
from cnntune.workers.memory_probe import measure
from cnntune.workers.worker import _data

CPU = torch.device("cpu")
SMALL = """
name = "small"
[data]
name = "digits"
size = 120
[model]
width = 2
[train]
batch_size = 32
[search]
epochs = 1
[space]
train.lr = { log = [1e-3, 1e-1] }
model.width = { choice = [2, 4] }
"""


def searched(folder: Path, budget: int, *words: str) -> Outcome:
    (folder / "small.toml").write_text(SMALL)
    outcome = call("search", "small.toml", "--budget", str(budget), *words, cwd=folder)
    assert outcome.code in (0, 1), outcome.err
    return outcome


def configs(folder: Path) -> list[dict[str, Any]]:
    """What the trials of the study were trained with, in order."""
    paths = sorted((folder / "runs/small").glob("trial-*/config.json"))
    return [json.loads(path.read_text()) for path in paths]


def test_the_precision_is_decided_for_the_study_and_every_trial_says_it(tmp_path: Path) -> None:
    searched(tmp_path, 1)
    ledger = Ledger.open(Study(tmp_path / "runs/small"))
    assert ledger.asked.train.precision == "auto"
    assert ledger.recipe.train.precision == "float32"  # images of 8x8 gain nothing by bfloat16
    assert ledger.image_bytes == 120 * 8 * 8
    assert [config["train"]["precision"] for config in configs(tmp_path)] == ["float32"]
    # Another decision, as another machine would take it, changes nothing any more.
    ledger.settle("bfloat16", 7680, stream=False)
    searched(tmp_path, 2)
    assert [config["train"]["precision"] for config in configs(tmp_path)] == ["float32"] * 2


@pytest.mark.slow
def test_a_study_that_is_older_than_the_record_goes_on_as_its_trials_began(tmp_path: Path) -> None:
    searched(tmp_path, 1)
    study = Study(tmp_path / "runs/small")
    old = Ledger.open(study)
    values = old.optuna_study.user_attrs["recipe"]
    values["train"]["precision"] = "auto"
    old.optuna_study.set_user_attr("recipe", values)
    old.optuna_study.set_user_attr("image_bytes", None)
    begun = study.trial(0).path / "config.json"
    config = json.loads(begun.read_text())
    config["train"]["precision"] = "bfloat16"
    begun.write_text(json.dumps(config))
    searched(tmp_path, 2)
    assert [config["train"]["precision"] for config in configs(tmp_path)] == ["bfloat16"] * 2
    refined = call("refine", "--budget", "1", "--seeds", "2", "--epochs", "2", cwd=tmp_path)
    assert refined.code in (0, 1), refined.err
    later = sorted((tmp_path / "runs/small").rglob("trial-*/config.json"))
    assert len(later) > 2  # those of the search, one of the refinement and repeats
    assert {json.loads(path.read_text())["train"]["precision"] for path in later} == {"bfloat16"}


@pytest.mark.slow
def test_where_memory_is_short_all_trials_stream_and_each_command_looks_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        # Two workers would hold 2 * 7680 bytes, which is more than 0.4 of 38000.
        patch.setattr(memory, "available", lambda: 38_000)
        outcome = searched(tmp_path, 1, "--workers", "2")
        assert "images are streamed: 2 workers cannot hold" in outcome.err
        _data.cache_clear()  # the processes that read would hold the study's lock, as our forks
        gc.collect()
        searched(tmp_path, 2, "--workers", "1")
    assert [config["data"]["stream"] for config in configs(tmp_path)] == [True, False]


class Failing(nn.Module):
    """Raises over its first batch, or in bfloat16 alone."""

    def __init__(self, error: Exception, *, in_bfloat16: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(3 * 32 * 32, 8)
        self.error, self.in_bfloat16 = error, in_bfloat16

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_autocast_enabled("cpu") == self.in_bfloat16:
            raise self.error
        logits: Tensor = self.linear(x.flatten(1))
        return logits


def guarded(model: nn.Module) -> nn.Module:
    """As `build_model` hands over the user's."""
    guard_forward(model, "mine", WeakKeyDictionary())
    return model


def shapes() -> Recipe:
    return parse({"data": {"name": "shapes", "size": 40}}, file="test")


@pytest.fixture
def few() -> Data:
    return load_few(shapes(), CPU, 8)[0]


OUT = torch.OutOfMemoryError("no memory for 4 GiB")
OUT_ON_CPU = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 9 bytes")


@pytest.mark.parametrize("error", [OUT, OUT_ON_CPU, MemoryError()])
@pytest.mark.parametrize("in_bfloat16", [False, True])
def test_a_moment_without_memory_chooses_no_precision(
    few: Data, monkeypatch: pytest.MonkeyPatch, error: Exception, in_bfloat16: bool
) -> None:
    monkeypatch.setattr(precision, "_cpu_has_bfloat16", lambda: True)
    network = Failing(error, in_bfloat16=in_bfloat16)
    monkeypatch.setattr(precision, "build_model", lambda *_: network)
    with pytest.raises(type(error)):
        resolve(shapes(), few, CPU)
    with pytest.raises(DeviceError, match="cpu: out of memory in a forward pass of 24 images"):
        measure(shapes(), ("cpu",), False)


def test_own_code_that_raises_is_said_and_chooses_no_precision(
    few: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "_cpu_has_bfloat16", lambda: True)
    error = ValueError("a bug of mine")
    monkeypatch.setattr(
        precision, "build_model", lambda *_: guarded(Failing(error, in_bfloat16=False))
    )
    with pytest.raises(ValueError, match="a bug of mine"):
        resolve(shapes(), few, CPU)
    with pytest.raises(UserCodeError, match="model mine, forward pass: ValueError: a bug of mine"):
        measure(shapes(), ("cpu",), False)
    # What cannot be computed in bfloat16 alone is computed in float32, as before.
    monkeypatch.setattr(precision, "build_model", lambda *_: Failing(error, in_bfloat16=True))
    assert resolve(shapes(), few, CPU).train.precision == "float32"


OWN = """
import torch
from torch.utils.data import TensorDataset

def build(*, seed, highest=2):
    labels = torch.arange(90) // 30  # sorted by class: 0, 1, 2
    labels[-1] = highest
    pixels = torch.arange(90 * 16, dtype=torch.uint8).view(90, 1, 4, 4)
    data = TensorDataset(pixels, labels)
    data.classes = ["a", "b", "c"]
    return data, TensorDataset(pixels[:40].float(), labels[:40])
"""


def own(folder: Path, monkeypatch: pytest.MonkeyPatch, *overrides: str) -> Recipe:
    monkeypatch.syspath_prepend(str(folder))
    (folder / "few_own.py").write_text(OWN)
    (folder / "own.toml").write_text('[data]\nname = "few_own:build"\n')
    return load_recipe(str(folder / "own.toml"), overrides)


def test_a_few_images_are_from_all_over_the_training_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, image_bytes = load_few(own(tmp_path, monkeypatch), CPU, 4)
    assert data.train.labels.tolist() == [0, 0, 1, 2]  # images 0, 29, 59 and 89
    assert data.classes == ("a", "b", "c")
    assert image_bytes == 90 * 16 + 40 * 16 * 4


def test_what_is_wrong_with_the_images_is_said_of_all_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = own(tmp_path, monkeypatch, "data.highest=7")
    with pytest.raises(DataError) as caught:
        load_few(recipe, CPU, 4)
    assert caught.value.lines == [
        "data few_own:build: train labels must be 0 ... 2 (got 0 ... 7)",
    ]
