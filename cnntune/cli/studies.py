"""Steps 4 and 5: search, and refine around the best."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
from cnntune.errors import StudyError
from cnntune.rungs import Pruner
from cnntune.runs import Study
from cnntune.show import TrialWatch
from cnntune.space import Sampler

if TYPE_CHECKING:
    from cnntune.ledger import Ledger
    from cnntune.recipe import Recipe
    from cnntune.server import Server


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
    with _writing(command, setup.study, storage) as server:
        if server is None:
            ledger, notes = step.begin(setup.study, setup.recipe)
        else:
            ledger, notes = step.join(setup.study, setup.recipe, server)
        record(setup)
        processes = asked_workers or _fitting_workers(command, ledger.recipe, setup.places)
        command.screen.say(f"searching {_space_line(ledger.recipe)}")
        for note in notes:
            command.screen.say(note.evidence)
        _run_trials(command, setup, ledger, budget=budget, workers=processes, seconds=timeout)
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
        for folder in (Path.cwd(), code):
            own_code.add_code_folder(folder)
        refinement = step.begin(found, epochs)
        ledger, recipe, notes = refinement.ledger, refinement.recipe, refinement.changes
        setup = Setup(recipe, str(place), places, refinement.study, code)
        record(setup)
        processes = asked_workers or _fitting_workers(command, recipe, places)
        command.screen.say(
            f"refining around the best {len(refinement.strong)} trials of {found.path},"
            f" {recipe.search.epochs} epochs each"
        )
        for note in notes:
            command.screen.say(note.evidence)
        _run_trials(
            command,
            setup,
            ledger,
            budget=budget,
            workers=processes,
            given=refinement.given,
            seed=refinement.seed,
        )
        whole_space = recipe.model_copy(update={"space": Ledger.open(found).recipe.space})
        result = search.result(ledger, whole_space)
        _repeat(command, setup, recipe, result.trials, seeds=seeds, workers=processes)
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
        processes = asked_workers or _fitting_workers(command, recipe_, setup.places)
        outcome = step.Outcome(setup.study)
        limits = step.Budget(trials, seconds)
        for phase in step.tune(outcome, recipe_, limits, workers=processes, places=setup.places):
            command.screen.say(phase.title)
            for change in phase.changes:
                command.screen.say(change.evidence)
            _watch(command, phase.recipe, phase.events, total=phase.trials, done=0)
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


def _fitting_workers(command: Command, recipe: "Recipe", places: Sequence[str]) -> int:
    """As many workers as the machine has room for, with the reason as a line of progress."""
    from cnntune.capacity import fitting_workers

    workers, reason = fitting_workers(recipe, places)
    command.screen.say(reason)
    return workers


def find_study(name: str | None, runs: Path, holding: str = "study.db") -> Study:
    """The study that STUDY means: a folder, a name in `runs`, or the last one searched.

    Only folders with a file `holding` count: every study has a `study.json`.
    """
    if name is None:
        searched = sorted(runs.glob(f"*/{holding}"), key=lambda path: path.stat().st_mtime)
        if not searched:
            raise StudyError(f"{runs}: holds no search; run `cnntune search` first")
        return Study(searched[-1].parent)
    for folder in (Path(name), runs / name):
        if (folder / holding).is_file():
            return Study(folder)
    there = sorted(path.parent.name for path in runs.glob(f"*/{holding}"))
    raise StudyError(
        f"{name}: no study of that name in {runs}; there are: {', '.join(there) or 'none'}"
    )


@contextmanager
def _writing(command: Command, study: Study, storage: str | None) -> Iterator["Server | None"]:
    """Be the only writer of a local study, or one of several of a study on a server."""
    if storage is None:
        with study.lock():
            yield None
        return
    from cnntune import server

    with server.connect(storage, study.name, command.screen.say) as place:
        yield place


def _run_trials(
    command: Command,
    setup: Setup,
    ledger: "Ledger",
    *,
    budget: int,
    workers: int,
    given: Any = (),
    seed: int | None = None,
    seconds: float | None = None,
) -> None:
    """Bring a study to its budget, showing what happens."""
    from cnntune.shared import run_shared
    from cnntune.shared_ledger import SharedLedger
    from cnntune.trials import run_trials

    done = sum(trial.status != "running" for trial in ledger.trials())
    if done:
        command.screen.say(f"{setup.study.path} holds {done} finished trials of {budget}")
    if isinstance(ledger, SharedLedger):
        events = run_shared(
            ledger,
            budget=budget,
            workers=workers,
            places=setup.places,
            seconds=seconds,
            say=command.screen.say,
        )
    else:
        events = run_trials(
            ledger,
            budget=budget,
            workers=workers,
            places=setup.places,
            given=given,
            seed=seed,
            seconds=seconds,
        )
    _watch(command, ledger.recipe, events, total=max(budget, done), done=done)
    if isinstance(ledger, SharedLedger):
        ledger.fetch()


def _repeat(
    command: Command, setup: Setup, recipe: "Recipe", trials: Any, *, seeds: int, workers: int
) -> None:
    """Train the best trials again with other seeds, showing what happens."""
    from cnntune import refine as step

    best = min(step.CANDIDATES, sum(trial.status == "complete" for trial in trials))
    total = best * (seeds - 1)
    if not total:
        return
    command.screen.say(f"training the best {best} again, {seeds} seeds in all")
    events = step.repeat(
        setup.study, trials, recipe, seeds=seeds, workers=workers, places=setup.places
    )
    _watch(command, recipe, events, total=total, done=0)


def _watch(command: Command, recipe: "Recipe", events: Any, *, total: int, done: int) -> None:
    from cnntune.recipe import parse
    from cnntune.runs import Run

    told = False
    with TrialWatch(command.screen, total, done) as watch:
        for event in events:
            name = event.job.folder.name
            if event.epoch is not None and not told:
                config = parse(Run(event.job.folder).config(), file="config.json")
                command.screen.say(f"computing in {config.arithmetic()} a worker")
                told = True
            if event.summary is not None:
                watch.ended(name, event.summary)
            elif event.epoch is not None:
                watch.epoch(name, event.epoch.val_acc)
            else:
                values = {key: event.job.recipe.get(key) for key in recipe.space}
                watch.started(name, values)


def _space_line(recipe: "Recipe") -> str:
    return ", ".join(f"{key} {dimension}" for key, dimension in recipe.space.items())
