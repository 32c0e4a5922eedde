"""How long it takes until something happens: help, diagnose, the first trial, the next one.

    python benchmarks/speed/startup.py [--rounds 5] [--write] [--against CHECKOUT]

`--against` runs each command with the code of another checkout too, in the same rounds, and prints
how many times this one is faster: the median over the rounds, the least and the most.

`next trial` is the time between two trials of one worker, by the files that end one and begin the
other.
"""

import argparse
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import median
from time import time

from contenders import ours
from diagnose_speed import write_runs
from measure import COMPARED, Cost, compared, report, rounds, run, scratch, table

TRIALS = 8
TITLES = (
    "`cnntune --help`",
    "`cnntune diagnose` of one run",
    f"`cnntune search digits`, {TRIALS} trials",
)
OTHER = ", other checkout"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--write", action="store_true")
    arguments.add_argument("--against", type=Path, metavar="CHECKOUT")
    asked = arguments.parse_args()
    begun: list[float] = []
    between: list[float] = []
    other: Path | None = asked.against and asked.against.resolve(strict=True)
    with scratch() as name:
        folder = Path(name)
        write_runs(folder, 1)
        found = rounds(contenders(folder, begun, between, other), asked.rounds)
    rows = [line(title, [c.wall for c in costs], costs) for title, costs in found.items()]
    rows.append(line("its first trial, from its start", begun[1:]))
    rows.append(line("its next trial, from the end of the last one", between[TRIALS - 1 :]))
    header = ("what", "least s", "median s", "median CPU s")
    report("startup", table(header, rows), write=asked.write)
    if other:
        sides = ((title, found[title], found[title + OTHER]) for title in TITLES)
        compare = [[title, *compared(theirs, ours)] for title, ours, theirs in sides]
        print(table((f"`{other.name}`", *COMPARED), compare))


def contenders(
    folder: Path, begun: list[float], between: list[float], other: Path | None
) -> dict[str, Callable[[], Cost]]:
    """The commands, and after each the same with the code of another checkout."""
    start, one_run, trials = TITLES
    commands: dict[str, Callable[[], Cost]] = {}
    for suffix, code in (("", None), (OTHER, other))[: 2 if other else 1]:
        env = {"PYTHONPATH": str(code)} if code else None
        seen = ([], []) if code else (begun, between)
        judged = ours("diagnose", str(folder / "trial-0000"))
        commands[start + suffix] = partial(run, ours("--help"), cwd=folder, env=env)
        commands[one_run + suffix] = partial(run, judged, cwd=folder, env=env)
        commands[trials + suffix] = partial(search, *seen, env=env)
    return commands


def search(begun: list[float], between: list[float], env: Mapping[str, str] | None = None) -> Cost:
    """A search with one worker; notes when its first trial began, and the times between trials."""
    with scratch() as folder:
        words = ["search", "digits", "--budget", str(TRIALS), "--epochs", "1", "--workers", "1"]
        start = time()  # as files tell it
        cost = run(ours(*words, "--json"), cwd=Path(folder), env=env)
        trials = sorted(Path(folder).glob("runs/digits/trial-*"))
        begins = [(trial / "config.json").stat().st_mtime for trial in trials]
        ends = [(trial / "summary.json").stat().st_mtime for trial in trials]
    begun.append(begins[0] - start)
    between += [begin - end for begin, end in zip(begins[1:], ends[:-1], strict=True)]
    return cost


def line(title: str, walls: list[float], costs: list[Cost] | None = None) -> list[str]:
    cpu = f"{median(cost.cpu for cost in costs):.3f}" if costs else ""
    return [title, f"{min(walls):.3f}", f"{median(walls):.3f}", cpu]


if __name__ == "__main__":
    main()
