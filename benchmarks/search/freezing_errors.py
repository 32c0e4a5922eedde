"""How often a key that matters is frozen, and how often one that does not.

    python benchmarks/search/freezing_errors.py

Studies of random trials are drawn from accuracies that are known, and judged by the function that
`refine` and `tune` call. "fANOVA" is the rule of earlier versions: less than 3 % of the variance.
A key that is worth the noise of a seed (the `noise` column) or more may be frozen in at most one
study of twenty.
"""

import argparse
import random
import warnings
from collections import Counter
from collections.abc import Callable, Mapping

import optuna
import pandas as pd
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.importance import FanovaImportanceEvaluator, get_param_importances

from cnntune.config.space import Range
from cnntune.study.effects import upper_bounds

SPACE = {key: Range(0.0, 1.0) for key in ("lr", "decay", "dropout", "width")}
FLAT = 0.03  # share of the variance, of earlier versions
TREES = 32
Landscape = Callable[[Mapping[str, float]], float]


def hill(p: Mapping[str, float]) -> float:
    """Each key on its own: 43, 4, 4.2 and 0 points from the best to the worst value."""
    return 0.9 - 1.2 * (p["lr"] - 0.6) ** 2 - 0.04 * p["decay"] - 0.06 * abs(p["dropout"] - 0.3)


def hidden(p: Mapping[str, float]) -> float:
    """Decay and dropout act only beside a good learning rate: 4 and 4.2 points there."""
    near = max(0.0, 1 - 3 * abs(p["lr"] - 0.6))
    other = 0.04 * p["decay"] + 0.06 * abs(p["dropout"] - 0.3)
    return 0.9 - 1.2 * (p["lr"] - 0.6) ** 2 - near * other


def cliff(p: Mapping[str, float]) -> float:
    """A plateau, and beyond a learning rate of 0.7 a network at chance."""
    if p["lr"] > 0.7:
        return 0.1
    return 0.9 - 0.2 * (0.7 - p["lr"]) - 0.04 * p["decay"] - 0.06 * abs(p["dropout"] - 0.3)


def plateau(p: Mapping[str, float]) -> float:
    """A refined space: rate, decay and dropout are worth 2, 1.5 and 2.1 points."""
    return 0.95 - 0.08 * (p["lr"] - 0.5) ** 2 - 0.015 * p["decay"] - 0.03 * abs(p["dropout"] - 0.3)


def limit(p: Mapping[str, float]) -> float:
    """Decay and dropout are worth just the noise of a seed, half a point each."""
    return (
        0.95 - 0.08 * (p["lr"] - 0.5) ** 2 - 0.005 * p["decay"] - 0.02 * (p["dropout"] - 0.5) ** 2
    )


LANDSCAPES: dict[str, tuple[Landscape, float]] = {  # with the noise of a seed
    "hill": (hill, 0.01),
    "hill, hidden effects": (hidden, 0.01),
    "cliff": (cliff, 0.01),
    "plateau": (plateau, 0.005),
    "limit": (limit, 0.005),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=300)
    parser.add_argument("--fanova", type=int, default=25, help="studies judged by the old rule")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    rows = []
    for name, (landscape, noise) in LANDSCAPES.items():
        for trials in (20, 40, 100, 200):
            frozen: Counter[str] = Counter()
            for seed in range(options.studies):
                values, accs = drawn(landscape, noise, trials, seed)
                bounds = upper_bounds(values, accs, SPACE)
                frozen.update(key for key, bound in bounds.items() if bound < noise)
            old: Counter[str] = Counter()
            judged = options.fanova if trials <= 40 else 0
            for seed in range(judged):
                old.update(by_shares(*drawn(landscape, noise, trials, seed)))
            row: dict[str, object] = {"landscape": name, "noise": noise, "trials": trials}
            for key in SPACE:
                row[key] = f"{100 * frozen[key] / options.studies:.1f} %"
                row[f"{key}, fANOVA"] = f"{100 * old[key] / judged:.0f} %" if judged else ""
            rows.append(row)
    print(pd.DataFrame(rows).to_string(index=False))


def drawn(
    landscape: Landscape, noise: float, trials: int, seed: int
) -> tuple[list[dict[str, float]], list[float]]:
    """The values of random trials and their accuracies."""
    rng = random.Random(seed)
    values = [{key: rng.random() for key in SPACE} for _ in range(trials)]
    return values, [landscape(one) + rng.gauss(0, noise) for one in values]


def by_shares(values: list[dict[str, float]], accs: list[float]) -> list[str]:
    """The keys that earlier versions froze."""
    study = optuna.create_study(direction="maximize")
    distributions: dict[str, BaseDistribution] = {key: FloatDistribution(0, 1) for key in SPACE}
    study.add_trials(
        optuna.trial.create_trial(value=acc, params=one, distributions=distributions)
        for one, acc in zip(values, accs, strict=True)
    )
    evaluator = FanovaImportanceEvaluator(seed=0, n_trees=TREES)
    shares = get_param_importances(study, evaluator=evaluator)
    return [key for key in SPACE if shares.get(key, 0.0) < FLAT]


if __name__ == "__main__":
    main()
