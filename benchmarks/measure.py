"""Measuring commands side by side: in each round each takes its turn, and ratios stay in a round.

Time on a shared machine is noisy, so beside the seconds on the wall stand those of the processor,
of a command and of every process that it left behind.
"""

import ctypes
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
BECOME_SUBREAPER = 36  # linux/prctl.h: orphans become our children, and their time is counted
FLAGS = ("amx_bf16", "avx512_bf16", "avx512f", "avx2")


@dataclass(frozen=True)
class Cost:
    """What a command took: seconds on the wall and of all its processes, and what it printed."""

    wall: float
    cpu: float
    output: str


def run(words: Sequence[str], *, cwd: Path, env: Mapping[str, str] | None = None) -> Cost:
    """Run a command to its end, and wait until its last process is gone."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(BECOME_SUBREAPER, 1, 0, 0, 0)
    before = _children_cpu()
    start = time.perf_counter()
    done = subprocess.run(
        words, cwd=cwd, env={**os.environ, **(env or {})}, capture_output=True, text=True
    )
    wall = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}: exit code {done.returncode}\n{done.stderr[-2000:]}")
    with suppress(ChildProcessError):
        while True:
            os.wait()
    return Cost(wall, _children_cpu() - before, done.stdout)


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


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def machine() -> str:
    """Where and when figures were taken."""
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {cores} cores of {_processor()}{load};"
        f" Python {platform.python_version()}, torch {version('torch')}"
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
