"""How much memory this process may still use, and how much of it images may take."""

import os
from collections.abc import Iterator
from pathlib import Path

from cnntune.machine.cpus import CGROUPS, control_groups

MEMINFO = Path("/proc/meminfo")
OWN_GROUPS = Path("/proc/self/cgroup")
# The share of the memory for the images of all processes together. While images are read into main
# memory they are there twice, in every process at the same time: 0.8. A GPU holds them once, beside
# what training takes there.
MAIN_SHARE = 0.4
GPU_SHARE = 0.25


def fit(image_bytes: int, processes: int, free_on_gpu: int | None = None) -> bool:
    """Whether so many processes can each hold the images in memory.

    `free_on_gpu` are the bytes that these processes find free on the GPU they share; without one
    the images are held in main memory.
    """
    needed = image_bytes * processes
    if free_on_gpu is not None and needed > GPU_SHARE * free_on_gpu:
        return False
    return needed <= MAIN_SHARE * available()


def available(meminfo: Path = MEMINFO, own_groups: Path = OWN_GROUPS, root: Path = CGROUPS) -> int:
    """Bytes of main memory that this process can use before the system swaps or kills.

    The page cache is given up when memory is needed: what it takes is available, though not free.
    Of a control group its limit less its use is available.
    """
    return max(0, min([_of_the_system(meminfo), *left_by_groups(own_groups, root)]))


def _of_the_system(meminfo: Path) -> int:
    """`MemAvailable`, the kernel's own estimate (Linux 3.14); elsewhere all memory there is."""
    try:
        lines = meminfo.read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def left_by_groups(own_groups: Path = OWN_GROUPS, root: Path = CGROUPS) -> list[int]:
    """The bytes that each control group with a limit leaves the process, version 1 and 2 (Linux).

    The use of a group counts the files that it has read. Those that were not read again of late
    (`inactive_file`) the kernel drops before anything else (its cgroup-v2.rst).
    """
    return [*_left("", own_groups, root), *_left("memory", own_groups, root)]


def _left(controller: str, own_groups: Path, root: Path) -> Iterator[int]:
    """`controller` is empty for version 2, which has one tree of groups for all of them."""
    old = bool(controller)
    limit, used = (
        ("memory.limit_in_bytes", "memory.usage_in_bytes")
        if old
        else ("memory.max", "memory.current")
    )
    dropped = "total_inactive_file" if old else "inactive_file"
    for group in control_groups(controller, own_groups, root):
        most, taken = _number(group / limit), _number(group / used)
        if most is not None and taken is not None:
            yield most - taken + _entry(group / "memory.stat", dropped)


def _number(path: Path) -> int | None:
    """The only number in a file; None for `max`, and where there is no file."""
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None


def _entry(path: Path, name: str) -> int:
    """The number behind a name in a file of names and numbers, 0 where it is not there."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.split()[:1] == [name]), 0)
