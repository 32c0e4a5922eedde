"""Steps 4 to 7: search, refine around the best, and tune, which does both until it stops paying."""

from pathlib import Path
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
    Setup,
    Storage,
    StudyArgument,
    Timeout,
    Workers,
    parse_budget,
    record,
    set_up,
)
from cnntune.cli.trials import (
    cut_findings,
    decide,
    find_study,
    repeat_best,
    space_line,
    train_trials,
    watch,
    writing,
)
from cnntune.config.space import Pruner, Sampler
from cnntune.findings import Finding
from cnntune.machine.clock import Deadline
from cnntune.texts import counted
from cnntune.workers import processes


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
    deadline = Deadline.after(timeout)
    processes.prepare()
    # While the workers' server imports torch, which this process does not, there is time for these.
    from cnntune.steps import search as step
    from cnntune.steps.search_findings import importance_findings
    from cnntune.study import importance
    from cnntune.workers.capacity import parse_workers

    if budget >= importance.MIN_TRIALS:
        importance.prepare()
    asked = {"epochs": epochs, "sampler": sampler, "pruner": pruner}
    further = [f"search.{key}={value}" for key, value in asked.items() if value is not None]
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
    with writing(command, setup.study, storage) as server:
        if server is None:
            ledger, notes = step.begin(setup.study, setup.recipe)
        else:
            ledger, notes = step.join(setup.study, setup.recipe, server)
        record(setup)
        budget, fewer = step.within_grid(ledger.recipe, budget)
        ineffective = step.without_effect(ledger.recipe.space, set_ or [])
        notes = [*setup.space_warnings, *ineffective, *notes, *fewer]
        plan = decide(command, ledger.recipe, setup.places, asked_workers, ledger)
        ledger.settle(plan.precision, plan.image_bytes, stream=plan.stream)
        command.begin_work(f"searching {space_line(ledger.recipe)}")
        for note in notes:
            command.screen.say(note.evidence)
        workers_ = plan.workers
        train_trials(command, setup, ledger, budget=budget, workers=workers_, deadline=deadline)
        result = step.result(ledger, ledger.recipe)
        findings = [
            *notes,
            *cut_findings(result.trials, budget, deadline),
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
    if result.best and document["ok"]:
        command.screen.next("refine", str(setup.study.path))
    elif result.best:
        command.screen.next("sanity", *setup.again)
    command.end(document)


def refine(
    study: StudyArgument = None,
    budget: Annotated[
        int,
        typer.Option(min=1, help="Trials of the refinement; the repeats over seeds are extra."),
    ] = 8,
    epochs: Annotated[
        int | None,
        typer.Option(min=2, help="Epochs a trial; train.epochs, or the search's if more."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=0, help="Fresh seeds for each of the best three.")] = 3,
    workers: Workers = "auto",
    device: Device = "auto",
    runs: Runs = RUNS,
    json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Step 5: narrow the space around the best, train longer, repeat the best over seeds."""
    command = Command.begin("refine", json=json, quiet=quiet)
    processes.prepare()
    found = find_study(study, runs)

    from cnntune.steps import refine as step
    from cnntune.steps import search, winner
    from cnntune.study.ledger import Ledger
    from cnntune.training import device as devices
    from cnntune.user_code import imports
    from cnntune.workers.capacity import parse_workers

    place = devices.resolve(device)
    places = devices.trial_devices(place)
    asked_workers = parse_workers(workers)
    with found.lock():
        code = Path((found.read("study") or {}).get("code", "."))
        imports.add_code_folders(code)
        refinement = step.begin(found, epochs, budget)
        ledger, notes = refinement.ledger, refinement.changes
        budget, fewer = search.within_grid(refinement.recipe, budget)
        notes = [*notes, *fewer]
        step.write_plan(refinement.study, budget, notes)
        plan = decide(command, refinement.recipe, places, asked_workers, Ledger.open(found))
        for record_ in winner.ledgers(found):
            record_.settle(plan.precision, plan.image_bytes, stream=plan.stream)
        recipe = refinement.recipe
        setup = Setup(recipe, str(place), places, refinement.study, code)
        record(setup)
        command.screen.say(
            f"refining around the best {counted(len(refinement.strong), 'trial')} of {found.path}:"
            f" {counted(budget, 'trial')} of {counted(recipe.search.epochs, 'epoch')}, then"
            f" the best {winner.CANDIDATES} again with {counted(seeds, 'fresh seed')} each"
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
        rivals = winner.best_rivals(winner.pool(winner.ledgers(found)))
        repeat_best(command, setup, rivals, seeds=seeds, workers=plan.workers)
        candidates = winner.candidates(rivals, seeds=seeds)
        val_images = winner.val_images(rivals)
        over_seeds = winner.findings(candidates, val_images=val_images)
        findings = [*notes, *result.findings, *over_seeds]
        document = command.document(
            findings,
            setup.study,
            **result.as_json(),
            candidates=[candidate.as_json() for candidate in candidates],
            tie=[c.number for c in winner.tied(candidates, val_images=val_images)],
        )
        setup.study.write("refine", document)
        setup.study.write_text("trials.csv", search.table(result.trials).to_csv(index=False))
    if not json:
        command.screen.result(setup.study.path, result.trials)
        command.screen.candidates(candidates)
        command.screen.findings(findings)
    command.screen.next("diagnose", str(found.path))
    if candidates:
        command.screen.next("train", str(candidates[0].config))
    command.end(document)


def tune(
    recipe: RecipeArgument = None,
    budget: Annotated[
        str,
        typer.Option(
            metavar="RUNS|TIME", help="200 training runs in all, repeats included, or 2h, or 30m."
        ),
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
    count, seconds = parse_budget(budget)
    time = Deadline.after(seconds)
    processes.prepare()
    further = [f"search.epochs={epochs}"] if epochs else []
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
    )

    from cnntune.steps import search
    from cnntune.steps import tune as step
    from cnntune.steps.budget import Budget
    from cnntune.steps.winner import last_known_round, ledgers, lost_rounds
    from cnntune.study.ledger import Ledger, exists
    from cnntune.workers.capacity import parse_workers

    limits = Budget.of(count, time)
    asked_workers = parse_workers(workers)
    runs_meant = " training runs" if count else ""
    command.begin_work(f"tuning {setup.study.path} with a budget of {budget}{runs_meant}")
    with setup.study.lock():
        recipe_ = step.begun_with(setup.recipe, setup.study)
        record(setup)
        for lost in lost_rounds(setup.study):
            command.screen.say(lost.evidence)
        shortened = []
        if recipe_ is not None:
            shortened = make_up_checks(command, setup, time)
        else:
            shortened = check_and_sweep(command, setup, seconds, time)
            recipe_ = step.with_swept_rates(setup.recipe, setup.study)
        begun = Ledger.open(setup.study) if exists(setup.study) else None
        asked_recipe = begun.recipe if begun is not None else recipe_
        space = asked_recipe.space or search.default_space(asked_recipe.train.optimizer)
        notes = [*setup.space_warnings, *search.without_effect(space, set_ or [])]
        for note in notes:
            command.screen.say(note.evidence)
        plan = decide(command, asked_recipe, setup.places, asked_workers, begun)
        outcome = step.Outcome(setup.study)

        def sweep(until: Deadline) -> None:
            shortened.extend(sweep_rates(command, setup, until)[0])

        phases = step.tune(outcome, recipe_, limits, plan=plan, places=setup.places, sweep=sweep)
        for phase in phases:
            command.screen.say(phase.title)
            for change in phase.changes:
                command.screen.say(change.evidence)
            watch(command, phase.recipe, phase.events, total=phase.runs, done=phase.done)
        findings = [*notes, *shortened, *outcome.changes, *outcome.findings]
        document = command.document(
            findings,
            setup.study,
            candidates=[candidate.as_json() for candidate in outcome.candidates],
            winner=str(outcome.winner) if outcome.winner else None,
            rounds=last_known_round(setup.study),
        )
        setup.study.write("tune", document)
        for ledger in ledgers(setup.study):
            table = search.table(ledger.trials()).to_csv(index=False)
            ledger.study.write_text("trials.csv", table)
    if not json:
        command.screen.title(f"{setup.study.path}: tuned")
        command.screen.candidates(outcome.candidates)
        command.screen.findings(findings)
    if outcome.winner:
        command.screen.next("train", str(outcome.winner))
    command.end(document)


def check_and_sweep(
    command: Command, setup: Setup, seconds: float | None, time: Deadline
) -> list[Finding]:
    """What comes before a first round: sanity, and a sweep where there is none.

    Both have a share of the time; what was cut short at its end comes back as findings. A `fail` of
    sanity ends the command.

    Raises:
        StudyError: where no trial can be trained in the time left.
    """
    from cnntune.steps.budget import SANITY_TIME, SWEEP_TIME, refuse_too_short

    until_sanity, until_sweep = time.share(SANITY_TIME), time.share(SWEEP_TIME)
    shortened, least = check(command, setup, until_sanity), None
    if setup.study.read("lr-sweep") is None:
        cut, least = sweep_rates(command, setup, until_sweep)
        shortened += cut
    refuse_too_short(seconds, time, least)
    return shortened


def make_up_checks(command: Command, setup: Setup, time: Deadline) -> list[Finding]:
    """Sanity of a study that was begun, where its time was too short for it the last time."""
    from cnntune.steps.budget import SANITY_TIME

    told = (setup.study.read("tune") or {}).get("findings") or []
    if not any(one.get("rule") == "sanity" for one in told):
        return []
    return check(command, setup, time.share(SANITY_TIME))


def check(command: Command, setup: Setup, until: Deadline) -> list[Finding]:
    """The checks of sanity; what they had no time for comes back. A `fail` ends the command."""
    from cnntune.findings import failed
    from cnntune.steps import checks

    checked = []
    for news in checks.check(setup.recipe, setup.place, until):
        if isinstance(news, Finding):
            checked.append(news)
        else:
            command.screen.say(news)
    if failed(checked):
        command.screen.findings(checked)
        command.screen.next("sanity", *setup.again)
        command.end(command.document(checked, setup.study))
    return [finding for finding in checked if finding.rule == "sanity"]


def sweep_rates(
    command: Command, setup: Setup, until: Deadline
) -> tuple[list[Finding], float | None]:
    """Sweep learning rates and keep the result in the study.

    Returns what was cut short, and how long a trial takes at least, if that is known.
    """
    from cnntune.steps import checks, lr_sweep

    shortened, swept = [], None
    for part in checks.sweep(setup.recipe, setup.place, until):
        if isinstance(part, str):
            command.screen.say(part)
        if isinstance(part, Finding):
            shortened.append(part)
        if isinstance(part, checks.Swept):
            swept = part
    if swept is None:
        return shortened, None
    result = lr_sweep.judge(swept.curves)
    document = command.document(result.findings, setup.study, **result.as_json())
    setup.study.write("lr-sweep", document | {"recipe": setup.recipe.as_values()})
    return shortened, swept.trial_seconds(setup.recipe)
