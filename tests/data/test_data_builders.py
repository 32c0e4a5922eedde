"""The built-in data sets and arrays: what they hold, how they are split, what they reject."""

import hashlib
import math
import pickle
import struct
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cnntune.data import npz as npz_module
from cnntune.data.digits import digits
from cnntune.data.npz import npz
from cnntune.data.shapes import SHAPES, shapes
from cnntune.data.source import Images, Source, stratified_subset
from cnntune.data.torchvision_files import cifar10, fashion_mnist, mnist
from cnntune.errors import DataError, DeviceError
from cnntune.machine.optional import import_torchvision


def train_of(source: Source) -> Images:
    assert isinstance(source.train, Images)
    return source.train


def val_of(source: Source) -> Images:
    assert isinstance(source.val, Images)
    return source.val


def held_out_of(source: Source) -> Images:
    assert isinstance(source.test, Images)
    return source.test


def all_pixels(source: Source) -> torch.Tensor:
    return torch.cat([train_of(source).pixels, val_of(source).pixels, held_out_of(source).pixels])


def all_labels(source: Source) -> torch.Tensor:
    return torch.cat([train_of(source).labels, val_of(source).labels, held_out_of(source).labels])


# digits


def test_digits_are_the_1797_of_the_uci_table() -> None:
    source = digits(seed=0)
    # UCI, "Optical Recognition of Handwritten Digits", class distribution of the test set.
    expected = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert all_labels(source).bincount().tolist() == expected
    assert all_pixels(source).shape == (1797, 1, 8, 8)
    assert source.classes == tuple("0123456789")


def test_digits_span_the_range_of_a_byte() -> None:
    pixels = all_pixels(digits(seed=0))
    assert pixels.dtype == torch.uint8
    # 17 levels 0..16, times 255 / 16 = 15.94, rounded
    assert torch.unique(pixels).tolist()[:4] == [0, 16, 32, 48]
    assert int(pixels.max()) == 255


def test_a_size_counts_all_sets_together() -> None:
    assert len(all_labels(digits(seed=0, size=300))) == 300


def test_a_size_keeps_every_class_in_its_share() -> None:
    counts = all_labels(digits(seed=0, size=300)).bincount()
    assert 28 <= int(counts.min()) <= int(counts.max()) <= 32  # 300 * (174 ... 183) / 1797


def test_a_subset_has_its_exact_size_and_proportions() -> None:
    labels = torch.tensor([0] * 60 + [1] * 30 + [2] * 10)
    chosen = stratified_subset(labels, 10, seed=0)
    assert labels[chosen].bincount().tolist() == [6, 3, 1]
    assert chosen.tolist() == sorted(set(chosen.tolist()))


def test_another_seed_chooses_another_subset() -> None:
    labels = torch.zeros(100, dtype=torch.int64)
    first, same, other = (stratified_subset(labels, 10, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_more_digits_than_there_are_is_rejected() -> None:
    with pytest.raises(DataError, match=r"data\.size: must be at most 1797, .* \(got 2000\)"):
        digits(seed=0, size=2000)


# shapes


def test_shapes_are_bytes_in_colour_and_every_class_has_as_many() -> None:
    source = shapes(seed=0, size=80, image_size=24)
    assert train_of(source).pixels.shape == (48, 3, 24, 24)
    assert train_of(source).pixels.dtype == torch.uint8
    assert all_labels(source).bincount().tolist() == [10] * 8
    assert len(source.classes) == 8


def test_the_same_seed_draws_the_same_shapes() -> None:
    first, same, other = (  # not split, since the seed also decides the split
        train_of(shapes(seed=seed, size=600, val_fraction=0, test_fraction=0)).pixels
        for seed in (0, 0, 1)
    )
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_outlines_enclose_the_area_of_their_shape() -> None:
    bite = 1.4434  # a circle of radius 0.95 less its lens with one of 0.75, the centres 0.5 apart
    areas = {
        "circle": math.pi * 0.8**2,
        "square": 2.0,  # its corners are at 1
        "triangle": 3 * math.sqrt(3) / 4,
        "pentagon": 2.5 * math.sin(math.radians(72)),
        "star": 1.12257,  # MathWorld, "Pentagram", for a circumradius of 1
        "cross": 2 * 1.8 * 0.6 - 0.6**2,
        "ring": math.pi * (0.95**2 - 0.55**2),
        "crescent": bite,
    }
    centres = (torch.arange(400) + 0.5) / 200 - 1
    x, y = centres.expand(1, 400, 400), centres[:, None].expand(1, 400, 400)
    for name, outline in SHAPES.items():
        measured = (outline(x, y) < 0).float().mean() * 4
        assert float(measured) == pytest.approx(areas[name], rel=0.01), name


def test_colour_does_not_depend_on_the_shape() -> None:
    source = shapes(seed=0, size=1600)
    colours = all_pixels(source).float().mean((2, 3))
    labels = all_labels(source)
    means = torch.stack([colours[labels == label].mean(0) for label in range(8)])
    guesses = torch.cdist(colours, means).argmin(1)
    assert (guesses == labels).float().mean() < 0.2  # chance is 1 / 8


def test_noise_is_a_share_of_the_full_range() -> None:
    clean = all_pixels(shapes(seed=0, size=80, noise=0)).float()
    noisy = all_pixels(shapes(seed=0, size=80, noise=0.1)).float()
    untouched = (clean > 110) & (clean < 145)  # 4 deviations from where pixels are cut off
    assert float((noisy - clean)[untouched].std()) == pytest.approx(25.5, rel=0.05)


def test_label_noise_changes_its_share_of_the_training_labels_only() -> None:
    truth, noisy = (shapes(seed=0, size=800, label_noise=share) for share in (0.0, 0.25))
    assert len(train_of(truth)) == 480
    assert int((train_of(truth).labels != train_of(noisy).labels).sum()) == 120
    assert torch.equal(train_of(truth).pixels, train_of(noisy).pixels)
    assert torch.equal(val_of(truth).labels, val_of(noisy).labels)
    assert torch.equal(held_out_of(truth).labels, held_out_of(noisy).labels)


def test_full_label_noise_leaves_no_label_right() -> None:
    truth, noisy = (train_of(shapes(seed=0, size=80, label_noise=share)) for share in (0, 1))
    assert (truth.labels != noisy.labels).all()
    assert int(noisy.labels.min()) >= 0
    assert int(noisy.labels.max()) <= 7


# CIFAR-10 and MNIST


def write_cifar10(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five batches of 4 images and a test batch of 3; image i of a part is (i, 100 + i, 200)."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)

    def write(name: str, content: Any) -> list[str]:
        # In 2009 NumPy stored types with numbers where it wants bools now, and warns otherwise.
        data = pickle.dumps(content, protocol=2).replace(b"\x89\x88\x87", b"K\x01K\x01\x87")
        (folder / name).write_bytes(data)
        return [name, hashlib.md5(data).hexdigest()]

    def batch(numbers: range) -> dict[str, Any]:
        rows = [[i] * 1024 + [100 + i] * 1024 + [200] * 1024 for i in numbers]
        return {"data": np.array(rows, dtype=np.uint8), "labels": [i % 2 for i in numbers]}

    names = [f"class {label}" for label in range(10)]
    dataset = import_torchvision().datasets.CIFAR10
    train = [write(f"data_batch_{n}", batch(range(4 * n - 4, 4 * n))) for n in range(1, 6)]
    test = [write("test_batch", batch(range(3)))]
    meta = write("batches.meta", {"label_names": names})
    monkeypatch.setattr(dataset, "train_list", train)
    monkeypatch.setattr(dataset, "test_list", test)
    monkeypatch.setattr(dataset, "meta", {**dataset.meta, "md5": meta[1]})


def write_mnist(raw: Path) -> None:
    """20 training and 3 test images; all pixels of image i are i."""
    raw.mkdir(parents=True)
    for part, count in (("train", 20), ("t10k", 3)):
        images = bytes(i for i in range(count) for _ in range(28 * 28))
        header = struct.pack(">IIII", 2051, count, 28, 28)  # LeCun's page: magic number 2051
        (raw / f"{part}-images-idx3-ubyte").write_bytes(header + images)
        labels = bytes(i % 2 for i in range(count))
        header = struct.pack(">II", 2049, count)
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(header + labels)


def test_cifar10_keeps_its_channels_and_its_test_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_cifar10(tmp_path, monkeypatch)
    source = cifar10(seed=0, path=str(tmp_path))
    assert held_out_of(source).pixels.shape == (3, 3, 32, 32)
    assert held_out_of(source).pixels[2, :, 5, 7].tolist() == [2, 102, 200]
    assert held_out_of(source).labels.tolist() == [0, 1, 0]
    assert source.classes[3] == "class 3"


def test_validation_is_split_from_the_official_training_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_cifar10(tmp_path, monkeypatch)
    source = cifar10(seed=0, path=str(tmp_path), val_fraction=0.2)
    assert val_of(source).labels.bincount().tolist() == [2, 2]
    assert train_of(source).labels.bincount().tolist() == [8, 8]
    numbers = torch.cat([val_of(source).pixels, train_of(source).pixels])[:, 0, 0, 0]
    assert sorted(numbers.tolist()) == list(range(20))


def test_a_changed_cifar_file_fails_its_checksum(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_cifar10(tmp_path, monkeypatch)
    with (tmp_path / "cifar-10-batches-py" / "data_batch_3").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(DataError, match="corrupted"):
        cifar10(seed=0, path=str(tmp_path))


@pytest.mark.parametrize(
    ("build", "folder"),
    [
        (cifar10, "cifar-10-batches-py"),
        (mnist, "MNIST/raw"),
        (fashion_mnist, "FashionMNIST/raw"),
    ],
)
def test_missing_files_name_their_place_and_how_to_get_them(
    tmp_path: Path, build: Any, folder: str
) -> None:
    with pytest.raises(DataError) as caught:
        build(seed=0, path=str(tmp_path))
    (line,) = caught.value.lines
    assert f"{tmp_path / folder} must hold the " in line
    assert line.endswith("put the files there, or set data.download = true")
    assert "download=True" not in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("build", "folder"), [(mnist, "MNIST/raw"), (fashion_mnist, "FashionMNIST/raw")]
)
def test_mnist_has_one_channel_and_its_official_test_set(
    tmp_path: Path, build: Any, folder: str
) -> None:
    write_mnist(tmp_path / folder)
    source = build(seed=0, path=str(tmp_path))
    assert train_of(source).pixels.shape == (16, 1, 28, 28)
    assert train_of(source).pixels.dtype == torch.uint8
    assert len(val_of(source)) == 4
    assert held_out_of(source).pixels[:, 0, 9, 9].tolist() == [0, 1, 2]
    assert held_out_of(source).labels.tolist() == [0, 1, 0]
    assert len(source.classes) == 10


def test_a_size_limits_the_training_set_before_validation_is_split(tmp_path: Path) -> None:
    write_mnist(tmp_path / "MNIST" / "raw")
    source = mnist(seed=0, path=str(tmp_path), size=10)
    assert (len(train_of(source)), len(val_of(source)), len(held_out_of(source))) == (8, 2, 3)


@pytest.mark.parametrize("length", [0, 5, 1000])
def test_a_truncated_mnist_file_is_rejected(tmp_path: Path, length: int) -> None:
    write_mnist(tmp_path / "MNIST" / "raw")
    file = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(DataError, match="MNIST/raw must hold the four unpacked"):
        mnist(seed=0, path=str(tmp_path))


def test_mnist_with_fewer_labels_than_images_is_rejected(tmp_path: Path) -> None:
    write_mnist(tmp_path / "MNIST" / "raw")
    labels = struct.pack(">II", 2049, 19) + bytes(19)
    (tmp_path / "MNIST" / "raw" / "train-labels-idx1-ubyte").write_bytes(labels)
    with pytest.raises(DataError, match="20 images, but 19 labels"):
        mnist(seed=0, path=str(tmp_path))


def test_a_torchvision_for_another_torch_is_reported_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torchvision.py").write_text(
        'raise RuntimeError("operator torchvision::nms does not exist")'
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    with pytest.raises(DeviceError) as caught:
        import_torchvision()
    (line,) = caught.value.lines
    assert "operator torchvision::nms does not exist" in line
    assert torch.__version__.partition("+")[0] in line
    assert "fresh virtual environment" in line


def test_a_missing_torchvision_is_reported_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)  # Python's way to forbid an import
    with pytest.raises(DeviceError, match="install both from the same place"):
        import_torchvision()


# npz


def write_npz(path: Path, **arrays: Any) -> str:
    np.savez(path / "images.npz", **arrays)
    return str(path / "images.npz")


def npz_problems(path: str, **options: Any) -> list[str]:
    with pytest.raises(DataError) as caught:
        npz(path=path, seed=0, **options)
    assert all(line.startswith(path) for line in caught.value.lines)
    return [line.removeprefix(f"{path}: ") for line in caught.value.lines]


def bytes_of(*shape: int) -> Any:
    """Whole numbers 0, 1, 2 ... in C order, from 0 again after 250."""
    return (np.arange(math.prod(shape)) % 251).astype(np.uint8).reshape(shape)


TEN_LABELS = np.array([0, 1] * 5)


@pytest.mark.parametrize(
    ("images", "labels"),
    [("x", "y"), ("X", "Y"), ("images", "labels"), ("x_train", "y_train"), ("X_train", "y_train")],
)
def test_a_single_pool_of_arrays_is_split_into_three_sets(
    tmp_path: Path, images: str, labels: str
) -> None:
    path = write_npz(tmp_path, **{images: bytes_of(10, 4, 4), labels: TEN_LABELS})
    source = npz(path=path, seed=0)
    assert (len(train_of(source)), len(val_of(source)), len(held_out_of(source))) == (6, 2, 2)
    assert source.classes == ("0", "1")


def test_sets_in_the_file_are_kept_as_they_are(tmp_path: Path) -> None:
    x = bytes_of(10, 4, 4)
    path = write_npz(
        tmp_path,
        x_train=x,
        y_train=TEN_LABELS,
        x_val=x[:3],
        y_val=TEN_LABELS[:3],
        x_test=x[:2],
        y_test=TEN_LABELS[:2],
    )
    source = npz(path=path, seed=0)
    assert (len(train_of(source)), len(val_of(source)), len(held_out_of(source))) == (10, 3, 2)
    assert train_of(source).labels.tolist() == TEN_LABELS.tolist()


def test_validation_is_split_where_only_a_test_set_is_given(tmp_path: Path) -> None:
    x = bytes_of(10, 4, 4)
    path = write_npz(tmp_path, x_train=x, y_train=TEN_LABELS, x_test=x[:1], y_test=[1])
    source = npz(path=path, seed=0)
    assert (len(train_of(source)), len(val_of(source)), len(held_out_of(source))) == (8, 2, 1)


def test_no_test_set_is_made_where_validation_is_given(tmp_path: Path) -> None:
    x = bytes_of(10, 4, 4)
    path = write_npz(tmp_path, x_train=x, y_train=TEN_LABELS, x_val=x[:1], y_val=[1])
    assert npz(path=path, seed=0).test is None


def test_medmnist_has_names_and_label_shapes_of_its_own(tmp_path: Path) -> None:
    x, y = bytes_of(10, 28, 28), TEN_LABELS[:, None]
    names = {f"{part}_images": x for part in ("train", "val", "test")}
    path = write_npz(
        tmp_path, **names, **{f"{part}_labels": y for part in ("train", "val", "test")}
    )
    source = npz(path=path, seed=0)
    assert val_of(source).labels.tolist() == TEN_LABELS.tolist()


@pytest.mark.parametrize(
    ("shape", "layout", "expected"),
    [
        # The pixel of image 1 at row 2, column 3, channel 0, counted in C order.
        ((10, 5, 6), "auto", 1 * 30 + 2 * 6 + 3),
        ((10, 5, 6, 3), "auto", (1 * 30 + 2 * 6 + 3) * 3),
        ((10, 5, 6, 1), "auto", 1 * 30 + 2 * 6 + 3),
        ((10, 3, 5, 6), "auto", 1 * 90 + 2 * 6 + 3),
        ((10, 3, 5, 3), "NHWC", None),
        ((10, 3, 5, 3), "NCHW", None),
    ],
)
def test_arrays_become_channels_first(
    tmp_path: Path, shape: tuple[int, ...], layout: Any, expected: int | None
) -> None:
    path = write_npz(tmp_path, x=bytes_of(*shape), y=TEN_LABELS)
    train = train_of(npz(path=path, seed=0, layout=layout, val_fraction=0, test_fraction=0))
    if expected is not None:
        assert train.pixels.shape == (10, 1 if len(shape) == 3 or 1 in shape else 3, 5, 6)
        assert int(train.pixels[1, 0, 2, 3]) == expected
    elif layout == "NHWC":
        assert train.pixels.shape == (10, 3, 3, 5)
        assert train.pixels[0, :, 0, 0].tolist() == [0, 1, 2]
    else:
        assert train.pixels.shape == (10, 3, 5, 3)
        assert train.pixels[0, :, 0, 0].tolist() == [0, 15, 30]


def test_two_possible_layouts_ask_for_one(tmp_path: Path) -> None:
    path = write_npz(tmp_path, x=bytes_of(10, 3, 5, 3), y=TEN_LABELS)
    assert npz_problems(path) == [
        "x: shape [10, 3, 5, 3] could be NHWC or NCHW: choose one with data.layout"
    ]


@pytest.mark.parametrize("shape", [(10, 16), (10, 4, 4, 4), (10, 2, 4, 4, 3)])
def test_other_shapes_are_rejected(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = write_npz(tmp_path, x=bytes_of(*shape), y=TEN_LABELS)
    (line,) = npz_problems(path)
    assert line.startswith("x: must be [N, H, W], [N, H, W, C] or [N, C, H, W]")
    assert line.endswith(f"(got {list(shape)})")


def test_a_layout_that_does_not_fit_is_rejected(tmp_path: Path) -> None:
    path = write_npz(tmp_path, x=bytes_of(10, 5, 6, 3), y=TEN_LABELS)
    assert npz_problems(path, layout="NHW") == ["x: layout NHW needs 3 axes (got [10, 5, 6, 3])"]
    assert npz_problems(path, layout="NCHW") == [
        "x: must have 1 or 3 channels (got 5, layout NCHW)"
    ]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_unit_floats_stay_floats(tmp_path: Path, dtype: Any) -> None:
    path = write_npz(tmp_path, x=np.full((10, 4, 4), 0.25, dtype), y=TEN_LABELS)
    pixels = train_of(npz(path=path, seed=0)).pixels
    assert pixels.dtype == torch.float32
    assert torch.unique(pixels).tolist() == [0.25]


@pytest.mark.parametrize("dtype", [np.int64, np.uint16, np.float32])
def test_integers_of_any_type_become_bytes(tmp_path: Path, dtype: Any) -> None:
    path = write_npz(tmp_path, x=np.full((10, 4, 4), 200, dtype), y=TEN_LABELS)
    pixels = train_of(npz(path=path, seed=0)).pixels
    assert pixels.dtype == torch.uint8
    assert torch.unique(pixels).tolist() == [200]


@pytest.mark.parametrize(("value", "dtype"), [(256, np.int64), (-1, np.int8), (1.5, np.float32)])
def test_pixels_of_another_range_are_rejected(tmp_path: Path, value: float, dtype: Any) -> None:
    path = write_npz(tmp_path, x=np.full((10, 4, 4), value, dtype), y=TEN_LABELS)
    assert npz_problems(path) == [
        f"x: must be integers 0..255, or floats 0..1 (got {np.dtype(dtype)} {value} ... {value})"
    ]


def test_nan_is_counted(tmp_path: Path) -> None:
    x = np.zeros((10, 4, 4), np.float32)
    x[0, 0, 0], x[1, 2, 3] = np.nan, np.inf
    path = write_npz(tmp_path, x=x, y=TEN_LABELS)
    assert npz_problems(path) == ["x: must be finite (got 2 values of NaN or infinity)"]


def test_one_hot_labels_become_numbers(tmp_path: Path) -> None:
    path = write_npz(tmp_path, x=bytes_of(10, 4, 4), y=np.eye(3)[[0, 2, 1, 0, 2, 1, 0, 2, 1, 0]])
    source = npz(path=path, seed=0, val_fraction=0, test_fraction=0)
    assert train_of(source).labels.tolist() == [0, 2, 1, 0, 2, 1, 0, 2, 1, 0]
    assert train_of(source).labels.dtype == torch.int64
    assert source.classes == ("0", "1", "2")


def test_a_small_set_may_hold_a_high_label(tmp_path: Path) -> None:
    x, y = bytes_of(10, 4, 4), np.arange(10)
    path = write_npz(tmp_path, x_train=x, y_train=y, x_val=x[:1], y_val=y[9:])
    assert val_of(npz(path=path, seed=0)).labels.tolist() == [9]


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        ([-1] + [0] * 9, "y: must count from 0 (got -1)"),
        ([0.5] + [0.0] * 9, "y: must be integers"),
        ([np.inf] + [0.0] * 9, "y: must be integers"),
        (["a"] * 10, "y: must be class numbers 0, 1, 2 ... (got <U1)"),
        ([0] * 9, "x has 10 images, y 9"),
        ([1000] + [0] * 9, "labels reach 1000, but there are only 10 images"),
        (np.ones((10, 3)), "y: has rows that are not one-hot (shape [10, 3])"),
        (np.zeros((10, 3, 3)), "y: must be [N], or one-hot [N, C] (got [10, 3, 3])"),
    ],
)
def test_labels_that_are_not_class_numbers_are_rejected(
    tmp_path: Path, labels: Any, problem: str
) -> None:
    path = write_npz(tmp_path, x=bytes_of(10, 4, 4), y=labels)
    assert npz_problems(path) == [problem]


def test_all_arrays_with_problems_are_reported_at_once(tmp_path: Path) -> None:
    x = bytes_of(10, 16)
    path = write_npz(tmp_path, x_train=x, y_train=TEN_LABELS - 1, x_val=x, y_test=TEN_LABELS)
    assert [line.partition(":")[0] for line in npz_problems(path)] == [
        "x_train",
        "y_train",
        "y_val",
        "x_test",
    ]


def test_an_archive_without_images_names_what_it_holds(tmp_path: Path) -> None:
    path = write_npz(tmp_path, x_val=bytes_of(10, 4, 4), y_val=TEN_LABELS)
    assert npz_problems(path) == [
        "needs arrays x_train and y_train, or train_images and train_labels, or x and y, or images"
        " and labels (got x_val, y_val)"
    ]


def test_two_candidates_for_one_set_are_rejected(tmp_path: Path) -> None:
    x = bytes_of(10, 4, 4)
    path = write_npz(tmp_path, x=x, y=TEN_LABELS, x_train=x, y_train=TEN_LABELS)
    assert npz_problems(path) == ["holds x_train and x, but only one can be the training set"]
    path = write_npz(tmp_path, x=x, X=x, y=TEN_LABELS)
    assert npz_problems(path) == ["X: is there twice, in upper and lower case"]


def test_no_images_at_all_are_rejected(tmp_path: Path) -> None:
    path = write_npz(tmp_path, x=np.zeros((0, 4, 4)), y=np.zeros(0))
    assert npz_problems(path) == ["x: must hold images (got shape [0, 4, 4])"]


def test_pickled_objects_are_not_opened(tmp_path: Path) -> None:
    path = write_npz(tmp_path, x=np.array([{}, {}]), y=TEN_LABELS)
    assert npz_problems(path) == [
        "x: cannot be read (holds Python objects instead of plain numbers)"
    ]


def test_files_that_are_not_archives_are_rejected(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", bytes_of(4))
    (tmp_path / "empty.npz").touch()
    for name in ("one.npy", "empty.npz"):
        problem = "is not an .npz archive; write it with numpy.savez"
        assert npz_problems(str(tmp_path / name)) == [problem]
    assert npz_problems(str(tmp_path / "gone.npz")) == ["no such file"]
    assert npz_problems(str(tmp_path)) == ["is a folder, not a file"]


def test_images_without_labels_are_rejected_with_the_names_that_are_allowed(tmp_path: Path) -> None:
    path = write_npz(tmp_path, images=bytes_of(10, 4, 4))
    assert npz_problems(path) == [
        "labels: is missing beside images; arrays of the training set are called x_train, y_train"
        " or train_images, train_labels or x, y or images, labels"
    ]


def test_a_broken_archive_is_rejected(tmp_path: Path) -> None:
    path = write_npz(tmp_path, x=bytes_of(10, 4, 4), y=TEN_LABELS)
    broken = bytearray(Path(path).read_bytes())
    broken[200] ^= 0xFF  # inside the first array: the checksum of the archive finds it
    Path(path).write_bytes(broken)
    (line,) = npz_problems(path)
    assert line.startswith("x: cannot be read (")


def test_an_archive_that_would_fill_the_memory_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(npz_module, "MAX_BYTES", 2**20)
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", bytes(2**20 + 1))
    (line,) = npz_problems(str(tmp_path / "bomb.npz"))
    assert line.startswith("unpacks to 0.0 GiB, but at most 0 are allowed")
