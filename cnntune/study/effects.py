"""Which keys are known to make no difference: their effect on the accuracy, with an upper bound.

A share of the variance says nothing of that: it is small for every key beside a learning rate over
four decades. Error rates: benchmarks/search/freezing_errors.py.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from cnntune.config.space import Choice, Dimension, Space, Value
from cnntune.study.importance import comparable
from cnntune.study.trial import Trial

SURE = 0.95  # one-sided, per key
MIN_FREEDOM = 8  # trials beyond the parameters of the model; with fewer, a bound is several times
# the effect
GRID = 5  # values of a range that are compared with each other
GOOD_SHARE = 0.5  # of the trials: those whose other keys are good, where an effect is not hidden

Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Idle:
    """A key whose values differ by less than the noise: at most `effect`, both in accuracy 0..1."""

    effect: float
    noise: float


def idle_keys(trials: Sequence[Trial], space: Space, noise: float | None) -> dict[str, Idle]:
    """The keys whose effect lies below `noise`, the standard deviation of an accuracy over seeds.

    The effect is the largest difference between two values of the key; its upper bound has an error
    rate of 5 % per key. Empty if the noise is unknown, or if there are too few trials.
    """
    found = comparable(trials, space)
    if not noise or found is None or len(space) < 2:
        return {}
    judged = [(trial.values, found.accs[trial.number]) for trial in found.trials]
    bounds = upper_bounds([values for values, _ in judged], [acc for _, acc in judged], space)
    return {key: Idle(bound, noise) for key, bound in bounds.items() if bound < noise}


def upper_bounds(
    values: Sequence[Mapping[str, Value]], accs: Sequence[float], space: Space
) -> dict[str, float]:
    """An upper bound of the largest difference between two values of each key, in accuracy.

    The accuracy is a sum of a parabola per range and a constant per option. Each difference has a
    one-sided bound of its own; the largest of them exceeds the true effect as surely as each (two
    one-sided tests, Schuirmann 1987). The same is done for the half of the trials whose other keys
    are best, since a key may matter only beside a good learning rate; the larger bound counts.
    """
    columns = {key: _columns(space[key], [one[key] for one in values]) for key in space}
    measured = np.asarray(accs, dtype=float)
    everything = np.column_stack([np.ones(len(measured)), *columns.values()])
    fitted, *_ = np.linalg.lstsq(everything, measured, rcond=None)
    found, first = {}, 1
    for key, own in columns.items():
        last = first + own.shape[1]
        others = np.delete(np.arange(everything.shape[1]), np.arange(first, last))
        elsewhere = everything[:, others] @ fitted[others]
        good = elsewhere >= np.quantile(elsewhere, 1 - GOOD_SHARE)
        beside = np.column_stack([np.ones(len(measured)), elsewhere])
        contrasts = _contrasts(space[key])
        found[key] = max(
            _bound(own, everything[:, others], measured, contrasts),
            _bound(own[good], beside[good], measured[good], contrasts),
        )
        first = last
    return found


def _columns(dimension: Dimension, values: Sequence[Value]) -> Array:
    """One row per trial: position and its square for a range, else which option but the first."""
    if isinstance(dimension, Choice):
        rows = [[float(value == option) for option in dimension.options[1:]] for value in values]
        return np.array(rows, dtype=float).reshape(len(values), -1)
    places = np.array([dimension.position(float(value)) for value in values])
    return np.column_stack([places, places**2])


def _contrasts(dimension: Dimension) -> list[Array]:
    """The differences of `_columns` between any two values of the key."""
    if isinstance(dimension, Choice):
        points = list(
            np.vstack([np.zeros(len(dimension.options) - 1), np.eye(len(dimension.options) - 1)])
        )
    else:
        points = [np.array([at, at**2]) for at in np.linspace(0.0, 1.0, GRID)]
    return [one - other for one, other in combinations(points, 2)]


def _bound(own: Array, others: Array, accs: Array, contrasts: Sequence[Array]) -> float:
    """The largest upper bound of a difference; infinite if the trials do not determine it."""
    design = np.column_stack([own, others])
    rank = np.linalg.matrix_rank(design)
    freedom = len(accs) - int(rank)
    if freedom < MIN_FREEDOM or np.linalg.matrix_rank(own - own.mean(axis=0)) < own.shape[1]:
        return math.inf
    inverse = np.linalg.pinv(design.T @ design)
    fitted = inverse @ design.T @ accs
    variance = float(np.sum((accs - design @ fitted) ** 2)) / freedom
    width = own.shape[1]
    from scipy.special import stdtrit  # imported here: slow, and few commands need it

    sure = float(stdtrit(freedom, SURE))
    covariance = variance * inverse[:width, :width]
    return max(
        (
            abs(float(c @ fitted[:width])) + sure * math.sqrt(float(c @ covariance @ c))
            for c in contrasts
        ),
        default=0.0,
    )
