"""Check `[augment]` against the images before anything is trained."""

import torch

from cnntune.config.recipe import Recipe
from cnntune.config.space import Range
from cnntune.data.parts import Data
from cnntune.errors import RecipeError
from cnntune.findings import Finding

COLOUR_KEYS = ("brightness", "contrast", "saturation", "hue")
RGB_KEYS = ("saturation", "hue")  # grey images have neither
SAMPLE_SIZE = 64  # images, for the range of float pixels, which is not fixed
TOLERANCE = 1e-3  # of the full range: rounding when normalisation is undone

SYMBOL_SETS = ("digits", "mnist")
MAX_ROTATION = 90.0  # degrees; beyond, a 6 becomes a 9


def check_augment(recipe: Recipe, data: Data) -> None:
    """Check that the images allow `[augment]`, and every value that a search may draw for it.

    Raises:
        RecipeError: one line per key that cannot be used with these images.
    """
    keys = {key for key in type(recipe.augment).model_fields if _may_be_on(recipe, key)}
    channels = data.in_shape[0]
    problems = [
        f"augment.{key}: must be 0: needs images with 3 channels, red, green and blue"
        f" (got {channels})"
        for key in RGB_KEYS
        if key in keys and channels != 3
    ]
    if keys & set(COLOUR_KEYS) and not problems:
        low, high = _range(data)
        if low < -TOLERANCE or high > 1 + TOLERANCE:
            first = next(key for key in COLOUR_KEYS if key in keys)
            problems.append(
                f"augment.{first}: must be 0: needs pixels in 0..1 (got {low:.3g} ... {high:.3g})"
            )
    side = min(data.in_shape[1:])
    if (crop := _largest_crop(recipe)) >= side:
        problems.append(
            f"augment.crop: must be < {side}, the side of the images: other crops may hold nothing"
            f" but padding (got {crop:g})"
        )
    if problems:
        raise RecipeError(problems)


def _largest_crop(recipe: Recipe) -> float:
    """The padding of the recipe, or the largest that a search may draw, in pixels."""
    dimension = recipe.space.get("augment.crop")
    if isinstance(dimension, Range):
        return dimension.high
    options = dimension.options if dimension is not None else ()
    return max(recipe.augment.crop, *(float(option) for option in options), 0.0)


def _may_be_on(recipe: Recipe, key: str) -> bool:
    return bool(getattr(recipe.augment, key)) or f"augment.{key}" in recipe.space


def _range(data: Data) -> tuple[float, float]:
    """The smallest and the largest pixel value of some training images."""
    some = torch.arange(min(SAMPLE_SIZE, len(data.train)))
    inputs, _ = next(data.train.batches(some, len(some)))
    low, high = data.normalise.undo(inputs).aminmax()
    return float(low), float(high)


def label_findings(recipe: Recipe, data: Data) -> list[Finding]:
    """Augmentation should keep the label: flipping or rotating digits and letters changes it.

    A mirrored 2 is not a digit, and a 6 upside down is a 9. Symbols are the built-in sets of
    digits, and folders whose class names are single letters or digits.
    """
    folder_of_symbols = recipe.data.name == "folder" and all(
        len(name) == 1 and name.isalnum() for name in data.classes
    )
    if recipe.data.name not in SYMBOL_SETS and not folder_of_symbols:
        return []
    changing = [key for key in ("flip", "flip_vertical") if _may_be_on(recipe, key)]
    if recipe.augment.rotate > MAX_ROTATION:
        changing.append("rotate")
    return [
        Finding(
            "augmentation",
            "warn",
            f"{key} on images of digits or letters may change their labels",
            f"--set augment.{key}={'90' if key == 'rotate' else 'false'}, or check the picture"
            " of an augmented batch",
            where=f"augment.{key}",
        )
        for key in changing
    ]
