"""The next search space, from the strong trials and their curves (lecture steps 5 to 7).

Each change has a reason. Overfitting raises regularisation; underfitting raises capacity and
epochs; instability lowers learning rates and adds a warm-up. A range with the best value at its
edge is widened, a key whose effect is known to be below the noise is fixed, and all other ranges
are narrowed to the strong trials. A change that `diagnose --prove` has shown to work can be drawn
in the round after it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from cnntune.config.recipe import Recipe
from cnntune.config.space import Choice, Dimension, Range, Value, edges, narrow
from cnntune.diagnosis.proven import Comparison, Proof, points
from cnntune.diagnosis.rules import Label
from cnntune.findings import Finding
from cnntune.study.effects import Idle
from cnntune.training.open_recipe import allows, value_at

DECADE = 10.0
MAX_VALUES = {  # upper ends of the usual ranges
    "train.weight_decay": 1e-1,
    "model.dropout": 0.7,
    "train.label_smoothing": 0.3,
    "augment.crop": 8,
}
REGULARISERS: dict[str, Callable[[Recipe], Dimension]] = {  # ranges for keys not searched yet
    "train.weight_decay": lambda recipe: _decades_up(max(recipe.train.weight_decay, 1e-5), 2),
    "model.dropout": lambda _: Range(0.0, 0.5),
    "train.label_smoothing": lambda _: Range(0.0, 0.2),
    "augment.crop": lambda recipe: Choice(tuple(recipe.augment.crop + more for more in (0, 1, 2))),
}
CAPACITY = ("model.width", "model.depth")


@dataclass(frozen=True)
class Change:
    """A change of a key's range; if `after` is a value, the key is no longer searched."""

    key: str
    before: str
    after: Dimension | Value
    reason: str

    def finding(self) -> Finding:
        """The change as a line."""
        text = f"{self.key}: {self.before} became {self.after}: {self.reason}"
        return Finding("space", "info", text, where=self.key)


def changes(
    recipe: Recipe,
    strong: Sequence[Mapping[str, Value]],
    problem: Label | None,
    idle: Mapping[str, Idle],
    proofs: Sequence[Proof] = (),
) -> list[Change]:
    """The changes after a round; `strong` are the values of its strong trials, best first.

    `problem` is the label of most of their curves, None if they differ. `idle` are the keys that
    are known to make no difference. What `proofs` have shown is always in the next space. Changes
    that the recipe does not allow, such as dropout for a network without it, are left out.
    """
    found = {change.key: change for change in _by_values(recipe, strong, idle)}
    for change in _by_problem(recipe, strong[0], problem):
        found[change.key] = change
    for proof in proofs:
        for proven in proof.kept:
            if proven.start == "beginning":  # as trials begin
                found |= {c.key: c for c in _with_proven(recipe, found, proven, proof.run)}
    return [change for change in found.values() if _is_allowed(recipe, change)]


def apply(recipe: Recipe, made: Sequence[Change]) -> Recipe:
    """The recipe after the changes."""
    fixed = {c.key: c.after for c in made if not isinstance(c.after, Range | Choice)}
    moved = {c.key: c.after for c in made if isinstance(c.after, Range | Choice)}
    space = {key: dim for key, dim in (recipe.space | moved).items() if key not in fixed}
    return recipe.for_run().with_values(fixed).model_copy(update={"space": space})


def _by_values(
    recipe: Recipe, strong: Sequence[Mapping[str, Value]], idle: Mapping[str, Idle]
) -> list[Change]:
    """Changes by the values of the strong trials: narrow, widen at an edge, or fix a key."""
    best = strong[0]
    narrowed = narrow(recipe.space, strong)
    beyond = {edge.key: edge for edge in edges(recipe.space, best)}
    found = []
    for key, before in recipe.space.items():
        if key in idle and len(recipe.space) > 1 and key in best:
            effect, noise = 100 * idle[key].effect, 100 * idle[key].noise
            reason = (
                f"its values differ by at most {effect:.2f} points of accuracy (95 %), less than"
                f" the noise of a seed, {noise:.2f}"
            )
            found.append(Change(key, str(before), best[key], reason))
        elif key in beyond and allows(recipe, key, beyond[key].beyond):
            reason = f"the best value, {beyond[key].value:.3g}, is {beyond[key].place} its range"
            after = _spanning(narrowed[key], beyond[key].wider, beyond[key].side)
            found.append(Change(key, str(before), after, reason))
        elif str(narrowed[key]) != str(before):
            best_trials = f"{len(strong)} trials are" if len(strong) > 1 else "trial is"
            reason = f"where the best {best_trials}"
            found.append(Change(key, str(before), narrowed[key], reason))
    return found


def _spanning(narrowed: Dimension, wider: Range, side: str) -> Dimension:
    """The range from the strong trials to beyond the edge."""
    if not isinstance(narrowed, Range):
        return wider
    if side == "upper":
        return replace(wider, low=narrowed.low)
    return replace(wider, high=narrowed.high)


def _by_problem(recipe: Recipe, best: Mapping[str, Value], problem: Label | None) -> list[Change]:
    if problem == "overfitting":
        return [
            change
            for key in REGULARISERS
            if (change := _regularised(recipe, best, key)) is not None
        ]
    if problem == "underfitting":
        return [*_larger(recipe, best), *_longer(recipe, "the curves underfit")]
    if problem == "still-improving":
        return _longer(recipe, "the curves still improve at their end")
    if problem == "unstable":
        return _more_stable(recipe, best)
    return []


def _regularised(recipe: Recipe, best: Mapping[str, Value], key: str) -> Change | None:
    """A range from the best value upwards; None if it is at its maximum."""
    reason = "the best curves overfit"
    before = recipe.space.get(key)
    if before is None:
        wider = REGULARISERS[key](recipe)
        return Change(key, str(value_at(recipe, key)), wider, reason)
    value = best.get(key)
    if not isinstance(before, Range) or value is None or float(value) >= MAX_VALUES[key]:
        return None
    low = float(value)
    if before.log and low <= 0:  # the recipe's, from before the key was searched
        return None
    if before.log:
        high = min(MAX_VALUES[key], low * DECADE**2)
    else:
        high = min(MAX_VALUES[key], max(2 * low, before.high * 1.5))
    return Change(key, str(before), replace(before, low=low, high=max(high, low * 1.01)), reason)


def _larger(recipe: Recipe, best: Mapping[str, Value]) -> list[Change]:
    """Sizes from the best one to twice the largest so far."""
    found = []
    for key in CAPACITY:
        before = recipe.space.get(key)
        value = best.get(key, recipe.get(key))
        if not isinstance(value, int | float) or isinstance(value, bool):
            continue
        top = before.options[-1] if isinstance(before, Choice) else value
        top = before.high if isinstance(before, Range) else top
        largest = 2 * int(float(top))
        sizes = sorted({int(value), (int(value) + largest) // 2, largest})
        found.append(Change(key, str(before or value), Choice(tuple(sizes)), "the curves underfit"))
    return found


def _longer(recipe: Recipe, reason: str) -> list[Change]:
    return _epochs(recipe, 2 * recipe.search.epochs, reason)


def _epochs(recipe: Recipe, epochs: int, reason: str) -> list[Change]:
    return [
        Change("search.epochs", str(recipe.search.epochs), epochs, reason),
        Change("train.epochs", str(recipe.train.epochs), epochs, reason),
    ]


def _more_stable(recipe: Recipe, best: Mapping[str, Value]) -> list[Change]:
    """Learning rates from a decade below the best one up to it, after a warm-up."""
    lr = float(best.get("train.lr", recipe.train.lr))
    reason = "the best curves are unstable"
    before = str(recipe.space.get("train.lr", lr))
    found = [Change("train.lr", before, Range(lr / DECADE, lr, log=True), reason)]
    if not recipe.train.warmup_epochs and recipe.train.schedule != "one-cycle":
        found.append(Change("train.warmup_epochs", "0", 1.0, reason))
    return found


def _with_proven(
    recipe: Recipe, found: Mapping[str, Change], proven: Comparison, run: str
) -> list[Change]:
    """The changes by which the value that worked on a run can be drawn; none if it can already."""
    key, value = proven.key, proven.after
    reason = f"proven on {run}: {points(proven.mean)} points"
    if key == "train.epochs":
        return _epochs(recipe, value, reason) if value > recipe.search.epochs else []
    now = found[key].after if key in found else recipe.space.get(key, recipe.get(key))
    after: Dimension
    if isinstance(now, Range):
        after = replace(now, low=min(now.low, value), high=max(now.high, value))
    else:
        options = set(now.options) if isinstance(now, Choice) else {now}
        after = Choice(tuple(sorted(options | {value})))
    before = found[key].before if key in found else str(now)
    if after == now or (isinstance(after, Choice) and after.options == (now,)):
        return []
    return [Change(key, before, after, reason)]


def _decades_up(low: float, decades: int) -> Range:
    return Range(low, low * DECADE**decades, log=True)


def _is_allowed(recipe: Recipe, change: Change) -> bool:
    if isinstance(change.after, Range):
        return all(allows(recipe, change.key, change.after.at(share)) for share in (0.0, 1.0))
    if isinstance(change.after, Choice):
        return all(allows(recipe, change.key, option) for option in change.after.options)
    return allows(recipe, change.key, change.after)
