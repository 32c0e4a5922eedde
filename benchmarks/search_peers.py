"""`cnntune search` beside what a user would pick instead: whole processes, the same two cores.

    python benchmarks/search_peers.py [--rounds 5] [--venv .bench-venv] [--write]

Every contender has the same images, split, layers, batch size, epochs and ranges, and draws its
values at random. On `digits` (1x8x8) 20 trials of 2 epochs; on coloured images (4,000 of 3x32x32,
crop and flip) 8 trials of 1 epoch. The peers live in an environment of their own, made at the
first run.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from statistics import median

from contenders import PEERS, ours, peers_python, write_images
from measure import Cost, ratio, report, rounds, run, scratch, table

TASKS = {"digits": (20, 2, None), "shapes": (8, 1, 6700)}  # trials, epochs, images in all
OURS = "cnntune"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--venv", type=Path, default=Path(".bench-venv"))
    arguments.add_argument("--only", choices=list(TASKS))
    arguments.add_argument("--write", action="store_true")
    asked = arguments.parse_args()
    python = str(peers_python(asked.venv).absolute())
    rows = []
    with scratch() as folder:
        for task, (trials, epochs, images) in TASKS.items():
            if asked.only in (None, task):
                path = write_images(Path(folder), task, images)
                found = rounds(contenders(path, python, trials, epochs), asked.rounds)
                rows += [row(task, name, found) for name in found]
    header = ("task", "contender", "wall s", "CPU s", "wall ratio", "CPU ratio", "best val acc")
    report("search_peers", table(header, rows), write=asked.write)


def contenders(path: Path, python: str, trials: int, epochs: int) -> dict[str, Callable[[], Cost]]:
    """A command each, in a folder of its own that is empty at the start."""
    recipe = str(path.with_suffix(".toml"))
    work = [str(path), str(trials), str(epochs)]
    search = ["search", recipe, "--budget", str(trials), "--epochs", str(epochs), "--json"]
    exact = ["--set", 'train.precision="float32"']
    words = {
        OURS: ours(*search),
        "cnntune, float32": ours(*search, *exact),
        "Optuna + PyTorch": [python, str(PEERS / "search_optuna.py"), *work, "1"],
        "Optuna + PyTorch, two processes": [python, str(PEERS / "search_optuna.py"), *work, "2"],
        "Optuna + Lightning": [python, str(PEERS / "search_lightning.py"), *work],
        "Ray Tune": [python, str(PEERS / "search_ray.py"), *work],
    }

    def contender(command: list[str]) -> Callable[[], Cost]:
        def turn() -> Cost:
            with scratch() as place:
                return run(command, cwd=Path(place))

        return turn

    return {name: contender(command) for name, command in words.items()}


def row(task: str, name: str, found: dict[str, list[Cost]]) -> list[str]:
    costs, own = found[name], found[OURS]
    return [
        task,
        name,
        f"{median(cost.wall for cost in costs):.2f}",
        f"{median(cost.cpu for cost in costs):.2f}",
        ratio([cost.wall for cost in costs], [cost.wall for cost in own]),
        ratio([cost.cpu for cost in costs], [cost.cpu for cost in own]),
        f"{median(accuracy(cost) for cost in costs):.3f}",
    ]


def accuracy(cost: Cost) -> float:
    """The best validation accuracy: ours from the document, theirs from the last line."""
    if cost.output.lstrip().startswith("{"):
        return float(json.loads(cost.output)["best"]["val_acc"])
    return float(cost.output.split()[-1])


if __name__ == "__main__":
    main()
