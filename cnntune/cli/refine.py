"""Step 5: refine around the best trials."""

from pathlib import Path
from typing import Annotated

import typer

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
from cnntune.cli.session import cut_findings, decide, repeat_best, session, train_trials
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
    processes.prepare()
    found = find_study(study, runs)

    from cnntune.steps import refine as step
    from cnntune.steps import search, winner
    from cnntune.steps.search_findings import refuse_failed
    from cnntune.study.ledger import Ledger
    from cnntune.training import device as devices
    from cnntune.user_code import imports
    from cnntune.workers.capacity import parse_workers

    resolved = devices.resolve(device)
    asked_workers = parse_workers(workers)
    asked = [*(set_ or []), *search_keys(None, sampler, None)]
    asked += [f"seed={seed}"] if seed is not None else []
    with session(command, found, str(resolved)) as work:
        code = Path((found.read("study") or {}).get("code", "."))
        imports.add_code_folders(code)
        refinement = step.begin(found, epochs, budget, asked)
        recipe, ledger = refinement.recipe, refinement.ledger
        budget, fewer = search.within_grid(recipe, budget)
        known = refinement.changes  # with those of an earlier call
        notes = [*known, *(note for note in fewer if note not in known)]
        step.write_plan(refinement.study, budget, notes)
        devices_ = devices.trial_devices(resolved)
        plan = decide(command, recipe, devices_, asked_workers, Ledger.open(found))
        for one in winner.ledgers(found):
            one.settle(plan.precision, plan.image_bytes, stream=plan.stream)
        setup = Setup(recipe, str(resolved), devices_, refinement.study, code)
        record(setup)
        command.screen.say(
            f"refining around the best {counted(len(refinement.strong), 'trial')} of {found.path}:"
            f" {counted(budget, 'trial')} of {counted(recipe.search.epochs, 'epoch')}, then"
            f" the best {winner.CANDIDATES} again with {counted(seeds, 'fresh seed')} each"
        )
        work.note([*notes, *search.without_effect(recipe.space, set_ or [])])
        train_trials(
            command,
            setup,
            ledger,
            budget=budget,
            workers=plan.workers,
            given=refinement.given,
            seed=refinement.seed,
            deadline=deadline,
        )
        refuse_failed(ledger.trials())
        whole_space = recipe.model_copy(update={"space": Ledger.open(found).recipe.space})
        result = search.result(ledger, whole_space)
        rivals = winner.best_rivals(winner.pool(winner.ledgers(found)))
        repeat_best(command, setup, rivals, seeds=seeds, workers=plan.workers, deadline=deadline)
        candidates = winner.candidates(rivals, seeds=seeds)
        val_images = winner.val_images(rivals)
        findings = [
            *cut_findings(result.trials, budget, deadline),
            *result.findings,
            *winner.findings(candidates, val_images=val_images),
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
        command.screen.next("train", str(chosen.config))
    command.end(document)
