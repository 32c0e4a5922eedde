"""`cnntune search` beside what a user would pick instead: whole processes, the same cores.

    python benchmarks/speed/search_peers.py [--rounds 5] [--venv .bench-venv] [--write]

Every contender has the same images, split, layers, batch size, epochs and ranges, and draws its
values at random, in each round from another seed. On `digits` (1x8x8) 20 trials of 2 epochs; on
coloured images (4,000 of 3x32x32, crop and flip) 8 trials of 1 epoch. The peers live in an
environment of their own, made at the first run.
"""

import argparse
import json
from collections.abc import Callable
from itertools import count
from pathlib import Path

from contenders import Peers, ours, peers, write_images
from measure import COMPARED, Cost, compared, report, rounds, run, scratch, spread, table

TASKS = {"digits": (20, 2, None), "shapes": (8, 1, 6700)}  # trials, epochs, images in all
OURS = "cnntune"
NEEDED = {"Optuna + Lightning": "lightning", "Ray Tune": "ray"}
NOTE = "Processor seconds of Ray's workers are missing: its daemon does not hand them on."


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--venv", type=Path, default=Path(".bench-venv"))
    arguments.add_argument("--only", choices=list(TASKS))
    arguments.add_argument("--write", action="store_true")
    asked = arguments.parse_args()
    others = peers(asked.venv)
    rows = []
    with scratch() as folder:
        for task, (trials, epochs, images) in TASKS.items():
            if asked.only in (None, task):
                path = write_images(Path(folder), task, images)
                turns = contenders(path, others, trials, epochs)
                there = {
                    k: v for k, v in turns.items() if NEEDED.get(k, "torch") in others.versions
                }
                found = rounds(there, asked.rounds)
                rows += [row(task, name, found) for name in turns]
    header = ("task", "contender", *COMPARED, "best val acc")
    report("search_peers", f"{table(header, rows)}\n\n{NOTE}\n\n{others}", write=asked.write)


def contenders(
    path: Path, others: Peers, trials: int, epochs: int
) -> dict[str, Callable[[], Cost]]:
    """A command each, in a folder of its own that is empty at the start."""
    recipe, work = str(path.with_suffix(".toml")), (path, trials, epochs)
    search = ["search", recipe, "--budget", str(trials), "--epochs", str(epochs), "--json"]
    exact = ["--set", 'train.precision="float32"']
    optuna = "search_optuna.py"
    return {
        OURS: turns(lambda seed: ours(*search, "--seed", str(seed))),
        "cnntune, float32": turns(lambda seed: ours(*search, *exact, "--seed", str(seed))),
        "Optuna + PyTorch": turns(lambda seed: others.script(optuna, *work, seed, 1)),
        "Optuna + PyTorch, two processes": turns(
            lambda seed: others.script(optuna, *work, seed, 2)
        ),
        "Optuna + Lightning": turns(lambda seed: others.script("search_lightning.py", *work, seed)),
        "Ray Tune": turns(lambda _: others.script("search_ray.py", *work)),  # drawn anew by itself
    }


def turns(command: Callable[[int], list[str]]) -> Callable[[], Cost]:
    """The command at each call, each time with another seed."""
    seeds = count()

    def turn() -> Cost:
        with scratch() as place:
            return run(command(next(seeds)), cwd=Path(place))

    return turn


def row(task: str, name: str, found: dict[str, list[Cost]]) -> list[str]:
    if name not in found:
        return [task, name, "not installed", *[""] * len(COMPARED)]
    accuracies = [accuracy(cost) for cost in found[name]]
    return [task, name, *compared(found[name], found[OURS]), spread(accuracies)]


def accuracy(cost: Cost) -> float:
    """The best validation accuracy: ours from the document, theirs from the last line."""
    if cost.output.lstrip().startswith("{"):
        return float(json.loads(cost.output)["best"]["val_acc"])
    return float(cost.output.split()[-1])


if __name__ == "__main__":
    main()
