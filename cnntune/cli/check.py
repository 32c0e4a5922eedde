"""Steps 1 to 3: is the set-up sound, and which learning rate lowers the loss?"""

from typing import Annotated

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
    about,
    beside_others,
    set_up,
    store,
)


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

    from cnntune.steps import sanity as step
    from cnntune.training import build, precision

    if explain is not None:
        lesson = step.explain(explain)
        if not json:
            command.screen.lesson(lesson)
        command.end(command.document([], None, rule=explain, lesson=lesson))
    setup = set_up(command, recipe, set_, device=device, seed=seed, runs=runs, study=study)
    data = build.load_data(setup.recipe, setup.device, checked=False)
    command.begin_work(about(setup, data))
    precision.apply(beside_others(command, setup, setup.recipe, data))
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
        command,
        recipe,
        set_,
        device=device,
        seed=seed,
        runs=runs,
        study=study,
        exact=deterministic,
    )

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
    if not json:
        iterations = max(curve.iterations for curve in result.curves)
        name = setup.recipe.name
        command.screen.title(f"learning rates of {name}, {iterations} iterations each")
        command.screen.sweep(result.as_json()["curves"], result.lr)
        command.screen.findings(result.findings)
    if document["ok"]:
        command.screen.next("search", *setup.again, "--budget", "50")
    command.end(document)
