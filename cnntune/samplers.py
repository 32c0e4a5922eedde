"""Where a trial's values come from: random draws, a Sobol sequence, a grid, or Optuna's models.

With the first three a trial's values follow from (seed, slot) alone. `tpe` and `gp` also look at
the trials before; their first ones are the same random draws.
"""

import itertools
import random
import warnings

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler, GPSampler, TPESampler

from cnntune.seeds import derive_seed
from cnntune.space import Choice, Dimension, Sampler, Space, Value, draw

RANDOM_TRIALS = 10  # before a model has something to go by (the default of Optuna's samplers)
GRID_LEVELS = 5  # of a range, its ends included
SOBOL_SEED_BITS = 32  # what numpy's generators take


def values_of(
    sampler: Sampler, optuna_study: optuna.Study, space: Space, *, seed: int, slot: int
) -> dict[str, Value]:
    """The values of trial `slot`."""
    if sampler == "qmc":
        return _sobol(space, seed=seed, slot=slot)
    if sampler == "grid":
        return _grid_point(space, seed=seed, slot=slot)
    if sampler == "random" or slot < RANDOM_TRIALS:
        return draw(space, seed=seed, slot=slot)
    return _proposed(sampler, optuna_study, space, seed=derive_seed(seed, slot, sampler))


def _sobol(space: Space, *, seed: int, slot: int) -> dict[str, Value]:
    """Point `slot` of a scrambled Sobol sequence, which leaves smaller gaps than random draws."""
    from scipy.stats import qmc  # half a second, and few searches need it

    scramble = derive_seed(seed, "sobol") % 2**SOBOL_SEED_BITS
    sequence = qmc.Sobol(d=len(space), scramble=True, rng=scramble)
    if slot:
        sequence.fast_forward(slot)
    with warnings.catch_warnings():
        # One point at a time is no power of two; the sequence as a whole is balanced all the same.
        warnings.filterwarnings("ignore", message="The balance properties of Sobol")
        positions = sequence.random(1)[0]
    return {key: space[key].at(float(at)) for key, at in zip(space, positions, strict=True)}


def grid_size(space: Space) -> int:
    """The number of points of the grid over `space`."""
    size = 1
    for dimension in space.values():
        size *= len(_levels(dimension))
    return size


def _grid_point(space: Space, *, seed: int, slot: int) -> dict[str, Value]:
    """Point `slot` of the grid in a shuffled order, so that a few points cover all of it."""
    points = list(itertools.product(*(_levels(dimension) for dimension in space.values())))
    random.Random(derive_seed(seed, "grid")).shuffle(points)
    return dict(zip(space, points[slot % len(points)], strict=True))


def _levels(dimension: Dimension) -> list[Value]:
    if isinstance(dimension, Choice):
        return list(dimension.options)
    places = (level / (GRID_LEVELS - 1) for level in range(GRID_LEVELS))
    return list(dict.fromkeys(dimension.at(place) for place in places))


def _proposed(
    sampler: Sampler, optuna_study: optuna.Study, space: Space, *, seed: int
) -> dict[str, Value]:
    """What Optuna's sampler proposes after the study's trials.

    It is asked in a copy in memory, since asking makes a trial, and ours are made in one
    transaction with their values.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        copy = optuna.create_study(sampler=_optuna_sampler(sampler, seed), direction="maximize")
        copy.add_trials(optuna_study.get_trials(deepcopy=False))
        asked = copy.ask({key: distribution(dimension) for key, dimension in space.items()})
    return {key: _rounded(value, space[key]) for key, value in asked.params.items()}


def _rounded(value: Value, dimension: Dimension) -> Value:
    """As many digits as a draw has."""
    if isinstance(dimension, Choice) or dimension.integer:
        return value
    return dimension.at(dimension.position(float(value)))


def _optuna_sampler(sampler: Sampler, seed: int) -> BaseSampler:
    seed %= 2**SOBOL_SEED_BITS
    if sampler == "gp":
        return GPSampler(seed=seed, n_startup_trials=RANDOM_TRIALS)
    # constant_liar: trials that other workers run now count as bad, so that they are not run twice.
    return TPESampler(
        seed=seed, multivariate=True, constant_liar=True, n_startup_trials=RANDOM_TRIALS
    )


def distribution(dimension: Dimension) -> BaseDistribution:
    """The dimension in Optuna's terms."""
    if isinstance(dimension, Choice):
        return CategoricalDistribution(dimension.options)
    if dimension.integer:
        return IntDistribution(int(dimension.low), int(dimension.high), log=dimension.log)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log)
