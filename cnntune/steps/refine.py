"""Lecture step 5: refine around the best, train longer, and ask whether the best is better."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cnntune.config.files import parse_override
from cnntune.config.recipe import Recipe, differences, parse, set_key
from cnntune.config.space import Choice, Dimension, Value
from cnntune.diagnosis.load_runs import curve_of
from cnntune.diagnosis.rules import Label, diagnose
from cnntune.errors import RecipeError, StudyError
from cnntune.findings import Finding
from cnntune.machine.clock import NEVER, Deadline
from cnntune.runs.chance import Chance
from cnntune.runs.study import FORMAT, Run, Study
from cnntune.seeds import derive_seed
from cnntune.steps.next_space import Change, apply, changes
from cnntune.steps.search_findings import nothing_learned, strong
from cnntune.steps.winner import CANDIDATES, Rival, last_known_round, number_of, rounds
from cnntune.study.importance import importance
from cnntune.study.ledger import Ledger, Trial, best_of, exists
from cnntune.workers.pool import Event, Job, in_order, run_jobs

# Keys that a refinement shares with its search, with the reason.
COMPARED = "the accuracies of all rounds are compared"
ARITHMETIC = "the search decides the precision of all rounds"
FIXED = {
    "name": "it is that of the study",
    "data": COMPARED,
    "space.data": COMPARED,
    "train.precision": ARITHMETIC,
    "train.deterministic": ARITHMETIC,
    "train.epochs": "give --epochs",
    "search.epochs": "give --epochs",
    "search.pruner": "its few trials lie near the best, and none is pruned",
}
WARMUP_SHARE = 0.1  # of the epochs at most (tuning playbook), where there are enough for one

Repeat = tuple[Rival, int, Run]  # of what, by how much its seed is larger, and its folder


def next_round(study: Study) -> tuple[Study, Study]:
    """The study to refine and the folder that takes the refinement.

    A refinement that was begun and not finished is taken up again; otherwise a new one starts
    around the last one.
    """
    sources = [study, *rounds(study)]
    if len(sources) > 1 and sources[-1].read("refine") is None:
        return sources[-2], sources[-1]
    return sources[-1], Study(study.path / f"refine-{last_known_round(study) + 1}")


def strong_trials(trials: Sequence[Trial], study: Path) -> list[Trial]:
    """The best fifth of a study's trials, pruned ones included, and at least three.

    Raises:
        StudyError: where no trial is complete, or none learned anything.
    """
    if best_of(trials) is None:
        raise StudyError(f"{study}: there is no complete trial to refine around; search first")
    if nothing := nothing_learned(trials):
        raise StudyError(f"{study}: there is nothing to refine around: {nothing[0].evidence}")
    return strong(trials)


@dataclass(frozen=True)
class Round:
    """One refinement: where its trials go, what they are drawn from, and what it refines.

    Number 0 is the search itself, which refines nothing.

    `changes` tell how its space came from the one before, each with its reason; `planned` is the
    number of its trials, None where it was begun by a version that did not store it.
    """

    ledger: Ledger
    strong: list[Trial]
    number: int
    changes: list[Finding]
    planned: int | None

    @property
    def study(self) -> Study:
        """The folder of its trials."""
        return self.ledger.study

    @property
    def recipe(self) -> Recipe:
        """What its trials are drawn from."""
        return self.ledger.recipe

    @property
    def seed(self) -> int:
        """What the refinement draws from: not the random numbers of the search once more."""
        if not self.number:
            return self.recipe.seed
        return derive_seed(self.recipe.seed, "refine", self.number)

    @property
    def given(self) -> list[dict[str, Value]]:
        """The values of its first trial: the best so far, as far as they are still searched.

        None where a space that was asked for leaves one of them out.
        """
        space = self.recipe.space
        best = self.strong[0].values if self.strong else {}
        values = {key: best[key] for key in space if key in best}
        allowed = all(_holds(space[key], value) for key, value in values.items())
        return [values] if self.strong and allowed else []


def _holds(dimension: Dimension, value: Value) -> bool:
    """Whether a trial may draw the value."""
    if isinstance(dimension, Choice):
        return value in dimension.options
    return isinstance(value, int | float) and dimension.low <= value <= dimension.high


def begin(study: Study, epochs: int | None, trials: int, overrides: Sequence[str] = ()) -> Round:
    """The refinement to run next: the unfinished one, or a new one of so many trials.

    `overrides` change keys of its recipe, written as `--set` takes them.

    Raises:
        StudyError: where there is no search, no complete trial, or the unfinished refinement was
            begun with another number of epochs or other overrides.
        RecipeError: where the refinement's recipe would not be sound.
    """
    begun = unfinished(study)
    if begun is None:
        recipe, made, strong = proposal(study, epochs)
        recipe = with_overrides(recipe, overrides)
        return begin_with(study, recipe, [change.finding() for change in made], trials, strong)
    path, planned = begun.study.path, begun.recipe.search.epochs
    if epochs not in (None, planned):
        raise StudyError(
            f"{path}: was begun with --epochs {planned}; finish it first, or remove the folder"
        )
    if other := differences(with_overrides(begun.recipe, overrides), begun.recipe):
        raise StudyError(
            [
                *(f"{path}: was begun with another recipe: {line}" for line in other),
                f"{path}: finish it first without these options, or remove the folder",
            ]
        )
    return begun


def with_overrides(recipe: Recipe, overrides: Sequence[str]) -> Recipe:
    """The recipe of a refinement with keys changed, each written as `--set` takes it.

    Raises:
        RecipeError: where a key belongs to the whole study, or the result is not a sound recipe.
    """
    if not overrides:
        return recipe
    from cnntune.training.build import argument_problems, argument_types  # they need torch

    values = recipe.as_values()
    space = values.pop("space", {})
    for key, dimension in space.items():
        set_key(values, f"space.{key}", dimension)
    keys = []
    for text in overrides:
        key, value = parse_override(text)
        for fixed, reason in FIXED.items():
            if key == fixed or key.startswith(f"{fixed}."):
                raise RecipeError(f"--set: {key}: cannot be changed in a refinement: {reason}")
        set_key(values, key, value)
        keys.append(key)
    return parse(
        values,
        file=recipe.name,
        overridden=keys,
        check_arguments=argument_problems,
        argument_types=argument_types,
    )


def proposal(study: Study, epochs: int | None) -> tuple[Recipe, list[Change], list[Trial]]:
    """The recipe of a new refinement, what is changed in it, and the trials it goes around.

    Raises:
        StudyError: where there is no search, or no complete trial.
        RecipeError: where the refinement's recipe would not be sound.
    """
    source = next_round(study)[0]
    searched = Ledger.open(source)
    strong = strong_trials(searched.trials(), source.path)
    weights = importance(searched.trials(), searched.recipe.space)
    recipe, made = plan(searched.recipe, strong, epochs, weights.shares if weights else {})
    return recipe, made, strong


def begin_with(
    study: Study,
    recipe: Recipe,
    changes: list[Finding],
    trials: int,
    strong: Sequence[Trial] = (),
) -> Round:
    """A new round of so many trials of `recipe`, recorded in its folder."""
    target = next_round(study)[1]
    write_plan(target, trials, changes)
    ledger = Ledger.create(target, recipe, asked=recipe)
    return Round(ledger, list(strong), number_of(target), changes, trials)


def unfinished(study: Study) -> Round | None:
    """The refinement that was begun and not finished, None where there is none."""
    source, target = next_round(study)
    if not exists(target):
        return None
    trials = Ledger.open(source).trials()
    # A round of other rates comes after one in which nothing was learned, and is around nothing.
    learned = best_of(trials) is not None and not nothing_learned(trials)
    strong = strong_trials(trials, source.path) if learned else []
    planned, findings = read_plan(target)
    return Round(Ledger.open(target), strong, number_of(target), findings, planned)


def write_plan(target: Study, trials: int, changes: Sequence[Finding]) -> None:
    """Keep what a round is to be: the number of its trials, and how its space came about."""
    plan = {
        "format": FORMAT,
        "trials": trials,
        "changes": [finding.evidence for finding in changes],
        "findings": [finding.as_json() for finding in changes],
    }
    target.write("plan", plan)


def read_plan(target: Study) -> tuple[int | None, list[Finding]]:
    """The number of a round's trials, if it is known, and how its space came about."""
    stored = target.read("plan") or {}
    if "findings" in stored:
        return stored.get("trials"), [Finding(**values) for values in stored["findings"]]
    changes = [Finding("space", "info", text) for text in stored.get("changes", [])]  # of 0.1.0
    return stored.get("trials"), changes


def longer_epochs(searched: Recipe) -> int:
    """What a refinement trains for: the recipe's epochs, and never less than the search."""
    return max(searched.train.epochs, searched.search.epochs)


def plan(
    recipe: Recipe, strong: Sequence[Trial], asked: int | None, shares: Mapping[str, float]
) -> tuple[Recipe, list[Change]]:
    """The recipe of the refinement: longer runs, cosine decay after a warm-up, another space.

    Nothing is pruned: the few trials lie near the best, and the best itself is one of them.
    `recipe` is the one that the strong trials were drawn from, `shares` tell how much each key
    matters. Trials have the epochs `asked` for, else as many as recipe and curves call for.

    Raises:
        RecipeError: where the result is not a sound recipe.
    """
    epochs = asked or longer_epochs(recipe)
    values: dict[str, Value] = {"train.epochs": epochs, "search.epochs": epochs}
    values["search.pruner"] = "none"
    if recipe.train.schedule == "constant" and "train.schedule" not in recipe.space:
        warmup = max(recipe.train.warmup_epochs, float(math.floor(epochs * WARMUP_SHARE)))
        values |= {"train.schedule": "cosine", "train.warmup_epochs": warmup}
    longer = recipe.for_run().with_values(values).model_copy(update={"space": recipe.space})
    places = [{k: v for k, v in trial.values.items() if k in recipe.space} for trial in strong]
    problem = problem_of(strong)
    if problem == "still-improving" and epochs > recipe.search.epochs:
        problem = None  # the cure is under way
    made = changes(longer, places, problem, shares)
    if asked:
        made = [change for change in made if change.key not in ("search.epochs", "train.epochs")]
    return apply(longer, made), made


def problem_of(strong: Sequence[Trial]) -> Label | None:
    """What most of the curves of the best whole runs have; None where they differ."""
    whole = [trial for trial in strong if trial.status == "complete"][:CANDIDATES]
    labels = [
        diagnose(curve_of(rows), chance=Chance.in_summary(trial.summary)).label
        for trial in whole
        if (rows := trial.curve)
    ]
    common = max(set(labels), key=labels.count, default=None)
    return common if common and labels.count(common) > len(labels) / 2 else None


def repeat(
    repeats: Sequence[Repeat],
    *,
    workers: int,
    places: Sequence[str],
    deadline: Deadline = NEVER,
) -> Iterator[Event]:
    """Train trials again with fresh seeds, until the deadline."""
    jobs = []
    for rival, more, run in repeats:
        values = {**rival.trial.values, "seed": rival.recipe.seed + more}
        jobs.append(Job(rival.trial.number, rival.recipe.for_trial(values), run.path))
    yield from run_jobs(in_order(jobs), workers=workers, places=places, deadline=deadline)


def repeats_to_train(
    rivals: Sequence[Rival], *, seeds: int, most: int | None = None
) -> list[Repeat]:
    """The repeats that are not finished, failed ones too, and of those not begun `most`.

    Each trial has its first repeat before one has its second.
    """
    found = [(rival, more, run) for rival in rivals for more, run in rival.repeats(seeds)]
    todo = [one for one in found if not _finished(one[2])]
    begun = [one for one in todo if one[2].path.exists()]
    new = sorted((one for one in todo if not one[2].path.exists()), key=lambda one: one[1])
    return [*begun, *new[:most]]


def _finished(run: Run) -> bool:
    return (run.summary() or {}).get("status") in ("complete", "diverged")
