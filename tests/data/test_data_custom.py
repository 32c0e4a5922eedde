"""Custom data sets: the usual layouts are converted, the rest is an error of one line."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import call
from PIL import Image
from torch import Tensor

from cnntune.config.recipe import parse
from cnntune.data import Data
from cnntune.data.custom import CustomImages, Reader
from cnntune.data.load import load
from cnntune.errors import DataError

CPU = torch.device("cpu")

# An image of 2x5 pixels and three channels, 0, 1 ... 29 with the channels first.
BYTES = torch.arange(30, dtype=torch.uint8).view(3, 2, 5)
ROWS = BYTES.permute(1, 2, 0).numpy()  # the same with the channels last
GREY = BYTES[0]


def loaded(parts: tuple[Any, ...], *, checked: bool = True, **section: Any) -> Data:
    settings = {"name": "mine:build", "normalize": False, **section}
    wanted = parse({"data": settings}, file="own").data
    return load(parts, wanted, CPU, checked=checked)


def problems(parts: tuple[Any, ...], **section: Any) -> list[str]:
    with pytest.raises(DataError) as caught:
        loaded(parts, **section)
    return caught.value.lines


def read(data: Data) -> tuple[Tensor, Tensor]:
    """All training images as the network sees them, and their labels."""
    batches = list(data.train.batches(torch.arange(len(data.train)), 2))
    return torch.cat([inputs for inputs, _ in batches]), torch.cat([label for _, label in batches])


class Listed(list[Any]):
    """Samples that may carry further attributes, as torchvision's data sets do."""

    classes: Any = None
    targets: Any = None
    features: Any = None


IMAGES = {
    "a tensor": (BYTES, BYTES / 255),
    "a float tensor": (BYTES / 255, BYTES / 255),
    "a double tensor": (BYTES.double() / 255, BYTES / 255),
    "an int64 tensor": (BYTES.long(), BYTES / 255),
    "a bool tensor": (BYTES > 8, (BYTES > 8).float()),
    "a tensor of one channel": (GREY, GREY[None] / 255),
    "an array with channels last": (ROWS, BYTES / 255),
    "an array with channels first": (BYTES.numpy(), BYTES / 255),
    "a float array": (ROWS.astype(np.float64) / 255, BYTES / 255),
    "an int64 array": (ROWS.astype(np.int64), BYTES / 255),
    "a big-endian array": (ROWS.astype(">i4"), BYTES / 255),
    "an array of one channel": (GREY.numpy(), GREY[None] / 255),
    "a PIL image": (Image.fromarray(ROWS), BYTES / 255),
    "a grey PIL image": (Image.fromarray(GREY.numpy()), GREY[None] / 255),
}


@pytest.mark.parametrize("stream", [False, True], ids=["resident", "streamed"])
@pytest.mark.parametrize("image", IMAGES)
def test_an_image_of_a_usual_type_becomes_channels_first(image: str, stream: bool) -> None:
    given, expected = IMAGES[image]
    part = [(given, 0), (given, 1), (given, 1)]
    inputs, labels = read(loaded((part, part), stream=stream))
    torch.testing.assert_close(inputs, expected.float().expand(3, *expected.shape))
    assert labels.tolist() == [0, 1, 1]


LABELS: dict[str, list[Any]] = {
    "numpy numbers": [np.int64(0), np.int32(2), np.uint8(1)],
    "tensors": [torch.tensor(0), torch.tensor(2), torch.tensor(1)],
    "tensors of one number": [torch.tensor([0]), torch.tensor([2]), torch.tensor([1])],
    "whole floats": [0.0, 2.0, 1.0],
    "one-hot arrays": list(np.eye(3)[[0, 2, 1]]),
    "one-hot tensors": list(torch.eye(3)[[0, 2, 1]]),
    "one-hot lists": [[1, 0, 0], [0, 0, 1], [0, 1, 0]],
    "names": ["ant", "zebra", "bee"],
    "numpy names": list(np.array(["ant", "zebra", "bee"])),
    "names that are numbers": ["2", "10", "9"],
}


@pytest.mark.parametrize("stream", [False, True], ids=["resident", "streamed"])
@pytest.mark.parametrize("labels", LABELS)
def test_a_label_of_a_usual_type_becomes_a_class_number(labels: str, stream: bool) -> None:
    part = [(BYTES, label) for label in LABELS[labels]]
    data = loaded((part, part), stream=stream)
    assert read(data)[1].tolist() == data.train.labels.tolist() == [0, 2, 1]
    assert len(data.classes) == 3


def test_names_are_sorted_over_all_sets(tmp_path: Path) -> None:
    train = [(BYTES, name) for name in ("zebra", "Käfer im Gras", "zebra")]
    val, test = [(BYTES, "bee"), (BYTES, "zebra")], [(BYTES, "ant")]
    data = loaded((train, val, test))
    assert data.classes == ("Käfer im Gras", "ant", "bee", "zebra")
    assert data.test is not None
    found = [part.labels.tolist() for part in (data.train, data.val, data.test)]
    assert found == [[3, 0, 3], [2, 3], [1]]


SAMPLES = {
    "with a path": (BYTES, 1, "a.png"),
    "of Hugging Face's data sets": {"image": Image.fromarray(ROWS), "label": 1},
    "of Hugging Face's processors": {"pixel_values": BYTES, "labels": 1},
    "of its CIFAR-10": {"img": Image.fromarray(ROWS), "label": 1, "id": 7},
}


@pytest.mark.parametrize("sample", SAMPLES)
def test_samples_of_usual_shapes_are_read(sample: str) -> None:
    part = [SAMPLES[sample]] * 3
    inputs, labels = read(loaded((part, part)))
    torch.testing.assert_close(inputs[0], BYTES / 255)
    assert labels.tolist() == [1, 1, 1]


def test_what_is_converted_is_reported_once_for_all_sets() -> None:
    part = [{"img": ROWS.astype(np.int64), "label": [1, 0], "id": 7}] * 3
    assert loaded((part, part)).remarks == (
        "train, validation: reads img and label of each dict; ignored: id",
        "train, validation: NumPy arrays [H, W, C] are transposed to [C, H, W], integers are read"
        " as bytes 0..255",
        "train, validation: one-hot labels are read as class numbers",
    )
    assert loaded(([(BYTES, 0), (BYTES, 1)], [(BYTES, 0)])).remarks == ()


REFUSED = {
    "no pair": (BYTES, "must be (image, label); return both (got Tensor)"),
    "one entry": ((BYTES,), "must be (image, label); return both (got tuple of 1)"),
    "a dict without a label": (
        {"image": BYTES, "box": 0},
        "must be (image, label), or a dict with one of image, img, pixel_values and one of label,"
        " labels, target (got a dict with image, box)",
    ),
    "a list of numbers": (([[1.0]], 0), "a NumPy array [H, W, C] or a PIL image (got list)"),
    "a batch": ((BYTES[None], 0), "or a PIL image (got shape [1, 3, 2, 5])"),
    "both ends look like channels": (
        (np.zeros((3, 2, 3)), 0),
        "an array of shape [3, 2, 3] could be [H, W, C] or [C, H, W]; return a torch tensor, which"
        " is always read as [C, H, W]",
    ),
    "16 bits": (
        (BYTES.int() * 100, 0),
        "pixels must be uint8, integers 0..255, or float (got torch.int32 0 ... 2900); divide"
        " them by their largest value, as floats",
    ),
    "text for pixels": ((np.array([["a"]]), 0), "of numbers (got dtype <U1)"),
    "deep pixels": ((Image.new("F", (2, 2)), 0), "has float pixels of unknown range"),
    "infinite": ((BYTES.float().log(), 0), "holds NaN or infinite pixels; fix it, or remove it"),
    "None": (
        (BYTES, None),
        "the label must be an integer, a class name or a one-hot vector (got None); remove"
        " images without a class",
    ),
    "half a class": ((BYTES, 1.5), "or a one-hot vector (got 1.5)"),
    "NaN": ((BYTES, float("nan")), "or a one-hot vector (got nan)"),
    "two classes at once": ((BYTES, [0, 1, 1]), "give each image one class (got [0, 1, 1])"),
    "shares of classes": ((BYTES, [0.5, 0.5]), "give each image one class (got [0.5, 0.5])"),
    "a name among numbers": ((BYTES, "cat"), "'cat' is not among the classes (none are named)"),
}


@pytest.mark.parametrize("stream", [False, True], ids=["resident", "streamed"])
@pytest.mark.parametrize("sample", REFUSED)
def test_what_is_ambiguous_is_rejected_with_its_index_and_a_fix(sample: str, stream: bool) -> None:
    given, reason = REFUSED[sample]
    train = [(BYTES, 0), given, (BYTES, 1)]
    with pytest.raises(DataError) as caught:
        read(loaded((train, [(BYTES, 0)]), stream=stream))
    (line,) = caught.value.lines
    assert line.startswith("data mine:build: train image 1: ")
    assert reason in line


def test_five_broken_images_of_each_set_are_named_and_all_are_counted() -> None:
    train = [(BYTES, None if index % 2 else 0) for index in range(14)]
    val = [(BYTES, None), (BYTES, 0)]
    *five, counted, last = problems((train, val))
    named = [line.split(": ")[1] for line in (*five, last)]
    assert named == [*(f"train image {k}" for k in (1, 3, 5, 7, 9)), "validation image 0"]
    assert counted == "7 of the 14 train images cannot be used; listed are the first 5"


def test_images_of_other_sizes_are_one_line_with_both_shapes_and_a_fix() -> None:
    train = [(torch.zeros(3, 5 if index % 2 else 4, 4), 0) for index in range(14)]
    assert problems((train, train[:1])) == [
        "data mine:build: train images 1, 3, 5, 7, 9 and 2 more are [3, 5, 4], but image 0 is"
        " [3, 4, 4]; resize or crop them to one size in the data set"
    ]


def test_images_of_other_channels_are_reported_with_a_fix() -> None:
    (line,) = problems(([(torch.zeros(1, 4, 4), 0), (torch.zeros(3, 4, 4), 1)], [(BYTES, 0)]))
    assert line.endswith(
        "image 1 is [3, 4, 4], but image 0 is [1, 4, 4]; give all images the same channels: all"
        " grey or all colour"
    )


def test_labels_below_zero_are_reported_with_the_numbers_to_use() -> None:
    part = [(BYTES, label) for label in (-1, 0, 1, 2)]
    first, second = problems((part, part))
    assert first == (
        "data mine:build: train labels must be 0 ... 2 (got -1 ... 2); if all 4 values are classes,"
        " number them 0 ... 3, else remove images without a class"
    )
    assert second.startswith("data mine:build: validation labels")


def test_bytes_among_floats_are_not_mixed() -> None:
    (line,) = problems(([(BYTES, 0), (BYTES / 255, 1)], [(BYTES, 0)]))
    assert "image 1 is floats [3, 2, 5], but image 0 is bytes [3, 2, 5]" in line


def test_sets_that_name_their_classes_differently_are_rejected() -> None:
    train, val = Listed([(BYTES, 0), (BYTES, 2)]), Listed([(BYTES, 1)])
    train.classes, val.classes = ["cat", "cow", "dog"], ["cat", "dog"]
    (line,) = problems((train, val))
    assert line.startswith("data mine:build: the classes of validation (cat, dog) differ from")


def test_names_of_classes_come_from_the_features_of_hugging_face() -> None:
    class Label:
        names = ("cat", "Große Möwe")

    part = Listed([{"image": BYTES, "label": k} for k in (0, 1)])
    part.features = {"image": None, "label": Label()}
    assert loaded((part, part)).classes == ("cat", "Große Möwe")


@pytest.mark.parametrize("stream", [False, True], ids=["resident", "streamed"])
@pytest.mark.parametrize("listed", [[5, 4, 5], ["cat", "dog", "cat"]], ids=["numbers", "names"])
def test_listed_labels_that_the_samples_contradict_are_not_used(
    stream: bool, listed: list[Any]
) -> None:
    # As with torchvision's `target_transform`, which does not change the list.
    part = Listed([(BYTES, 1), (BYTES, 0), (BYTES, 1)])
    part.targets = listed
    data = loaded((part, part), stream=stream)
    assert data.train.labels.tolist() == [1, 0, 1]
    assert data.classes == ("0", "1")


def test_nan_does_not_affect_the_mean_and_deviation_of_other_images() -> None:
    # Images of 0 and of 1 in equal numbers: mean 0.5, deviation 0.5.
    train = [(torch.full((1, 2, 2), float(k % 2)), k % 2) for k in range(4)]
    broken = (torch.full((1, 2, 2), torch.nan), 0)
    data = loaded(([*train, broken], train), normalize=True, checked=False)
    assert float(data.normalise.mean) == float(data.normalise.std) == 0.5
    inputs, _ = read(data)
    assert inputs[:4, 0, 0, 0].tolist() == [-1, 1, -1, 1]


def test_the_first_image_is_broken_and_the_second_gives_the_shape() -> None:
    train: Sequence[Any] = [(BYTES, None), (BYTES, 0), (BYTES, 1)]
    assert CustomImages(train, "train", Reader("data mine:build: train")).shape == (3, 2, 5)


# At the command line


def of_own_code(folder: Path, module: str, code: str) -> str:
    """A recipe with user code beside it."""
    (folder / f"{module}.py").write_text(code)
    recipe = folder / f"{module}.toml"
    recipe.write_text(f'[data]\nname = "{module}:build"\n')
    return str(recipe)


NAN = """
import torch
from torch.utils.data import TensorDataset

def build(*, seed):
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(240) % 3
    x = torch.rand(240, 1, 8, 8, generator=generator) + y.view(-1, 1, 1, 1) / 3
    x[50, 0, 4, 4] = torch.nan
    x[203, 0, 0, 0] = torch.inf
    return TensorDataset(x[:180], y[:180]), TensorDataset(x[180:], y[180:])
"""


def test_one_nan_pixel_is_one_finding_and_the_other_rules_are_skipped(tmp_path: Path) -> None:
    recipe = of_own_code(tmp_path, "holds_nan", NAN)
    done = call("sanity", recipe, "--json", cwd=tmp_path)
    assert done.code == 1
    inputs, waits = done.document["findings"]
    assert (inputs["rule"], inputs["severity"], inputs["measured"]) == ("inputs", "fail", 2)
    assert inputs["evidence"] == (
        "1 of 180 training images have NaN or infinite pixels: training image 50;"
        " 1 of 60 validation images have NaN or infinite pixels: validation image 23"
    )
    assert waits["rule"] == "skipped"


@pytest.mark.parametrize("command", ["train", "lr-sweep"])
def test_training_names_nan_pixels_and_does_not_advise_another_learning_rate(
    tmp_path: Path, command: str
) -> None:
    recipe = of_own_code(tmp_path, "trains_on_nan", NAN)
    done = call(command, recipe, cwd=tmp_path)
    assert done.code == 2
    assert done.err.splitlines() == [
        "data trains_on_nan:build: train image 50: holds NaN or infinite pixels; fix it, or remove"
        " it",
        "data trains_on_nan:build: validation image 23: holds NaN or infinite pixels; fix it, or"
        " remove it",
    ]


CONVERTED = """
import numpy as np

def build(*, seed):
    generator = np.random.default_rng(0)
    part = [
        {"image": generator.integers(0, 99, (8, 8, 3)) + 50 * (k % 2), "label": "ab"[k % 2]}
        for k in range(60)
    ]
    return part, part[:20]
"""


def test_conversions_are_reported_on_stderr_and_as_findings(tmp_path: Path) -> None:
    recipe = of_own_code(tmp_path, "is_converted", CONVERTED)
    done = call("sanity", recipe, "--json", cwd=tmp_path)
    said = "train, validation: class names are read as their index among the classes"
    assert done.err.count(said) == 1
    notes = [f["evidence"] for f in done.document["findings"] if f["severity"] == "info"]
    assert said in notes
