"""Custom data sets: what they return for an index becomes pixels and a label, or a clear error.

What has only one meaning is converted. The rest is an error that names the set, the index, what was
found, what is allowed, and a fix.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from cnntune.data.folder import in_class_order, pixels_of
from cnntune.data.parts import MAX_SHOWN
from cnntune.errors import DataError
from cnntune.user_code.borders import border

IMAGE_KEYS = ("image", "img", "pixel_values")  # of Hugging Face data sets and processors
LABEL_KEYS = ("label", "labels", "target")
LISTS = ("labels", "targets")  # attributes that hold all labels, as in torchvision
COLOURS = (1, 3)  # channels of nearly all images,
CHANNELS = (*COLOURS, 4)  # and with transparency
MAX_BYTE = 255
SAMPLE_SIZE = 3  # samples whose labels are compared with those that the data set lists

A_SAMPLE = "must be (image, label)"
AN_IMAGE = "must be a tensor [C, H, W], a NumPy array [H, W, C] or a PIL image"
A_LABEL = "the label must be an integer, a class name or a one-hot vector"

Kind = tuple[tuple[int, ...], bool]  # the shape of an image, and whether it is bytes


@dataclass(frozen=True)
class Sample:
    """An image and its label, and a description of how they were converted."""

    pixels: Tensor
    label: int
    remarks: tuple[str, ...] = ()

    @property
    def kind(self) -> Kind:
        """What all images of a set must have in common."""
        return tuple(self.pixels.shape), self.pixels.dtype == torch.uint8


@dataclass(frozen=True)
class Reader:
    """Reads the samples of one set. Unless `finite`, images may hold NaN: `sanity` checks them."""

    where: str  # starts each message: the data set and which of its sets
    classes: tuple[str, ...] = ()
    finite: bool = True

    def __call__(self, sample: Any, index: int) -> Sample:
        """The sample, converted.

        Raises:
            DataError: where it has no image or no label, or is ambiguous.
        """
        try:
            image, label, remark = _image_and_label(sample)
            pixels, converted = _as_pixels(image)
            if self.finite and not bool(torch.isfinite(pixels).all()):
                raise DataError("holds NaN or infinite pixels; fix it, or remove it")
            number, counted = _as_number(label, self.classes)
        except DataError as error:
            raise DataError(f"{self.where} image {index}: {line}" for line in error.lines) from None
        return Sample(pixels, number, tuple(filter(None, (remark, converted, counted))))


class CustomImages(Dataset[tuple[Tensor, int]]):
    """One set of a custom data set: (uint8 or float `[C, H, W]`, label) for each index.

    Indexing raises `DataError` where an image cannot be read, or differs in shape or type from the
    first one.
    """

    def __init__(self, dataset: Any, part: str, reader: Reader) -> None:
        self.dataset, self.part, self.reader = dataset, part, reader

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        sample = self.read(index)
        if sample.kind != self.first[1].kind:
            raise DataError(self.difference({index: sample.kind}))
        return sample.pixels, sample.label

    def read(self, index: int) -> Sample:
        """The sample, whatever its shape."""
        with border(f"reading image {index} of {self.part}"):
            sample = self.dataset[index]
        return self.reader(sample, index)

    @cached_property
    def first(self) -> tuple[int, Sample]:
        """The first sample that can be read, and its index."""
        failures = []
        for index in range(len(self)):
            found = attempt(self.read, index)
            if not isinstance(found, DataError):
                return index, found
            failures.append(found)
        raise joined(failures, self.part, len(self))

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W)."""
        return tuple(self.first[1].pixels.shape)

    @property
    def bytes_only(self) -> bool:
        """Whether pixels are bytes, not floats."""
        return self.first[1].kind[1]

    @property
    def image_bytes(self) -> int:
        """The size of an image in memory."""
        return self.first[1].pixels.nbytes

    def difference(self, others: Mapping[int, Kind]) -> str:
        """The message that these images differ from the first one: indices, shapes and a fix."""
        index, first = self.first
        kinds = sorted(set(others.values()))
        found = some([_in_words(kind, first.kind) for kind in kinds])
        images = (
            f"image {next(iter(others))} is" if len(others) == 1 else f"images {some(others)} are"
        )
        fix = "resize or crop them to one size in the data set"
        if all(shape[0] != first.kind[0][0] for shape, _ in kinds):
            fix = "give all images the same channels: all grey or all colour"
        if all(shape == first.kind[0] for shape, _ in kinds):
            fix = "return all images as bytes 0..255, or all as floats"
        return (
            f"{self.reader.where} {images} {found}, but image {index} is"
            f" {_in_words(first.kind, kinds[0])}; {fix}"
        )

    @cached_property
    def labels(self) -> Tensor:
        """Int64 `[N]`: as listed by the data set if its samples agree, else read from them."""
        listed = _listed(self.dataset)
        if listed is not None:
            with suppress(DataError):  # not class labels, or those of images that cannot be read
                found = [_as_number(label, self.reader.classes)[0] for label in listed]
                chosen = range(0, len(self), max(1, len(self) // SAMPLE_SIZE))[:SAMPLE_SIZE]
                if all(found[index] == self[index][1] for index in chosen):
                    return torch.tensor(found)
        samples = [attempt(self.__getitem__, index) for index in range(len(self))]
        return torch.tensor([label for _, label in settled(samples, self.part)], dtype=torch.int64)


def custom_sets(
    built: Sequence[Any], name: str, *, finite: bool
) -> tuple[list[CustomImages], tuple[str, ...]]:
    """Training, validation and perhaps test set of custom code, and the class names.

    Class names are the `classes` of the training set, or those in its Hugging Face features; else
    the sorted labels where these are names; else there are none.

    Raises:
        DataError: where the class names of the sets differ, or labels cannot be read.
    """
    titles = ("train", "validation", "test")[: len(built)]
    classes = _class_names(built[0])
    for title, part in zip(titles[1:], built[1:], strict=True):
        others = _class_names(part)
        if classes and others and others != classes:
            raise DataError(
                f"data {name}: the classes of {title} ({some(others)}) differ from those of train"
                f" ({some(classes)}); use the same list of names for both"
            )
    if not classes and len(built[0]):
        classes = _names_in_labels(built, titles, name)
    parts = [
        CustomImages(part, title, Reader(f"data {name}: {title}", classes, finite))
        for title, part in zip(titles, built, strict=True)
    ]
    return parts, classes


def remarks(parts: Iterable[CustomImages]) -> tuple[str, ...]:
    """How the samples of all sets are converted, each conversion once."""
    found = [f"{p.part}: {text}" for p in parts if len(p) for text in p.first[1].remarks]
    by_text: dict[str, list[str]] = {}
    for remark in found:
        part, _, text = remark.partition(": ")
        by_text.setdefault(text, []).append(part)
    return tuple(f"{', '.join(names)}: {text}" for text, names in by_text.items())


def attempt(read: Callable[[int], Any], index: int) -> Any:
    """What `read` returns, or the `DataError` that it raises."""
    try:
        return read(index)
    except DataError as error:
        return error


def settled(results: Sequence[Any], part: str) -> Sequence[Any]:
    """The results of `attempt` for all images of a set, if none is an error.

    Raises:
        DataError: with the first five lines and the number of images that cannot be used.
    """
    failures = [result for result in results if isinstance(result, DataError)]
    if failures:
        raise joined(failures, part, len(results))
    return results


def joined(failures: Sequence[DataError], part: str, images: int) -> DataError:
    """One error with the first five lines, and how many of the images cannot be used."""
    lines = [line for failure in failures[:MAX_SHOWN] for line in failure.lines]
    if len(failures) > MAX_SHOWN:
        more = f"{len(failures)} of the {images} {part} images cannot be used; listed are the first"
        lines.append(f"{more} {MAX_SHOWN}")
    return DataError(lines)


def some(names: Iterable[Any]) -> str:
    """Up to five names, and the number of the others."""
    listed = [str(name) for name in names]
    more = f" and {len(listed) - MAX_SHOWN} more" if len(listed) > MAX_SHOWN else ""
    return ", ".join(listed[:MAX_SHOWN]) + more


def _image_and_label(sample: Any) -> tuple[Any, Any, str]:
    """From (image, label, ...) or a dict."""
    if isinstance(sample, Mapping):
        found = [[key for key in keys if key in sample] for keys in (IMAGE_KEYS, LABEL_KEYS)]
        if [len(keys) for keys in found] != [1, 1]:
            raise DataError(
                f"{A_SAMPLE}, or a dict with one of {', '.join(IMAGE_KEYS)} and one of"
                f" {', '.join(LABEL_KEYS)} (got a dict with {some(sample) or 'nothing'})"
            )
        image, label = (keys[0] for keys in found)
        others = [key for key in sample if key not in (image, label)]
        left = f"; ignored: {some(others)}" if others else ""
        return sample[image], sample[label], f"reads {image} and {label} of each dict{left}"
    if not isinstance(sample, tuple | list) or len(sample) < 2:
        found_type = type(sample).__name__
        count = f" of {len(sample)}" if isinstance(sample, tuple | list) else ""
        raise DataError(f"{A_SAMPLE}; return both (got {found_type}{count})")
    more = len(sample) - 2
    remark = f"samples have {len(sample)} entries; the first two are used as image and label"
    return sample[0], sample[1], remark if more else ""


def _as_pixels(image: Any) -> tuple[Tensor, str]:
    """Uint8 or float `[C, H, W]`, and how it was converted."""
    if isinstance(image, Image.Image):
        return pixels_of(image), "PIL images are read as bytes [C, H, W]"
    if not isinstance(image, Tensor | np.ndarray):
        raise DataError(f"{AN_IMAGE} (got {type(image).__name__})")
    if isinstance(image, np.ndarray) and image.dtype.kind not in "buif":
        raise DataError(f"{AN_IMAGE} of numbers (got dtype {image.dtype})")
    shape = list(image.shape)
    if 0 in shape or image.ndim not in (2, 3):
        raise DataError(f"{AN_IMAGE} (got shape {shape})")
    if isinstance(image, Tensor):
        image = image.detach()
    tensor, text = image, ""
    if image.ndim == 2:
        tensor, text = image[None], "images [H, W] are read as one channel"
    elif isinstance(image, np.ndarray) and _channels_last(image.shape):
        tensor, text = (
            image.transpose(2, 0, 1),
            "NumPy arrays [H, W, C] are transposed to [C, H, W]",
        )
    if isinstance(tensor, np.ndarray):
        wide = {"b": np.bool_, "f": np.float32}.get(tensor.dtype.kind, np.int64)
        kept = tensor.dtype if tensor.dtype == np.uint8 else wide
        tensor = torch.from_numpy(tensor.astype(kept, order="C"))  # a copy: it may be read-only
    pixels, scaled = _as_bytes_or_floats(tensor)
    return pixels, ", ".join(filter(None, (text, scaled)))


def _channels_last(shape: tuple[int, ...]) -> bool:
    """Whether an array is [H, W, C] and not [C, H, W].

    Raises:
        DataError: where it could be both, or neither.
    """
    for channels in (COLOURS, CHANNELS):
        first, last = shape[0] in channels, shape[2] in channels
        if first != last:
            return last
    raise DataError(
        f"an array of shape {list(shape)} could be [H, W, C] or [C, H, W]; return a torch tensor,"
        " which is always read as [C, H, W]"
    )


def _as_bytes_or_floats(pixels: Tensor) -> tuple[Tensor, str]:
    if pixels.dtype == torch.uint8:
        return pixels, ""
    if pixels.is_floating_point():
        return (pixels.float() if pixels.dtype == torch.float64 else pixels), ""
    if pixels.is_complex():
        raise DataError(f"pixels must be uint8 or float (got {pixels.dtype})")
    if pixels.dtype == torch.bool:
        return pixels.to(torch.uint8) * MAX_BYTE, "False and True are read as 0 and 255"
    whole = pixels.long()
    low, high = int(whole.min()), int(whole.max())
    if low < 0 or high > MAX_BYTE:
        raise DataError(
            f"pixels must be uint8, integers 0..255, or float (got {pixels.dtype}"
            f" {low} ... {high}); divide them by their largest value, as floats"
        )
    return whole.to(torch.uint8), "integers are read as bytes 0..255"


def _as_number(label: Any, classes: Sequence[str]) -> tuple[int, str]:
    """A label counted from 0, and how it was converted."""
    if type(label) is int:  # by far the most common
        return label, ""
    value = _plain(label)
    if isinstance(value, str):
        if value not in classes:
            known = some(classes) or "none are named"
            raise DataError(f"the label {value!r} is not among the classes ({known})")
        return classes.index(value), "class names are read as their index among the classes"
    if isinstance(value, list):
        if not all(entry in (0, 1) for entry in value) or sum(value) != 1:
            raise DataError(f"{A_LABEL}; give each image one class (got [{some(value)}])")
        if classes and len(value) != len(classes):
            raise DataError(
                f"the one-hot label has {len(value)} entries, but there are {len(classes)} classes"
            )
        return value.index(1), "one-hot labels are read as class numbers"
    try:
        number = int(value)
        if number != value:
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise DataError(f"{A_LABEL} (got {value!r}); remove images without a class") from None
    return number, ""


def _plain(label: Any) -> Any:
    """A label as a Python number, a string or a list; a list of one number as that number."""
    value = _as_list(label)
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _as_list(value: Any) -> Any:
    """Tensors, arrays and tuples as Python numbers, strings and lists."""
    if isinstance(value, Tensor | np.ndarray | np.generic):
        return value.tolist()
    return list(value) if isinstance(value, tuple) else value


def _listed(dataset: Any) -> list[Any] | None:
    """The labels of all images, if the data set lists them."""
    for name in LISTS:
        found = _as_list(getattr(dataset, name, None))
        if isinstance(found, list) and len(found) == len(dataset):
            return found
    return None


def _label_at(dataset: Any, where: str, index: int) -> Any:
    try:
        return _plain(_image_and_label(dataset[index])[1])
    except DataError as error:
        raise DataError(f"{where} image {index}: {line}" for line in error.lines) from None


def _in_words(kind: Kind, other: Kind) -> str:
    """The shape of an image; with its type where only the type differs."""
    shape, is_bytes = kind
    if shape != other[0]:
        return str(list(shape))
    return f"{'bytes' if is_bytes else 'floats'} {list(shape)}"


def _class_names(dataset: Any) -> tuple[str, ...]:
    """The `classes` of a torchvision data set, or the names in Hugging Face `features`."""
    names = getattr(dataset, "classes", None)
    features = getattr(dataset, "features", None)
    if not isinstance(names, list | tuple) and isinstance(features, Mapping):
        named = [getattr(features[key], "names", None) for key in LABEL_KEYS if key in features]
        names = named[0] if named else None
    return tuple(str(name) for name in names) if isinstance(names, list | tuple) else ()


def _names_in_labels(built: Sequence[Any], titles: Sequence[str], name: str) -> tuple[str, ...]:
    """The classes inferred from labels: their names, or one per one-hot entry."""
    first = attempt(partial(_label_at, built[0], ""), 0)
    if isinstance(first, list):
        return tuple(str(number) for number in range(len(first)))
    if not isinstance(first, str):
        return ()
    names: set[str] = set()
    for title, part in zip(titles, built, strict=True):
        where = f"data {name}: {title}"
        labels = _listed(part)
        if not labels or not isinstance(labels[0], str):  # a transform turns them into names
            label_at = partial(_label_at, part, where)
            found = [attempt(label_at, index) for index in range(len(part))]
            labels = list(settled(found, title))
        others = [index for index, label in enumerate(labels) if not isinstance(label, str)]
        if others:
            raise DataError(
                f"{where} images {some(others)} have labels that are not names, such as"
                f" {labels[others[0]]!r}, but train image 0 has {first!r}; use names for all"
            )
        names |= set(labels)
    return tuple(in_class_order(names))
