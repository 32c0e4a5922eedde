"""How many CPU cores this process may use."""

import os
from collections.abc import Iterator
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
    sees its own group as the root, but is told its name outside.
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
