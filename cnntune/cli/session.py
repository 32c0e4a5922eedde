"""What search, refine and tune share: one writer, one plan for all trials, what is shown and kept.

A document is stored by a command that ended, since `refine.json` marks a round as finished. The
tables of trials and the log are there however a command ended.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cnntune.cli.command import Command, Setup, threads_found
from cnntune.cli.command_search import workers_for
from cnntune.cli.screen import TrialWatch
from cnntune.errors import StudyError
from cnntune.findings import Finding
from cnntune.machine.clock import NEVER, Deadline
from cnntune.runs.run import Run
from cnntune.runs.study import Study
from cnntune.texts import counted

if TYPE_CHECKING:
    from cnntune.config.recipe import Recipe
    from cnntune.config.space import Value
    from cnntune.runs.summary import Summary
    from cnntune.steps.winner import Rival
    from cnntune.study.ledger import Ledger
    from cnntune.study.postgres import Server
    from cnntune.study.trial import Trial
    from cnntune.workers.capacity import Plan
    from cnntune.workers.pool import Event


@dataclass
class Session:
    """A study while a command works on it; `server` is None for a study in a folder."""

    command: Command
    study: Study
    server: "Server | None" = None
    notes: list[Finding] = field(default_factory=list)  # about what was asked, before any trial

    def note(self, notes: Sequence[Finding]) -> None:
        """Show what there is to know before any trial; it belongs to the findings, too."""
        self.notes.extend(notes)
        for note in notes:
            self.command.screen.say(note.evidence)

    def finish(
        self, step: str | None, findings: Sequence[Finding], study: Study, **added: Any
    ) -> dict[str, Any]:
        """The document of a command, stored in `study`; with None for a step it is not stored."""
        document = self.command.document([*self.notes, *findings], study, **added)
        if step is not None:
            study.write(step, document)
        return document

    def write_tables(self) -> None:
        """Write a `trials.csv` for the search and one for each of its refinements.

        A round that cannot be read keeps its table; a command that needs the round says why.
        """
        from cnntune.steps.search import table
        from cnntune.steps.winner import rounds
        from cnntune.study.ledger import begun

        for part in (self.study, *rounds(self.study)):
            with suppress(StudyError):
                ledger = begun(part)
                if ledger is not None and (trials := ledger.trials()):
                    part.write_text("trials.csv", table(trials).to_csv(index=False))


@contextmanager
def session(
    command: Command, study: Study, device: str, storage: str | None = None
) -> Iterator[Session]:
    """Be the only writer of a local study, or one of several of a study on a server.

    The tables of trials are written however the command ends.

    Raises:
        StudyError: where another process has locked the study, or the server cannot be used.
    """
    command.begin_log(study, device)
    with writing(command, study, storage) as server:
        work = Session(command, study, server)
        try:
            yield work
        except BaseException:
            # The error counts and not what the tables meet, such as a disk that is full.
            with suppress(Exception):
                work.write_tables()
            raise
        work.write_tables()


@contextmanager
def writing(command: Command, study: Study, storage: str | None) -> Iterator["Server | None"]:
    """Hold the lock of a local study, or a connection to the server of a shared one."""
    if storage is None:
        with study.lock():
            yield None
        return
    from cnntune.study import postgres

    with postgres.connect(storage, study.name, command.screen.say) as server:
        yield server


def begin_crew(
    command: Command,
    setup: Setup,
    recipe: "Recipe",
    asked: int | None,
    begun: "Ledger | None",
    ledgers: "Sequence[Ledger]",
) -> int:
    """How many workers a study gets, after `ledgers` have recorded what all trials share.

    What an earlier command left running is ended before: commands of a study are its own.
    """
    from cnntune.script.command import end_marked, study_mark

    if recipe.runs_command:
        for ledger in ledgers:
            end_marked(study_mark(ledger.study.path))
        return workers_for(command, asked, setup.trial_devices)
    plan = decide(command, recipe, setup.trial_devices, asked, begun)
    for ledger in ledgers:
        ledger.settle(plan.precision, plan.image_bytes, stream=plan.stream)
    return plan.workers


def decide(
    command: Command,
    recipe: "Recipe",
    devices: Sequence[str],
    asked: int | None,
    begun: "Ledger | None",
) -> "Plan":
    """What all trials share, with the reasons as lines of progress.

    `begun` is the record of the study, in which a decision may stand; a study that is older than
    such records keeps the precision of its trials.
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
        recipe, devices, asked=asked, image_bytes=begun.image_bytes if begun is not None else None
    )
    for reason in found.reasons:
        command.screen.say(reason)
    if recipe.train.threads > 1 and devices[0] == "cpu":
        threads_found(command, recipe.train.threads, fixed=True)
    return found


def _with(recipe: "Recipe", section: str, **values: Any) -> "Recipe":
    return recipe.model_copy(update={section: getattr(recipe, section).model_copy(update=values)})


def train_trials(
    command: Command,
    setup: Setup,
    ledger: "Ledger",
    *,
    budget: int,
    workers: int,
    given: "Sequence[Mapping[str, Value]]" = (),
    seed: int | None = None,
    deadline: Deadline = NEVER,
) -> None:
    """Train a study's trials up to its budget, showing what happens."""
    from cnntune.study.coordinator import run_trials
    from cnntune.study.shared_coordinator import run_shared
    from cnntune.study.shared_ledger import SharedLedger

    done = sum(trial.status != "running" for trial in ledger.trials())
    if done:
        command.screen.say(
            f"{setup.study.path}: {done} of {counted(budget, 'trial')} finished before"
        )
    if ledger.again:
        command.screen.say(
            f"{counted(len(ledger.again), 'trial')} that failed by an error of your code or recipe"
            f" {'is' if len(ledger.again) == 1 else 'are'} trained again"
        )
    if isinstance(ledger, SharedLedger):
        events = run_shared(
            ledger,
            budget=budget,
            workers=workers,
            devices=setup.trial_devices,
            deadline=deadline,
            say=command.screen.say,
        )
    else:
        events = run_trials(
            ledger,
            budget=budget,
            workers=workers,
            devices=setup.trial_devices,
            given=given,
            seed=seed,
            deadline=deadline,
        )
    watch(command, ledger.recipe, events, total=max(budget, done), done=done)
    if isinstance(ledger, SharedLedger):
        ledger.fetch()


def cut_findings(trials: "Sequence[Trial]", budget: int, deadline: Deadline) -> list[Finding]:
    """That the time is over, and how many trials it cut, where trials are left."""
    running = sum(trial.status == "running" for trial in trials)
    if not deadline.passed or (len(trials) >= budget and not running):
        return []
    text = f"the time is over: {len(trials)} of {budget} trials have begun, {running} of them cut"
    return [Finding("timeout", "info", text, "run the same command again to resume them")]


def repeat_best(
    command: Command,
    setup: Setup,
    rivals: "Sequence[Rival]",
    *,
    seeds: int,
    workers: int,
    deadline: Deadline,
) -> None:
    """Train the best trials again with fresh seeds until the deadline, showing what happens."""
    from cnntune.steps import refine as step
    from cnntune.steps import repeats

    todo = step.repeats_to_train(rivals, seeds=seeds)
    if not todo or deadline.passed:
        return
    names = ", ".join(rival.name for rival in rivals)
    verb = "running" if setup.recipe.runs_command else "training"
    again = repeats.how_often(setup.recipe, seeds)
    command.screen.say(f"{verb} {names} {again}: {counted(len(todo), 'run')}")
    events = step.repeat(todo, workers=workers, devices=setup.trial_devices, deadline=deadline)
    watch(command, setup.recipe, events, total=len(todo), done=0)


def watch(
    command: Command,
    recipe: "Recipe",
    events: "Iterator[Event]",
    *,
    total: int,
    done: int,
) -> None:
    """Show and log trials as they happen, and say once in which precision they are trained."""
    from cnntune.config.recipe import parse

    said = False
    # Closed whatever happens: workers of a search that is left open would keep the process alive.
    # All such iterators are generators.
    closed = closing(events)  # type: ignore[type-var]
    with closed, TrialWatch(command.screen, total, done) as table:
        for event in events:
            run = Run(event.job.folder)
            values = {key: event.job.recipe.get(key) for key in recipe.space}
            if event.died is not None:
                command.log.write(f"{run.name}: its worker died (exit code {event.died})")
            elif event.epoch is not None:
                if not said and not event.job.recipe.runs_command:
                    config = parse(run.config(), file="config.json")
                    command.screen.say(f"computing in {config.arithmetic()} per worker")
                    said = True
                table.epoch(run.name, event.epoch.score)
            elif event.summary is not None:
                command.log.write(f"{run.name} {result_line(event.summary)}")
                table.ended(run.name, values, event)
            else:
                command.log.write(f"{run.name} {start_line(run, values)}")
                table.started(run.name, values)


def start_line(run: Run, values: "Mapping[str, Value] | None" = None) -> str:
    """That a run starts or resumes, with what was drawn for it."""
    epochs = len(run.rows())
    begins = f"resumed after epoch {epochs}" if epochs else "started"
    drawn = "".join(f" {key}={value}" for key, value in (values or {}).items())
    return f"{begins}{':' if drawn else ''}{drawn}"


def result_line(summary: "Summary") -> str:
    """How a run ended: its status, then its best epoch or its error."""
    after = f"{summary.status} after {counted(summary.epochs or 0, 'epoch')}"
    if summary.error is not None:
        return f"{after}: {summary.error.line}"
    known = [
        f"{name} {value:.4f}"
        for name, value in (("val acc", summary.val_acc), ("val loss", summary.val_loss))
        if value is not None
    ]
    if summary.ranked is not None:
        known = [f"{summary.ranked.name} {summary.ranked.value:.4f}"]
    return f"{after}: {', '.join(known)}" if known else after


def space_line(recipe: "Recipe") -> str:
    """What is searched, in a line."""
    return ", ".join(f"{key} {dimension}" for key, dimension in recipe.space.items())
