"""Classes of image files by a trained network: `cnntune predict best.pt IMAGES...`."""

import os
import pickle
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageOps
from torch import Tensor, nn

from cnntune.config.recipe import Recipe, parse
from cnntune.data.folder import EXTENSIONS, pixels_of, read_image
from cnntune.data.parts import Normalise
from cnntune.errors import DataError, StudyError
from cnntune.findings import Finding
from cnntune.machine.cpus import cores
from cnntune.training.build import build_network
from cnntune.training.evaluate import averaged, images_per_batch
from cnntune.training.precision import autocast
from cnntune.training.tta import View, views

TOP = 5  # classes per image
NEEDED = {"weights", "mean", "std", "classes", "in_shape", "recipe"}  # keys of best.pt


@dataclass(frozen=True)
class Predictor:
    """A trained network on a device, in eval mode, and what it was given in training.

    Images are resized to `in_shape` (C, H, W), the shorter side first, and cropped at the centre.
    """

    model: nn.Module
    recipe: Recipe
    classes: tuple[str, ...]
    in_shape: tuple[int, int, int]
    normalise: Normalise
    shown: Sequence[View]

    @torch.no_grad()
    def probabilities(self, pixels: Tensor) -> Tensor:
        """Float32 `[N, classes]` on the CPU, of uint8 `[N, C, H, W]`; views as in `[test]`."""
        inputs = self.normalise(pixels.to(self.normalise.mean.device))
        with autocast(self.recipe.train.precision, inputs.device):
            logits = averaged(self.model, inputs, self.shown)
        return logits.softmax(1).cpu()


@dataclass(frozen=True)
class Predicted:
    """One image file; `top` holds up to five classes with their probabilities, highest first."""

    path: str
    top: tuple[tuple[str, float], ...]

    @property
    def label(self) -> str:
        """The class with the highest probability."""
        return self.top[0][0]

    @property
    def probability(self) -> float:
        """The probability of that class, 0..1."""
        return self.top[0][1]

    def as_json(self) -> dict[str, Any]:
        """An entry of `predictions`."""
        return {
            "path": self.path,
            "label": self.label,
            "probability": self.probability,
            "probabilities": dict(self.top),
        }


@dataclass(frozen=True)
class Skipped:
    """A file that could not be read as an image."""

    path: str
    reason: str


def load(path: Path, device: torch.device) -> Predictor:
    """The network of a `best.pt`, with the preprocessing of its training.

    Raises:
        StudyError: where the file is missing, damaged, or holds no network of `cnntune train`.
        UserCodeError: where user model code cannot be imported, or raises.
    """
    held = _read(path)
    recipe = parse(held["recipe"], file=str(path))
    channels, height, width = held["in_shape"]
    model = build_network(recipe, len(held["classes"]), (channels, height, width))
    try:
        model.load_state_dict(held["weights"])
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        raise StudyError(
            f"{path}: these are no weights of {recipe.model.name} ({reason}); has its code changed?"
        ) from None
    shape = (1, channels, 1, 1)
    normalise = Normalise(held["mean"].view(shape).to(device), held["std"].view(shape).to(device))
    return Predictor(
        model.eval().to(device),
        recipe,
        tuple(held["classes"]),
        (channels, height, width),
        normalise,
        views(recipe.test, normalise.black),
    )


def _read(path: Path) -> dict[str, Any]:
    if path.is_dir() or not path.exists():
        inside = next(iter(sorted(path.rglob("best.pt"))), None) if path.is_dir() else None
        fix = f"; did you mean {inside}?" if inside else ""
        kind = "is a folder" if path.is_dir() else "no such file"
        raise StudyError(f"{path}: {kind}{fix}; allowed: a best.pt that `cnntune train` wrote")
    try:
        held = torch.load(path, weights_only=True, map_location="cpu")
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise StudyError(f"{path}: cannot be read as a best.pt ({reason})") from None
    if not isinstance(held, dict) or not held.keys() >= NEEDED:
        raise StudyError(
            f"{path}: has no recipe and no preprocessing; allowed: a best.pt that `cnntune train`"
            " wrote, version 0.2 or later"
        )
    return held


def image_files(paths: Iterable[Path]) -> list[Path]:
    """Files as they are, and the images in and below folders, sorted.

    Raises:
        DataError: one line per path that does not exist, and per folder without images.
    """
    found: list[Path] = []
    problems = []
    for path in paths:
        if path.is_dir():
            inside = sorted(
                file
                for file in path.rglob("*")
                if file.suffix.lower() in EXTENSIONS and not file.name.startswith(".")
            )
            found += inside
            if not inside:
                problems.append(f"{path}: holds no images (allowed: {' '.join(EXTENSIONS)})")
        elif path.exists():
            found.append(path)
        else:
            problems.append(f"{path}: no such file")
    if problems:
        raise DataError(problems)
    return found


def predict_files(predictor: Predictor, files: Sequence[Path]) -> Iterator[Predicted | Skipped]:
    """The classes of image files, in their order; only a batch of them is in memory."""
    size = images_per_batch(predictor.in_shape[1:])
    with ThreadPoolExecutor(cores()) as pool:
        for group in (files[start : start + size] for start in range(0, len(files), size)):
            read = list(pool.map(lambda file: _pixels(file, predictor.in_shape), group))
            images = [pixels for pixels in read if isinstance(pixels, Tensor)]
            rows = iter(predictor.probabilities(torch.stack(images)) if images else ())
            for file, pixels in zip(group, read, strict=True):
                if isinstance(pixels, Tensor):
                    yield Predicted(os.fspath(file), _top(next(rows), predictor.classes))
                else:
                    yield Skipped(os.fspath(file), pixels)


def _pixels(file: Path, in_shape: tuple[int, int, int]) -> Tensor | str:
    """Uint8 `[C, H, W]`, or why the file cannot be read."""
    channels, height, width = in_shape
    try:
        image = read_image(file, color="grey" if channels == 1 else "rgb")
    except DataError as error:
        return error.lines[0].removeprefix(f"{file}: ")
    return pixels_of(ImageOps.fit(image, (width, height), method=Image.Resampling.BILINEAR))


def _top(probabilities: Tensor, classes: Sequence[str]) -> tuple[tuple[str, float], ...]:
    shares, places = probabilities.topk(min(TOP, len(classes)))
    pairs = zip(places.tolist(), shares.tolist(), strict=True)
    return tuple((classes[place], share) for place, share in pairs)


def preprocessing_findings(recipe: Recipe, in_shape: tuple[int, int, int]) -> list[Finding]:
    """A warning where user code made the training images: its steps are not in best.pt.

    Raises:
        DataError: where the network takes neither grey nor RGB images.
    """
    channels, height, width = in_shape
    if channels not in (1, 3):
        raise DataError(
            f"the network takes images of {channels} channels; allowed for image files: 1 or 3"
        )
    if ":" not in recipe.data.name:
        return []
    return [
        Finding(
            "preprocessing",
            "warn",
            f"the training images were made by {recipe.data.name}; here, files are only resized to"
            f" {width}x{height} and scaled to 0..1",
            "if your code does more than that, classify images in Python",
        )
    ]
