"""How often the comparison over fresh seeds names a false winner, and how often a true one.

    python benchmarks/search/winner_error_rates.py

Accuracies of candidates are drawn, and judged by the functions that `refine` and `tune` call. A
winner is false where the best two candidates are equally good, or where another one is better. The
first column of the errors is the hardest case: two equal candidates and others far below. "pooled"
is the test of earlier versions, one spread for all candidates, at a level of 5 %.

The second table is the power of that test, the third what a report of the first candidate claims:
how far its accuracy lies above the truth, and how often its interval contains it. The fourth is how
often `tune` continues after a round, by what the round gained. The last is how much of the accuracy
of the best of many trials is luck, against what `optimism` estimates from the trials alone.
"""

import argparse
import math
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from cnntune.config.recipe import Recipe
from cnntune.runs.run import Run
from cnntune.runs.summary import Summary
from cnntune.steps.optimism import expected_optimism
from cnntune.steps.tune import by_chance
from cnntune.steps.winner import CANDIDATES, Candidate, Rival, order, quantile, tied
from cnntune.study.trial import Trial

TRUE = 0.95  # accuracy of the best candidate
POINT = 0.01
SPREADS = {  # of the best, the second and the other candidates over seeds, in points
    "equal, 0.1 points": (0.1, 0.1, 0.1),
    "equal, 0.3": (0.3, 0.3, 0.3),
    "equal, 1.0": (1.0, 1.0, 1.0),
    "first 3 times": (0.9, 0.3, 0.3),
    "second 3 times": (0.3, 0.9, 0.3),
    "others 3 times": (0.3, 0.3, 0.9),
    "others a third": (0.3, 0.3, 0.1),
}
RECIPE = Recipe(name="simulated")
Noise = Callable[[int], np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    for rows in (
        false_winners(rng, options.repetitions),
        power(rng, options.repetitions),
        claims(rng, options.repetitions),
        rounds(rng, options.repetitions),
        luck(rng, options.repetitions // 10),
    ):
        print(pd.DataFrame(rows).to_string(index=False), end="\n\n")


def candidate(number: int, selected: float, accs: Sequence[float]) -> Candidate:
    """A trial that was selected at an accuracy, with the accuracies of its fresh seeds."""
    summary = Summary("complete", 1, val_acc=selected, val_loss=1.0)
    trial = Trial(number, {}, Run(Path(f"trial-{number:04d}")), summary)
    return Candidate(Rival(trial, RECIPE), len(accs), list(accs))


def drawn(
    rng: np.random.Generator,
    means: Sequence[float],
    spreads: Sequence[float],
    seeds: int,
    *,
    tailed: bool = False,
) -> list[Candidate]:
    """Candidates with these true accuracies and spreads in points, in the order of their means."""
    found = []
    for number, (mean, spread) in enumerate(zip(means, spreads, strict=True)):
        noise = 1 - rng.exponential(size=seeds) if tailed else rng.standard_normal(seeds)
        found.append(candidate(number, mean, (mean + spread * POINT * noise).tolist()))
    return sorted(found, key=order)


def pooled(found: Sequence[Candidate]) -> bool:
    """Whether the test of earlier versions names a winner."""
    seeds = len(found[0].val_accs)
    spread = math.sqrt(statistics.fmean((one.sd or 0.0) ** 2 for one in found))
    least = quantile(len(found) * (seeds - 1)) * spread * math.sqrt(2 / seeds)
    return all((found[0].mean or 0.0) - (one.mean or 0.0) > least for one in found[1:])


def percent(hits: Sequence[bool]) -> str:
    return f"{100 * statistics.fmean(hits):.1f} %"


def false_winners(rng: np.random.Generator, repetitions: int) -> list[dict[str, object]]:
    """How often a winner is named although two candidates are equally good."""
    rows = []
    for name, spreads in SPREADS.items():
        for tailed in (False, True):
            row: dict[str, object] = {"spread": name, "noise": "tailed" if tailed else "normal"}
            for count, seeds in ((2, 3), (3, 2), (3, 3), (3, 5), (5, 3)):
                means = [TRUE, TRUE, *[TRUE - 0.2] * (count - 2)]
                given = [*spreads[:2], *[spreads[2]] * (count - 2)]
                found = [drawn(rng, means, given, seeds, tailed=tailed) for _ in range(repetitions)]
                row[f"{count}x{seeds} false"] = percent([len(tied(one)) == 1 for one in found])
                if (count, seeds) == (3, 3):
                    row["3x3 pooled"] = percent([pooled(one) for one in found])
            rows.append(row)
    return rows


def power(rng: np.random.Generator, repetitions: int) -> list[dict[str, object]]:
    """How often the better of three is named, by its lead in spreads, and how often another one."""
    rows = []
    for seeds in (2, 3, 5, 8):
        row: dict[str, object] = {"seeds": seeds}
        for lead in (1, 2, 3, 5):
            means = [TRUE, *[TRUE - lead * 0.3 * POINT] * (CANDIDATES - 1)]
            found = [drawn(rng, means, [0.3] * CANDIDATES, seeds) for _ in range(repetitions)]
            named = [len(tied(one)) == 1 for one in found]
            right = [one[0].number == 0 for one in found]
            row[f"lead {lead}"] = percent([n and r for n, r in zip(named, right, strict=True)])
            row[f"lead {lead}, pooled"] = percent(
                [pooled(one) and one[0].number == 0 for one in found]
            )
            row[f"lead {lead}, another"] = percent(
                [n and not r for n, r in zip(named, right, strict=True)]
            )
        rows.append(row)
    return rows


def claims(rng: np.random.Generator, repetitions: int) -> list[dict[str, object]]:
    """What is reported of the first candidate of 50 trials, all equally good or not."""
    rows: list[dict[str, object]] = []
    for name, width in (("50 equal trials", 0.0), ("50 trials within 3 points", 3.0)):
        above, inside, first = [], [], []
        for _ in range(repetitions):
            truth = TRUE - width * POINT * rng.random(50)
            selected = truth + 0.3 * POINT * rng.standard_normal(50)
            best = np.argsort(-selected)[:CANDIDATES]
            found = []
            for number in best:
                accs = truth[number] + 0.3 * POINT * rng.standard_normal(3)
                found.append(candidate(int(number), selected[number], accs.tolist()))
            found.sort(key=order)
            shown, true = found[0], truth[found[0].number]
            low, high = shown.interval or (0.0, 0.0)
            above.append((shown.mean or 0.0) - true)
            first.append(shown.selected_acc - true)
            inside.append(bool(low <= true <= high))
        rows.append(
            {
                "trials": name,
                "accuracy that selected it": f"{100 * statistics.fmean(first):+.2f} points",
                "mean over 3 fresh seeds": f"{100 * statistics.fmean(above):+.2f} points",
                "95 % interval contains the truth": percent(inside),
            }
        )
    return rows


def rounds(rng: np.random.Generator, repetitions: int) -> list[dict[str, object]]:
    """How often `tune` continues after a round, by its true gain in spreads of a seed."""
    rows = []
    for seeds in (2, 3, 5):
        row: dict[str, object] = {"seeds": seeds}
        for gain in (-1.0, 0.0, 0.5, 1.0, 2.0, 3.0):
            found = rng.standard_normal((repetitions, seeds, 2)) * 0.3 * POINT
            gains = found[:, :, 0] - found[:, :, 1] + gain * 0.3 * POINT
            row[f"gain {gain:g}"] = percent(
                [bool(one.mean() > by_chance(list(one))) for one in gains]
            )
        rows.append(row)
    return rows


def luck(rng: np.random.Generator, repetitions: int) -> list[dict[str, object]]:
    """How far the best of many trials lies above its accuracy on all images, and the estimate."""
    rows: list[dict[str, object]] = []
    shapes: dict[str, Noise] = {
        "all equal": lambda n: np.full(n, 0.95),
        "bell-shaped, sd 3 points": lambda n: np.clip(rng.normal(0.88, 0.03, n), 0, 0.999),
        "piled up below 0.97": lambda n: 0.97 - 0.4 * rng.beta(0.6, 1.5, n),
    }
    for name, shape in shapes.items():
        for trials, images in ((20, 300), (50, 300), (50, 3000)):
            true, said = [], []
            for _ in range(repetitions):
                accs = shape(trials)
                measured = rng.binomial(images, accs) / images
                best = int(np.argmax(measured))
                true.append(measured[best] - accs[best])
                said.append(expected_optimism(measured.tolist(), images))
            rows.append(
                {
                    "true accuracies": name,
                    "trials": trials,
                    "validation images": images,
                    "luck, points": f"{100 * statistics.fmean(true):.2f}",
                    "estimated": f"{100 * statistics.fmean(said):.2f}",
                    "middle 90 % of estimates": "{:.2f} to {:.2f}".format(
                        *(100 * np.quantile(said, (0.05, 0.95)))
                    ),
                }
            )
    return rows


if __name__ == "__main__":
    main()
