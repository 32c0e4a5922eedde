"""Trial processes: long-lived, one training run at a time, fed and read over a pipe.

The coordinator alone decides and records; a worker trains, writes the run's folder and sends each
epoch. A worker outlives its trials, since importing torch takes seconds, and a trial may take less.
"""

import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from cnntune.config.recipe import Recipe
from cnntune.errors import CnntuneError, DataError
from cnntune.machine.clock import NEVER, Deadline
from cnntune.runs.run import Epoch, Run
from cnntune.runs.summary import Summary
from cnntune.script.command import end_marked, mark_of
from cnntune.workers.processes import start

SERVE = "cnntune.workers.worker:serve"  # by name: it imports torch, which only the workers need
SERVE_COMMANDS = "cnntune.workers.command_worker:serve"
MAX_DEATHS = 5  # of workers over one trial without a further epoch: the trial kills them


@dataclass(frozen=True)
class Job:
    """One training run: what to train, the folder that takes it, and up to which epoch.

    A run that pauses is resumed by a further job with the same folder. One that `continues` begins
    with the state and the rows of another run's checkpoint.
    """

    number: int
    recipe: Recipe
    folder: Path
    until: int | None = None  # the end of the run if left out
    alone: bool = False  # nothing else trains on its device meanwhile: the last try for memory
    continues: Path | None = None
    check: bool = False  # only read the data, before anything is trained; it has no folder

    @property
    def whole(self) -> bool:
        """Whether the job ends with the run."""
        return self.until is None or self.until >= self.recipe.run_epochs

    @property
    def serve(self) -> str:
        """What the process does that takes such jobs."""
        return SERVE_COMMANDS if self.recipe.runs_command else SERVE

    def end_processes(self) -> None:
        """End what a worker that was killed has left running of the job's command."""
        if self.recipe.runs_command:
            end_marked(mark_of(self.folder))


@dataclass(frozen=True)
class Event:
    """What happened to a job: it began, it finished an epoch, it ended with a result.

    `epoch` is None in the first and the last event of a job; `summary` is None but in the last. A
    job that ends before its run has a row with `paused` as its last event. A job that ran out of
    memory ends with `again`, and is resumed alone on its device. `last` is the last event of a
    worker whose device no longer works. `taken_by` names the coordinator on another machine that
    has taken the trial over. `died` is the exit code of a worker that died over the job, which
    another worker resumes.
    """

    job: Job
    epoch: Epoch | None = None
    summary: Summary | None = None
    paused: bool = False
    again: bool = False
    last: bool = False
    taken_by: str | None = None
    died: int | None = None

    @property
    def ends_job(self) -> bool:
        """Whether the worker is free for the next job."""
        return self.summary is not None or self.paused or self.again


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    device: str
    job: Job | None = None
    held: Path | None = None  # the folder of the paused run that it can resume without a checkpoint
    last: Job | None = None  # that it has or had: its command may still run


def run_jobs(
    next_job: Callable[[], Job | None],
    *,
    workers: int,
    devices: Sequence[str],
    deadline: Deadline = NEVER,
) -> Iterator[Event]:
    """Train jobs on `workers` processes and yield their events as they happen.

    `devices` are names; each takes a worker in turn.

    `next_job` is asked whenever a worker is free and the caller has seen every event before; None
    means that there is nothing to do until something else happens. The iterator ends when nothing
    is left to happen. A worker that dies is replaced, and its job resumed where its run
    stopped; a job over which workers die again and again fails. A job that runs out of memory is
    resumed once nothing else trains on its device, and so is the last try of a job over
    which workers die: what other trials cause is no result. The deadline, and closing the iterator,
    end the workers at once; their unfinished runs have no `summary.json` and resume from their
    last finished epoch when they are given out again.

    Raises:
        CnntuneError: for what affects all jobs, such as a full disk or unreadable data.
    """
    pool = _Pool(workers, devices)
    deaths: dict[Path, int] = {}
    again: list[Job] = []
    try:
        while True:
            pool.give_lone_jobs()
            while pool.has_room():
                job = again.pop() if again else next_job()
                if job is None:
                    break
                pool.give(job)
                yield Event(job)
            busy = {worker.pipe: worker for worker in pool.busy()}
            if not busy:
                return
            for pipe in connection.wait(list(busy), deadline.seconds_left):
                worker = busy[pipe]  # type: ignore[index]
                job = worker.job
                assert job is not None  # only busy workers are waited for
                event = _receive(worker)
                if event is None:
                    job.end_processes()
                    pool.forget(worker)
                    yield Event(job, died=worker.process.exitcode)
                    deaths[job.folder] = deaths.get(job.folder, 0) + 1
                    if deaths[job.folder] < MAX_DEATHS:
                        if job.alone or deaths[job.folder] == MAX_DEATHS - 1:
                            pool.give_alone(job, worker.device)
                        else:
                            again.append(job)
                        continue
                    event = _killed(worker, job)
                elif event.epoch is not None:
                    deaths.pop(job.folder, None)
                if event.last:
                    pool.end(worker)
                if event.again:
                    pool.give_alone(job, worker.device)
                    continue
                yield event
            if deadline.passed:
                return
    finally:
        pool.close()


def in_order(jobs: Iterable[Job]) -> Callable[[], Job | None]:
    """Jobs that are known beforehand, as `run_jobs` asks for them."""
    waiting = iter(jobs)
    return lambda: next(waiting, None)


class _Pool:
    """The workers, each on its device, and the jobs that wait until they are alone on one."""

    def __init__(self, workers: int, devices: Sequence[str]) -> None:
        # One per worker.
        self._devices = [devices[index % len(devices)] for index in range(workers)]
        self._workers: list[_Worker] = []
        self._lone: list[tuple[Job, str]] = []

    def busy(self) -> list[_Worker]:
        """Those that train."""
        return [worker for worker in self._workers if worker.job is not None]

    def has_room(self) -> bool:
        """Whether some device can take a job now."""
        return bool(self._open_devices())

    def _open_devices(self) -> list[str]:
        """The devices that can take a further job; none that a lone job has or waits for."""
        taken = [worker.device for worker in self.busy()]
        closed = {device for _, device in self._lone}
        closed |= {worker.device for worker in self.busy() if worker.job and worker.job.alone}
        return [
            device
            for device in dict.fromkeys(self._devices)
            if device not in closed and taken.count(device) < self._devices.count(device)
        ]

    def give(self, job: Job) -> None:
        """Send the job to the worker that holds its run, to another free one, or to a new one."""
        there = self._open_devices()
        free = [w for w in self._workers if w.job is None and w.device in there]
        free.sort(key=lambda worker: (worker.held != job.folder, worker.held is not None))
        worker = free[0] if free else self._new(job.serve, least_used(there, self._taken()))
        _send(job, worker)

    def give_alone(self, job: Job, device: str) -> None:
        """Keep the job until nothing trains on its device; nothing else is begun there."""
        self._lone.append((replace(job, alone=True), device))

    def give_lone_jobs(self) -> None:
        """Send waiting jobs to devices on which nothing trains, and free what idle workers hold."""
        for waiting in list(self._lone):
            job, device = waiting
            here = [worker for worker in self._workers if worker.device == device]
            if any(worker.job is not None for worker in here):
                continue
            for worker in here:
                self.end(worker)
            self._lone.remove(waiting)
            _send(job, self._new(job.serve, device))

    def _taken(self) -> list[str]:
        return [worker.device for worker in self._workers]

    def _new(self, serve: str, device: str) -> _Worker:
        worker = _Worker(*start(serve, device), device)
        self._workers.append(worker)
        return worker

    def forget(self, worker: _Worker) -> None:
        """Forget a worker that has ended."""
        self._workers.remove(worker)

    def end(self, worker: _Worker) -> None:
        """End a worker without a job, which frees all memory that it holds."""
        self.forget(worker)
        _end([worker])

    def close(self) -> None:
        """End all workers at once."""
        _end(self._workers)


def _send(job: Job, worker: _Worker) -> None:
    worker.job = worker.last = job
    with suppress(OSError):  # it died between jobs; reading its pipe shows it
        worker.pipe.send(job)


def _end(workers: Sequence[_Worker]) -> None:
    for worker in workers:
        worker.process.kill()
    for worker in workers:
        worker.process.join()
        worker.pipe.close()
        if worker.last is not None:
            worker.last.end_processes()


def least_used(devices: Sequence[str], taken: Sequence[str]) -> str:
    """The device that fewest workers have taken, the first of several."""
    return min(devices, key=taken.count)


def _receive(worker: _Worker) -> Event | None:
    """The next event of a busy worker, or None where it died.

    Raises:
        CnntuneError: for what affects all jobs, such as a worker that cannot write.
    """
    try:
        event: Event | CnntuneError = worker.pipe.recv()
    except (EOFError, ConnectionResetError):
        worker.process.join()
        worker.pipe.close()
        return None
    if isinstance(event, CnntuneError):
        raise event
    if event.ends_job:
        worker.job = None
        worker.held = event.job.folder if event.paused else None
    return event


def _killed(worker: _Worker, job: Job) -> Event:
    """The end of a job over which workers died.

    Raises:
        DataError: where nothing but the data was read.
    """
    code = worker.process.exitcode
    error = f"the worker process died {MAX_DEATHS} times (exit code {code})"
    if code == -signal.SIGKILL:
        error += "; the system kills processes when memory runs out"
    if job.check:
        raise DataError(f"data {job.recipe.data.name}: cannot be read: {error}")
    summary = Summary.failed("killed", error)
    Run(job.folder).finish(summary.to_json())
    return Event(job, summary=summary)
