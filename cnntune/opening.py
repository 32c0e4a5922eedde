"""What is asked of a command, checked: the recipe, and where it computes.

Both need torch: the signatures of the builders tell which keys a recipe may have.
"""

from collections.abc import Sequence

from cnntune.build import load_recipe
from cnntune.data import Data
from cnntune.device import places, resolve
from cnntune.recipe import Recipe


def opened(
    source: str | None, overrides: Sequence[str], device: str
) -> tuple[Recipe, str, tuple[str, ...]]:
    """The recipe with its overrides, the name of its device, and of those that take its trials.

    Whoever has this from another process must not need torch to read it.

    Raises:
        RecipeError: where the recipe, an override or an argument cannot be used.
        DeviceError: where this machine lacks the device.
        UserCodeError: where own code cannot be imported.
    """
    recipe = load_recipe(source, overrides)
    place = resolve(device)
    return recipe, str(place), places(place)


def described(recipe: Recipe, place: str, data: Data) -> str:
    """The images and the network, in a line."""
    test = f", {len(data.test)} test" if data.test is not None else ""
    shape = "x".join(str(size) for size in data.in_shape)
    return (
        f"{recipe.name}: {len(data.train)} training images, {len(data.val)} validation{test},"
        f" {shape}, {len(data.classes)} classes; model {recipe.model.name} on {place}"
    )
