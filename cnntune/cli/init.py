"""Before training: a recipe for your images."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cnntune.cli.command import Command
from cnntune.cli.options import AsJson, Quiet
from cnntune.errors import RecipeError

if TYPE_CHECKING:
    from cnntune.data.survey import Survey

LONGEST_NAME = 64  # characters of a recipe's name
VAL_FRACTION, TEST_FRACTION = 0.2, 0.1
RECIPE = """\
# {images} images of {classes} classes in {folder}
name = {name}
seed = 0

[data]
name = "folder"
path = {path}
image_size = {size}     # every image is resized and cropped to this square
val_fraction = {val_fraction}  # drawn once per class; repeats over seeds share it
test_fraction = {test_fraction} # evaluated once, by `cnntune train`

[model]
name = "resnet18"   # any torchvision classifier; its stem is adapted to small images

[augment]
flip = true         # set to false where left and right matter
crop = {crop}

[train]
optimizer = "sgd"
lr = 5e-2           # `cnntune lr-sweep` finds the learning rate
weight_decay = 1e-4
batch_size = {batch}
epochs = 20
schedule = "cosine"
warmup_epochs = 0.5

[search]
epochs = 3

[space]
train.lr = {{ log = [1e-3, 3e-1] }}
train.weight_decay = {{ log = [1e-6, 1e-2] }}
"""


def init(
    folder: Annotated[
        Path,
        typer.Argument(metavar="[DIR]", help="The folder of images, with one subfolder per class."),
    ] = Path(),
    json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write a commented cnntune.toml for the images of a folder."""
    command = Command.begin("init", json=json, quiet=quiet)
    from cnntune.config.files import OWN

    target = Path(OWN)
    if target.exists():
        raise RecipeError(f"{target}: exists already; remove it, or edit it")

    from cnntune.data.survey import survey
    from cnntune.steps.inspect.transfer_advice import PHOTOGRAPH, advise

    found = survey(folder, val_fraction=VAL_FRACTION, test_fraction=TEST_FRACTION)
    try:
        target.write_bytes(_first_recipe(folder, found).encode())
    except UnicodeEncodeError:
        raise RecipeError(f"{str(folder)!r}: a recipe cannot hold what is no Unicode") from None
    per_class = found.training / found.classes
    findings = [advise(per_class, similar=found.size >= PHOTOGRAPH)]
    if not json:
        command.screen.title(
            f"{target}: {found.images} images, {found.training} of them for training,"
            f" {found.classes} classes, {found.size} px"
        )
        command.screen.findings(findings)
    command.screen.next("sanity")
    command.end(command.document(findings, None, recipe=str(target)))


def _first_recipe(folder: Path, found: "Survey") -> str:
    """The recipe of the images in `folder`, as TOML with comments."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", folder.resolve().name)[:LONGEST_NAME].strip("-._")
    path = _toml_value(folder.as_posix())
    return RECIPE.format(
        images=found.images,
        classes=found.classes,
        folder=path[1:-1],  # in a comment, where a line must not end early either
        path=path,
        name=_toml_value(name or "images"),
        size=found.size,
        val_fraction=VAL_FRACTION,
        test_fraction=TEST_FRACTION,
        crop=max(1, found.size // 8),
        batch=min(128, max(8, found.training // 20)),
    )


def _toml_value(text: str) -> str:
    """The text in quotes, with whatever has to be escaped between them."""
    import tomli_w

    return tomli_w.dumps({"value": text}).partition(" = ")[2].strip()
