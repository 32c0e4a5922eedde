"""Lecture step 4: a coarse random search with a few epochs per trial."""

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

# The grid of the sweep, without the end far from the optimizer's usual learning rate (0.1, 0.001)
LR_RANGE = {"sgd": (1e-4, 1e-1), "adam": (1e-5, 1e-2), "adamw": (1e-5, 1e-2)}
WEIGHT_DECAY_RANGE = (1e-6, 1e-2)  # CS231n step 4 draws regularisation strengths on a log scale
LR_DEPENDENT_KEYS = (  # keys whose values need different learning rates
    "train.optimizer",
    "train.momentum",
    "train.freeze",
    "train.backbone_lr",
    "train.layer_decay",
)
SWEPT_KEYS = ("data", "model", "augment", "train.batch_size", "train.loss", *LR_DEPENDENT_KEYS)

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Result:
    """The result of a study: its trials, the best of them, importances and findings."""

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
    """The best trial as in the `--json` documents."""
    if best is None:
        return None
    return {
        "number": best.number,
        "val_acc": best.summary.val_acc,
        "val_loss": best.summary.val_loss,
        **({"ranked": vars(best.summary.ranked)} if best.summary.ranked else {}),
        "epochs": best.summary.epochs,
        "values": best.values,
    }


def begin(study: Study, recipe: Recipe) -> tuple[Ledger, list[Finding]]:
    """Create the search of `recipe` in `study`, or open it if it exists; the study must be locked.

    Raises:
        RecipeError: if the completed space does not fit the recipe.
        StudyError: if the study has another recipe, or a grid in another order.
    """
    if exists(study):
        ledger = Ledger.create(study, recipe, asked=recipe)
        _refuse_another_grid(ledger)
        # A command that was killed before its first trial may not have printed its notes.
        return ledger, [] if ledger.trials() else prepare(recipe, study)[1]
    prepared, notes = prepare(recipe, study)
    return Ledger.create(study, prepared, asked=recipe), notes


def join(study: Study, recipe: Recipe, server: Server) -> tuple[SharedLedger, list[Finding]]:
    """Create the search of `recipe` on a server, or open it if it exists there.

    Raises:
        RecipeError: if the completed space does not fit the recipe.
        StudyError: if the study has another recipe or a grid in another order, or if the recipe
            has a pruner.
    """
    if recipe.search.pruner != "none":
        raise StudyError(
            f'--storage: search.pruner must be "none" (got "{recipe.search.pruner}"): a paused'
            " trial has its checkpoint on one machine only"
        )
    prepared, notes = prepare(recipe, study)
    ledger = SharedLedger.join(study, server, recipe, prepared)
    _refuse_another_grid(ledger)
    return ledger, [] if ledger.trials() else notes


def _refuse_another_grid(ledger: Ledger) -> None:
    """Raise `StudyError` if an earlier version ordered the grid differently.

    The next points may then be trained already.
    """
    recipe = ledger.recipe
    first = ledger.trials()[:1] if recipe.search.sampler == "grid" else []
    if first and first[0].values != grid_point(recipe.space, seed=recipe.seed, slot=0):
        raise StudyError(
            f"{ledger.study.path}: an earlier version ordered its grid differently; it can be read"
            " and refined, but its search cannot be continued: start a new study (--study NAME)"
        )


def within_grid(recipe: Recipe, budget: int) -> tuple[int, list[Finding]]:
    """The number of distinct trials within a budget, and a finding if that is less."""
    most = distinct_trials(recipe.search.sampler, recipe.space)
    if most is None or budget <= most:
        return budget, []
    evidence = (
        f"the grid has {most} point{'s' if most > 1 else ''}: {most} trials instead of {budget}"
    )
    advice = "--sampler random draws a new value from each range for each trial"
    return most, [Finding("grid", "info", evidence, advice, measured=most, expected=budget)]


def prepare(recipe: Recipe, study: Study) -> tuple[Recipe, list[Finding]]:
    """Complete the space: a default one if there is none, and the range of the last lr-sweep.

    Raises:
        RecipeError: if the completed space does not fit the recipe.
    """
    findings = []
    space: dict[str, Dimension] = dict(recipe.space)
    if not space:
        space = default_space(recipe.train.optimizer)
        listed = ", ".join(f"{key} {dimension}" for key, dimension in space.items())
        findings.append(Finding("space", "info", f"the recipe has no [space]; searching {listed}"))
    swept = swept_range(recipe, study.read("lr-sweep"))
    current = space.get("train.lr")
    varied = set(LR_DEPENDENT_KEYS) & space.keys()
    if swept is not None and isinstance(current, Range) and not varied:
        narrowed = intersect(current, swept) if recipe.space else swept
        findings.append(_sweep_finding(current, swept, narrowed))
        space["train.lr"] = narrowed or current
    return recipe.model_copy(update={"space": space}), findings


def without_effect(space: Space, overrides: Sequence[str]) -> list[Finding]:
    """A finding for each key that `--set` gives a value, although it is searched."""
    given: dict[str, Any] = {}
    for text in overrides:
        key, value = parse_override(text)
        given |= flatten({key: value})
    found = []
    for key, value in given.items():
        dimension = space.get(key)
        if dimension is None or dimension == Choice((value,)):
            continue
        text = f"{key} is searched ({dimension}): --set {key}={json.dumps(value)} has no effect"
        text += f"; to fix its value: --set 'space.{key}={{choice=[{json.dumps(value)}]}}'"
        found.append(Finding("space", "info", text, where=key))
    return found


def default_space(optimizer: str) -> dict[str, Dimension]:
    """Learning rate and weight decay, both on a log scale: what the lecture searches first."""
    return {
        "train.lr": Range(*LR_RANGE[optimizer], log=True),
        "train.weight_decay": Range(*WEIGHT_DECAY_RANGE, log=True),
    }


def swept_range(recipe: Recipe, sweep: Mapping[str, Any] | None) -> Range | None:
    """The range that the last `lr-sweep` found, None if it was run on another set-up.

    Raises:
        StudyError: if its file lacks what is needed.
    """
    if sweep is None or sweep.get("lr") is None or recipe.runs_command:
        return None
    if missing := {"recipe", "range"} - sweep.keys():
        raise StudyError(
            f"lr-sweep.json: has no {', '.join(sorted(missing))}; run `cnntune lr-sweep` again"
        )
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
    """The intersection of two ranges; None if it is empty."""
    low, high = max(first.low, second.low), min(first.high, second.high)
    return replace(first, low=low, high=high) if low < high else None


def _sweep_finding(current: Range, swept: Range, narrowed: Range | None) -> Finding:
    found = f"lr-sweep found learning rates from {swept.low:.2g} to {swept.high:.2g}"
    if narrowed is None:
        return Finding(
            "lr-range",
            "warn",
            f"{found}, all outside the recipe's range of {current.low:.2g} to {current.high:.2g}",
            f"--set 'space.train.lr={toml(swept)}'",
        )
    return Finding(
        "lr-range", "info", f"{found}; searching {narrowed.low:.2g} to {narrowed.high:.2g}"
    )


def result(ledger: Ledger, recipe: Recipe) -> Result:
    """Read the result of a study; edges are those of the space of `recipe`."""
    trials = ledger.trials()
    best = best_of(trials)
    found = None if nothing_learned(trials) else importance(trials, ledger.recipe.space)
    findings = findings_of(ledger.recipe, trials, recipe.space)
    return Result(trials, best, found, findings)


def table(trials: Sequence[Trial]) -> "pd.DataFrame":
    """The trials as a pandas DataFrame: a row per trial, a column per result and per key."""
    import pandas as pd  # takes 0.3 s, and only this needs it

    results = ("val_acc", "val_loss", "train_acc", "train_loss", "best_epoch", "epochs", "seconds")
    rows = [
        {"number": trial.number, "status": trial.status}
        | {key: getattr(trial.summary, key) for key in results}
        | (
            {ranked.name: ranked.value}
            if (ranked := trial.summary.ranked) and ranked.name not in results
            else {}
        )
        | trial.values
        for trial in trials
    ]
    whole = dict.fromkeys(("best_epoch", "epochs"), "Int64")  # integers, even with missing values
    frame = pd.DataFrame(rows)
    return frame.astype(whole) if rows else frame
