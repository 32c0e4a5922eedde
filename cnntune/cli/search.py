"""Step 4: a coarse search."""

from typing import Annotated

import typer

from cnntune.cli import command_search
from cnntune.cli.command import Command, record, set_up
from cnntune.cli.options import (
    RUNS,
    AsJson,
    Deterministic,
    Device,
    Epochs,
    Name,
    Pruner,
    Quiet,
    RecipeArgument,
    Runs,
    Sampler,
    Seed,
    Sets,
    Tensorboard,
    Timeout,
    Verbose,
    Workers,
    parse_count,
    search_keys,
)
from cnntune.cli.session import (
    begin_crew,
    cut_findings,
    session,
    space_line,
    train_trials,
)
from cnntune.machine.clock import Deadline
from cnntune.workers import processes


def search(
    recipe: RecipeArgument = None,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="-- COMMAND...",
            help="A command to run for each trial instead, with {key} for keys of [space] in"
            " RECIPE: -- python train.py --lr {train.lr}",
            show_default=False,
        ),
    ] = None,
    budget: Annotated[
        int,
        typer.Option(
            parser=parse_count,
            metavar="TRIALS",
            help="Total number of trials in the study, those of earlier commands included.",
        ),
    ] = 50,
    epochs: Epochs = None,
    sampler: Sampler = None,
    pruner: Pruner = None,
    timeout: Timeout = None,
    workers: Workers = "auto",
    set_: Sets = None,
    device: Device = "auto",
    seed: Seed = None,
    deterministic: Deterministic = False,
    runs: Runs = RUNS,
    study: Name = None,
    storage: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="A PostgreSQL server that several machines share:"
            " postgresql://user@host/database.",
            show_default=False,
        ),
    ] = None,
    metric: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Of a command: the column or printed word that ranks trials; NAME:max or NAME:min"
            " where the name does not say which is better. Left out: a validation accuracy, or a"
            " loss, in its files or in what it prints.",
            show_default=False,
        ),
    ] = "",
    override: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY",
            help="Of a command: set train.lr at the optimizer inside the script, which needs no"
            " option for it.",
        ),
    ] = None,
    here: Annotated[
        bool,
        typer.Option(
            "--here", help="Of a command: run it in this directory, not in one per trial."
        ),
    ] = False,
    tensorboard: Tensorboard = False,
    json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Step 4: a coarse random search. The same command resumes it, a larger budget extends it.

    Recipe keys of a study cannot be changed later: options that change them need a new study.
    """
    command = Command.begin("search", json=json, quiet=quiet, verbose=verbose)
    if tensorboard:
        command.begin_events()
    deadline = Deadline.after(timeout)
    recipe, script = command_search.typed(recipe, words or [])
    processes.prepare(torch=not script)
    # While the workers' server imports torch, which this process does not, there is time for these.
    from cnntune.steps import search as step
    from cnntune.steps.search_findings import importance_findings, refuse_failed
    from cnntune.study import importance
    from cnntune.workers.capacity import parse_workers

    if budget >= importance.MIN_TRIALS:
        importance.prepare()
    further = search_keys(epochs, sampler, pruner)
    if script:
        command_search.refuse_options(
            script, {"--deterministic": deterministic, "--storage": storage}
        )
        setup = command_search.set_up(
            recipe,
            script,
            [*(set_ or []), *further],
            device=device,
            seed=seed,
            runs=runs,
            study=study,
            metric=metric,
            override=override or [],
            here=here,
        )
    else:
        only = {"--metric": metric, "--override": override, "--here": here}
        command_search.refuse_options((), only)
        setup = set_up(
            command,
            recipe,
            set_,
            device=device,
            seed=seed,
            runs=runs,
            study=study,
            exact=deterministic,
            further=further,
            apart=True,
        )
    asked_workers = parse_workers(workers)
    with session(command, setup.study, setup.device_name, storage) as work:
        if work.server is None:
            ledger, notes = step.begin(setup.study, setup.recipe)
        else:
            ledger, notes = step.join(setup.study, setup.recipe, work.server)
        ledger = ledger.reopened()
        record(setup)
        budget, fewer = step.within_grid(ledger.recipe, budget)
        crew = begin_crew(command, setup, ledger.recipe, asked_workers, ledger, [ledger])
        command.begin_work(f"searching {space_line(ledger.recipe)}")
        ineffective = step.without_effect(ledger.recipe.space, set_ or [])
        work.note([*setup.space_warnings, *ineffective, *notes, *fewer])
        train_trials(command, setup, ledger, budget=budget, workers=crew, deadline=deadline)
        refuse_failed(ledger.trials())
        result = step.result(ledger, ledger.recipe)
        findings = [
            *cut_findings(result.trials, budget, deadline),
            *command_search.metric_findings(result.trials),
            *result.findings,
            *importance_findings(result.trials, result.importance),
        ]
        document = work.finish("search", findings, setup.study, **result.as_json())
    if not json:
        command.screen.result(setup.study.path, result.trials)
        command.screen.importance(result.importance)
        command.screen.findings([*work.notes, *findings])
    if result.best and document["ok"]:
        command.screen.next("refine", str(setup.study.path))
    elif result.best:
        command.screen.next("sanity", *setup.again)
    command.end(document)
