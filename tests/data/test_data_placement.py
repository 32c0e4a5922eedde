"""From a builder's result to batches: statistics, devices, and the errors of a builder."""

import itertools
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cnntune.config.recipe import Recipe, parse
from cnntune.data import Data
from cnntune.data.parts import ResidentPart
from cnntune.data.stream import StreamedPart
from cnntune.errors import DataError, UserCodeError
from cnntune.training.build import build_model, load_data
from cnntune.training.open_recipe import load_recipe
from cnntune.user_code.borders import border, explained, explaining
from cnntune.user_code.imports import add_code_folders

CPU = torch.device("cpu")
Load = Callable[..., Data]
MODULES = itertools.count()

# Every module below begins with these lines: sets of tensors, as anyone would write them.
PREAMBLE = """
import torch
from torch.utils.data import TensorDataset

def pixels(n, dtype=torch.uint8, shape=(3, 4, 5), seed=0):
    generator = torch.Generator().manual_seed(seed)
    bytes_ = torch.randint(256, (n, *shape), generator=generator, dtype=torch.uint8)
    return bytes_ if dtype == torch.uint8 else bytes_.to(dtype) / 255

def labels(n, classes=3):
    return torch.arange(n) % classes
"""


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [folder for folder in sys.path if folder])


@pytest.fixture
def own() -> Load:
    """Load data from the body of a module of one's own, under a name that no other test uses."""

    def load(code: str, **section: Any) -> Data:
        name = f"own_data_{next(MODULES)}"
        add_code_folders(Path.cwd())
        Path(f"{name}.py").write_text(PREAMBLE + textwrap.dedent(code))
        return load_data(parse({"data": {"name": f"{name}:build", **section}}, file="own"), CPU)

    return load


def problems(own: Load, code: str, **section: Any) -> list[str]:
    with pytest.raises(DataError) as caught:
        own(code, **section)
    return caught.value.lines


def digits(**section: Any) -> Data:
    return load_data(parse({"data": {"size": 300, **section}}, file="digits"), CPU)


def everything(part: Any) -> tuple[Tensor, Tensor]:
    batches = list(part.batches(torch.arange(len(part)), 64))
    return torch.cat([inputs for inputs, _ in batches]), torch.cat([label for _, label in batches])


BYTES = """
def build(*, seed):
    return (
        TensorDataset(pixels(50), labels(50)),
        TensorDataset(pixels(20, seed=1) // 2, labels(20)),
        TensorDataset(pixels(10, seed=2), labels(10)),
    )
"""
FLOATS = BYTES.replace("pixels(50)", "pixels(50, torch.float32)").replace(
    "pixels(20, seed=1) // 2", "pixels(20, torch.float32, seed=1) / 2"
)


# Statistics


def test_mean_and_std_are_those_of_the_training_set_alone() -> None:
    data = digits()
    assert isinstance(data.train, ResidentPart)
    array = data.train.images.pixels.numpy().astype(np.float64) / 255
    assert float(data.normalise.mean) == pytest.approx(array.mean(), rel=1e-6)
    assert float(data.normalise.std) == pytest.approx(array.std(), rel=1e-6)


@pytest.mark.parametrize("code", [BYTES, FLOATS], ids=["bytes", "floats"])
def test_custom_images_are_normalised_by_channel_whether_bytes_or_floats(
    own: Load, code: str
) -> None:
    data = own(code)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(256, (50, 3, 4, 5), generator=generator, dtype=torch.uint8)
    array = drawn.numpy().astype(np.float64) / 255
    mean, std = array.mean((0, 2, 3)), array.std((0, 2, 3))
    np.testing.assert_allclose(data.normalise.mean.flatten().numpy(), mean, rtol=1e-5)
    np.testing.assert_allclose(data.normalise.std.flatten().numpy(), std, rtol=1e-5)
    inputs, labels = everything(data.train)
    expected = (array - mean[:, None, None]) / std[:, None, None]
    np.testing.assert_allclose(inputs.numpy(), expected, rtol=1e-4, atol=1e-5)
    assert inputs.dtype == torch.float32
    assert labels.tolist() == [i % 3 for i in range(50)]
    assert data.in_shape == (3, 4, 5)
    assert data.train.image_size == (4, 5)
    assert data.classes == ("0", "1", "2")


def test_validation_images_are_normalised_with_the_numbers_of_the_training_set(own: Load) -> None:
    inputs, _ = everything(own(BYTES).val)
    # Half as bright as the training set: far from mean 0 and std 1 of their own.
    assert float(inputs.mean()) < -0.5
    assert float(inputs.std()) < 0.7


def test_normalisation_can_be_turned_off() -> None:
    inputs, _ = everything(digits(normalize=False).train)
    assert float(inputs.min()) == 0.0
    assert float(inputs.max()) == 1.0


def test_a_constant_channel_is_not_divided_by_zero(own: Load) -> None:
    code = """
    def build(*, seed):
        images = pixels(12)
        images[:, 1] = 77
        return TensorDataset(images, labels(12)), TensorDataset(images, labels(12))
    """
    inputs, _ = everything(own(code).train)
    assert torch.isfinite(inputs).all()
    assert inputs[:, 1].abs().max() < 1e-6


def test_without_a_test_set_there_is_none(own: Load) -> None:
    assert digits(test_fraction=0).test is None
    test = own(BYTES).test
    assert test is not None
    assert len(test) == 10


# Devices


def test_streaming_gives_the_same_batches_as_memory() -> None:
    resident, streamed = digits(), digits(stream=True)
    assert isinstance(resident.train, ResidentPart)
    assert isinstance(streamed.train, StreamedPart)
    order = torch.randperm(len(resident.train), generator=torch.Generator().manual_seed(0))
    pairs = zip(resident.train.batches(order, 32), streamed.train.batches(order, 32), strict=True)
    for (inputs, labels), (other_inputs, other_labels) in pairs:
        assert torch.equal(labels, other_labels)
        torch.testing.assert_close(inputs, other_inputs)
    assert torch.equal(resident.val.labels, streamed.val.labels)
    assert resident.val.image_size == streamed.val.image_size == (8, 8)


def test_the_last_batch_may_be_smaller_and_the_order_is_kept() -> None:
    data = digits()
    order = torch.tensor([5, 3, 3, 0, 7])
    batches = [labels for _, labels in data.train.batches(order, 2)]
    assert [len(labels) for labels in batches] == [2, 2, 1]
    assert torch.equal(torch.cat(batches), data.train.labels[order])


SELF_AUGMENTING = """
class Noisy:
    def __init__(self, n):
        self.n = n
    def __len__(self):
        return self.n
    def __getitem__(self, i):
        return torch.rand(1, 8, 8), i % 2

def build(*, seed):
    return Noisy(10), TensorDataset(torch.rand(6, 1, 8, 8), labels(6, 2))
"""


def test_a_custom_data_set_that_augments_itself_is_read_again_in_each_epoch(own: Load) -> None:
    data = own(SELF_AUGMENTING)
    assert isinstance(data.train, StreamedPart)
    assert isinstance(data.val, ResidentPart)
    torch.manual_seed(1)
    first, _ = everything(data.train)
    torch.manual_seed(2)  # as the next epoch does
    second, labels = everything(data.train)
    assert not torch.equal(first, second)
    assert labels.tolist() == [0, 1] * 5


def test_an_epoch_reads_the_same_whatever_the_number_of_processes(
    own: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    epochs = []
    for workers in (1, 2):
        monkeypatch.setattr("cnntune.data.stream.LOADER_WORKERS", workers)
        data = own(SELF_AUGMENTING)
        torch.manual_seed(1)
        epochs.append(everything(data.train)[0])
        assert torch.rand(1) == torch.rand(1, generator=torch.Generator().manual_seed(1))
    assert torch.equal(*epochs)


def test_an_epoch_that_was_stopped_in_the_middle_does_not_affect_the_next(own: Load) -> None:
    data = own(SELF_AUGMENTING)
    torch.manual_seed(1)
    whole, _ = everything(data.train)
    next(iter(data.train.batches(torch.arange(10), 2)))
    assert torch.equal(everything(data.train)[0], whole)


SLOW = """
import time
class Slow:
    def __len__(self):
        return 8
    def __getitem__(self, i):
        time.sleep(0.05)
        return torch.rand(1, 8, 8), i % 2

def build(*, seed):
    return Slow(), TensorDataset(torch.rand(6, 1, 8, 8), labels(6, 2))
"""


def test_waiting_for_images_is_counted(own: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnntune.data.stream.LOADER_WORKERS", 1)
    data = own(SLOW)
    assert data.waited_seconds == 0
    everything(data.train)
    assert (
        data.waited_seconds >= 8 * 0.05
    )  # one process reads eight images, and nothing is computed meanwhile


def test_a_custom_data_set_that_does_not_change_is_read_once(own: Load) -> None:
    assert isinstance(own(BYTES).train, ResidentPart)


def test_custom_class_names_are_kept(own: Load) -> None:
    code = """
    def build(*, seed):
        train = TensorDataset(pixels(12), labels(12))
        train.classes = ["cat", "dog", "owl"]
        return train, TensorDataset(pixels(6), labels(6))
    """
    assert own(code).classes == ("cat", "dog", "owl")


def test_lists_of_pairs_are_data_sets_too(own: Load) -> None:
    code = """
    def build(*, seed):
        part = [(image, int(label)) for image, label in zip(pixels(12), labels(12))]
        return part, part
    """
    assert own(code).train.labels.tolist() == [i % 3 for i in range(12)]


def test_a_builder_gets_its_arguments_and_the_seed_of_the_split(own: Load) -> None:
    code = """
    def build(*, seed: int, count: int = 4):
        assert seed == 17
        part = TensorDataset(pixels(count), labels(count))
        return part, part
    """
    assert len(own(code, seed=17, count=9).train) == 9


# Errors of a builder


@pytest.mark.parametrize(
    ("result", "found"),
    [
        ("None", "(got NoneType)"),
        ("TensorDataset(pixels(4), labels(4))", "(got TensorDataset)"),
        ("(1, 2, 3, 4)", "must return (train, val) or (train, val, test) (got tuple of 4)"),
        ("(1,)", "(got tuple of 1)"),
        ("[1, 2]", "(got list of 2)"),
        ("(1, 2)", "each set must be a map-style Dataset"),
        ("(iter([]), iter([]))", "each set must be a map-style Dataset"),
    ],
)
def test_what_is_not_a_pair_of_data_sets_is_rejected(own: Load, result: str, found: str) -> None:
    (line,) = problems(own, f"def build(*, seed):\n    return {result}\n")
    assert line.startswith("data own_data_")
    assert found in line


@pytest.mark.parametrize(("title", "index"), [("training", 0), ("validation", 1), ("test", 2)])
def test_an_empty_set_is_an_error(own: Load, title: str, index: int) -> None:
    counts = [4, 4, 4]
    counts[index] = 0
    code = f"""
    def build(*, seed):
        return tuple(TensorDataset(pixels(n), labels(n)) for n in {counts})
    """
    (line,) = problems(own, code)
    assert line.endswith(f": the {title} set is empty")


@pytest.mark.parametrize("stream", [False, True])
def test_labels_below_zero_and_beyond_the_classes_are_rejected_together(
    own: Load, stream: bool
) -> None:
    code = """
    def build(*, seed):
        train = TensorDataset(pixels(12), labels(12) - 1)
        train.classes = ["cat", "dog", "owl"]
        return train, TensorDataset(pixels(12), labels(12, 4))
    """
    first, second = problems(own, code, stream=stream)
    assert first.endswith(": train labels must be 0 ... 2 (got -1 ... 1)")
    assert second.endswith(": validation labels must be 0 ... 2 (got 0 ... 3)")


def test_one_class_is_not_enough(own: Load) -> None:
    code = """
    def build(*, seed):
        part = TensorDataset(pixels(4), labels(4, 1))
        return part, part
    """
    (line,) = problems(own, code)
    assert line.endswith(": needs at least two classes (got 1)")


def test_sets_with_images_of_different_shapes_are_rejected(own: Load) -> None:
    code = """
    def build(*, seed):
        small = TensorDataset(pixels(4, shape=(3, 4, 4)), labels(4))
        return TensorDataset(pixels(4), labels(4)), small
    """
    (line,) = problems(own, code)
    assert line.endswith("of one shape (got train: [3, 4, 5], validation: [3, 4, 4])")


# User code


def test_user_code_beside_the_recipe_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "beside_the_recipe.py").write_text(PREAMBLE + BYTES)
    (folder / "r.toml").write_text('data.name = "beside_the_recipe:build"')
    recipe = load_recipe(str(folder / "r.toml"))
    assert len(load_data(recipe, CPU).train) == 50


def test_user_code_in_the_working_directory_is_found(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    Path("in_the_working_directory.py").write_text(PREAMBLE + BYTES)
    Path("elsewhere/r.toml").write_text('data.name = "in_the_working_directory:build"')
    assert len(load_data(load_recipe("elsewhere/r.toml"), CPU).train) == 50


def test_user_code_of_a_study_is_found_where_the_study_remembers_it(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code/remembered_by_the_study.py").write_text(PREAMBLE + BYTES)
    run = tmp_path / "runs/a/trial-0001"
    run.mkdir(parents=True)
    (run / "config.json").write_text('{"data": {"name": "remembered_by_the_study:build"}}')
    (run.parent / "study.json").write_text(f'{{"code": "{tmp_path / "code"}"}}')
    assert len(load_data(load_recipe(str(run)), CPU).train) == 50


RAISING = """
class Broken:
    def __len__(self):
        return 4
    def __getitem__(self, i):
        return torch.zeros(1, 4, 4), look_up(i)

def look_up(i):
    return {0: 0, 1: 1, 2: 0}[i]

def build(*, seed):
    return Broken(), Broken()
"""


def user_error(doing: Callable[[], object]) -> list[str]:
    with pytest.raises(UserCodeError) as caught:
        doing()
    return caught.value.lines


def test_a_builder_that_raises_shows_the_users_frames_only(own: Load) -> None:
    code = "def inner():\n    raise RuntimeError('no disk')\n\ndef build(*, seed):\n    inner()\n"
    first, *frames = user_error(lambda: own(code))
    assert first.startswith("building data own_data_")
    assert first.endswith(": RuntimeError: no disk")
    assert [frame.split(" in ")[1] for frame in frames] == [
        "build: inner()",
        "inner: raise RuntimeError('no disk')",
    ]
    assert all("own_data_" in frame for frame in frames)


def test_a_data_set_that_raises_shows_the_users_frames_only(own: Load) -> None:
    first, *frames = user_error(lambda: own(RAISING))
    assert first.endswith(": KeyError: 3")
    assert [frame.split(" in ")[1].split(":")[0] for frame in frames] == ["__getitem__", "look_up"]


def test_a_data_set_that_raises_in_a_worker_process_shows_the_users_frames_too(own: Load) -> None:
    # Labels are listed, so that nothing is read before the first batch is.
    listed = RAISING.replace("class Broken:", "class Broken:\n    labels = [0, 1, 0, 1]")
    data = own(listed, stream=True, normalize=False)

    def read() -> None:
        with explaining():
            everything(data.train)

    lines = user_error(read)
    assert "KeyError: 3" in lines[0]
    assert any("look_up" in line for line in lines)


def model_recipe(name: str, code: str) -> Recipe:
    add_code_folders(Path.cwd())
    Path(f"{name}.py").write_text(code)
    return parse({"model": {"name": f"{name}:build"}}, file="own")


def test_a_model_that_raises_shows_the_users_frames_only() -> None:
    code = "from torch import nn\ndef build(**arguments):\n    return nn.Linear('a', 2)\n"
    recipe = model_recipe("model_that_raises", code)
    data = digits()
    first, *frames = user_error(lambda: build_model(recipe, data))
    assert first.startswith("building model model_that_raises:build: TypeError: ")
    assert len(frames) == 1  # torch's are not shown
    assert frames[0].endswith("model_that_raises.py:3 in build: return nn.Linear('a', 2)")


def test_a_model_that_is_not_a_module_is_the_users_error() -> None:
    recipe = model_recipe("model_of_none", "def build(**arguments):\n    return None\n")
    assert user_error(lambda: build_model(recipe, digits())) == [
        "model model_of_none:build: must return a torch.nn.Module (got NoneType)"
    ]


def test_an_exception_that_does_not_come_from_user_code_is_not_blamed_on_the_user() -> None:
    with (
        pytest.raises(ZeroDivisionError),
        explaining(),
    ):  # although this file is not part of cnntune
        1 / 0  # noqa: B018


def test_of_two_borders_the_inner_one_is_named_and_the_exception_may_be_expected() -> None:
    with pytest.raises(ZeroDivisionError) as caught, border("model mine:build"), border("loss it"):
        1 / 0  # noqa: B018
    told = explained(caught.value)
    assert told is not None
    assert told.lines[0] == "loss it: ZeroDivisionError: division by zero"
