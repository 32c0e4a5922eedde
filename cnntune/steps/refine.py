"""Lecture step 5: search around the best trials, train longer, repeat the best with fresh seeds."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cnntune.config.command import LONGER, CommandRecipe, parse_command
from cnntune.config.files import parse_override
from cnntune.config.recipe import Recipe, differences, parse, set_key
from cnntune.config.space import Choice, Dimension, Value
from cnntune.diagnosis.load_runs import curve_of
from cnntune.diagnosis.proven import Proof, proofs_in
from cnntune.diagnosis.rules import Label, diagnose
from cnntune.errors import RecipeError, StudyError
from cnntune.findings import Finding
from cnntune.machine.clock import NEVER, Deadline
from cnntune.runs.files import FORMAT
from cnntune.runs.run import Run
from cnntune.runs.study import Study
from cnntune.seeds import derive_seed
from cnntune.steps.next_space import Change, apply, changes
from cnntune.steps.search_findings import nothing_learned, strong
from cnntune.steps.winner import (
    CANDIDATES,
    Rival,
    last_known_round,
    number_of,
    rounds,
    seed_noise,
)
from cnntune.study.effects import Idle, idle_keys
from cnntune.study.ledger import Ledger, exists
from cnntune.study.trial import Trial, best_of
from cnntune.training.open_recipe import value_at
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
WARMUP_SHARE = 0.1  # of the epochs, rounded down (tuning playbook: at most)

Repeat = tuple[Rival, int, Run]  # the trial to repeat, the offset of its seed, and its folder


def next_round(study: Study) -> tuple[Study, Study]:
    """The study to refine and the folder of its refinement.

    An unfinished refinement is continued; otherwise a new one refines the last round.
    """
    sources = [study, *rounds(study)]
    if len(sources) > 1 and sources[-1].read("refine") is None:
        return sources[-2], sources[-1]
    return sources[-1], Study(study.path / f"refine-{last_known_round(study) + 1}")


def strong_trials(trials: Sequence[Trial], study: Path) -> list[Trial]:
    """The best fifth of a study's trials, pruned ones included, and at least three.

    Raises:
        StudyError: if no trial is complete, or none has learned anything.
    """
    if best_of(trials) is None:
        raise StudyError(f"{study}: there is no complete trial to refine; run `cnntune search`")
    if nothing := nothing_learned(trials):
        raise StudyError(f"{study}: nothing was learned to refine: {nothing[0].evidence}")
    return strong(trials)


@dataclass(frozen=True)
class Round:
    """A refinement, or, with number 0, the search itself.

    `strong` are the trials that it refines, best first; empty for the search. `changes` are the
    changes from the space before, with reasons. `planned` is the number of its trials, None if a
    version created it that did not store it.
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
        """The recipe whose space its trials are drawn from."""
        return self.ledger.recipe

    @property
    def seed(self) -> int:
        """The seed of the sampler: different for each round, so that values are not drawn again."""
        if not self.number:
            return self.recipe.seed
        return derive_seed(self.recipe.seed, "refine", self.number)

    @property
    def given(self) -> list[dict[str, Value]]:
        """The values of its first trial: those of the best so far, for keys still searched.

        None if a space that was given leaves one of them out.
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
    """The refinement to run next: the unfinished one, or a new one of `trials` trials.

    `overrides` change keys of its recipe, written as `--set` takes them.

    Raises:
        StudyError: if there is no search or no complete trial, or the unfinished refinement was
            started with another number of epochs or other overrides.
        RecipeError: if the refinement's recipe would not be valid.
    """
    begun = unfinished(study)
    if begun is None:
        recipe, made, strong = proposal(study, epochs)
        recipe = with_overrides(recipe, overrides)
        return begin_with(study, recipe, [change.finding() for change in made], trials, strong)
    path, planned = begun.study.path, begun.recipe.search.epochs
    if epochs not in (None, planned):
        raise StudyError(
            f"{path}: was started with --epochs {planned}; finish it with the same value, or remove"
            " the folder"
        )
    if other := differences(with_overrides(begun.recipe, overrides), begun.recipe):
        raise StudyError(
            [
                *(f"{path}: was started with another recipe: {line}" for line in other),
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
    if isinstance(recipe, CommandRecipe):
        del values["command"]
        return parse_command(values, recipe.command, file=recipe.name, overridden=keys)
    from cnntune.training.open_recipe import argument_problems, argument_types  # they need torch

    return parse(
        values,
        file=recipe.name,
        overridden=keys,
        check_arguments=argument_problems,
        argument_types=argument_types,
    )


def proposal(study: Study, epochs: int | None) -> tuple[Recipe, list[Change], list[Trial]]:
    """The recipe of a new refinement, the changes in it, and the trials that it refines.

    Raises:
        StudyError: if there is no search, or no complete trial.
        RecipeError: if the refinement's recipe would not be valid.
    """
    source = next_round(study)[0]
    searched = Ledger.open(source)
    strong = strong_trials(searched.trials(), source.path)
    idle = idle_keys(searched.trials(), searched.recipe.space, seed_noise(study, strong[0]))
    # Later rounds have trained what a proof brought into one; their trials decide about it.
    proofs = [one for one in proofs_in(study.path) if one.after_round == number_of(source)]
    recipe, made = plan(searched.recipe, strong, epochs, idle, proofs)
    return recipe, made, strong


def begin_with(
    study: Study,
    recipe: Recipe,
    changes: list[Finding],
    trials: int,
    strong: Sequence[Trial] = (),
) -> Round:
    """A new round of `trials` trials of `recipe`, recorded in its folder."""
    target = next_round(study)[1]
    write_plan(target, trials, changes)
    ledger = Ledger.create(target, recipe, asked=recipe)
    return Round(ledger, list(strong), number_of(target), changes, trials)


def unfinished(study: Study) -> Round | None:
    """The unfinished refinement, None if there is none."""
    source, target = next_round(study)
    if not exists(target):
        return None
    trials = Ledger.open(source).trials()
    # After a round without learning, a round of other learning rates refines no trials.
    learned = best_of(trials) is not None and not nothing_learned(trials)
    strong = strong_trials(trials, source.path) if learned else []
    planned, findings = read_plan(target)
    return Round(Ledger.open(target).reopened(), strong, number_of(target), findings, planned)


def write_plan(target: Study, trials: int, changes: Sequence[Finding]) -> None:
    """Store the plan of a round: the number of its trials, and the changes of its space."""
    plan = {
        "format": FORMAT,
        "trials": trials,
        "changes": [finding.evidence for finding in changes],
        "findings": [finding.as_json() for finding in changes],
    }
    target.write("plan", plan)


def read_plan(target: Study) -> tuple[int | None, list[Finding]]:
    """The planned number of a round's trials, None if unknown, and the changes of its space."""
    stored = target.read("plan") or {}
    if "findings" in stored:
        return stored.get("trials"), [Finding(**values) for values in stored["findings"]]
    changes = [Finding("space", "info", text) for text in stored.get("changes", [])]  # of 0.1.0
    return stored.get("trials"), changes


def longer_epochs(searched: Recipe) -> int:
    """The epochs of a refinement: those of the recipe, but no fewer than the search's.

    A command that is not told how many trains to its own end, which is 0.
    """
    if isinstance(searched, CommandRecipe):
        return LONGER * searched.search.epochs if searched.told_epochs else 0
    return max(searched.train.epochs, searched.search.epochs)


def plan(
    recipe: Recipe,
    strong: Sequence[Trial],
    asked: int | None,
    idle: Mapping[str, Idle],
    proofs: Sequence[Proof] = (),
) -> tuple[Recipe, list[Change]]:
    """The recipe of the refinement: longer runs, cosine decay after a warm-up, a changed space.

    Nothing is pruned, since the few trials are close to the best, and include it. `recipe` is the
    one that the strong trials were drawn from, `idle` are its keys that make no difference. Trials
    have `asked` epochs, or as many as the recipe and the curves require. `proofs` are
    those since the round of the strong trials.

    Raises:
        RecipeError: if the result is not a valid recipe.
    """
    epochs = asked or longer_epochs(recipe)
    values: dict[str, Value] = {"search.epochs": epochs, "search.pruner": "none"}
    if not recipe.runs_command:
        values["train.epochs"] = epochs
    own_schedule = recipe.runs_command or "train.schedule" in recipe.space
    if recipe.train.schedule == "constant" and not own_schedule:
        warmup = max(recipe.train.warmup_epochs, float(math.floor(epochs * WARMUP_SHARE)))
        values |= {"train.schedule": "cosine", "train.warmup_epochs": warmup}
    longer = recipe.for_run().with_values(values).model_copy(update={"space": recipe.space})
    searched_values = [_trained_with(trial, recipe) for trial in strong]
    problem = problem_of(strong)
    if problem == "still-improving" and (not epochs or epochs > recipe.search.epochs):
        problem = None  # the refinement trains longer already
    made = changes(longer, searched_values, problem, idle, proofs)
    if asked:
        made = [change for change in made if change.key not in ("search.epochs", "train.epochs")]
    return apply(longer, made), made


def _trained_with(trial: Trial, recipe: Recipe) -> dict[str, Value]:
    """A value for each key of the space: the drawn one, else the recipe's.

    The first trial of a round has those of the best before, when some keys were not searched yet.
    """
    found = {key: trial.values.get(key, value_at(recipe, key)) for key in recipe.space}
    return {key: value for key, value in found.items() if value is not None}


def problem_of(strong: Sequence[Trial]) -> Label | None:
    """The label of most curves of the best complete runs; None if they differ."""
    whole = [trial for trial in strong if trial.status == "complete"][:CANDIDATES]
    labels = [
        diagnose(curve_of(rows), chance=trial.summary.chance).label
        for trial in whole
        if (rows := trial.curve)
    ]
    common = max(set(labels), key=labels.count, default=None)
    return common if common and labels.count(common) > len(labels) / 2 else None


def repeat(
    repeats: Sequence[Repeat],
    *,
    workers: int,
    devices: Sequence[str],
    deadline: Deadline = NEVER,
) -> Iterator[Event]:
    """Train trials again with fresh seeds, until the deadline."""
    jobs = []
    for rival, more, run in repeats:
        values = {**rival.trial.values, "seed": rival.recipe.seed + more}
        jobs.append(Job(rival.trial.number, rival.recipe.for_trial(values), run.path))
    yield from run_jobs(in_order(jobs), workers=workers, devices=devices, deadline=deadline)


def repeats_to_train(
    rivals: Sequence[Rival], *, seeds: int, most: int | None = None
) -> list[Repeat]:
    """The repeats to train: all that are unfinished or failed, and at most `most` new ones.

    Each trial gets its first repeat before any gets its second.
    """
    found = [(rival, more, run) for rival in rivals for more, run in rival.repeats(seeds)]
    todo = [one for one in found if not _finished(one[2])]
    begun = [one for one in todo if one[2].path.exists()]
    new = sorted((one for one in todo if not one[2].path.exists()), key=lambda one: one[1])
    return [*begun, *new[:most]]


def _finished(run: Run) -> bool:
    return (run.summary() or {}).get("status") in ("complete", "diverged")
