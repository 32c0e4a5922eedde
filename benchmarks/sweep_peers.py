"""`cnntune lr-sweep` beside a bare PyTorch loop and Lightning that try the same rates and seeds.

    python benchmarks/sweep_peers.py [--rounds 5] [--venv .bench-venv] [--write]

Whole processes on digits, 100 iterations of 64 images a rate, without augmentation. Which rates
and seeds are tried is what our sweep decides; the five rates of the lecture stand beside it for
the peers.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from statistics import median

from contenders import CPU, PEERS, ours, peers_python, write_images
from measure import Cost, ratio, report, rounds, run, scratch, table

from cnntune.build import load_data, load_recipe
from cnntune.lr_sweep import GRID, sweep

OURS = "cnntune lr-sweep"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--venv", type=Path, default=Path(".bench-venv"))
    arguments.add_argument("--write", action="store_true")
    asked = arguments.parse_args()
    python = str(peers_python(asked.venv).absolute())
    with scratch() as name:
        folder = Path(name)
        path = write_images(folder, "digits")
        recipe = path.with_suffix(".toml")
        loaded = load_recipe(str(recipe))
        tries = [(c.lr, c.repeat) for c in sweep(loaded, load_data(loaded, CPU), CPU)]
        words = {
            OURS: ours("lr-sweep", str(recipe), "--json"),
            "bare PyTorch, the same": peer(python, "sweep_torch.py", path, tries),
            "Lightning, the same": peer(python, "sweep_lightning.py", path, tries),
            "bare PyTorch, five rates": peer(python, "sweep_torch.py", path, five()),
            "Lightning, five rates": peer(python, "sweep_lightning.py", path, five()),
        }
        found = rounds(
            {name: turn(command, folder) for name, command in words.items()}, asked.rounds
        )
    rows = [
        [
            name,
            len(tries) if name == OURS or "same" in name else len(GRID),
            f"{median(cost.wall for cost in costs):.2f}",
            f"{median(cost.cpu for cost in costs):.2f}",
            ratio([cost.wall for cost in costs], [cost.wall for cost in found[OURS]]),
            ratio([cost.cpu for cost in costs], [cost.cpu for cost in found[OURS]]),
        ]
        for name, costs in found.items()
    ]
    header = ("contender", "tries", "wall s", "CPU s", "wall ratio", "CPU ratio")
    report("sweep_peers", table(header, rows), write=asked.write)


def peer(python: str, script: str, path: Path, tries: list[tuple[float, int]]) -> list[str]:
    return [python, str(PEERS / script), str(path), json.dumps(tries)]


def five() -> list[tuple[float, int]]:
    return [(lr, 0) for lr in GRID]


def turn(command: list[str], folder: Path) -> Callable[[], Cost]:
    return lambda: run(command, cwd=folder)


if __name__ == "__main__":
    main()
