"""Lecture step 4: a coarse random search, a few epochs a trial."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from cnntune.build import argument_problems
from cnntune.errors import RecipeError
from cnntune.findings import Finding
from cnntune.importance import LEAST_TRIALS, Importance, importance
from cnntune.ledger import Ledger, Trial, best_of, exists
from cnntune.recipe import Recipe, parse, set_key
from cnntune.runs import Study
from cnntune.space import Dimension, Range, Value, edges, toml

LR_RANGE = {"sgd": (1e-4, 1e-1), "adam": (1e-5, 1e-2), "adamw": (1e-5, 1e-2)}  # the sweep's grid
# without its end on the side where the optimizer's usual rates (0.1 and 0.001) do not lie
WEIGHT_DECAY_RANGE = (1e-6, 1e-2)  # CS231n step 4 draws the strength of regularisation in decades
TRACEBACK = "Traceback"  # begins an error of Python's, whose last line says what it was
SWEPT_KEYS = (
    "data",
    "model",
    "augment",
    "train.optimizer",
    "train.momentum",
    "train.batch_size",
    "train.loss",
)

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


def count(trials: Sequence[Trial]) -> dict[str, int]:
    """How many trials stand how; a diverged trial is a complete one, with the worst accuracy."""
    statuses = [trial.status for trial in trials]
    return {
        "complete": statuses.count("complete") + statuses.count("diverged"),
        "pruned": statuses.count("pruned"),
        "failed": statuses.count("failed"),
        "running": statuses.count("running"),
        "diverged": statuses.count("diverged"),
    }


def best_json(best: Trial | None) -> dict[str, Any] | None:
    """The best trial as in the contract."""
    if best is None:
        return None
    return {
        "number": best.number,
        "val_acc": best.val_acc,
        "val_loss": best.summary["val_loss"],
        "epochs": best.summary["epochs"],
        "values": best.values,
    }


def begin(study: Study, recipe: Recipe) -> tuple[Ledger, list[Finding]]:
    """Begin the search of `recipe`, or open it where it was begun; call it under the lock.

    Raises:
        RecipeError: where the completed space does not fit the recipe.
        StudyError: where the study holds another recipe.
    """
    prepared, notes = (recipe, []) if exists(study) else prepare(recipe, study)
    return Ledger.create(study, prepared, asked=recipe), notes


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
    varied = {"train.optimizer", "train.momentum"} & space.keys()  # each has rates of its own
    if swept is not None and isinstance(current, Range) and not varied:
        narrowed = intersect(current, swept) if recipe.space else swept
        findings.append(_sweep_finding(current, swept, narrowed))
        space["train.lr"] = narrowed or current
    return recipe.model_copy(update={"space": space}), findings


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
    swept = parse(sweep["recipe"], file="lr-sweep.json").as_values()
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
    findings = [*trial_findings(trials), *edge_findings(recipe, best)]
    return Result(trials, best, importance(trials, ledger.recipe.space), findings)


def table(trials: Sequence[Trial]) -> "pd.DataFrame":
    """The trials as a pandas frame: a row a trial, a column for each result and each key."""
    import pandas as pd  # 0.3 s, and only this needs it

    results = ("val_acc", "val_loss", "train_acc", "train_loss", "best_epoch", "epochs", "seconds")
    rows = [
        {"number": trial.number, "status": trial.status}
        | {key: trial.summary.get(key) for key in results}
        | trial.values
        for trial in trials
    ]
    return pd.DataFrame(rows)


def importance_findings(result: Result) -> list[Finding]:
    """Why there is no importance, where there is none."""
    counts = count(result.trials)
    judged = counts["complete"] + counts["pruned"]
    if result.importance or not result.best:
        return []
    if judged >= LEAST_TRIALS:
        return [Finding("importance", "info", "all trials came to the same accuracy")]
    return [
        Finding(
            "importance",
            "info",
            f"{judged} trials are too few to say which key matters",
            f"search on with --budget {max(2 * judged, LEAST_TRIALS)}",
        )
    ]


def trial_findings(trials: Sequence[Trial]) -> list[Finding]:
    """Trials that failed or diverged, and a study in which nothing came of any."""
    counts = count(trials)
    findings = []
    if counts["failed"]:
        error = next(t.summary.get("error", "") for t in trials if t.status == "failed")
        lines = error.strip().splitlines() or ["no message"]
        cause = lines[-1] if error.startswith(TRACEBACK) else lines[0]
        none_complete = not best_of(trials)
        findings.append(
            Finding(
                "failed-trials",
                "fail" if none_complete else "warn",
                f"{counts['failed']} of {len(trials)} trials failed, the first with: {cause}",
                "the whole message is in the trial's summary.json",
            )
        )
    if counts["diverged"]:
        rates = [
            t.values["train.lr"]
            for t in trials
            if t.status == "diverged" and "train.lr" in t.values
        ]
        at = f", from train.lr {min(map(float, rates)):.2g} on" if rates else ""
        findings.append(
            Finding(
                "diverged-trials",
                "fail" if counts["diverged"] == len(trials) else "info",
                f"{counts['diverged']} of {len(trials)} trials diverged{at}",
                "run `cnntune lr-sweep` for a range of rates that do not",
            )
        )
    return findings


def edge_findings(recipe: Recipe, best: Trial | None) -> list[Finding]:
    """The best value at the end of a range: what lies beyond may be better (tuning playbook).

    Ends beyond which the recipe allows nothing, such as a dropout of 0, are no edges.
    """
    found = edges(recipe.space, best.values) if best else []
    return [
        Finding(
            "edge",
            "warn",
            f"the best {edge.key}, {edge.value:.3g}, lies at the {edge.side} end of its range"
            f" {recipe.space[edge.key]}",
            "widen it in a study of its own: --study NAME --set"
            f" 'space.{edge.key}={toml(edge.wider)}'",
            where=edge.key,
            measured=edge.value,
        )
        for edge in found
        if _allows(recipe, edge.key, edge.beyond)
    ]


def _allows(recipe: Recipe, key: str, value: Value) -> bool:
    values = recipe.as_values()
    set_key(values, key, value)
    try:
        parse(values, file=recipe.name, check_arguments=argument_problems)
    except RecipeError:
        return False
    return True
