"""Steps 4 to 7: search, refine around the best, and tune, which does both until it stops paying."""

from pathlib import Path
from typing import Annotated

import typer

from cnntune import lifeline
from cnntune.cli.check import sweep
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
    Storage,
    StudyArgument,
    Timeout,
    Workers,
    about,
    parse_budget,
    record,
    set_up,
)
from cnntune.cli.trials import (
    decide,
    find_study,
    repeat_best,
    space_line,
    train_trials,
    watch,
    writing,
)
from cnntune.rungs import Pruner
from cnntune.space import Sampler


def search(
    recipe: RecipeArgument = None,
    budget: Annotated[int, typer.Option(min=1, help="Trials of the study in all.")] = 50,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Epochs a trial; search.epochs if left out.")
    ] = None,
    sampler: Annotated[
        Sampler | None, typer.Option(help="Where values come from; search.sampler if left out.")
    ] = None,
    pruner: Annotated[
        Pruner | None,
        typer.Option(help="Which trials end early; search.pruner if left out."),
    ] = None,
    timeout: Timeout = None,
    workers: Workers = "auto",
    set_: Sets = None,
    device: Device = "auto",
    seed: Seed = None,
    deterministic: Exact = False,
    runs: Runs = RUNS,
    study: Name = None,
    storage: Storage = None,
    json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Step 4: a coarse random search. The same command resumes it, a larger budget extends it."""
    command = Command.begin("search", json=json, quiet=quiet)
    lifeline.prepare()
    # While the workers' server imports torch, which this process does not, there is time for these.
    from cnntune import importance
    from cnntune import search as step
    from cnntune.capacity import parse_workers
    from cnntune.search_findings import importance_findings

    if budget >= importance.LEAST_TRIALS:
        importance.prepare()
    asked = {"epochs": epochs, "sampler": sampler, "pruner": pruner}
    further = [f"search.{key}={value}" for key, value in asked.items() if value is not None]
    setup = set_up(
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
    with writing(command, setup.study, storage) as server:
        if server is None:
            ledger, notes = step.begin(setup.study, setup.recipe)
        else:
            ledger, notes = step.join(setup.study, setup.recipe, server)
        record(setup)
        plan = decide(command, ledger.recipe, setup.places, asked_workers, ledger)
        ledger.settle(plan.precision, plan.image_bytes, stream=plan.stream)
        command.screen.say(f"searching {space_line(ledger.recipe)}")
        for note in notes:
            command.screen.say(note.evidence)
        train_trials(command, setup, ledger, budget=budget, workers=plan.workers, seconds=timeout)
        result = step.result(ledger, ledger.recipe)
        findings = [
            *notes,
            *result.findings,
            *importance_findings(result.trials, result.importance),
        ]
        document = command.document(findings, setup.study, **result.as_json())
        setup.study.write("search", document)
        setup.study.write_text("trials.csv", step.table(result.trials).to_csv(index=False))
    if not json:
        command.screen.result(setup.study.path, result.trials)
        command.screen.importance(result.importance)
        command.screen.findings(findings)
    if result.best:
        command.screen.next("refine", str(setup.study.path))
    command.end(document)


def refine(
    study: StudyArgument = None,
    budget: Annotated[int, typer.Option(min=1, help="Trials of the refinement.")] = 8,
    epochs: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="Epochs a trial; left out: train.epochs, or three times those of the search.",
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds for each of the best three.")] = 3,
    workers: Workers = "auto",
    device: Device = "auto",
    runs: Runs = RUNS,
    json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Step 5: narrow the space around the best, train longer, repeat the best over seeds."""
    command = Command.begin("refine", json=json, quiet=quiet)
    lifeline.prepare()
    found = find_study(study, runs)

    from cnntune import device as devices
    from cnntune import own_code, search
    from cnntune import refine as step
    from cnntune.capacity import parse_workers
    from cnntune.ledger import Ledger

    place = devices.resolve(device)
    places = devices.places(place)
    asked_workers = parse_workers(workers)
    with found.lock():
        code = Path((found.read("study") or {}).get("code", "."))
        own_code.add_code_folders(code)
        refinement = step.begin(found, epochs)
        ledger, notes = refinement.ledger, refinement.changes
        plan = decide(command, refinement.recipe, places, asked_workers, Ledger.open(found))
        ledger.settle(plan.precision, plan.image_bytes, stream=plan.stream)
        recipe = refinement.recipe
        setup = Setup(recipe, str(place), places, refinement.study, code)
        record(setup)
        command.screen.say(
            f"refining around the best {len(refinement.strong)} trials of {found.path},"
            f" {recipe.search.epochs} epochs each"
        )
        for note in notes:
            command.screen.say(note.evidence)
        train_trials(
            command,
            setup,
            ledger,
            budget=budget,
            workers=plan.workers,
            given=refinement.given,
            seed=refinement.seed,
        )
        whole_space = recipe.model_copy(update={"space": Ledger.open(found).recipe.space})
        result = search.result(ledger, whole_space)
        repeat_best(command, setup, recipe, result.trials, seeds=seeds, workers=plan.workers)
        candidates = step.candidates(setup.study, result.trials, seeds=seeds)
        val_images = result.best.summary.get("val_images") if result.best else None
        over_seeds = step.seed_findings(candidates, val_images=val_images)
        findings = [*notes, *result.findings, *over_seeds]
        document = command.document(
            findings,
            setup.study,
            **result.as_json(),
            candidates=[candidate.as_json() for candidate in candidates],
            tie=[c.number for c in step.tied(candidates, val_images=val_images)],
        )
        setup.study.write("refine", document)
        setup.study.write_text("trials.csv", search.table(result.trials).to_csv(index=False))
    if not json:
        command.screen.result(setup.study.path, result.trials)
        command.screen.candidates(candidates)
        command.screen.findings(findings)
    command.screen.next("diagnose", str(found.path))
    if candidates:
        config = setup.study.trial(candidates[0].number).path / "config.json"
        command.screen.next("train", str(config))
    command.end(document)


def tune(
    recipe: RecipeArgument = None,
    budget: Annotated[
        str, typer.Option(metavar="TRIALS|TIME", help="200 trials in all, or 2h, or 30m.")
    ] = "50",
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Epochs a trial of the first round; search.epochs.")
    ] = None,
    workers: Workers = "auto",
    set_: Sets = None,
    device: Device = "auto",
    seed: Seed = None,
    deterministic: Exact = False,
    runs: Runs = RUNS,
    study: Name = None,
    json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Steps 1-7: search, read the curves, change the space, refine, until it stops paying."""
    command = Command.begin("tune", json=json, quiet=quiet)
    lifeline.prepare()
    further = [f"search.epochs={epochs}"] if epochs else []
    setup = set_up(
        recipe,
        set_,
        device=device,
        seed=seed,
        runs=runs,
        study=study,
        exact=deterministic,
        further=further,
    )
    trials, seconds = parse_budget(budget)

    from cnntune import build, sanity
    from cnntune import tune as step
    from cnntune.capacity import parse_workers
    from cnntune.findings import failed
    from cnntune.ledger import Ledger, exists

    asked_workers = parse_workers(workers)
    data = build.load_data(setup.recipe, setup.device)
    command.screen.say(about(setup, data))
    with setup.study.lock():
        if not (setup.study.path / "study.db").exists():
            checked = list(sanity.check(setup.recipe, data, setup.device))
            if failed(checked):
                command.screen.findings(checked)
                command.screen.next("sanity", *setup.again)
                command.end(command.document(checked, setup.study))
        if setup.study.read("lr-sweep") is None:
            sweep(command, setup, data)
        record(setup)
        recipe_ = step.with_swept_rates(setup.recipe, setup.study)
        begun = Ledger.open(setup.study) if exists(setup.study) else None
        asked_recipe = begun.recipe if begun is not None else recipe_
        plan = decide(command, asked_recipe, setup.places, asked_workers, begun)
        outcome = step.Outcome(setup.study)
        limits = step.Budget(trials, seconds)
        for phase in step.tune(outcome, recipe_, limits, plan=plan, places=setup.places):
            command.screen.say(phase.title)
            for change in phase.changes:
                command.screen.say(change.evidence)
            watch(command, phase.recipe, phase.events, total=phase.trials, done=0)
        findings = [*outcome.changes, *outcome.findings]
        document = command.document(
            findings,
            setup.study,
            candidates=[candidate.as_json() for candidate in outcome.candidates],
            winner=str(outcome.winner) if outcome.winner else None,
        )
        setup.study.write("tune", document)
    if not json:
        command.screen.title(f"{setup.study.path}: tuned")
        command.screen.candidates(outcome.candidates)
        command.screen.findings(findings)
    if outcome.winner:
        command.screen.next("train", str(outcome.winner))
    command.end(document)
