"""One thread and two, alone and beside processes that keep the cores busy.

    python benchmarks/speed/thread_contention.py [--rounds 5] [--busy 0 1 2 4] [--write]

An epoch of `small-cnn` on images of 3x28x28, batches of 128, which has every core where the recipe
leaves the number of threads open. `share` is how many times longer it takes than its share of the
machine allows: with two cores, four busy processes and two threads of its own a run has a third of
the machine, and should take three times as long as alone.
"""

import argparse
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from statistics import median

import torch
from measure import COMPARED, Cost, compared, report, rounds, table, took

from cnntune.config.recipe import Recipe, parse
from cnntune.data import Data
from cnntune.machine.cpus import cores
from cnntune.training.build import load_data
from cnntune.training.loop import train

CPU = torch.device("cpu")
IMAGES = 3_000  # in all, cut 3 to 1 to 1
BURN = "while True: pass"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--images", type=int, default=IMAGES)
    arguments.add_argument("--busy", type=int, nargs="+", default=[0, 1, 2, 4])
    arguments.add_argument("--write", action="store_true")
    asked = arguments.parse_args()
    values = {
        "data": {"name": "shapes", "size": asked.images, "image_size": 28},
        "train": {"epochs": 1, "batch_size": 128, "precision": "float32"},
    }
    recipe = parse(values, file="benchmark")
    data = load_data(recipe, CPU)
    cases = [(busy, threads) for busy in sorted({0, *asked.busy}) for threads in (1, 2)]
    contenders: dict[str, Callable[[], Cost]] = {
        title(*case): partial(beside, case[0], epochs(recipe, data, case[1])) for case in cases
    }
    found = rounds(contenders, asked.rounds)
    rows = []
    for busy, threads in cases:
        costs, single = found[title(busy, threads)], found[title(busy, 1)]
        alone = median(cost.wall for cost in found[title(0, threads)])
        times = median(cost.wall for cost in costs) / (alone * slower(busy, threads, cores()))
        rows.append([str(busy), str(threads), *compared(costs, single), f"{times:.2f}"])
    header = ("busy beside", "threads", *COMPARED, "share")
    report("thread_contention", table(header, rows), write=asked.write)


def title(busy: int, threads: int) -> str:
    return f"{busy} busy, {threads} thread{'s' * (threads > 1)}"


def slower(busy: int, threads: int, count: int) -> float:
    """How many times longer than alone fair turns make a run, on so many cores."""
    return max(1.0, (busy + threads) / count) / max(1.0, threads / count)


def epochs(recipe: Recipe, data: Data, threads: int) -> Callable[[], Cost]:
    """An epoch at each call, each time from another seed."""
    seeds = count()

    def turn() -> Cost:
        values = {"seed": next(seeds), "train.threads": threads}
        settled = recipe.with_values(values)
        torch.set_num_threads(threads)
        return took(lambda: [row.val_acc for row in train(settled, data, CPU)])

    return turn


def beside(busy: int, turn: Callable[[], Cost]) -> Cost:
    """A turn while so many processes compute."""
    with burning(busy):
        return turn()


@contextmanager
def burning(number: int) -> Iterator[None]:
    """So many processes that never rest; their processor time is nobody's."""
    processes = [subprocess.Popen([sys.executable, "-c", BURN]) for _ in range(number)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


if __name__ == "__main__":
    main()
