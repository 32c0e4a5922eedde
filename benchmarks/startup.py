"""How long it takes until something happens: help, diagnose, the first trial, the next one.

python benchmarks/startup.py [--rounds 5] [--write]
"""

import argparse
import time
from pathlib import Path
from statistics import median

from contenders import ours
from diagnose_speed import write_runs
from measure import report, run, scratch, table

EPOCHS = 1


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--write", action="store_true")
    asked = arguments.parse_args()
    rows = []
    with scratch() as name:
        folder = Path(name)
        write_runs(folder, 1)
        for words in (("--help",), ("diagnose", str(folder / "trial-0000"))):
            costs = [run(ours(*words), cwd=folder) for _ in range(asked.rounds)]
            title = f"`cnntune {words[0]}`"
            rows.append(line(title, [c.wall for c in costs], [c.cpu for c in costs]))
    begun, between = trials(asked.rounds)
    rows.append(line("a search's first trial, from its start", begun, None))
    rows.append(line("from the end of a trial to the begin of the next", between, None))
    report(
        "startup", table(("what", "least s", "median s", "median CPU s"), rows), write=asked.write
    )


def line(title: str, walls: list[float], cpus: list[float] | None) -> list[str]:
    cpu = f"{median(cpus):.3f}" if cpus else ""
    return [title, f"{min(walls):.3f}", f"{median(walls):.3f}", cpu]


def trials(rounds: int) -> tuple[list[float], list[float]]:
    """When the first trial begins, and the time between two of one worker."""
    begun, between = [], []
    for _ in range(rounds):
        with scratch() as folder:
            words = ["search", "digits", "--budget", "8", "--epochs", str(EPOCHS), "--workers", "1"]
            start = time.time()
            run(ours(*words, "--json"), cwd=Path(folder))
            runs = sorted(Path(folder).glob("runs/digits/trial-*"))
            # Times are those of the files: config.json begins a trial and summary.json ends it.
            begins = [(run_ / "config.json").stat().st_mtime for run_ in runs]
            ends = [(run_ / "summary.json").stat().st_mtime for run_ in runs]
            begun.append(begins[0] - start)
            between += [b - e for b, e in zip(begins[1:], ends, strict=False)]
    return begun, between


if __name__ == "__main__":
    main()
