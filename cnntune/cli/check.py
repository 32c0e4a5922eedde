"""Steps 1 to 3: is the set-up sound, and which learning rate lowers the loss?"""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnntune.cli.command import (
    RUNS,
    AsJson,
    Command,
    Device,
    Exact,
    Name,
    Quiet,
    RecipeArgument,
    Runs,
    Seed,
    Sets,
    Setup,
    about,
    set_up,
    store,
)

if TYPE_CHECKING:
    from cnntune.data import Data
    from cnntune.lr_sweep import Sweep


def sanity(
    recipe: RecipeArgument = None,
    explain: Annotated[
        str | None,
        typer.Option(metavar="RULE", help="Print the lesson behind a rule.", show_default=False),
    ] = None,
    set_: Sets = None,
    device: Device = "auto",
    seed: Seed = None,
    runs: Runs = RUNS,
    study: Name = None,
    json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Steps 1 and 2: is the initial loss log C, can a tiny sample be overfitted? And what else."""
    command = Command.begin("sanity", json=json, quiet=quiet)

    from cnntune import arithmetic, build
    from cnntune import sanity as step

    if explain is not None:
        lesson = step.explain(explain)
        if not json:
            command.screen.text(lesson)
        command.end(command.document([], None, rule=explain, lesson=lesson))
    setup = set_up(recipe, set_, device=device, seed=seed, runs=runs, study=study)
    data = build.load_data(setup.recipe, setup.device, checked=False)
    arithmetic.use(arithmetic.with_threads(setup.recipe, data))
    command.screen.say(about(setup, data))
    with command.screen.err.status("checking"):
        findings = list(step.check(setup.recipe, data, setup.device))
    document = command.document(findings, setup.study)
    store(setup, "sanity", document)
    if not json:
        command.screen.title(f"sanity of {setup.recipe.name}")
        command.screen.findings(findings)
    if document["ok"]:
        command.screen.next("lr-sweep", *setup.again)
    command.end(document)


def lr_sweep(
    recipe: RecipeArgument = None,
    set_: Sets = None,
    device: Device = "auto",
    seed: Seed = None,
    deterministic: Exact = False,
    runs: Runs = RUNS,
    study: Name = None,
    json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Step 3: the learning rate that lowers the loss within 100 iterations."""
    command = Command.begin("lr-sweep", json=json, quiet=quiet)
    setup = set_up(
        recipe, set_, device=device, seed=seed, runs=runs, study=study, exact=deterministic
    )

    from cnntune import build

    data = build.load_data(setup.recipe, setup.device)
    command.screen.say(about(setup, data))
    result, document = sweep(command, setup, data)
    if not json:
        iterations = max(curve.iterations for curve in result.curves)
        name = setup.recipe.name
        command.screen.title(f"learning rates of {name}, {iterations} iterations each")
        command.screen.sweep(result.as_json()["curves"], result.lr)
        command.screen.findings(result.findings)
    if document["ok"]:
        command.screen.next("search", *setup.again, "--budget", "50")
    command.end(document)


def sweep(command: Command, setup: Setup, data: "Data") -> "tuple[Sweep, dict[str, Any]]":
    """Sweep the learning rates and keep the result with the study."""
    from cnntune import arithmetic
    from cnntune import lr_sweep as step

    processes = arithmetic.processes(setup.device, data)
    recipe = setup.recipe.with_values({"train.threads": 1}) if processes > 1 else setup.recipe
    recipe = arithmetic.settle(recipe, data, setup.device)
    arithmetic.use(recipe)
    command.screen.say(f"computing in {recipe.arithmetic()}, {processes} rates at a time")
    curves = []
    for curve in step.sweep(recipe, data, setup.device, processes=processes):
        curves.append(curve)
        again = f", seed {curve.repeat + 1}" if curve.repeat else ""
        change = f"loss {curve.first:.3f} -> {curve.last:.3g} in {curve.iterations} iterations"
        command.screen.say(f"rate {curve.lr:.2g}{again}: {change}")
    result = step.judge(curves)
    document = command.document(result.findings, setup.study, **result.as_json())
    store(setup, "lr-sweep", document | {"recipe": setup.recipe.as_values()})
    return result, document
