"""How many CPU cores this process may use."""

import os
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


def cores() -> int:
    """The CPU cores that this process may use: in a container or a batch job fewer than exist."""
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    return min([count, *quotas()])


def quotas(proc: Path = Path("/proc/self/cgroup"), root: Path = CGROUPS) -> list[int]:
    """The whole cores, at least one, that each control group of the process leaves it (Linux).

    `cpu.max` holds microseconds of computing and the period that they are for; "max" is no limit
    (the kernel's cgroup-v2.rst). A container sees its own group as the root.
    """
    try:
        lines = proc.read_text().splitlines()
    except OSError:
        return []
    own = next((line[3:] for line in lines if line.startswith("0::")), "/").lstrip("/")
    found = []
    for group in (root / own, *(root / own).parents):
        limit = _words(group / "cpu.max")
        if len(limit) == 2 and limit[0].isdecimal() and limit[1].isdecimal():
            found.append(max(1, int(limit[0]) // int(limit[1])))
        if group == root:
            break
    return found


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []
