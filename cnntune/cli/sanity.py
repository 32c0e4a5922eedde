"""Steps 1 and 2: is the set-up sound?"""

from typing import Annotated

import typer

from cnntune.cli.command import Command, about, beside_others, set_up, store
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


def sanity(
    recipe: RecipeArgument = None,
    explain: Annotated[
        str | None,
        typer.Option(metavar="RULE", help="Explain a rule.", show_default=False),
    ] = None,
    set_: Sets = None,
    device: Device = "auto",
    seed: Seed = None,
    runs: Runs = RUNS,
    study: Name = None,
    json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Steps 1 and 2: initial loss log C, overfitting of a tiny sample, and further checks."""
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
