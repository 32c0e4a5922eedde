"""`small-resnet` on 50,000 images of 3x32x32 on a GPU: how near the limit, how many trials an hour.

    python benchmarks/speed/gpu.py [--rounds 3] [--write]

Three epochs with their validation, beside the bare loop of `training_speed.py`, which takes turns
with ours. The limit is what a product of large bfloat16 matrices reaches in the same run. The idle
share is the part of an epoch in which no kernel ran. Without a GPU the script says so, and leaves
the last figures alone.
"""

import argparse
import time
from functools import partial
from pathlib import Path
from statistics import median

import torch
from measure import ratio, report, rounds, scratch, spread, table, took
from torch.profiler import ProfilerActivity, profile
from training_speed import CPU, tuned

from cnntune.config.recipe import Recipe, parse
from cnntune.data import Data
from cnntune.steps.inspect.layers import layer_table
from cnntune.training.build import build_model, load_data
from cnntune.training.device import trial_devices
from cnntune.training.loop import train
from cnntune.training.precision import apply, resolve
from cnntune.workers.pool import Job, in_order, run_jobs

IMAGES = 83_334  # of shapes, three fifths of which are trained on
EPOCHS = 3
SIDE, PRODUCTS = 8192, 20
PASSES = 3  # a training step costs about three forward passes
TRIALS = 8


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--write", action="store_true")
    asked = arguments.parse_args()
    if not torch.cuda.is_available():
        print("no GPU here: nothing was measured, and docs/performance.md stays as it is")
        return
    device = torch.device("cuda")
    values = {
        "data": {"name": "shapes", "size": IMAGES},
        "model": {"name": "small-resnet"},
        "augment": {"crop": 4, "flip": True},
        "train": {"epochs": EPOCHS, "batch_size": 512},
    }
    recipe = parse(values, file="benchmark")
    data = load_data(recipe, device)
    recipe = resolve(recipe, data, device)
    apply(recipe)
    loops = {"ours": lambda: ours(recipe, data, device), "tuned": lambda: tuned(recipe, data)}
    found = rounds({name: partial(took, loop) for name, loop in loops.items()}, asked.rounds)
    walls = {name: [cost.wall for cost in costs] for name, costs in found.items()}
    rates = {name: EPOCHS * len(data.train) / median(walls[name]) for name in walls}
    limit = matrix_rate(device) / operations(recipe, data)
    rows = [[f"images a second, {name}", f"{rate:,.0f}"] for name, rate in rates.items()]
    rows += [
        [f"validation accuracy, {name}", spread([float(cost.output) for cost in costs])]
        for name, costs in found.items()
    ]
    rows += [
        ["times as fast as the bare loop", ratio(walls["tuned"], walls["ours"])],
        ["share of the arithmetic limit", f"{rates['ours'] / limit:.1%}"],
        ["share of the time without a kernel", f"{idle_share(recipe, data, device):.1%}"],
    ]
    for workers in (1, 2, 4):
        rows += [
            [f"trials an hour, {workers} at a time", f"{trials(recipe, workers, device):,.0f}"]
        ]
    text = table(("what", torch.cuda.get_device_name(device)), rows)
    report("gpu", text, write=asked.write)


def ours(recipe: Recipe, data: Data, device: torch.device) -> float:
    return list(train(recipe, data, device))[-1].val_acc


def operations(recipe: Recipe, data: Data) -> int:
    """Of a training step, for each image: a product and a sum for each multiply-add."""
    layers = layer_table(build_model(recipe, data).to(CPU), data.in_shape)
    return 2 * PASSES * sum(layer.multiply_adds for layer in layers)


def matrix_rate(device: torch.device) -> float:
    """Operations a second of a product of large bfloat16 matrices."""
    one, other = torch.randn(2, SIDE, SIDE, device=device, dtype=torch.bfloat16)
    one @ other
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(PRODUCTS):
        one @ other
    torch.cuda.synchronize()
    return 2 * SIDE**3 * PRODUCTS / (time.perf_counter() - start)


def idle_share(recipe: Recipe, data: Data, device: torch.device) -> float:
    """One epoch under the profiler, after one without."""
    epochs = train(recipe.with_values({"train.epochs": 2}), data, device)
    next(epochs)
    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        start = time.perf_counter()
        next(epochs)
        torch.cuda.synchronize()
        seconds = time.perf_counter() - start
    kernels = [e for e in profiled.events() or [] if e.device_type.name == "CUDA"]
    busy, until = 0.0, 0.0
    for event in sorted(kernels, key=lambda event: event.time_range.start):
        begin = max(until, event.time_range.start)
        busy += max(0.0, event.time_range.end - begin)
        until = max(until, event.time_range.end)
    return 1 - busy / 1e6 / seconds  # the profiler counts microseconds


def trials(recipe: Recipe, workers: int, device: torch.device) -> float:
    """An hour's worth, from the second trial of each worker on."""
    with scratch() as folder:
        jobs = [
            Job(number, recipe.with_values({"seed": number}), Path(folder) / str(number))
            for number in range(TRIALS + workers)
        ]
        ends = [
            time.perf_counter()
            for event in run_jobs(in_order(jobs), workers=workers, devices=trial_devices(device))
            if event.summary is not None
        ]
        return 3600 * (len(ends) - workers) / (ends[-1] - ends[workers - 1])


if __name__ == "__main__":
    main()
