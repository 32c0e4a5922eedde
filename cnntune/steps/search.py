"""Lecture step 4: a coarse random search, a few epochs a trial."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from cnntune.config.files import parse_override
from cnntune.config.recipe import Recipe, flatten, stored
from cnntune.config.space import Choice, Dimension, Range, Space, toml
from cnntune.errors import StudyError
from cnntune.findings import Finding
from cnntune.runs.study import Study
from cnntune.steps.search_findings import count, findings_of, nothing_learned
from cnntune.study.importance import Importance, importance
from cnntune.study.ledger import Ledger, exists
from cnntune.study.postgres import Server
from cnntune.study.samplers import distinct_trials, grid_point
from cnntune.study.shared_ledger import SharedLedger
from cnntune.study.trial import Trial, best_of

LR_RANGE = {"sgd": (1e-4, 1e-1), "adam": (1e-5, 1e-2), "adamw": (1e-5, 1e-2)}  # the sweep's grid
# without its end on the side where the optimizer's usual rates (0.1 and 0.001) do not lie
WEIGHT_DECAY_RANGE = (1e-6, 1e-2)  # CS231n step 4 draws the strength of regularisation in decades
OWN_RATES = (  # keys each value of which has learning rates of its own
    "train.optimizer",
    "train.momentum",
    "train.freeze",
    "train.backbone_lr",
    "train.layer_decay",
)
SWEPT_KEYS = ("data", "model", "augment", "train.batch_size", "train.loss", *OWN_RATES)

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Result:
    """What a study came to: its trials, the best of them, and what there is to say about them."""

    trials: list[Trial]
    best: Trial | None
    importance: Importance | None
    findings: list[Finding]

    def as_json(self) -> dict[str, Any]:
        """The keys that `search --json` and `refine --json` add."""
        return {
            "trials": count(self.trials),
            "best": best_json(self.best),
            "importance": self.importance.shares if self.importance else {},
        }


def best_json(best: Trial | None) -> dict[str, Any] | None:
    """The best trial as in the contract."""
    if best is None:
        return None
    return {
        "number": best.number,
        "val_acc": best.val_acc,
        "val_loss": best.val_loss,
        "epochs": best.summary.epochs,
        "values": best.values,
    }


def begin(study: Study, recipe: Recipe) -> tuple[Ledger, list[Finding]]:
    """Begin the search of `recipe`, or open it where it was begun; call it under the lock.

    Raises:
        RecipeError: where the completed space does not fit the recipe.
        StudyError: where the study holds another recipe, or a grid in another order.
    """
    if exists(study):
        ledger = Ledger.create(study, recipe, asked=recipe)
        _refuse_another_grid(ledger)
        # A command that was killed before its first trial may have said nothing yet.
        return ledger, [] if ledger.trials() else prepare(recipe, study)[1]
    prepared, notes = prepare(recipe, study)
    return Ledger.create(study, prepared, asked=recipe), notes


def join(study: Study, recipe: Recipe, server: Server) -> tuple[SharedLedger, list[Finding]]:
    """Begin the search of `recipe` on a server, or open it there.

    Raises:
        RecipeError: where the completed space does not fit the recipe.
        StudyError: where the study holds another recipe, a grid in another order, or is to be
            pruned.
    """
    if recipe.search.pruner != "none":
        raise StudyError(
            f'--storage: search.pruner must be "none" (got "{recipe.search.pruner}"): a trial that'
            " waits for others has its checkpoint on one machine"
        )
    prepared, notes = prepare(recipe, study)
    ledger = SharedLedger.join(study, server, recipe, prepared)
    _refuse_another_grid(ledger)
    return ledger, [] if ledger.trials() else notes


def _refuse_another_grid(ledger: Ledger) -> None:
    """Raise `StudyError` where an earlier version ordered the grid otherwise.

    In another order the next points may have been trained already.
    """
    recipe = ledger.recipe
    first = ledger.trials()[:1] if recipe.search.sampler == "grid" else []
    if first and first[0].values != grid_point(recipe.space, seed=recipe.seed, slot=0):
        raise StudyError(
            f"{ledger.study.path}: an earlier version ordered its grid otherwise; it can be read"
            " and refined, but not searched on: search under a name of its own (--study NAME)"
        )


def within_grid(recipe: Recipe, budget: int) -> tuple[int, list[Finding]]:
    """The trials of a budget that differ, and what to say where these are fewer."""
    most = distinct_trials(recipe.search.sampler, recipe.space)
    if most is None or budget <= most:
        return budget, []
    evidence = (
        f"the grid has {most} point{'s' if most > 1 else ''}: {most} trials instead of {budget}"
    )
    advice = "--sampler random tries a new value of each range in each trial"
    return most, [Finding("grid", "info", evidence, advice, measured=most, expected=budget)]


def prepare(recipe: Recipe, study: Study) -> tuple[Recipe, list[Finding]]:
    """Complete the space: a default one where there is none, and the last sweep's rates.

    Raises:
        RecipeError: where the completed space does not fit the recipe.
    """
    findings = []
    space: dict[str, Dimension] = dict(recipe.space)
    if not space:
        space = default_space(recipe.train.optimizer)
        listed = ", ".join(f"{key} {dimension}" for key, dimension in space.items())
        findings.append(Finding("space", "info", f"the recipe has no [space]; searching {listed}"))
    swept = swept_range(recipe, study.read("lr-sweep"))
    current = space.get("train.lr")
    varied = set(OWN_RATES) & space.keys()
    if swept is not None and isinstance(current, Range) and not varied:
        narrowed = intersect(current, swept) if recipe.space else swept
        findings.append(_sweep_finding(current, swept, narrowed))
        space["train.lr"] = narrowed or current
    return recipe.model_copy(update={"space": space}), findings


def without_effect(space: Space, overrides: Sequence[str]) -> list[Finding]:
    """A line for each key that `--set` gives a value and every trial another one of its space."""
    given: dict[str, Any] = {}
    for text in overrides:
        key, value = parse_override(text)
        given |= flatten({key: value})
    found = []
    for key, value in given.items():
        dimension = space.get(key)
        if dimension is None or dimension == Choice((value,)):
            continue
        text = f"{key} is searched ({dimension}): --set {key}={json.dumps(value)} changes nothing"
        text += f" here; --set 'space.{key}={{choice=[{json.dumps(value)}]}}' would"
        found.append(Finding("space", "info", text, where=key))
    return found


def default_space(optimizer: str) -> dict[str, Dimension]:
    """Learning rate and weight decay, both in decades: what the lecture searches first."""
    return {
        "train.lr": Range(*LR_RANGE[optimizer], log=True),
        "train.weight_decay": Range(*WEIGHT_DECAY_RANGE, log=True),
    }


def swept_range(recipe: Recipe, sweep: Mapping[str, Any] | None) -> Range | None:
    """The rates that the last `lr-sweep` found worth searching, if it swept this very set-up."""
    if sweep is None or sweep.get("lr") is None:
        return None
    if missing := {"recipe", "range"} - sweep.keys():
        raise StudyError(f"lr-sweep.json: holds no {', '.join(sorted(missing))}; sweep again")
    swept = stored(sweep["recipe"], file="lr-sweep.json").as_values()
    now = recipe.as_values()
    if any(_at(swept, key) != _at(now, key) for key in SWEPT_KEYS):
        return None
    low, high = sweep["range"]
    return Range(low, high, log=True)


def _at(values: Mapping[str, Any], key: str) -> Any:
    for part in key.split("."):
        values = values[part]
    return values


def intersect(first: Range, second: Range) -> Range | None:
    """The rates that lie in both ranges; None where there are none."""
    low, high = max(first.low, second.low), min(first.high, second.high)
    return replace(first, low=low, high=high) if low < high else None


def _sweep_finding(current: Range, swept: Range, narrowed: Range | None) -> Finding:
    found = f"lr-sweep found rates from {swept.low:.2g} to {swept.high:.2g}"
    if narrowed is None:
        return Finding(
            "lr-range",
            "warn",
            f"{found}, all outside the recipe's {current.low:.2g} to {current.high:.2g}",
            f"--set 'space.train.lr={toml(swept)}'",
        )
    return Finding(
        "lr-range", "info", f"{found}; searching {narrowed.low:.2g} to {narrowed.high:.2g}"
    )


def result(ledger: Ledger, recipe: Recipe) -> Result:
    """Read what a study came to; `recipe` holds the space whose edges matter."""
    trials = ledger.trials()
    best = best_of(trials)
    found = None if nothing_learned(trials) else importance(trials, ledger.recipe.space)
    findings = findings_of(ledger.recipe, trials, recipe.space)
    return Result(trials, best, found, findings)


def table(trials: Sequence[Trial]) -> "pd.DataFrame":
    """The trials as a pandas frame: a row a trial, a column for each result and each key."""
    import pandas as pd  # 0.3 s, and only this needs it

    results = ("val_acc", "val_loss", "train_acc", "train_loss", "best_epoch", "epochs", "seconds")
    rows = [
        {"number": trial.number, "status": trial.status}
        | {key: getattr(trial.summary, key) for key in results}
        | trial.values
        for trial in trials
    ]
    whole = dict.fromkeys(("best_epoch", "epochs"), "Int64")  # numbers also beside missing ones
    frame = pd.DataFrame(rows)
    return frame.astype(whole) if rows else frame
