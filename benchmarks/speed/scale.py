"""How cost grows: runs to diagnose, images to hold, workers to train with.

    python benchmarks/speed/scale.py [--rounds 3] [--write]

The curves and images are made up, in a temporary folder (4 GB of disk). Whole processes; memory is
the most that the process held.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
from contenders import ours
from diagnose_speed import write_runs
from measure import Cost, ratio, report, rounds, run, run_code, scratch, table

RUNS = (10, 100, 1_000, 10_000)
IMAGES = (1_000, 10_000, 100_000, 1_000_000)
TRIALS = 32
DIAGNOSE = "from cnntune.cli import main; main()"
LOAD = """
import sys, torch
from cnntune.training.build import load_data
from cnntune.config.recipe import parse
values = {"data": {"name": "npz", "path": sys.argv[1]}}
data = load_data(parse(values, file="benchmark"), torch.device("cpu"))
next(data.train.batches(torch.arange(128), 128))
"""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--most", type=int, default=IMAGES[-1], help="leave larger work out")
    arguments.add_argument("--write", action="store_true")
    asked = arguments.parse_args()
    with scratch() as name:
        folder = Path(name)
        diagnosed = {n: diagnose_of(folder, n) for n in RUNS if n <= asked.most}
        loaded = {n: load_of(folder, n) for n in IMAGES if n <= asked.most}
        searched = {n: partial(search, n) for n in (1, 2)}
        of_runs = rounds({f"{n} runs": work for n, work in diagnosed.items()}, asked.rounds)
        of_images = rounds({f"{n} images": work for n, work in loaded.items()}, asked.rounds)
        of_workers = rounds({f"{n} workers": work for n, work in searched.items()}, asked.rounds)
    rows = [
        row(f"`diagnose` of {n:,} runs of 100 epochs", of_runs[f"{n} runs"], n) for n in diagnosed
    ]
    rows += [
        row(
            f"load {n:,} images of 3x32x32, {n * 3072 / 2**20:,.0f} MiB",
            of_images[f"{n} images"],
            n,
        )
        for n in loaded
    ]
    rows += [
        row(f"`search digits --budget {TRIALS} --workers {n}`", of_workers[f"{n} workers"], TRIALS)
        for n in searched
    ]
    one, two = ([cost.wall for cost in of_workers[f"{n} workers"]] for n in searched)
    note = f"Two workers are {ratio(one, two)} times as fast as one, their start included."
    header = ("work", "wall s", "CPU s", "MiB", "wall ms each")
    report("scale", f"{table(header, rows)}\n\n{note}", write=asked.write)


def diagnose_of(folder: Path, count: int) -> Callable[[], Cost]:
    study = folder / f"runs-{count}"
    study.mkdir()
    write_runs(study, count)
    return partial(run_code, DIAGNOSE, "diagnose", "--json", str(study), cwd=folder)


def load_of(folder: Path, count: int) -> Callable[[], Cost]:
    path = folder / f"images-{count}.npz"
    pixels = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), np.uint8)
    np.savez(path, x=pixels, y=np.arange(count) % 10)
    return partial(run_code, LOAD, str(path), cwd=folder)


def search(workers: int) -> Cost:
    with scratch() as folder:
        words = ["search", "digits", "--budget", str(TRIALS), "--workers", str(workers), "--json"]
        return run(ours(*words), cwd=Path(folder))


def row(title: str, costs: list[Cost], count: int) -> list[str]:
    wall, memory = median(cost.wall for cost in costs), median(cost.memory for cost in costs)
    return [
        title,
        f"{wall:.2f}",
        f"{median(cost.cpu for cost in costs):.2f}",
        f"{memory:,.0f}" if memory == memory else "",
        f"{1000 * wall / count:.3g}",
    ]


if __name__ == "__main__":
    main()
