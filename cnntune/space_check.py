"""Whether the values of a space go with the recipe: they are tried before anything is trained."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations, product

from cnntune.problems import Problem
from cnntune.space import Choice, Dimension, Range, Space, Value

ONE_NETWORK = (
    "networks with different arguments need a recipe and a search each (--study NAME), for a key"
    " cannot be searched for some networks alone"
)
Check = Callable[[Mapping[str, Value]], tuple[Sequence[Problem], str]]


def tried_problems(space: Space, check: Check, *, known: Sequence[Problem]) -> list[Problem]:
    """Try both ends of each range and every option, alone and then with those of another key.

    `check` gives the problems of the recipe with some values and a text that says where they
    arise; `known` are those without any. At most one problem for each key and each pair.
    """
    found: dict[tuple[str, ...], Problem] = {}
    for tried in _tries(space):
        keys = tuple(tried)
        if keys in found or any((key,) in found for key in keys):
            continue
        problems, where = check(tried)
        new = [problem for problem in problems if problem not in known]
        if known:  # else a value would be blamed for what is wrong without it
            new = [problem for problem in new if (problem.key,) == keys]
        if new:
            found[keys] = Problem(f"space.{keys[0]}", _message(tried, new[0], where))
    return list(found.values())


def _message(tried: Mapping[str, Value], problem: Problem, where: str) -> str:
    """The values that were tried, the key at fault, and what is wrong with it."""
    if [problem.key] == list(tried):
        return f"{tried[problem.key]!r}: {where}{problem.message}"
    listed = " and ".join(f"{key}={json.dumps(value)}" for key, value in tried.items())
    message = f"with {listed}: {where}{problem.key}: {problem.message}"
    by_network = any(key == "model.name" or key.count(".") > 1 for key in tried)
    if by_network and problem.key.startswith("model."):
        message += f"; {ONE_NETWORK}"
    return message


def _tries(space: Space) -> Iterator[dict[str, Value]]:
    """Each value to be tried by itself, then each pair of two keys' extreme values."""
    for key, dimension in space.items():
        options = dimension.options if isinstance(dimension, Choice) else _extremes(dimension)
        yield from ({key: option} for option in options)
    for first, second in combinations(space, 2):
        for pair in product(_extremes(space[first]), _extremes(space[second])):
            yield dict(zip((first, second), pair, strict=True))


def _extremes(dimension: Dimension) -> Sequence[Value]:
    """Both ends of numbers; all options where some are texts, true or false."""
    if isinstance(dimension, Range):
        return dimension.at(0.0), dimension.at(1.0)
    numbers = [o for o in dimension.options if isinstance(o, int | float)]
    if len(numbers) < len(dimension.options) or any(isinstance(o, bool) for o in numbers):
        return dimension.options
    return min(numbers), max(numbers)
