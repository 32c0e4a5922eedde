"""Where a trial's values come from: random draws, a Sobol sequence, a grid, or Optuna's models.

With the first three a trial's values follow from (seed, slot) alone. `tpe` and `gp` also use
the trials before; their first ones are the same random draws.
"""

import functools
import math
import random
import warnings
from array import array
from collections.abc import Mapping, Sequence

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler, GPSampler, TPESampler

from cnntune.config.space import Choice, Dimension, Sampler, Space, Value, draw
from cnntune.seeds import derive_seed

RANDOM_TRIALS = 10  # before a model has enough data (the default of Optuna's samplers)
GRID_LEVELS = 5  # of a range, its ends included
LISTED = 500_000  # points of a grid; larger ones are shuffled without a list of them
FEISTEL_STEPS = 4  # rounds; with four the result passes for random (Luby and Rackoff 1988)
SOBOL_SEED_BITS = 32  # what numpy's generators take


def values_of(
    sampler: Sampler,
    optuna_study: optuna.Study,
    space: Space,
    *,
    seed: int,
    slot: int,
    given: Sequence[Mapping[str, Value]] = (),
) -> dict[str, Value]:
    """The values of trial `slot`; the first slots, which no sampler decides, have those `given`."""
    if sampler == "qmc":
        return _sobol(space, seed=seed, slot=slot)
    if sampler == "grid":
        return grid_point(space, seed=seed, slot=slot, given=given)
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
        # One point at a time is no power of two; the sequence as a whole is balanced.
        warnings.filterwarnings("ignore", message="The balance properties of Sobol")
        positions = sequence.random(1)[0]
    return {key: space[key].at(float(at)) for key, at in zip(space, positions, strict=True)}


def grid_size(space: Space) -> int:
    """The number of points of the grid over `space`."""
    return math.prod(len(_levels(dimension)) for dimension in space.values())


def distinct_trials(sampler: Sampler, space: Space) -> int | None:
    """How many trials a sampler can draw before it has to repeat one; None without such a limit."""
    return grid_size(space) if sampler == "grid" else None


def grid_point(
    space: Space, *, seed: int, slot: int, given: Sequence[Mapping[str, Value]] = ()
) -> dict[str, Value]:
    """Point `slot` of the grid in a shuffled order, so that a few points cover all of it.

    The first slots are those of the points `given`. One of them that lies on the grid has left its
    own place free, and the point whose place it took is found there.
    """
    levels = {key: _levels(dimension) for key, dimension in space.items()}
    size = grid_size(space)
    while True:
        point = _nth_point(levels, shuffled(slot % size, size, seed))
        if point not in given or given.index(point) == slot:
            return point
        slot = given.index(point)


def _nth_point(levels: Mapping[str, Sequence[Value]], index: int) -> dict[str, Value]:
    """Point `index` of the product of all levels, the last key varying fastest."""
    point = {}
    for key, values in reversed(list(levels.items())):
        index, place = divmod(index, len(values))
        point[key] = values[place]
    return {key: point[key] for key in levels}


def shuffled(index: int, size: int, seed: int) -> int:
    """Where a shuffle of `size` places, the same for the same seed, puts place `index`.

    Up to `LISTED` places it is a shuffled list. Beyond, nothing is listed: a Feistel network
    permutes the numbers of an even number of bits and is repeated until the result is below `size`
    (Black and Rogaway 2002, "Ciphers with arbitrary finite domains").
    """
    if size <= LISTED:
        return _shuffled_list(size, seed)[index]
    half = ((size - 1).bit_length() + 1) // 2  # bits
    while True:
        left, right = divmod(index, 1 << half)
        for step in range(FEISTEL_STEPS):
            left, right = right, left ^ derive_seed(seed, "grid", step, right) % (1 << half)
        index = (left << half) + right
        if index < size:
            return index


@functools.lru_cache(maxsize=2)
def _shuffled_list(size: int, seed: int) -> "array[int]":
    places = array("l", range(size))
    random.Random(derive_seed(seed, "grid")).shuffle(places)
    return places


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
    if sampler == "tpe":
        # constant_liar: trials that run now count as bad, so that they are not run twice.
        return TPESampler(
            seed=seed, multivariate=True, constant_liar=True, n_startup_trials=RANDOM_TRIALS
        )
    raise ValueError(f"{sampler} proposes nothing")


def distribution(dimension: Dimension) -> BaseDistribution:
    """The dimension in Optuna's terms."""
    if isinstance(dimension, Choice):
        return CategoricalDistribution(dimension.options)
    if dimension.integer:
        return IntDistribution(int(dimension.low), int(dimension.high), log=dimension.log)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log)
