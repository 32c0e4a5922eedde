"""`cnntune lr-sweep` beside a bare PyTorch loop and Lightning that try the same rates and seeds.

    python benchmarks/speed/sweep_peers.py [--rounds 5] [--venv .bench-venv] [--write]

Whole processes on digits, 100 iterations of 64 images a rate, without augmentation. Which rates
and seeds are tried is what our sweep decides; the five rates of the lecture stand beside it for
the peers.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

from contenders import CPU, ours, peers, write_images
from measure import COMPARED, Cost, compared, report, rounds, run, scratch, table

from cnntune.steps.lr_sweep import GRID
from cnntune.steps.sweep_recipe import sweep
from cnntune.training.build import load_data
from cnntune.training.open_recipe import load_recipe

OURS = "cnntune lr-sweep"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--venv", type=Path, default=Path(".bench-venv"))
    arguments.add_argument("--write", action="store_true")
    asked = arguments.parse_args()
    others = peers(asked.venv)
    with scratch() as name:
        folder = Path(name)
        path = write_images(folder, "digits")
        recipe = path.with_suffix(".toml")
        loaded = load_recipe(str(recipe), ["train.precision=float32"])
        tries = [(c.lr, c.repeat) for c in sweep(loaded, load_data(loaded, CPU), CPU)]
        words = {OURS: ours("lr-sweep", str(recipe), "--json")}
        asked_of_peers = {"the same": tries, "five rates": [(lr, 0) for lr in GRID]}
        for title, pairs in asked_of_peers.items():
            rates = json.dumps(pairs)
            words[f"bare PyTorch, {title}"] = others.script("sweep_torch.py", path, rates)
            if "lightning" in others.versions:
                words[f"Lightning, {title}"] = others.script("sweep_lightning.py", path, rates)
        found = rounds(
            {name: turn(command, folder) for name, command in words.items()}, asked.rounds
        )
    rows = [
        [name, len(GRID) if "five" in name else len(tries), *compared(costs, found[OURS])]
        for name, costs in found.items()
    ]
    if "lightning" not in others.versions:
        rows.append(["Lightning", "not installed", *[""] * len(COMPARED)])
    header = ("contender", "tries", *COMPARED)
    report("sweep_peers", f"{table(header, rows)}\n\n{others}", write=asked.write)


def turn(command: list[str], folder: Path) -> Callable[[], Cost]:
    return lambda: run(command, cwd=folder)


if __name__ == "__main__":
    main()
