"""From what a builder returns to parts on a device: read, check, normalise, place."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from cnntune.data.folder import FolderImages
from cnntune.data.parts import Data, Normalise, Part, ResidentPart, as_unit
from cnntune.data.source import Images, Source
from cnntune.data.stream import LOADER_WORKERS, StreamedPart, sample_at
from cnntune.errors import DataError

RESIDENT_SHARE = 0.25  # of the free memory, for one copy of the images; workers hold one each
STATISTICS_IMAGES = 2000  # read for mean and std when streaming: 2000 * 32 * 32 pixels a channel
TWICE = 4  # images drawn twice to see whether a data set of the user's augments by itself


def load(
    source: Any,
    section: Any,
    device: torch.device,
    statistics: tuple[Tensor, Tensor] | None = None,
    *,
    checked: bool = True,
) -> Data:
    """Place a builder's result on `device`. `section` is the recipe's `[data]`.

    `statistics` are mean and std `[C]` to normalise with, in place of the training part's own.
    Unless `checked`, labels may be out of range and validation may be empty: `sanity` judges them.

    Raises:
        DataError: one line for each thing that cannot be trained on.
    """
    source = source if isinstance(source, Source) else _from_user(source, section.name)
    if not checked and len(source.train) and not len(source.val):
        source = replace(source, val=_no_images_like(source.train))
    parts = {"train": source.train, "validation": source.val}
    if source.test is not None:
        parts["test"] = source.test
    for name, part in parts.items():
        if len(part) == 0 and (checked or name != "validation"):
            raise DataError(f"data {section.name}: the {name} part is empty")
    resident = not section.stream and _fits(list(parts.values()), device)
    held = {name: _hold(part, resident, name, section.name) for name, part in parts.items()}
    labels = {name: _labels(part) for name, part in held.items()}
    classes = source.classes or _numbered_classes(list(labels.values()))
    if checked:
        _check_labels(labels, classes, section.name)
    in_shape = _in_shape(held, section.name)
    if not section.normalize:
        statistics = torch.zeros(in_shape[0]), torch.ones(in_shape[0])
    elif statistics is None:
        statistics = _measured(held["train"], in_shape[0], section.name)
    normalise = _normalisation(statistics, in_shape[0], device)

    def place(name: str) -> Part:
        part = held[name]
        if isinstance(part, Images):
            on_device = Images(part.pixels.to(device), part.labels.to(device))
            return ResidentPart(on_device, labels[name], normalise)
        return StreamedPart(part, labels[name], normalise, device, in_shape[1:])

    return Data(
        train=place("train"),
        val=place("validation"),
        test=place("test") if "test" in held else None,
        classes=classes,
        in_shape=in_shape,
        normalise=normalise,
    )


def _from_user(built: Any, name: str) -> Source:
    """Own code gives `(train, val)` or `(train, val, test)`."""
    if not isinstance(built, tuple) or len(built) not in (2, 3):
        raise DataError(
            f"data {name}: must return (train, val) or (train, val, test)"
            f" (got {type(built).__name__})"
        )
    for part in built:
        if not (hasattr(part, "__getitem__") and hasattr(part, "__len__")):
            raise DataError(
                f"data {name}: each part must be a map-style Dataset, with __len__ and __getitem__"
                f" (got {type(part).__name__})"
            )
    test = built[2] if len(built) == 3 else None
    return Source(train=built[0], val=built[1], test=test, classes=_class_names(built[0]))


def _no_images_like(part: Any) -> Images:
    pixels = part.pixels[0] if isinstance(part, Images) else sample_at(part, 0)[0]
    return Images(pixels.new_empty((0, *pixels.shape)), torch.empty(0, dtype=torch.int64))


def _class_names(dataset: Any) -> tuple[str, ...]:
    """Torchvision's data sets carry `classes`; without them the labels are counted."""
    names = getattr(dataset, "classes", None)
    return tuple(str(name) for name in names) if isinstance(names, list | tuple) else ()


def _numbered_classes(labels: Sequence[Tensor]) -> tuple[str, ...]:
    highest = max(int(part.max()) for part in labels if len(part))
    return tuple(str(label) for label in range(highest + 1))


def _fits(parts: Sequence[Any], device: torch.device) -> bool:
    """Whether all images, as large as the first one, take at most a quarter of the memory."""
    needed = 0
    for part in parts:
        if isinstance(part, Images):
            needed += part.pixels.nbytes
        else:
            needed += sample_at(part, 0)[0].nbytes * len(part)
    return needed <= RESIDENT_SHARE * _free_bytes(device)


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    pages = "SC_AVPHYS_PAGES" if "SC_AVPHYS_PAGES" in os.sysconf_names else "SC_PHYS_PAGES"
    return os.sysconf(pages) * os.sysconf("SC_PAGE_SIZE")


def _hold(part: Any, resident: bool, part_name: str, name: str) -> Any:
    """A part in memory where it may be, else the data set that reads it."""
    if isinstance(part, Images) and (resident or not len(part)):
        return part
    if isinstance(part, Images):
        return _InMemory(part)
    if not resident or _augments_itself(part):
        return part
    return _read_all(part, part_name, name)


class _InMemory(Dataset[Any]):
    """Images that a builder holds in memory, streamed because the recipe says so."""

    def __init__(self, images: Images) -> None:
        self.images, self.labels = images, images.labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images.pixels[index], int(self.labels[index])


def _augments_itself(dataset: Any) -> bool:
    """A data set that gives other pixels the second time must be read anew in each epoch."""
    try:
        return any(
            not torch.equal(sample_at(dataset, index)[0], sample_at(dataset, index)[0])
            for index in range(min(TWICE, len(dataset)))
        )
    except DataError:
        return False  # `_read_all` reports it together with the others


def _read_all(dataset: Any, part_name: str, name: str) -> Images:
    """Every image as one tensor; all that cannot be read are reported together."""

    def read(index: int) -> tuple[Tensor, int] | DataError:
        try:
            return sample_at(dataset, index)
        except DataError as error:
            return error

    # Our own decoder may run in threads (Pillow releases the lock); the user's may not.
    threads = LOADER_WORKERS if isinstance(dataset, FolderImages) else 1
    with ThreadPoolExecutor(threads) as pool:
        samples = list(pool.map(read, range(len(dataset))))
    broken = [sample for sample in samples if isinstance(sample, DataError)]
    if broken:
        raise DataError(line for error in broken for line in error.lines)
    pixels = [sample[0] for sample in samples if not isinstance(sample, DataError)]
    labels = [sample[1] for sample in samples if not isinstance(sample, DataError)]
    return Images(_stacked(pixels, part_name, name), torch.tensor(labels))


def _stacked(pixels: Sequence[Tensor], part_name: str, name: str) -> Tensor:
    shapes = {tuple(image.shape) for image in pixels}
    if len(shapes) > 1:
        raise DataError(
            f"data {name}: the {part_name} images must have one shape (got"
            f" {', '.join(str(list(shape)) for shape in sorted(shapes)[:3])})"
        )
    return torch.stack(list(pixels))


def _labels(part: Any) -> Tensor:
    """All labels of a part; data sets that list them (`labels`, `targets`) are not read for it."""
    for attribute in ("labels", "targets"):
        listed = getattr(part, attribute, None)
        if isinstance(listed, Tensor | list | tuple) and len(listed) == len(part):
            with suppress(TypeError, ValueError):  # names, not numbers
                return torch.as_tensor(listed).long().cpu()
    return torch.tensor([sample_at(part, index)[1] for index in range(len(part))])


def _check_labels(labels: dict[str, Tensor], classes: Sequence[str], name: str) -> None:
    problems = []
    for part_name, part in labels.items():
        low, high = int(part.min()), int(part.max())
        if low < 0 or high >= len(classes):
            problems.append(
                f"data {name}: {part_name} labels must be 0 ... {len(classes) - 1}"
                f" (got {low} ... {high})"
            )
    if len(classes) < 2:
        problems.append(f"data {name}: needs at least two classes (got {len(classes)})")
    if problems:
        raise DataError(problems)


def _in_shape(held: dict[str, Any], name: str) -> tuple[int, int, int]:
    shapes = {
        part_name: tuple(part.pixels.shape[1:] if isinstance(part, Images) else part[0][0].shape)
        for part_name, part in held.items()
    }
    if len(set(shapes.values())) > 1:
        listed = ", ".join(f"{part}: {list(shape)}" for part, shape in shapes.items())
        raise DataError(f"data {name}: all parts must have images of one shape (got {listed})")
    channels, height, width = shapes["train"]
    return channels, height, width


def _measured(train: Any, channels: int, name: str) -> tuple[Tensor, Tensor]:
    """Mean and std by channel, over the training part alone (lecture: preprocess)."""
    pixels = train.pixels if isinstance(train, Images) else _some_pixels(train, name)
    sums = torch.zeros(2, channels, dtype=torch.float64)
    for chunk in pixels.split(1000):  # float64 sums, without a float copy of all images
        unit = as_unit(chunk).double()
        sums += torch.stack([unit.sum((0, 2, 3)), unit.square().sum((0, 2, 3))]).cpu()
    first, second = sums / (pixels.numel() / channels)
    variance = (second - first.square()).clamp(min=0)
    std = torch.where(variance > 0, variance.sqrt(), torch.ones_like(variance))
    return first.float(), std.float()


def _normalisation(
    statistics: tuple[Tensor, Tensor], channels: int, device: torch.device
) -> Normalise:
    """With the mean of the channels where grey images meet the statistics of colour images."""
    mean, std = (s.mean().view(1) if channels == 1 else s for s in statistics)
    if len(mean) != channels:
        raise DataError(
            f"data: images with {channels} channels do not fit model.weights, which were learned"
            f" from {len(mean)}"
        )
    shape = (1, channels, 1, 1)
    return Normalise(mean.view(shape).to(device), std.view(shape).to(device))


def _some_pixels(dataset: Any, name: str) -> Tensor:
    """Evenly spaced images of a set that is too large to be read whole."""
    count = min(len(dataset), STATISTICS_IMAGES)
    indices = torch.linspace(0, len(dataset) - 1, count).long().unique()
    return _stacked([sample_at(dataset, int(index))[0] for index in indices], "training", name)
