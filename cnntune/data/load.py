"""From what a builder returns to sets on a device: read, check, normalise, move."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from cnntune.data.custom import CustomImages, attempt, custom_sets, joined, remarks, settled
from cnntune.data.folder import FolderImages
from cnntune.data.parts import Data, Names, Normalise, Part, ResidentPart, as_unit
from cnntune.data.source import Images, Source
from cnntune.data.stream import LOADER_WORKERS, StreamedPart
from cnntune.errors import DataError
from cnntune.machine.memory import fit

STATISTICS_IMAGES = 2000  # read for mean and std when streaming: 2000 * 32 * 32 pixels per channel
REPEATED_IMAGES = 4  # read twice, to find out whether a custom data set augments its images


def load(
    source: Any,
    section: Any,
    device: torch.device,
    statistics: tuple[Tensor, Tensor] | None = None,
    *,
    checked: bool = True,
    stream: bool | None = None,
) -> Data:
    """Move a builder's result to `device`. `section` is the recipe's `[data]`.

    If `stream` is true, images are read batch by batch; if false, they are held in memory; if None,
    the recipe decides, and whether the free memory holds one copy.
    `statistics` are mean and std `[C]` to normalise with instead of those of the training set.
    Unless `checked`, labels may be out of range, pixels NaN, and the validation set empty: `sanity`
    checks them.

    Raises:
        DataError: one line per problem that prevents training.
    """
    source = as_source(source, section.name, finite=checked)
    if not checked and len(source.train) and not len(source.val):
        source = replace(source, val=_no_images_like(source.train))
    parts = {"train": source.train, "validation": source.val}
    if source.test is not None:
        parts["test"] = source.test
    for name, part in parts.items():
        if len(part) == 0 and (checked or name != "validation"):
            title = "training" if name == "train" else name
            fix = _fix_for_empty(section, name)
            raise DataError(f"data {section.name}: the {title} set is empty{fix}")
    if stream is None:
        stream = section.stream or not fit(image_bytes(source), 1, free_on(device))
    held = _hold_all(parts, not stream)
    labels = {name: _labels(part) for name, part in held.items()}
    classes = source.classes or _numbered_classes(list(labels.values()))
    if checked:
        _check_labels(labels, classes, section.name, named=bool(source.classes))
    in_shape = _in_shape(held, section.name)
    if not section.normalize:
        statistics = torch.zeros(in_shape[0]), torch.ones(in_shape[0])
    elif statistics is None:
        statistics = _measured(held["train"], in_shape[0])
    normalise = _normalisation(statistics, in_shape[0], device)

    def on_its_device(name: str) -> Part:
        part, names = held[name], _names(name, parts[name])
        if isinstance(part, Images):
            on_device = Images(part.pixels.to(device), part.labels.to(device))
            return ResidentPart(on_device, labels[name], normalise, names)
        return StreamedPart(part, labels[name], normalise, device, in_shape[1:], names)

    return Data(
        train=on_its_device("train"),
        val=on_its_device("validation"),
        test=on_its_device("test") if "test" in held else None,
        classes=classes,
        in_shape=in_shape,
        normalise=normalise,
        remarks=remarks(part for part in parts.values() if isinstance(part, CustomImages)),
    )


def _fix_for_empty(section: Any, name: str) -> str:
    """What to change where a setting is why a set is empty."""
    emptied = name == "validation" and section.arguments.get("val_fraction") == 0
    return "; data.val_fraction must be > 0 here (got 0)" if emptied else ""


def as_source(built: Any, name: str, *, finite: bool = True) -> Source:
    """The result of a builder; custom code returns `(train, val)` or `(train, val, test)`.

    Unless `finite`, pixels may be NaN.

    Raises:
        DataError: where it returned anything else.
    """
    if isinstance(built, Source):
        return built
    if not isinstance(built, tuple) or len(built) not in (2, 3):
        raise DataError(
            f"data {name}: must return (train, val) or (train, val, test) (got {_counted(built)})"
        )
    for part in built:
        if not (hasattr(part, "__getitem__") and hasattr(part, "__len__")):
            raise DataError(
                f"data {name}: each set must be a map-style Dataset, with __len__ and __getitem__"
                f" (got {type(part).__name__})"
            )
    (train, val, *test), classes = custom_sets(built, name, finite=finite)
    return Source(train=train, val=val, test=test[0] if test else None, classes=classes)


def _counted(built: Any) -> str:
    """The type of what was returned, with its length."""
    name = type(built).__name__
    return f"{name} of {len(built)}" if isinstance(built, tuple | list) else name


def _no_images_like(part: Any) -> Images:
    shape = part.pixels.shape[1:] if isinstance(part, Images) else part.shape
    return Images(torch.empty((0, *shape), dtype=torch.uint8), torch.empty(0, dtype=torch.int64))


def _names(part_name: str, part: Any) -> Names:
    title = "training" if part_name == "train" else part_name
    return Names(title, part.names if isinstance(part, FolderImages) else ())


def _numbered_classes(labels: Sequence[Tensor]) -> tuple[str, ...]:
    highest = max(int(part.max()) for part in labels if len(part))
    return tuple(str(label) for label in range(highest + 1))


def image_bytes(source: Source) -> int:
    """The memory for all images, assuming that all of a set are as large as its first."""
    parts: list[Any] = [source.train, source.val, source.test]
    needed = 0
    for part in parts:
        if isinstance(part, Images):
            needed += part.pixels.nbytes
        elif part is not None and len(part):
            needed += part.image_bytes * len(part)
    return needed


def free_on(device: torch.device) -> int | None:
    """The free bytes of a GPU; None where the device has no separate memory."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None


def few_images(source: Source, count: int) -> Source:
    """Only some training images, evenly spaced, with the classes of all; fast to load.

    Labels are read from all images only where a custom data set lists neither its labels nor its
    classes.

    Raises:
        DataError: where there is no training image.
    """
    train: Any = source.train
    if not len(train):
        raise DataError("the training set is empty")
    parts: list[Any] = [part for part in (train, source.val, source.test) if part is not None]
    classes = source.classes or _numbered_classes([_labels(part) for part in parts])
    indices = torch.linspace(0, len(train) - 1, min(count, len(train))).long()
    if isinstance(train, Images):
        few = train.take(indices)
    else:
        samples = [train[index] for index in indices.tolist()]
        pixels, labels = zip(*samples, strict=True)
        few = Images(torch.stack(pixels), torch.tensor(labels))
    return Source(few, few, None, classes)


def _hold_all(parts: dict[str, Any], resident: bool) -> dict[str, Any]:
    """Each set as `_hold` returns it; the problems of all sets are reported together."""
    held = {}
    problems: list[str] = []
    for name, part in parts.items():
        try:
            held[name] = _hold(part, resident, name)
        except DataError as error:
            problems += error.lines
    if problems:
        raise DataError(problems)
    return held


def _hold(part: Any, resident: bool, part_name: str) -> Any:
    """A set in memory if `resident`, else the data set that reads it."""
    if isinstance(part, Images) and (resident or not len(part)):
        return part
    if isinstance(part, Images):
        return _InMemory(part)
    if not resident or _augments_itself(part):
        return part
    return _read_all(part, part_name)


class _InMemory(Dataset[Any]):
    """Images that a builder holds in memory, streamed because the recipe requires it."""

    def __init__(self, images: Images) -> None:
        self.images, self.labels = images, images.labels
        self.shape = tuple(images.pixels.shape[1:])
        self.bytes_only = images.pixels.dtype == torch.uint8

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images.pixels[index], int(self.labels[index])


def _augments_itself(dataset: Any) -> bool:
    """Whether a data set returns different pixels the second time: it must be read every epoch."""
    if isinstance(dataset, FolderImages):
        return False
    try:
        return any(
            not _same(dataset[index][0], dataset[index][0])
            for index in range(min(REPEATED_IMAGES, len(dataset)))
        )
    except DataError:
        return False  # `_read_all` reports it together with the others


def _same(first: Tensor, second: Tensor) -> bool:
    """Whether two images are equal, NaN included."""
    return torch.equal(torch.nan_to_num(first), torch.nan_to_num(second))


def _read_all(dataset: FolderImages | CustomImages, part_name: str) -> Images:
    """All images as one tensor; all that cannot be read are reported together."""
    # Our decoder can run in threads (Pillow releases the lock); user code may not be thread-safe.
    if isinstance(dataset, CustomImages):
        return _read_custom(dataset)
    with ThreadPoolExecutor(LOADER_WORKERS) as pool:
        read = pool.map(lambda index: attempt(dataset.__getitem__, index), range(len(dataset)))
        samples = settled(list(read), part_name)
    return Images(torch.stack([pixels for pixels, _ in samples]), dataset.labels)


def _read_custom(dataset: CustomImages) -> Images:
    found = [attempt(dataset.read, index) for index in range(len(dataset))]
    failures = [sample for sample in found if isinstance(sample, DataError)]
    kind = dataset.first[1].kind
    others = {
        index: sample.kind
        for index, sample in enumerate(found)
        if not isinstance(sample, DataError) and sample.kind != kind
    }
    problems = joined(failures, dataset.part, len(dataset)).lines
    problems += [dataset.difference(others)] if others else []
    if problems:
        raise DataError(problems)
    labels = torch.tensor([sample.label for sample in found])
    return Images(torch.stack([sample.pixels for sample in found]), labels)


def _labels(part: Any) -> Tensor:
    """All labels of a set, on the CPU."""
    return torch.as_tensor(part.labels).cpu()


def _check_labels(
    labels: dict[str, Tensor], classes: Sequence[str], name: str, *, named: bool
) -> None:
    problems = []
    values = len(torch.cat(list(labels.values())).unique())
    fix = f"; if all {values} values are classes, number them 0 ... {values - 1}"
    fix += ", else remove images without a class"
    for part_name, part in labels.items():
        low, high = int(part.min()), int(part.max())
        if low < 0 or high >= len(classes):
            problems.append(
                f"data {name}: {part_name} labels must be 0 ... {len(classes) - 1}"
                f" (got {low} ... {high}){'' if named else fix}"
            )
    if len(classes) < 2:
        problems.append(f"data {name}: needs at least two classes (got {len(classes)})")
    if problems:
        raise DataError(problems)


def _in_shape(held: dict[str, Any], name: str) -> tuple[int, int, int]:
    shapes = {
        part_name: tuple(part.pixels.shape[1:] if isinstance(part, Images) else part.shape)
        for part_name, part in held.items()
    }
    if len(set(shapes.values())) > 1:
        listed = ", ".join(f"{part}: {list(shape)}" for part, shape in shapes.items())
        raise DataError(f"data {name}: all sets must have images of one shape (got {listed})")
    channels, height, width = shapes["train"]
    return channels, height, width


def _measured(train: Any, channels: int) -> tuple[Tensor, Tensor]:
    """Mean and std per channel, over the training set only (lecture: preprocess)."""
    pixels = train.pixels if isinstance(train, Images) else _some_pixels(train)
    sums = torch.zeros(2, channels, dtype=torch.float64)
    counts = torch.zeros(channels, dtype=torch.float64)
    for chunk in pixels.split(1000):  # float64 sums without a float copy of all images
        unit = as_unit(chunk).double()
        if chunk.is_floating_point():  # a single NaN would make the statistics NaN
            finite = torch.isfinite(unit)
            counts += finite.sum((0, 2, 3)).cpu()
            unit = torch.where(finite, unit, 0.0)
        else:
            counts += unit.numel() / channels
        sums += torch.stack([unit.sum((0, 2, 3)), unit.square().sum((0, 2, 3))]).cpu()
    first, second = sums / counts.clamp(min=1)
    variance = (second - first.square()).clamp(min=0)
    std = torch.where(variance > 0, variance.sqrt(), torch.ones_like(variance))
    return first.float(), std.float()


def _normalisation(
    statistics: tuple[Tensor, Tensor], channels: int, device: torch.device
) -> Normalise:
    """For grey images, statistics of colour images are averaged over the channels."""
    mean, std = (s.mean().view(1) if channels == 1 else s for s in statistics)
    if len(mean) != channels:
        raise DataError(
            f"data: images with {channels} channels do not match model.weights, which were trained"
            f" on images with {len(mean)}"
        )
    shape = (1, channels, 1, 1)
    return Normalise(mean.view(shape).to(device), std.view(shape).to(device))


def _some_pixels(dataset: Any) -> Tensor:
    """Evenly spaced images of a set that is too large to be read completely."""
    count = min(len(dataset), STATISTICS_IMAGES)
    indices = torch.linspace(0, len(dataset) - 1, count).long().unique()
    samples = [attempt(dataset.__getitem__, int(index)) for index in indices]
    return torch.stack([pixels for pixels, _ in settled(samples, "train")])
