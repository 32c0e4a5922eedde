"""What `[augment]` asks of the images: found before anything is trained, and what may mislead."""

import torch

from cnntune.config.recipe import Recipe
from cnntune.data.parts import Data
from cnntune.errors import RecipeError
from cnntune.findings import Finding

COLOUR_KEYS = ("brightness", "contrast", "saturation", "hue")
RGB_KEYS = ("saturation", "hue")  # grey has neither
IMAGES_SEEN = 64  # for the range of float pixels, which is their owner's choice
SLACK = 1e-3  # of full range: what normalising and back may add

SYMBOL_SETS = ("digits", "mnist")
LARGEST_TURN = 90.0  # degrees; beyond, a 6 becomes a 9


def check_augment(recipe: Recipe, data: Data) -> None:
    """Hold `[augment]`, and what a search may draw for it, against the images.

    Raises:
        RecipeError: one line for each key that these images cannot follow.
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
        if low < -SLACK or high > 1 + SLACK:
            first = next(key for key in COLOUR_KEYS if key in keys)
            problems.append(
                f"augment.{first}: must be 0: needs pixels in 0..1 (got {low:.3g} ... {high:.3g})"
            )
    if problems:
        raise RecipeError(problems)


def _may_be_on(recipe: Recipe, key: str) -> bool:
    return bool(getattr(recipe.augment, key)) or f"augment.{key}" in recipe.space


def _range(data: Data) -> tuple[float, float]:
    """The smallest and the largest pixel value of some training images."""
    some = torch.arange(min(IMAGES_SEEN, len(data.train)))
    inputs, _ = next(data.train.batches(some, len(some)))
    low, high = data.normalise.undo(inputs).aminmax()
    return float(low), float(high)


def label_findings(recipe: Recipe, data: Data) -> list[Finding]:
    """Augmentation should keep the label: mirrored or turned, digits and letters change theirs.

    A mirrored 2 is no digit, and a 6 upside down is a 9. What is a symbol: the sets of digits, and
    folders whose classes have names of one letter or digit.
    """
    folder_of_symbols = recipe.data.name == "folder" and all(
        len(name) == 1 and name.isalnum() for name in data.classes
    )
    if recipe.data.name not in SYMBOL_SETS and not folder_of_symbols:
        return []
    changing = [key for key in ("flip", "flip_vertical") if _may_be_on(recipe, key)]
    if recipe.augment.rotate > LARGEST_TURN:
        changing.append("rotate")
    return [
        Finding(
            "augmentation",
            "warn",
            f"{key} on pictures of digits or letters: labels may change",
            f"--set augment.{key}={'90' if key == 'rotate' else 'false'}, or look at the picture"
            " of an augmented batch",
            where=f"augment.{key}",
        )
        for key in changing
    ]
