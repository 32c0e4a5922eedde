"""Before training: a recipe for your images."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cnntune.cli.command import Command
from cnntune.cli.options import AsJson, Device, Quiet
from cnntune.errors import RecipeError

if TYPE_CHECKING:
    from cnntune.data.survey import Survey
    from cnntune.steps.inspect.first_recipe import FirstRecipe

LONGEST_NAME = 64  # characters of a recipe's name
VAL_FRACTION, TEST_FRACTION = 0.2, 0.1
LR = 0.2  # of SGD: the best of three in benchmarks/search/first_networks.py
RECIPE = """\
# {images} images of {classes} classes in {folder}
name = {name}
seed = 0

[data]
name = "folder"
path = {path}
image_size = {size}     # every image is resized and cropped to this square
color = "{color}"       # {about_color}
{sets}

[model]              # any torchvision or timm classifier too: docs/models.md
{model}

[augment]
flip = {flip}         # {about_flip}
crop = {crop}            # shift by up to an eighth

[train]
optimizer = "{optimizer}"
lr = {lr}           # `cnntune lr-sweep` finds the learning rate
weight_decay = {weight_decay}
batch_size = {batch}
epochs = 20
schedule = "{schedule}"
warmup_epochs = {warmup_epochs}

[search]
epochs = {epochs}           # {about_time}

[space]
train.lr = {{ log = [1e-3, 1.0] }}
train.weight_decay = {{ log = [1e-6, 1e-2] }}
"""
FRACTIONS = f"""\
val_fraction = {VAL_FRACTION}  # drawn once per class; repeats over seeds share it
test_fraction = {TEST_FRACTION} # evaluated once, by `cnntune train`"""


def init(
    folder: Annotated[
        Path,
        typer.Argument(metavar="[DIR]", help="The folder of images, with one subfolder per class."),
    ] = Path(),
    device: Device = "auto",
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
    from cnntune.steps.inspect.first_recipe import propose
    from cnntune.steps.inspect.transfer_advice import PHOTOGRAPH, advise
    from cnntune.training.device import resolve

    found = survey(folder, val_fraction=VAL_FRACTION, test_fraction=TEST_FRACTION)
    first = propose(found, resolve(device))
    try:
        target.write_bytes(_text(folder, found, first).encode())
    except UnicodeEncodeError:
        raise RecipeError(f"{str(folder)!r}: a recipe cannot hold what is no Unicode") from None
    per_class = found.training / found.classes
    similar = not found.grey and found.size >= PHOTOGRAPH
    findings = [*first.findings, advise(per_class, similar=similar)]
    if not json:
        command.screen.title(
            f"{target}: {found.images} images, {found.training} of them for training,"
            f" {found.classes} classes, {first.network.size} px"
        )
        command.screen.findings(findings)
    command.screen.next("sanity")
    command.end(command.document(findings, None, recipe=str(target)))


def _text(folder: Path, found: "Survey", first: "FirstRecipe") -> str:
    """The recipe of the images in `folder`, as TOML with comments."""
    import tomli_w

    from cnntune.steps.inspect.first_recipe import EPOCHS, SETTINGS, TRIALS
    from cnntune.texts import duration

    name = re.sub(r"[^A-Za-z0-9._-]+", "-", folder.resolve().name)[:LONGEST_NAME].strip("-._")
    path, network = _toml_value(folder.as_posix()), first.network
    return RECIPE.format(
        images=found.images,
        classes=found.classes,
        folder=path[1:-1],  # in a comment, where a line must not end early either
        path=path,
        name=_toml_value(name or "images"),
        size=network.size,
        color="grey" if found.grey else "rgb",
        about_color="no image that was read has colour" if found.grey else "or grey: one channel",
        sets=_about_sets(found),
        model=tomli_w.dumps(network.model).strip(),
        flip="true" if first.flip else "false",
        about_flip=first.about_flip.evidence,
        crop=max(1, network.size // 8),
        lr=LR,
        batch=first.batch_size,
        epochs=EPOCHS,
        about_time=f"{TRIALS} trials take about {duration(network.seconds)} here",
        **SETTINGS,
    )


def _about_sets(found: "Survey") -> str:
    """How the images are split: by fractions, or already."""
    if not found.sets:
        return FRACTIONS
    _, val, *test = (folder.name for folder in found.sets)
    lines = [f"# {val}/ is the validation set"]
    if test:
        lines.append(f"# {test[0]}/ is the test set: evaluated once, by `cnntune train`")
    return "\n".join(lines)


def _toml_value(text: str) -> str:
    """The text in quotes, with whatever has to be escaped between them."""
    import tomli_w

    return tomli_w.dumps({"value": text}).partition(" = ")[2].strip()
