"""Whether what `worth` says of the last half of the trials is true, and what as many again gain.

    python benchmarks/search/worth_simulation.py [--tables runs/search-efficiency]

Studies are drawn from known distributions of accuracies, and with `--tables` from the whole runs
that benchmarks/search/search_efficiency.py has trained there (`--runs`), however many they are.
"said" is the mean over studies of what the finding says; "was" is what the last half really gained
in the order in which the trials were drawn, and "next" what as many trials again gained. "before"
is the formula of earlier versions, which estimated "next" by draws with replacement.
"""

import argparse
import math
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from search_efficiency import TASKS

from cnntune.runs.run import Run
from cnntune.runs.study import Study
from cnntune.runs.summary import Summary
from cnntune.steps.search_findings import worth_findings
from cnntune.study import ledger
from cnntune.study.trial import Trial

Draw = Callable[[np.random.Generator, int], np.ndarray]
SHAPES: dict[str, Draw] = {
    "bell-shaped, sd 3 points": lambda rng, n: np.clip(rng.normal(0.88, 0.03, n), 0, 1),
    "skewed, most far below 0.95": lambda rng, n: 0.95 - 0.4 * rng.beta(1.5, 0.8, n),
    "saturating at 0.95": lambda rng, n: 0.95 - 0.4 * rng.beta(0.6, 1.5, n),
    "noise alone, sd 0.3 points": lambda rng, n: rng.normal(0.95, 0.003, n),
    "1 of 30 ten points better": lambda rng, n: (
        rng.normal(0.80, 0.01, n) + 0.1 * (rng.random(n) < 1 / 30)
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=2000)
    parser.add_argument("--tables", type=Path, help="folder of search_efficiency.py")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    shapes = dict(SHAPES)
    sizes = dict.fromkeys(shapes, math.inf)
    for task in TASKS if options.tables else ():
        accs = accuracies(options.tables / "tables" / task)
        name = f"{len(accs)} runs of {task}"
        shapes[name], sizes[name] = orders_of(accs), len(accs)
    rows = [
        row(name, draw, trials, options.studies, rng)
        for name, draw in shapes.items()
        for trials in (10, 20, 50)
        if 2 * trials <= sizes[name]
    ]
    print(pd.DataFrame(rows).to_string(index=False))


def accuracies(folder: Path) -> list[float]:
    """The best accuracy of each whole run of a search; 0 for a diverged one."""
    trials = begun.trials() if (begun := ledger.begun(Study(folder))) else []
    ended = [one for one in trials if one.status in ("complete", "diverged")]
    return [one.val_acc if one.status == "complete" else 0.0 for one in ended]


def orders_of(accs: Sequence[float]) -> Draw:
    """Trials of a table in a new order, none of them twice."""
    return lambda rng, n: rng.permutation(accs)[:n]


def row(
    name: str, draw: Draw, trials: int, studies: int, rng: np.random.Generator
) -> dict[str, object]:
    """What is said after so many trials, what is true of them, and what follows."""
    said, was, following, before = [], [], [], []
    for _ in range(studies):
        accs = draw(rng, 2 * trials)
        now = accs[:trials]
        (finding,) = worth_findings([trial(number, acc) for number, acc in enumerate(now)])
        said.append(finding.measured or 0.0)
        was.append(now.max() - now[: trials - trials // 2].max())
        following.append(max(0.0, accs.max() - now.max()))
        before.append(with_replacement(np.sort(now), 2 * trials))
    less = statistics.fmean(n <= s for n, s in zip(following, said, strict=True))
    points = {"said": said, "was": was, "next": following, "before": before}
    return {
        "accuracies": name,
        "trials": trials,
        **{key: f"{100 * statistics.fmean(found):.2f}" for key, found in points.items()},
        "next is at most what was said": f"{100 * less:.0f} %",
    }


def trial(number: int, acc: float) -> Trial:
    summary = Summary("complete", 1, val_acc=float(acc), val_loss=1.0)
    return Trial(number, {}, Run(Path(f"trial-{number:04d}")), summary)


def with_replacement(accs: np.ndarray, draws: int) -> float:
    """The gain of as many draws again, by draws from the accuracies themselves."""
    ranks = np.arange(len(accs) + 1) / len(accs)
    return float(accs @ np.diff(ranks**draws) - accs @ np.diff(ranks ** (draws // 2)))


if __name__ == "__main__":
    main()
