"""Measuring commands side by side: in each round each takes its turn, and ratios stay in a round.

Time on a shared machine is noisy, so beside the seconds on the wall stand those of the processor,
of a command and of every process that it left behind.
"""

import ctypes
import math
import os
import platform
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from multiprocessing import active_children
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "performance.md"
BECOME_SUBREAPER = 36  # linux/prctl.h: orphans become our children, and their time is counted
FLAGS = ("amx_bf16", "avx512_bf16", "avx512f", "avx2")
LIMIT = 1800  # seconds for a command; the longest takes two minutes on two cores
# A child inherits the `ru_maxrss` of the process that starts it, so the child looks for itself.
PRINT_PEAK = """
import atexit, pathlib, resource
def _peak():
    status = pathlib.Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    linux = [line.split()[1] for line in lines if line.startswith("VmHWM")]
    print(*(linux or [resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024]))
atexit.register(_peak)
"""
COMPARED = ("wall s", "CPU s", "wall ratio", "CPU ratio")  # the header over `compared`


@dataclass(frozen=True)
class Cost:
    """What work took: seconds on the wall and of all its processes, and what it came to."""

    wall: float
    cpu: float
    output: str
    memory: float = math.nan  # MiB at most, where it was asked


def run(words: Sequence[str], *, cwd: Path, env: Mapping[str, str] | None = None) -> Cost:
    """Run a command to its end, and wait until its last process is gone."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(BECOME_SUBREAPER, 1, 0, 0, 0)
    before = _children_cpu()
    start = time.perf_counter()
    process = subprocess.Popen(
        words,
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # so that all that it started can be ended with it
    )
    try:
        output, errors = process.communicate(timeout=LIMIT)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    wall = time.perf_counter() - start
    if process.returncode:
        raise SystemExit(f"{' '.join(words)}: exit code {process.returncode}\n{errors[-2000:]}")
    with suppress(ChildProcessError):
        while True:
            os.wait()
    return Cost(wall, _children_cpu() - before, output)


def run_code(code: str, *words: str, cwd: Path) -> Cost:
    """Run a program given as text, and ask for the memory of its own process."""
    cost = run([sys.executable, "-c", PRINT_PEAK + code, *words], cwd=cwd)
    return replace(cost, memory=int(cost.output.split()[-1]) / 1024)


def took(work: Callable[[], object]) -> Cost:
    """Do work in this process, as a `Cost` of it and its worker processes."""
    start, before = time.perf_counter(), _cpu()
    result = work()
    return Cost(time.perf_counter() - start, _cpu() - before, str(result))


def _cpu() -> float:
    """Processor seconds of this process, of children that have ended and of those at work."""
    living = (_cpu_of(process.pid) for process in active_children())  # buries those that ended
    return sum(living) + time.process_time() + _children_cpu()


def _cpu_of(pid: int | None) -> float:
    """Of a process that lives; 0 where there is no /proc to tell."""
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # utime, stime
    return 0.0


def _children_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def rounds(contenders: Mapping[str, Callable[[], Cost]], count: int) -> dict[str, list[Cost]]:
    """Each contender once in each round; the first round warms the disk's cache and is left out."""
    costs: dict[str, list[Cost]] = {name: [] for name in contenders}
    for number in range(count + 1):
        for name, contender in contenders.items():
            cost = contender()
            print(f"round {number}: {name}: {cost.wall:.2f} s, {cost.cpu:.2f} s of CPU", flush=True)
            if number:
                costs[name].append(cost)
    return costs


def ratio(theirs: Sequence[float], ours: Sequence[float]) -> str:
    """How many times ours is faster: the median over the rounds, and the least and the most."""
    found = [one / other for one, other in zip(theirs, ours, strict=True)]
    return f"{statistics.median(found):.2f} ({min(found):.2f}-{max(found):.2f})"


def compared(theirs: Sequence[Cost], ours: Sequence[Cost]) -> list[str]:
    """Four cells: median seconds on the wall and of the processor, and how ours compares."""
    walls, cpus = [cost.wall for cost in theirs], [cost.cpu for cost in theirs]
    return [
        f"{statistics.median(walls):.2f}",
        f"{statistics.median(cpus):.2f}",
        ratio(walls, [cost.wall for cost in ours]),
        ratio(cpus, [cost.cpu for cost in ours]),
    ]


def spread(values: Sequence[float]) -> str:
    """The median, and the least and the most, of accuracies."""
    return f"{statistics.median(values):.3f} ({min(values):.3f}-{max(values):.3f})"


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def machine() -> str:
    """Where and when figures were taken."""
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    limited = os.environ.get("OMP_NUM_THREADS")
    load += f", OMP_NUM_THREADS={limited} for all" if limited else ""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {cores} cores of {_processor()}{load};"
        f" cnntune {version('cnntune')}, Python {platform.python_version()},"
        f" torch {version('torch')}"
    )


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return platform.processor()
    lines = (line.partition(":") for line in info.read_text().splitlines())
    fields = {key.strip(): value.strip() for key, _, value in lines}
    known = fields.get("flags", "").split()
    return f"{fields.get('model name', 'a CPU')} ({', '.join(f for f in FLAGS if f in known)})"


def report(name: str, text: str, *, write: bool) -> None:
    """Print a benchmark's result, and put it in its place in `docs/performance.md`."""
    text = f"{text}\n\n{machine()}"
    print(f"\n{text}")
    if not write:
        return
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    page = PAGE.read_text(encoding="utf-8")
    before, found, rest = page.partition(begin)
    if not found:
        raise SystemExit(f"{PAGE}: has no place for {name}: {begin} ... {end}")
    after = rest.partition(end)[2]
    PAGE.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


def scratch() -> "tempfile.TemporaryDirectory[str]":
    """A folder for runs, removed afterwards."""
    return tempfile.TemporaryDirectory(prefix="cnntune-bench-")
