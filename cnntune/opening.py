"""What is asked of a command, checked: the recipe, and where it computes.

Both need torch: the signatures of the builders tell which keys a recipe may have.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from cnntune import device as devices
from cnntune.build import load_recipe
from cnntune.recipe import Recipe


@dataclass(frozen=True)
class Opened:
    """A recipe, the name of its device, and the names of those that take its trials."""

    recipe: Recipe
    device: str
    places: tuple[str, ...]


def opened(source: str | None, overrides: Sequence[str], device: str) -> Opened:
    """Read the recipe with its overrides and find the device.

    Raises:
        RecipeError: where the recipe, an override or an argument cannot be used.
        DeviceError: where this machine lacks the device.
        UserCodeError: where own code cannot be imported.
    """
    recipe = load_recipe(source, overrides)
    place = devices.resolve(device)
    return Opened(recipe, str(place), devices.places(place))
