"""What is asked of a command, checked: the recipe, and where it computes.

Both need torch: the signatures of the builders tell which keys a recipe may have.
"""

from collections.abc import Sequence

from cnntune.config.recipe import Recipe, space_findings
from cnntune.data import Data
from cnntune.findings import Finding
from cnntune.training.build import argument_types, load_recipe
from cnntune.training.device import places, resolve


def opened(
    source: str | None, overrides: Sequence[str], device: str
) -> tuple[Recipe, str, tuple[str, ...], list[Finding]]:
    """The recipe with its overrides, the name of its device, and of those that take its trials.

    The last are warnings about its space, for those who search it.

    Whoever has this from another process must not need torch to read it.

    Raises:
        RecipeError: where the recipe, an override or an argument cannot be used.
        DeviceError: where this machine lacks the device.
        UserCodeError: where own code cannot be imported.
    """
    recipe = load_recipe(source, overrides)
    place = resolve(device)
    remarks = space_findings(recipe, argument_types(recipe.as_values()))
    return recipe, str(place), places(place), remarks


def described(recipe: Recipe, place: str, data: Data) -> str:
    """The images and the network, in a line, after what was done to read samples of own code."""
    test = f", {len(data.test)} test" if data.test is not None else ""
    shape = "x".join(str(size) for size in data.in_shape)
    line = (
        f"{recipe.name}: {len(data.train)} training images, {len(data.val)} validation{test},"
        f" {shape}, {len(data.classes)} classes; model {recipe.model.name} on {place}"
    )
    return "\n".join([*data.remarks, line])
