"""What reading a log costs: seconds and memory of `cnntune diagnose`, and how they grow.

    python benchmarks/diagnosis/log_cost.py [--folder FOLDER]

Made up and diagnosed, each in a process of its own:

- a CSV file of 200 MB with a row per training step and one per validation. Its validation loss
  turns after 70 % of the file, so a reader that stops early finds another label;
- a table of 100,000 columns, five of which are curves;
- a text log, JSON lines and a CSV file of 100,000 and of 200,000 lines: twice the lines should take
  twice the time.

Printed are the seconds on the wall, of the processor, the memory at most, and what was found. The
files are written into a temporary folder, or into FOLDER, where they stay.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LARGE = 200_000_000  # bytes of the large file
LARGE_SECONDS, LARGE_MIB = 10.0, 300  # wanted for it
STEPS_PER_EPOCH = 1000
TURN = 0.7  # of the large file: from here on its validation loss rises
WIDE_COLUMNS, WIDE_ROWS = 100_000, 40
LINES = 100_000, 200_000


@dataclass(frozen=True)
class Cost:
    """Seconds on the wall and of the processor, MiB at most, and the first run of the document."""

    wall: float
    cpu: float
    memory: float
    run: dict[str, Any]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--folder", type=Path)
    asked = arguments.parse_args()
    with tempfile.TemporaryDirectory() if asked.folder is None else nullcontext(asked.folder) as at:
        measure(Path(at))


def measure(folder: Path) -> None:
    large = write(folder / "large.csv", large_table())
    show(f"CSV of {large.stat().st_size / 1e6:.0f} MB", large)
    print(f"    wanted: {LARGE_SECONDS:g} s, {LARGE_MIB} MiB; label: overfitting")
    show(f"CSV of {WIDE_COLUMNS} columns", write(folder / "wide.csv", wide_table()))
    makers: tuple[tuple[str, Callable[[int], Iterator[str]]], ...] = (
        ("text.log", text_log),
        ("lines.jsonl", json_lines),
        ("table.csv", table),
    )
    for name, make in makers:
        one, two = (
            show(f"{name}, {n} lines", write(folder / f"{n}-{name}", make(n))) for n in LINES
        )
        print(f"    twice the lines: {two.cpu / one.cpu:.1f} times the CPU seconds")


def write(path: Path, lines: Iterator[str]) -> Path:
    """The file at `path`, written unless an earlier call left it."""
    if not path.exists():
        with path.open("w", encoding="utf-8") as file:
            file.writelines(lines)
    return path


def show(what: str, path: Path) -> Cost:
    """Diagnose a file and print what that cost."""
    words = [sys.executable, "-m", "cnntune", "diagnose", "--json", str(path)]
    start = time.perf_counter()
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    output = process.stdout.read()
    _, _, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    run = json.loads(output)["runs"][0]
    cost = Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, run)
    print(
        f"{what}: {cost.wall:.1f} s, {cost.cpu:.1f} s of CPU, {cost.memory:.0f} MiB;"
        f" {run['label']}, {run['epochs']} epochs, {', '.join(run['columns'].values())}",
        flush=True,
    )
    return cost


def large_table() -> Iterator[str]:
    yield "epoch,step,train_loss,val_loss,lr,grad_norm,seconds\n"
    draw = random.Random(0)
    row = 60  # bytes, about
    epochs = LARGE // row // STEPS_PER_EPOCH
    for epoch in range(epochs):
        part = epoch / epochs
        for step in range(epoch * STEPS_PER_EPOCH, (epoch + 1) * STEPS_PER_EPOCH):
            loss = 2.3 / (1 + 9 * part) + 0.1 * draw.random()
            yield f"{epoch},{step},{loss!r},,0.1,{draw.random():.12f},{step * 0.25:.3f}\n"
        val = 2.4 / (1 + 5 * part) + max(0.0, part - TURN) * 8
        yield f"{epoch},{step},,{val!r},0.1,,{step * 0.25:.3f}\n"


def wide_table() -> Iterator[str]:
    names = ["epoch", "train_loss", "val_loss", "train_acc", "val_acc"]
    yield ",".join(names + [f"layer{at}.weight" for at in range(WIDE_COLUMNS - len(names))]) + "\n"
    weights = ",0.125" * (WIDE_COLUMNS - len(names))
    for epoch in range(WIDE_ROWS):
        loss = 2 / (1 + epoch)
        accs = f"{1 - loss / 3:.6f},{0.95 - loss / 3:.6f}"
        yield f"{epoch},{loss:.6f},{loss + 0.1:.6f},{accs}{weights}\n"


def text_log(count: int) -> Iterator[str]:
    draw = random.Random(0)
    for step in range(count):
        epoch, loss = step // STEPS_PER_EPOCH, 2 / (1 + step / count * 9) + 0.1 * draw.random()
        at = f"Epoch [{epoch}][{step % STEPS_PER_EPOCH}/{STEPS_PER_EPOCH}]"
        yield f"{at} lr: 1.0e-01, loss: {loss:.4f}\n"
        if step % STEPS_PER_EPOCH == STEPS_PER_EPOCH - 1:
            yield f"Epoch [{epoch}] val loss: {loss + 0.1:.4f}, val acc: {0.9 - loss / 3:.4f}\n"


def json_lines(count: int) -> Iterator[str]:
    draw = random.Random(0)
    for step in range(count):
        epoch, loss = step // STEPS_PER_EPOCH, 2 / (1 + step / count * 9) + 0.1 * draw.random()
        yield json.dumps({"epoch": epoch, "step": step, "train/loss": loss, "lr": 0.1}) + "\n"
        if step % STEPS_PER_EPOCH == STEPS_PER_EPOCH - 1:
            yield json.dumps({"epoch": epoch, "step": step, "val/loss": loss + 0.1}) + "\n"


def table(count: int) -> Iterator[str]:
    yield "epoch,train_loss,val_loss,train_acc,val_acc\n"
    draw = random.Random(0)
    for epoch in range(count):
        loss = 2 / (1 + epoch / count * 9) + 0.1 * draw.random()
        yield f"{epoch},{loss:.6f},{loss + 0.1:.6f},{1 - loss / 3:.6f},{0.95 - loss / 3:.6f}\n"


if __name__ == "__main__":
    main()
