"""Before training: layers, sizes and costs of a network."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnntune.cli.command import Command, Setup, about, beside_others, set_up
from cnntune.cli.options import (
    RUNS,
    AsJson,
    Device,
    Name,
    Quiet,
    RecipeArgument,
    Runs,
    Seed,
    Sets,
)
from cnntune.errors import RecipeError
from cnntune.findings import Finding

if TYPE_CHECKING:
    from cnntune.steps.inspect import Inspection


def inspect(
    recipe: RecipeArgument = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="A model without data: vgg16."),
    ] = None,
    input_: Annotated[
        str, typer.Option("--input", metavar="CxHxW", help="With --model: shape of an image.")
    ] = "3x224x224",
    classes: Annotated[int, typer.Option(min=2, help="With --model: number of classes.")] = 1000,
    augment: Annotated[
        Path | None,
        typer.Option(
            metavar="PNG", help="Write a picture of an augmented batch, as the network receives it."
        ),
    ] = None,
    set_: Sets = None,
    device: Device = "auto",
    seed: Seed = None,
    runs: Runs = RUNS,
    study: Name = None,
    json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Layers of a network: parameters, MACs, receptive field, statistics at initialisation."""
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
    from cnntune.machine import cpus
    from cnntune.models import BUILT_IN
    from cnntune.steps import inspect as step
    from cnntune.steps.inspect.transfer_advice import transfer_finding
    from cnntune.training import build

    data = build.load_data(setup.recipe, setup.device)
    command.begin_work(about(setup, data))
    recipe = beside_others(command, setup, setup.recipe, data)  # as `train` runs it
    if setup.device_name == "cpu" and (note := cpus.slowed(cpus.load_of_others(), cpus.cores())):
        command.screen.say(note)
    found = step.inspect_recipe(recipe, data, setup.device)
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
