"""How long it takes until something happens: help, diagnose, the first trial, the next one.

    python benchmarks/speed/startup.py [--rounds 5] [--write]

`next trial` is the time between two trials of one worker, by the files that end one and begin the
other.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from time import time

from contenders import ours
from diagnose_speed import write_runs
from measure import Cost, report, rounds, run, scratch, table

TRIALS = 8


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--write", action="store_true")
    asked = arguments.parse_args()
    begun: list[float] = []
    between: list[float] = []
    with scratch() as name:
        folder = Path(name)
        write_runs(folder, 1)
        commands: dict[str, Callable[[], Cost]] = {
            "`cnntune --help`": partial(run, ours("--help"), cwd=folder),
            "`cnntune diagnose` of one run": partial(
                run, ours("diagnose", str(folder / "trial-0000")), cwd=folder
            ),
            f"`cnntune search digits`, {TRIALS} trials": partial(search, begun, between),
        }
        found = rounds(commands, asked.rounds)
    rows = [line(title, [c.wall for c in costs], costs) for title, costs in found.items()]
    rows.append(line("its first trial, from its start", begun[1:]))
    rows.append(line("its next trial, from the end of the last one", between[TRIALS - 1 :]))
    header = ("what", "least s", "median s", "median CPU s")
    report("startup", table(header, rows), write=asked.write)


def search(begun: list[float], between: list[float]) -> Cost:
    """A search with one worker; notes when its first trial began, and the times between trials."""
    with scratch() as folder:
        words = ["search", "digits", "--budget", str(TRIALS), "--epochs", "1", "--workers", "1"]
        start = time()  # as files tell it
        cost = run(ours(*words, "--json"), cwd=Path(folder))
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
