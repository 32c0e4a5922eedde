"""Before training: a recipe for one's own images, and what a network is made of."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnntune.cli.command import (
    RUNS,
    AsJson,
    Command,
    Device,
    Name,
    Quiet,
    RecipeArgument,
    Runs,
    Seed,
    Sets,
    Setup,
    about,
    set_up,
)
from cnntune.errors import RecipeError
from cnntune.findings import Finding

if TYPE_CHECKING:
    from cnntune.data.survey import Survey
    from cnntune.steps.inspect import Inspection


def inspect(
    recipe: RecipeArgument = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="A model by itself, without data: vgg16."),
    ] = None,
    input_: Annotated[
        str, typer.Option("--input", metavar="CxHxW", help="With --model: the size of an image.")
    ] = "3x224x224",
    classes: Annotated[int, typer.Option(min=2, help="With --model: the classes.")] = 1000,
    augment: Annotated[
        Path | None,
        typer.Option(metavar="PNG", help="Write a batch as the network sees it, augmented."),
    ] = None,
    set_: Sets = None,
    device: Device = "auto",
    seed: Seed = None,
    runs: Runs = RUNS,
    study: Name = None,
    json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """A network's layers, parameters, multiply-adds, receptive field, and how it starts."""
    command = Command.begin("inspect", json=json, quiet=quiet)
    if model is not None:
        if recipe is not None or augment is not None:
            raise RecipeError("--model: takes no RECIPE and no --augment: it has no data")
        found, findings, again = _model_alone(model, _shape(input_), classes, set_, device)
    else:
        setup = set_up(command, recipe, set_, device=device, seed=seed, runs=runs, study=study)
        found, findings = _with_data(command, setup, augment)
        again = ("sanity", *setup.again)
    document = command.document(findings, None, **found.as_json())
    if not json:
        command.screen.layers(found)
        command.screen.findings(findings)
    if again:
        command.screen.next(*again)
    command.end(document)


def _with_data(
    command: Command, setup: Setup, picture: Path | None
) -> "tuple[Inspection, list[Finding]]":
    from cnntune.data.augment.check import label_findings
    from cnntune.data.augment.preview import save_picture
    from cnntune.models import BUILT_IN
    from cnntune.steps import inspect as step
    from cnntune.steps.inspect.transfer_advice import transfer_finding
    from cnntune.training import build

    data = build.load_data(setup.recipe, setup.device)
    command.begin_work(about(setup, data))
    found = step.inspect_recipe(setup.recipe, data, setup.device)
    findings = [*found.findings, *label_findings(setup.recipe, data)]
    name = setup.recipe.model.name
    if name not in BUILT_IN and ":" not in name:  # torchvision's have learned weights
        findings.append(transfer_finding(data))
    if picture is not None:
        save_picture(setup.recipe, data, picture)
        command.screen.say(f"{picture}: a batch before and after augmentation")
    return found, findings


def _model_alone(
    name: str,
    in_shape: tuple[int, int, int],
    classes: int,
    sets: Sequence[str] | None,
    device: str,
) -> "tuple[Inspection, list[Finding], tuple[str, ...]]":
    from cnntune.config import files
    from cnntune.config import recipe as recipes
    from cnntune.steps import inspect
    from cnntune.training import device as devices
    from cnntune.training import open_recipe

    values: dict[str, Any] = {"model": {"name": name}}
    for text in sets or ():
        recipes.set_key(values, *files.parse_override(text))
    recipe = recipes.parse(values, file="--model", check_arguments=open_recipe.argument_problems)
    found = inspect.inspect_model(recipe, in_shape, classes, devices.resolve(device))
    return found, found.findings, ()


def _shape(text: str) -> tuple[int, int, int]:
    match = re.fullmatch(r"([1-9]\d{0,3})x([1-9]\d{0,3})x([1-9]\d{0,3})", text)
    if match is None:
        raise RecipeError(f"--input: must be channels x height x width: 3x224x224 (got {text!r})")
    return int(match[1]), int(match[2]), int(match[3])


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
val_fraction = {val_fraction}  # drawn once, class by class; repeats over seeds share it
test_fraction = {test_fraction} # looked at once, by `cnntune train`

[model]
name = "resnet18"   # any torchvision classifier; its stem is adapted to small images

[augment]
flip = true         # turn it off where left and right mean something
crop = {crop}

[train]
optimizer = "sgd"
lr = 5e-2           # `cnntune lr-sweep` finds the rate
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


def init(
    folder: Annotated[
        Path, typer.Argument(metavar="[DIR]", help="Where the images are: one folder a class.")
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
