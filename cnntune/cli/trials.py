"""What search, refine and tune share: their study, their workers, their trials on the screen."""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnntune.cli.command import Command, Setup, threads_found
from cnntune.cli.screen import TrialWatch
from cnntune.errors import StudyError
from cnntune.findings import Finding
from cnntune.machine.clock import NEVER, Deadline
from cnntune.runs.study import Study
from cnntune.texts import counted

if TYPE_CHECKING:
    from cnntune.config.recipe import Recipe
    from cnntune.steps.winner import Rival
    from cnntune.study.ledger import Ledger
    from cnntune.study.postgres import Server
    from cnntune.study.trial import Trial
    from cnntune.workers.capacity import Plan


def decide(
    command: Command,
    recipe: "Recipe",
    places: Sequence[str],
    asked: int | None,
    begun: "Ledger | None",
) -> "Plan":
    """What all trials share, with the reasons as lines of progress.

    `begun` is the record of the study, in which a decision may stand; a study that is older than
    such records goes on in the precision of its trials.
    """
    from cnntune.study.trial import begun_precision
    from cnntune.workers.capacity import plan

    if recipe.train.precision == "auto" and begun is not None:
        precision = begun_precision(begun.study)
        if precision is not None:
            recipe = _with(recipe, "train", precision=precision)
    if begun is not None:  # what an earlier command decided for its memory does not bind this one
        recipe = _with(recipe, "data", stream=begun.asked.data.stream)
    found = plan(
        recipe, places, asked=asked, image_bytes=begun.image_bytes if begun is not None else None
    )
    for reason in found.reasons:
        command.screen.say(reason)
    if recipe.train.threads > 1 and places[0] == "cpu":
        threads_found(command, recipe.train.threads, fixed=True)
    return found


def _with(recipe: "Recipe", section: str, **values: Any) -> "Recipe":
    return recipe.model_copy(update={section: getattr(recipe, section).model_copy(update=values)})


def find_study(name: str | None, runs: Path, holding: str = "study.db") -> Study:
    """The study that STUDY means: a folder, a name in `runs`, or the last one searched.

    Only folders with a file `holding` count: every study has a `study.json`.

    Raises:
        StudyError: where there is no such study, or it lacks the file.
    """
    if name is None:
        searched = sorted(runs.glob(f"*/{holding}"), key=lambda path: path.stat().st_mtime)
        if not searched:
            raise StudyError(f"{runs}: holds no search; run `cnntune search` first")
        return Study(searched[-1].parent)
    for folder in (Path(name), runs / name):
        if (folder / holding).is_file():
            return Study(folder)
        if folder.is_dir() and (any(folder.glob("trial-*")) or (folder / "study.json").is_file()):
            raise StudyError(
                f"{folder}: holds no {holding}: nothing was searched here, or the file is gone"
            )
    there = sorted(path.parent.name for path in runs.glob(f"*/{holding}"))
    raise StudyError(
        f"{name}: no study of that name in {runs}; there are: {', '.join(there) or 'none'}"
    )


@contextmanager
def writing(command: Command, study: Study, storage: str | None) -> Iterator["Server | None"]:
    """Be the only writer of a local study, or one of several of a study on a server."""
    if storage is None:
        with study.lock():
            yield None
        return
    from cnntune.study import postgres

    with postgres.connect(storage, study.name, command.screen.say) as place:
        yield place


def train_trials(
    command: Command,
    setup: Setup,
    ledger: "Ledger",
    *,
    budget: int,
    workers: int,
    given: Any = (),
    seed: int | None = None,
    deadline: Deadline = NEVER,
) -> None:
    """Bring a study to its budget, showing what happens."""
    from cnntune.study.coordinator import run_trials
    from cnntune.study.shared_coordinator import run_shared
    from cnntune.study.shared_ledger import SharedLedger

    done = sum(trial.status != "running" for trial in ledger.trials())
    if done:
        command.screen.say(
            f"{setup.study.path} holds {counted(done, 'finished trial')} of {budget}"
        )
    if isinstance(ledger, SharedLedger):
        events = run_shared(
            ledger,
            budget=budget,
            workers=workers,
            places=setup.places,
            deadline=deadline,
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
            deadline=deadline,
        )
    watch(command, ledger.recipe, events, total=max(budget, done), done=done)
    if isinstance(ledger, SharedLedger):
        ledger.fetch()


def cut_findings(trials: "Sequence[Trial]", budget: int, deadline: Deadline) -> list[Finding]:
    """That time is up, and how many trials it ended, where it ended the search."""
    running = sum(trial.status == "running" for trial in trials)
    if not deadline.passed or (len(trials) >= budget and not running):
        return []
    text = f"the time is up: {len(trials)} of {budget} trials have begun, {running} of them cut"
    return [Finding("timeout", "info", text, "the same command goes on with them")]


def repeat_best(
    command: Command, setup: Setup, rivals: "Sequence[Rival]", *, seeds: int, workers: int
) -> None:
    """Train the best trials again with fresh seeds, showing what happens."""
    from cnntune.steps import refine as step

    todo = step.repeats_to_train(rivals, seeds=seeds)
    if not todo:
        return
    names = ", ".join(rival.name for rival in rivals)
    command.screen.say(f"training {names} again with {seeds} fresh seeds each: {len(todo)} runs")
    events = step.repeat(todo, workers=workers, places=setup.places)
    watch(command, setup.recipe, events, total=len(todo), done=0)


def watch(command: Command, recipe: "Recipe", events: Any, *, total: int, done: int) -> None:
    """Draw trials as they happen, and say once in what they are computed."""
    from cnntune.config.recipe import parse
    from cnntune.runs.run import Run

    told = False
    # Closed whatever happens: workers of a search that is left open would keep the process alive.
    with closing(events), TrialWatch(command.screen, total, done) as table:
        for event in events:
            run = Run(event.job.folder)
            name = run.name
            if event.epoch is not None and not told:
                config = parse(run.config(), file="config.json")
                command.screen.say(f"computing in {config.arithmetic()} a worker")
                told = True
            if event.epoch is not None:
                table.epoch(name, event.epoch.val_acc)
                continue
            values = {key: event.job.recipe.get(key) for key in recipe.space}
            if event.summary is not None:
                table.ended(name, values, event)
            else:
                table.started(name, values)


def space_line(recipe: "Recipe") -> str:
    """What is searched, in a line."""
    return ", ".join(f"{key} {dimension}" for key, dimension in recipe.space.items())
