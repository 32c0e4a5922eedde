"""How cost grows: runs to diagnose, images to hold, workers to train with.

    python benchmarks/scale.py [--write]

The curves and images are made up, in a temporary folder.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from contenders import ours
from diagnose_speed import write_runs
from measure import Cost, report, run, scratch, table

RUNS = (10, 100, 1_000, 10_000)
IMAGES = (1_000, 10_000, 100_000, 1_000_000)
WORKERS = (1, 2)
LOAD = """
import resource, sys, torch
from cnntune.build import load_data
from cnntune.recipe import parse
values = {"data": {"name": "npz", "path": sys.argv[1]}}
data = load_data(parse(values, file="benchmark"), torch.device("cpu"))
next(data.train.batches(torch.arange(128), 128))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--write", action="store_true")
    asked = arguments.parse_args()
    rows = [*diagnosed(), *loaded(), *searched()]
    report("scale", table(("work", "wall s", "CPU s", "memory"), rows), write=asked.write)


def diagnosed() -> list[list[str]]:
    rows = []
    for count in RUNS:
        with scratch() as folder:
            write_runs(Path(folder), count)
            code = (
                "import resource; from cnntune.cli import main\n"
                "try: main()\n"
                "finally: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
            )
            words = [sys.executable, "-c", code, "diagnose", "--quiet", folder]
            cost = run(words, cwd=Path(folder))
            rows.append(row(f"`diagnose` of {count:,} runs of 100 epochs", cost))
    return rows


def loaded() -> list[list[str]]:
    rows = []
    for count in IMAGES:
        with scratch() as folder:
            path = Path(folder) / "images.npz"
            draw = np.random.default_rng(0)
            pixels = draw.integers(0, 256, (count, 32, 32, 3), np.uint8)
            np.savez(path, x=pixels, y=np.arange(count) % 10)
            cost = run([sys.executable, "-c", LOAD, str(path)], cwd=Path(folder))
            megabytes = pixels.nbytes / 2**20
            del pixels
            rows.append(row(f"load {count:,} images of 3x32x32, {megabytes:,.0f} MiB", cost))
    return rows


def searched() -> list[list[str]]:
    rows = []
    for count in WORKERS:
        with scratch() as folder:
            words = ["search", "digits", "--budget", "16", "--workers", str(count), "--json"]
            cost = run(ours(*words), cwd=Path(folder))
            plural = "s" if count > 1 else ""
            title = f"`search digits --budget 16`, {count} worker{plural}"
            rows.append([title, f"{cost.wall:.2f}", f"{cost.cpu:.2f}", ""])
    return rows


def row(title: str, cost: Cost) -> list[str]:
    kilobytes = int(cost.output.split()[-1])
    return [title, f"{cost.wall:.2f}", f"{cost.cpu:.2f}", f"{kilobytes / 1024:,.0f} MiB"]


if __name__ == "__main__":
    main()
