"""Whether the values of a space fit the recipe: they are tried before anything is trained."""

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations, product

from cnntune.config.problems import Problem
from cnntune.config.space import Choice, Dimension, Range, Space, Value

ONE_NETWORK = (
    "networks with different arguments need a recipe and a search each (--study NAME), for a key"
    " cannot be searched for some networks alone"
)
Check = Callable[[Mapping[str, Value]], tuple[Sequence[Problem], str]]


def tried_problems(space: Space, check: Check, *, known: Sequence[Problem]) -> list[Problem]:
    """Try both ends of each range and every option, alone and then with those of another key.

    `check` gives the problems of the recipe with some values and a text that names where they
    arise; `known` are those without any. Reported are all problems of every option, and one of a
    range; of two keys that cannot be combined one, or one per string among the values.
    """

    def new_problems(tried: Mapping[str, Value]) -> tuple[list[Problem], str]:
        problems, where = check(tried)
        new = [problem for problem in problems if problem not in known]
        if known:  # else a value would be blamed for what is wrong without it
            new = [problem for problem in new if [problem.key] == list(tried)]
        return new, where

    found: list[Problem] = []
    wrong: set[tuple[str, Value]] = set()  # alone, and so with any other
    for key, dimension in space.items():
        seen: set[Problem] = set()
        for value in dimension.options if isinstance(dimension, Choice) else _extremes(dimension):
            problems, where = new_problems({key: value})
            wrong |= {(key, value)} if problems else set()
            if isinstance(dimension, Range) and seen:
                continue
            if not isinstance(value, str):  # a message that two numbers share is about the key
                problems = [problem for problem in problems if problem not in seen]
            seen |= set(problems)
            found += [Problem(f"space.{key}", _message({key: value}, p, where)) for p in problems]
    for first, second in combinations(space, 2):
        texts_seen = set()
        for pair in product(_extremes(space[first]), _extremes(space[second])):
            tried = dict(zip((first, second), pair, strict=True))
            texts = tuple(value for value in pair if isinstance(value, str))
            if texts in texts_seen or wrong & set(tried.items()):
                continue
            problems, where = new_problems(tried)
            if problems:
                texts_seen.add(texts)
                found.append(Problem(f"space.{first}", _message(tried, problems[0], where)))
    return found


def _message(tried: Mapping[str, Value], problem: Problem, where: str) -> str:
    """The values that were tried, the key that is wrong, and what is wrong with it."""
    if [problem.key] == list(tried):
        return f"{tried[problem.key]!r}: {where}{problem.message}"
    listed = " and ".join(f"{key}={json.dumps(value)}" for key, value in tried.items())
    message = f"with {listed}: {where}{problem.key}: {problem.message}"
    by_network = any(key == "model.name" or key.count(".") > 1 for key in tried)
    if by_network and problem.key.startswith("model."):
        message += f"; {ONE_NETWORK}"
    return message


def _extremes(dimension: Dimension) -> Sequence[Value]:
    """Both ends of numbers; all options where some are strings, true or false."""
    if isinstance(dimension, Range):
        return dimension.at(0.0), dimension.at(1.0)
    numbers = [o for o in dimension.options if isinstance(o, int | float)]
    if len(numbers) < len(dimension.options) or any(isinstance(o, bool) for o in numbers):
        return dimension.options
    return min(numbers), max(numbers)
