"""What a worker process does for commands: run one after the other, and log what each measures.

It answers like `worker`: an event per evaluation, then one with the summary. A command cannot be
paused. One whose job ends before its run goes on until the worker gets another job, and is begun
anew if it is wanted later; evaluations that are logged already keep their rows.
"""

import math
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

from cnntune.config.command import CommandRecipe
from cnntune.config.problems import did_you_mean
from cnntune.diagnosis.live import Evaluation, Logs, Metric, Reading, ranks_while_running
from cnntune.errors import CnntuneError, ScriptError, StudyError
from cnntune.runs.run import Epoch, NotLogged, Run
from cnntune.runs.summary import Ranked, Summary, summarise
from cnntune.script.command import RunningCommand, found_at_home, last_lines
from cnntune.user_code.failures import full_disk
from cnntune.workers.pool import Event, Job
from cnntune.workers.processes import before_end

POLL_SECONDS = 0.1  # between two looks at the logs
READING_SHARE = 0.1  # of the time may go into reading them
KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)  # exit codes; the second is that of a shell
MEMORY = ("out-of-memory", "killed")  # kinds of failures that other trials may have caused
OUT_OF_MEMORY = ("out of memory", "OutOfMemoryError")  # what torch and CUDA say, in the last lines


def serve(pipe: Connection, device: str) -> None:
    """Run the jobs that arrive through the pipe until it closes; `device` is as `environment` says.

    The command ends with its worker, and so with the coordinator.
    """
    runner = Runner(device)
    before_end(runner.end)
    try:
        while True:
            try:
                job: Job = pipe.recv()
            except EOFError:
                return
            try:
                for event in runner.run(job):
                    pipe.send(event)
            except CnntuneError as error:
                pipe.send(error)
            except OSError as error:  # of the study's own files: no trial could be recorded
                pipe.send(full_disk(error, job.folder) or StudyError(f"{job.folder}: {error}"))
    finally:
        runner.end()


class Trial:
    """The command of one trial, and what of it is logged."""

    def __init__(self, job: Job, device: str) -> None:
        assert isinstance(job.recipe, CommandRecipe)
        self.recipe = job.recipe
        self.folder = job.folder
        self.run = Run(job.folder)
        self.logged = self.run.begin(job.recipe.as_values())
        section = job.recipe.command
        self.command = RunningCommand.start(
            job.recipe.words(),
            job.folder.resolve(),
            home=Path(section.folder),
            here=section.here,
            device=device,
            overrides=job.recipe.overrides(),
        )
        metric = Metric.parse(section.metric)
        self.logs = Logs(self.command.printed, self.command.work, metric)
        self.rows: list[Epoch] = []
        self.reading: Reading | None = None
        self.last_row = time.monotonic()

    def epochs(self) -> Iterator[Epoch]:
        """A row for each evaluation as it is logged, until the command ends."""
        while True:
            ended = self.command.code is not None
            begun = time.monotonic()
            yield from self._new_rows(ended=ended)
            if ended:
                return
            took = time.monotonic() - begun
            time.sleep(max(POLL_SECONDS, took / READING_SHARE))

    def _new_rows(self, *, ended: bool) -> Iterator[Epoch]:
        found = self.logs.read(ended=ended)
        if found is None or not (ended or ranks_while_running(found, self.logs.metric)):
            return
        evaluations = found.evaluations if ended else found.settled()
        new = evaluations[len(self.rows) :]
        if not new:
            return
        self.reading, self.logs.kept = found, found.source
        now = time.monotonic()
        each = (now - self.last_row) / len(new)
        self.last_row = now
        for evaluation in new:
            row = _row(len(self.rows) + 1, evaluation, each)
            self.rows.append(row)
            if row.epoch > self.logged:
                self.run.log(row)
            yield row

    def summary(self, *, stopped: bool) -> Summary:
        """How the trial ended; `stopped` says that its command was ended after its last epoch."""
        rows = self.run.rows() or self.rows  # a command that began anew may have logged less so far
        code = self.command.code
        if code and not stopped:
            return replace(self._failed(code), epochs=len(rows))
        if self.recipe.overrides() and not self.command.overridden:
            text = "--override train.lr: the script made no optimizer of torch with a learning rate"
            return Summary.failed("user-code", text)
        if self.reading is None:
            return Summary.failed("user-code", self._no_metric())
        found = summarise(rows)
        return replace(found, metric=self._named(), ranked=self._ranked(found.score))

    def _failed(self, code: int) -> Summary:
        lines = last_lines(self.folder)
        if code < 0 or code in KILLED:
            number = -code if code < 0 else signal.SIGKILL
            name = signal.Signals(number).name if number in list(signal.Signals) else str(number)
            first = f"the command was ended by {name}"
            if code in KILLED:
                first += "; the system kills processes when memory runs out"
        else:
            first = f"the command ended with exit code {code}{self._missed(lines)}"
        kind = "user-code"
        if any(word in line for line in lines[-3:] for word in OUT_OF_MEMORY):
            kind = "out-of-memory"
        elif code in KILLED:
            kind = "killed"
        return Summary.failed(kind, "\n".join([first, *(lines or ["it printed nothing"])]))

    def _missed(self, lines: Sequence[str]) -> str:
        """What to do where a file is missed that is where the search was started, or is similar."""
        section = self.recipe.command
        home = Path(section.folder)
        path = None if section.here else found_at_home(lines, self.command.work, home)
        if path is None:
            return _mistyped(self.recipe.words(), lines, home)
        return (
            f": {path} is not in the trial's own folder, where it runs, but in {home}; let the"
            f" command run there with --here, or give it the path as a word: {home / path}"
        )

    def _no_metric(self) -> str:
        metric = self.logs.metric
        where = self.logs.described()
        if metric is None:
            return f"no loss and no accuracy was found in {where}; name one with --metric"
        if not metric.known:
            return f"--metric {metric.name}: write {metric.name}:max or {metric.name}:min"
        return f"--metric {metric.name}: not found in {where}"

    def _ranked(self, score: float) -> Ranked | None:
        """The number that ranks, where it is neither a plain loss nor a plain accuracy."""
        reading = self.reading
        if reading is None or not reading.named or not math.isfinite(score):
            return None
        value = reading.times * score + reading.plus
        return Ranked(reading.column, value, reading.times, reading.plus)

    def _named(self) -> str:
        assert self.reading is not None
        role, column, path = self.reading.role, self.reading.column, self.reading.path
        inside = self.command.work
        name = path.relative_to(inside) if path.is_relative_to(inside) else path.name
        if self.reading.named:
            return f"{column!r} in {name}, {'more' if self.reading.times > 0 else 'less'} is better"
        return f"{role} from {column!r} in {name}"

    def end(self) -> None:
        """End the command and all its processes."""
        self.command.end()


def _mistyped(words: Sequence[str], lines: Sequence[str], home: Path) -> str:
    """The file that a word of the command means, where the script is missed and one is similar."""
    for word in words:
        if not any(word in line for line in lines):
            continue
        path = home / word
        with suppress(OSError):  # a word may be code, which is too long for a name
            same_kind = [file.name for file in path.parent.iterdir() if file.suffix == path.suffix]
            if path.suffix and not path.exists() and (meant := did_you_mean(path.name, same_kind)):
                return f": {path.parent} has no {path.name}{meant}"
    return ""


class Runner:
    """Runs one job after the other; the command of the last one may still run."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.trial: Trial | None = None
        self._epochs: Iterator[Epoch] = iter(())

    def end(self) -> None:
        """End the command that runs, if one does."""
        if self.trial is not None:
            self.trial.end()
            self.trial = None

    def run(self, job: Job) -> Iterator[Event]:
        """What happens until the job ends.

        Raises:
            StudyError: where the disk is full.
        """
        if self.trial is None or self.trial.folder != job.folder:
            self.end()
            try:
                self.trial = Trial(job, self.device)
            except ScriptError as error:
                yield _finished(job, Summary.failed("user-code", str(error)))
                return
            self._epochs = self.trial.epochs()
        trial = self.trial
        most = 0 if trial.recipe.told_epochs else trial.recipe.run_epochs
        for row in self._epochs:
            paused = not job.whole and row.epoch == job.until
            yield Event(job, epoch=row, paused=paused)
            if paused:
                return
            if row.epoch == most:
                break
        stopped = trial.command.code is None
        self.end()
        summary = trial.summary(stopped=stopped)
        if summary.error and summary.error.kind in MEMORY and not job.alone:
            yield Event(job, again=True)
            return
        yield _finished(job, replace(summary, seconds=time.monotonic() - trial.command.begun))


def _finished(job: Job, summary: Summary) -> Event:
    """The last event of a job, whose summary is written."""
    run = Run(job.folder)
    if not run.config():
        run.begin(job.recipe.as_values())
    run.finish(summary.to_json())
    return Event(job, summary=summary)


def _row(number: int, values: Evaluation, seconds: float) -> Epoch:
    def measured(name: str) -> float:
        value = values.get(name)
        return NotLogged() if value is None else value

    return Epoch(
        number,
        measured("lr"),
        measured("train_loss"),
        measured("train_acc"),
        measured("val_loss"),
        measured("val_acc"),
        NotLogged(),
        seconds,
    )
