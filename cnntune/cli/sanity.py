"""Steps 1 and 2: is the set-up sound?"""

from typing import Annotated, NoReturn

import typer

from cnntune.cli import script
from cnntune.cli.command import Command, Setup, about, beside_others, set_up, store
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
    parse_seconds,
)
from cnntune.config.problems import unknown
from cnntune.errors import RecipeError


def sanity(
    recipe: RecipeArgument = None,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="-- COMMAND...",
            help="A training script to observe instead: -- python train.py --epochs 1",
            show_default=False,
        ),
    ] = None,
    explain: Annotated[
        str | None,
        typer.Option(metavar="RULE", help="Explain a rule.", show_default=False),
    ] = None,
    set_: Sets = None,
    device: Device = "auto",
    seed: Seed = None,
    runs: Runs = RUNS,
    study: Name = None,
    steps: Annotated[
        int, typer.Option(help="Of a command: steps of each optimizer to observe, at least 1.")
    ] = script.STEPS,
    timeout: Annotated[
        float | None,
        typer.Option(
            parser=parse_seconds,
            metavar="TIME",
            help="Of a command: stop it after this time, such as 90s or 30m; 5m unless --full.",
            show_default=False,
        ),
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Of a command: observe it to its own end; it may save.")
    ] = False,
    json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Steps 1 and 2: initial loss log C, overfitting of a tiny sample, and further checks."""
    command = Command.begin("sanity", json=json, quiet=quiet)
    typed = script.words_typed([text for text in (recipe, *(words or ())) if text is not None])
    if steps < 1:
        raise RecipeError(f"--steps: must be at least 1 (got {steps}): nothing else is observed")
    if typed is not None:
        if set_ or seed is not None or study or device != "auto":
            raise RecipeError("--set, --seed, --study, --device: are for recipes, not for commands")
        script.sanity(command, typed, steps=steps, timeout=timeout, full=full, quiet=quiet)
    script.refuse_script("sanity", recipe)
    if words:
        raise RecipeError(f"{words[0]}: a command is typed after --")
    if explain is not None:
        _explain(command, explain)
    setup = set_up(command, recipe, set_, device=device, seed=seed, runs=runs, study=study)
    _of_recipe(command, setup)


def _explain(command: Command, rule: str) -> NoReturn:
    """The lesson of a rule, of recipes or of scripts.

    Raises:
        RecipeError: where no rule has that name.
    """
    from cnntune.script import rules
    from cnntune.steps import sanity as step

    known = list(dict.fromkeys((*step.RULES, *rules.RULES)))
    if rule not in known:
        raise RecipeError(f"--explain: {unknown(rule, known, 'rule')}")
    of_a_loop = rule in rules.RULES and rule not in step.RULES
    lesson = rules.explain(rule) if of_a_loop else step.explain(rule)
    if not command.json:
        command.screen.lesson(lesson)
    command.end(command.document([], None, rule=rule, lesson=lesson))


def _of_recipe(command: Command, setup: Setup) -> NoReturn:
    """The checks of a recipe, which are kept in the study."""
    from cnntune.steps import sanity as step
    from cnntune.training import build, precision

    data = build.load_data(setup.recipe, setup.device, checked=False)
    command.begin_work(about(setup, data))
    precision.apply(beside_others(command, setup, setup.recipe, data))
    with command.screen.err.status("checking"):
        findings = list(step.check(setup.recipe, data, setup.device))
    document = command.document(findings, setup.study)
    store(setup, "sanity", document)
    if not command.json:
        command.screen.title(f"sanity of {setup.recipe.name}")
        command.screen.findings(findings)
    if document["ok"]:
        command.screen.next("lr-sweep", *setup.again)
    command.end(document)
