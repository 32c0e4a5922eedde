"""How many CPU cores this process may use, and how many threads pay beside other processes."""

import os
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
SAMPLES = 9  # of the load: a process that starts or ends lasts a few of them
SAMPLE_SECONDS = 0.02


def cores() -> int:
    """The CPU cores that this process may use: in a container or a batch job fewer than exist."""
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    return min([count, *quotas()])


def threads_beside(load: float, count: int, *, machine: int, given: int = 0) -> tuple[int, str]:
    """How many threads a run computes with, and a line where other processes decide that.

    The threads of a run synchronise after each layer by spinning: one that shares its core with
    another process delays all of them, several times longer than its share
    (`docs/performance.md`). So a run has no more threads than cores of the `machine` that the
    `load` of others leaves idle, at least one, and at most the `count` that it may use. A number
    that is `given` stays, for another number adds floats in another order.
    """
    wanted = given or count
    fitting = max(1, min(wanted, round(machine - load)))
    if fitting == wanted:
        return wanted, ""
    busy = f"{machine} core{'s' * (machine > 1)}, load {load:.1f} from other processes"
    if given:
        return given, f"{busy}: {given} threads are required, and will be slow"
    return fitting, f"{busy}: using {fitting} thread{'s' * (fitting > 1)}"


def slowed(load: float, count: int) -> str:
    """A line where others want all `count` cores: what is timed now takes longer than it would.

    Half a process is left to the noise of the measurement.
    """
    if load < count - 0.5:
        return ""
    cores_ = f"{count} core{'s' * (count > 1)}"
    return f"{cores_}, load {load:.1f} from other processes: times are longer than on idle cores"


def load_of_others(proc: Path = Path("/proc/loadavg")) -> float:
    """How many threads of other processes want a core now; a run measures it once, at its start.

    Not the average over a minute, where the system has more: the command that just ended is still
    in it, and jobs that were started with this one are not yet (Linux, proc_loadavg(5)).
    """
    try:
        running_threads = []
        for _ in range(SAMPLES):
            running, _, known = proc.read_text().split()[3].partition("/")
            running_threads.append(int(running) - 1)  # without this one
            if int(known) == 0:  # an emulated /proc
                raise ValueError
            time.sleep(SAMPLE_SECONDS)
        return max(0.0, statistics.median(running_threads))
    except (OSError, IndexError, ValueError):
        return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def quotas(proc: Path = Path("/proc/self/cgroup"), root: Path = CGROUPS) -> list[int]:
    """The whole cores, at least one, that each control group of the process leaves it (Linux).

    `cpu.max` holds microseconds of computing and the period that they are for; "max" is no limit
    (the kernel's cgroup-v2.rst). A container sees its own group as the root.
    """
    found = []
    for group in control_groups("", proc, root):
        limit = _words(group / "cpu.max")
        if len(limit) == 2 and limit[0].isdecimal() and limit[1].isdecimal():
            found.append(max(1, int(limit[0]) // int(limit[1])))
    return found


def control_groups(controller: str, proc: Path, root: Path) -> Iterator[Path]:
    """The folders of the process's control group and of all groups above it, inner ones first.

    `controller` is that of a tree of version 1, such as "memory"; empty for the tree of version 2.
    `proc` lists the process's groups, as /proc/self/cgroup. A folder need not exist: a container
    sees its own group as the root, but reads its name from outside.
    """
    for line in _lines(proc):
        number, controllers, name = line.split(":", 2)
        if controller in controllers.split(",") and bool(controller) == (number != "0"):
            top = root / controller
            group = top / name.strip("/")
            yield group
            while group != top:
                group = group.parent
                yield group


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []
