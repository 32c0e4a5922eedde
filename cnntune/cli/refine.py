"""Step 5: refine around the best trials."""

from pathlib import Path
from typing import Annotated

import typer

from cnntune.cli import command_search
from cnntune.cli.command import Command, Setup, find_study, record
from cnntune.cli.options import (
    RUNS,
    AsJson,
    Device,
    Epochs,
    Quiet,
    Runs,
    Sampler,
    Seed,
    Sets,
    StudyArgument,
    Timeout,
    Verbose,
    Workers,
    parse_count,
    search_keys,
)
from cnntune.cli.session import begin_crew, cut_findings, repeat_best, session, train_trials
from cnntune.machine.clock import Deadline
from cnntune.texts import counted
from cnntune.workers import processes


def refine(
    study: StudyArgument = None,
    budget: Annotated[
        int,
        typer.Option(
            parser=parse_count,
            metavar="TRIALS",
            help="Number of trials in this refinement; repeats with fresh seeds are not counted.",
        ),
    ] = 8,
    epochs: Epochs = None,
    seeds: Annotated[
        int, typer.Option(min=0, help="Fresh seeds for each of the best three trials.")
    ] = 3,
    sampler: Sampler = None,
    timeout: Timeout = None,
    workers: Workers = "auto",
    set_: Sets = None,
    device: Device = "auto",
    seed: Seed = None,
    runs: Runs = RUNS,
    json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Step 5: narrow the space around the best, train longer, repeat the best over seeds.

    There is no --pruner, since the few trials lie near the best, nor --deterministic, since the
    precision of a study is decided by its search. A study that was searched with --storage is
    refined on one machine. --set changes no data: accuracies of all rounds are compared.
    """
    command = Command.begin("refine", json=json, quiet=quiet, verbose=verbose)
    deadline = Deadline.after(timeout)
    found = find_study(study, runs)
    script = command_search.is_command(found)
    processes.prepare(torch=not script)

    from cnntune.config.space import hull
    from cnntune.steps import refine as step
    from cnntune.steps import repeats, search, winner
    from cnntune.steps.optimism import optimism_findings
    from cnntune.steps.search_findings import refuse_failed
    from cnntune.study.ledger import Ledger
    from cnntune.training import device as devices
    from cnntune.user_code import imports
    from cnntune.workers.capacity import parse_workers

    if script:
        resolved, devices_ = command_search.devices_of(device)
    else:
        there = devices.resolve(device)
        resolved, devices_ = str(there), devices.trial_devices(there)
    asked_workers = parse_workers(workers)
    asked = [*(set_ or []), *search_keys(None, sampler, None)]
    asked += [f"seed={seed}"] if seed is not None else []
    with session(command, found, resolved) as work:
        code = Path((found.read("study") or {}).get("code", "."))
        imports.add_code_folders(code)
        refinement = step.begin(found, epochs, budget, asked)
        recipe, ledger = refinement.recipe, refinement.ledger
        budget, fewer = search.within_grid(recipe, budget)
        known = refinement.changes  # with those of an earlier call
        notes = [*known, *(note for note in fewer if note not in known)]
        step.write_plan(refinement.study, budget, notes)
        setup = Setup(recipe, resolved, devices_, refinement.study, code)
        ledgers = winner.ledgers(found)
        crew = begin_crew(command, setup, recipe, asked_workers, Ledger.open(found), ledgers)
        record(setup)
        command.screen.say(
            f"refining around the best {counted(len(refinement.strong), 'trial')} of {found.path}:"
            f" {counted(budget, 'trial')} of {command_search.length_of(recipe)}, then"
            f" the best {winner.CANDIDATES} {repeats.how_often(recipe, seeds)}"
        )
        ineffective = search.without_effect(recipe.space, set_ or [])
        work.note([*notes, *ineffective, *repeats.notes(recipe, seeds)])
        train_trials(
            command,
            setup,
            ledger,
            budget=budget,
            workers=crew,
            given=refinement.given,
            seed=refinement.seed,
            deadline=deadline,
        )
        refuse_failed(ledger.trials())
        searched = hull([one.recipe.space for one in ledgers])
        whole_space = recipe.model_copy(update={"space": searched})
        result = search.result(ledger, whole_space)
        rivals = winner.best_rivals(winner.pool(winner.ledgers(found)))
        repeat_best(command, setup, rivals, seeds=seeds, workers=crew, deadline=deadline)
        candidates = winner.candidates(rivals, seeds=seeds)
        val_images = winner.val_images(rivals)
        findings = [
            *cut_findings(result.trials, budget, deadline),
            *command_search.metric_findings(result.trials),
            *result.findings,
            *repeats.findings(
                recipe, candidates, winner.findings(candidates, val_images=val_images)
            ),
            *optimism_findings(
                [rival.trial for rival in winner.pool(winner.ledgers(found))],
                candidates,
                val_images,
            ),
        ]
        cut = deadline.passed and (
            any(trial.status == "running" for trial in result.trials)
            or len(result.trials) < budget
            or any(candidate.missing for candidate in candidates)
        )
        document = work.finish(
            None if cut else "refine",
            findings,
            setup.study,
            **result.as_json(),
            candidates=[candidate.as_json() for candidate in candidates],
            tie=[c.number for c in winner.tied(candidates, val_images=val_images)],
        )
    if not json:
        command.screen.result(setup.study.path, result.trials)
        command.screen.candidates(candidates)
        command.screen.findings([*work.notes, *findings])
    command.screen.next("diagnose", str(found.path))
    if chosen := winner.winner(candidates, val_images=val_images):
        command_search.say_next(command, chosen)
    command.end(document)
