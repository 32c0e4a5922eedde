"""Step 3: which learning rate lowers the loss?"""

from typing import Annotated, NoReturn

import typer

from cnntune.cli import script
from cnntune.cli.command import Command, Setup, about, set_up, store
from cnntune.cli.options import (
    RUNS,
    AsJson,
    Deterministic,
    Device,
    Name,
    Quiet,
    RecipeArgument,
    Runs,
    Seed,
    Sets,
    parse_seconds,
)
from cnntune.errors import RecipeError


def lr_sweep(
    recipe: RecipeArgument = None,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="-- COMMAND...",
            help="A training script whose loop is run instead: -- python train.py",
            show_default=False,
        ),
    ] = None,
    set_: Sets = None,
    device: Device = "auto",
    seed: Seed = None,
    deterministic: Deterministic = False,
    runs: Runs = RUNS,
    study: Name = None,
    timeout: Annotated[
        float | None,
        typer.Option(
            parser=parse_seconds,
            metavar="TIME",
            help="Of a command: end a learning rate after this time, such as 90s or 30m; 5m.",
            show_default=False,
        ),
    ] = None,
    json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Step 3: the learning rate that lowers the loss within 100 iterations."""
    command = Command.begin("lr-sweep", json=json, quiet=quiet)
    typed = script.words_typed([text for text in (recipe, *(words or ())) if text is not None])
    if typed is not None:
        if set_ or seed is not None or study or device != "auto" or deterministic:
            raise RecipeError(
                "--set, --seed, --study, --device, --deterministic: are for recipes, not commands"
            )
        script.lr_sweep(command, typed, timeout=timeout, quiet=quiet)
    script.refuse_script("lr-sweep", recipe)
    if words:
        raise RecipeError(f"{words[0]}: a command is typed after --")
    if timeout is not None:
        raise RecipeError("--timeout: is for a command, typed after --")
    setup = set_up(
        command,
        recipe,
        set_,
        device=device,
        seed=seed,
        runs=runs,
        study=study,
        exact=deterministic,
    )
    _of_recipe(command, setup)


def _of_recipe(command: Command, setup: Setup) -> NoReturn:
    """The sweep in the loop of cnntune, which is kept in the study."""
    from cnntune.steps import checks
    from cnntune.steps import lr_sweep as step
    from cnntune.training import build

    data = build.load_data(setup.recipe, setup.device)
    command.begin_work(about(setup, data))
    curves = []
    for news in checks.swept_rates(setup.recipe, data, setup.device):
        if isinstance(news, str):
            command.screen.say(news)
        else:
            curves.append(news)
    result = step.judge(curves)
    document = command.document(result.findings, setup.study, **result.as_json())
    store(setup, "lr-sweep", document | {"recipe": setup.recipe.as_values()})
    if not command.json:
        iterations = max(curve.iterations for curve in result.curves)
        name = setup.recipe.name
        command.screen.title(f"learning rates of {name}, {iterations} iterations each")
        command.screen.sweep(result.as_json()["curves"], result.lr)
        command.screen.findings(result.findings)
    if document["ok"]:
        command.screen.next("search", *setup.again, "--budget", "50")
    command.end(document)
