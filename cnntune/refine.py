"""Lecture step 5: refine around the best, train longer, and ask whether the best is better."""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cnntune.adapt import Change, apply, changes
from cnntune.chance import Chance
from cnntune.errors import StudyError
from cnntune.findings import Finding
from cnntune.importance import importance
from cnntune.ledger import Ledger, Trial, best_of, exists, ranked
from cnntune.reading import curve_of
from cnntune.recipe import Recipe
from cnntune.runs import Study
from cnntune.search_findings import nothing_learned, strong
from cnntune.seeds import derive_seed
from cnntune.space import Value
from cnntune.verdict import Label, diagnose
from cnntune.workers import Event, Job, in_order, run_jobs

CANDIDATES = 3  # trained again over seeds; their rerun shows whether the first seed was luck
WARMUP_SHARE = 0.1  # of the epochs at most (tuning playbook), where there are enough for one
LONGER = 3  # times the coarse epochs, where the recipe does not say how long to train
TIE_ERRORS = 2.0  # standard errors of a difference: closer than that, a new seed may turn it round;
# with three candidates of three seeds a difference of pure chance passes 2 to 4 times in 100


def rounds(study: Study) -> list[Study]:
    """The refinements of a study, `refine-1` first."""
    found = [path for path in study.path.glob("refine-*") if path.name[7:].isdigit()]
    return [Study(path) for path in sorted(found, key=lambda path: int(path.name[7:]))]


def next_round(study: Study) -> tuple[Study, Study]:
    """The study to refine and the folder that takes the refinement.

    A refinement that was begun and not finished is taken up again; otherwise a new one starts
    around the last one.
    """
    sources = [study, *rounds(study)]
    if len(sources) > 1 and sources[-1].read("refine") is None:
        return sources[-2], sources[-1]
    return sources[-1], Study(study.path / f"refine-{len(sources)}")


def strong_trials(trials: Sequence[Trial]) -> list[Trial]:
    """The best fifth of the trials, pruned ones included, and at least three.

    Raises:
        StudyError: where no trial is complete, or none learned anything.
    """
    if best_of(trials) is None:
        raise StudyError("there is no complete trial to refine around; search first")
    if nothing := nothing_learned(trials):
        raise StudyError(f"there is nothing to refine around: {nothing[0].evidence}")
    return strong(trials)


@dataclass(frozen=True)
class Round:
    """One refinement: where its trials go, what they are drawn from, and what it refines.

    `changes` tell how its space came from the one before, each with its reason.
    """

    ledger: Ledger
    strong: list[Trial]
    number: int
    changes: list[Finding]

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
        return derive_seed(self.recipe.seed, "refine", self.number)

    @property
    def given(self) -> list[dict[str, Value]]:
        """The values of its first trial: the best so far, as far as they are still searched."""
        best = self.strong[0].values
        return [{key: best[key] for key in self.recipe.space if key in best}]


def begin(study: Study, epochs: int | None) -> Round:
    """The refinement to run next: the unfinished one, or a new one around the last.

    Raises:
        StudyError: where there is no search, no complete trial, or the unfinished refinement trains
            for another number of epochs.
        RecipeError: where the refinement's recipe would not be sound.
    """
    source, target = next_round(study)
    searched = Ledger.open(source)
    strong = strong_trials(searched.trials())
    number = int(target.path.name.rpartition("-")[2])
    if exists(target):
        ledger = Ledger.open(target)
        planned = ledger.recipe.search.epochs
        if epochs not in (None, planned):
            raise StudyError(
                f"{target.path}: was begun with --epochs {planned}; finish it first, or"
                " remove the folder"
            )
        return Round(ledger, strong, number, _stored_changes(target))
    weights = importance(searched.trials(), searched.recipe.space)
    shares = weights.shares if weights else {}
    recipe, made = plan(searched.recipe, strong, epochs, shares)
    findings = [change.finding() for change in made]
    target.write("plan", {"changes": [finding.evidence for finding in findings]})
    return Round(Ledger.create(target, recipe, asked=recipe), strong, number, findings)


def _stored_changes(target: Study) -> list[Finding]:
    stored = target.read("plan") or {}
    return [Finding("space", "info", evidence) for evidence in stored.get("changes", [])]


def longer_epochs(searched: Recipe) -> int:
    """What a refinement trains for: the recipe's own epochs, or three times the coarse ones.

    After a first refinement the two are the same, and stay.
    """
    if searched.train.epochs == searched.search.epochs:
        return searched.search.epochs
    return max(searched.train.epochs, searched.search.epochs * LONGER)


def plan(
    recipe: Recipe, strong: Sequence[Trial], asked: int | None, shares: Mapping[str, float]
) -> tuple[Recipe, list[Change]]:
    """The recipe of the refinement: longer runs, cosine decay after a warm-up, another space.

    `recipe` is the one that the strong trials were drawn from, `shares` tell how much each key
    matters. Trials have the epochs `asked` for, else as many as recipe and curves call for.

    Raises:
        RecipeError: where the result is not a sound recipe.
    """
    epochs = asked or longer_epochs(recipe)
    values: dict[str, Value] = {"train.epochs": epochs, "search.epochs": epochs}
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


@dataclass(frozen=True)
class Candidate:
    """One of the best trials, trained over several seeds. Accuracies are in 0..1."""

    number: int
    values: dict[str, Value]
    val_accs: list[float] = field(default_factory=list)
    diverged: int = 0  # seeds

    @property
    def mean(self) -> float:
        """Mean validation accuracy over the seeds."""
        return statistics.fmean(self.val_accs)

    @property
    def sd(self) -> float | None:
        """Sample standard deviation over the seeds; None for one seed."""
        return statistics.stdev(self.val_accs) if len(self.val_accs) > 1 else None

    def as_json(self) -> dict[str, Any]:
        """The candidate in `refine --json`."""
        return {
            "number": self.number,
            "values": self.values,
            "val_accs": self.val_accs,
            "diverged": self.diverged,
            "mean": self.mean,
            "sd": self.sd,
        }


def candidates_of(trials: Sequence[Trial]) -> list[Trial]:
    """The best trials that were trained whole; none where no trial learned anything."""
    if nothing_learned(trials):
        return []
    return [trial for trial in ranked(trials) if trial.status == "complete"][:CANDIDATES]


def repeat(
    study: Study,
    trials: Sequence[Trial],
    recipe: Recipe,
    *,
    seeds: int,
    workers: int,
    places: Sequence[str],
) -> Iterator[Event]:
    """Train the best trials again with further seeds; repeats that are finished are not redone."""
    jobs = [
        Job(trial.number, recipe.for_trial({**trial.values, "seed": recipe.seed + extra}), folder)
        for trial in candidates_of(trials)
        for extra, folder in _repeat_folders(study, trial.number, seeds)
        if (study.run(folder.name).summary() or {}).get("status") not in ("complete", "diverged")
    ]
    yield from run_jobs(in_order(jobs), workers=workers, places=places)


def _repeat_folders(study: Study, number: int, seeds: int) -> list[tuple[int, Any]]:
    trial = study.trial(number).path
    return [(extra, trial.with_name(f"{trial.name}-seed-{extra}")) for extra in range(1, seeds)]


def candidates(study: Study, trials: Sequence[Trial], *, seeds: int) -> list[Candidate]:
    """The best trials with their repeats, highest mean first, those that diverged last.

    A repeat that failed says nothing about its values and is left out.
    """
    found = []
    for trial in candidates_of(trials):
        summaries = [
            study.run(folder.name).summary()
            for _, folder in _repeat_folders(study, trial.number, seeds)
        ]
        repeats = [float(s["val_acc"]) for s in summaries if s and s["status"] == "complete"]
        diverged = sum(1 for s in summaries if s and s["status"] == "diverged")
        found.append(Candidate(trial.number, trial.values, [trial.val_acc, *repeats], diverged))
    return sorted(found, key=lambda candidate: (candidate.diverged, -candidate.mean))


def tied(found: Sequence[Candidate], *, val_images: int | None = None) -> list[Candidate]:
    """The first candidate and those that it does not beat by more than two standard errors.

    The spread is pooled over the candidates, since three seeds alone say little about it, and it is
    at least one of the `val_images`: accuracy has no finer steps. Candidates that diverged for some
    seed are no rivals.
    """
    found = [candidate for candidate in found if not candidate.diverged] or list(found[:1])
    spreads = [candidate.sd for candidate in found if candidate.sd is not None]
    if not spreads:
        return list(found[:1])
    pooled = math.sqrt(statistics.fmean(spread**2 for spread in spreads))
    pooled = max(pooled, 1 / val_images if val_images else 0.0)

    def error(first: Candidate, second: Candidate) -> float:
        return pooled * math.sqrt(1 / len(first.val_accs) + 1 / len(second.val_accs))

    best = found[0]
    return [c for c in found if best.mean - c.mean <= TIE_ERRORS * error(best, c)]


def seed_findings(found: Sequence[Candidate], *, val_images: int | None = None) -> list[Finding]:
    """The winner over seeds with its spread, or that there is none; what diverged for a seed."""
    unstable = [
        Finding(
            "unstable-seed",
            "warn",
            f"trial {c.number} diverged for {c.diverged} of {c.diverged + len(c.val_accs)} seeds",
            "lower its train.lr, warm up, or clip gradients",
        )
        for c in found
        if c.diverged
    ]
    return [*_winner(found, val_images), *unstable]


def _winner(found: Sequence[Candidate], val_images: int | None) -> list[Finding]:
    if not found or found[0].sd is None:
        return []
    level = tied(found, val_images=val_images)
    best = found[0]
    evidence = (
        f"trial {best.number}: {best.mean:.4f} ± {best.sd:.4f} over {len(best.val_accs)} seeds"
    )
    if len(level) > 1:
        others = ", ".join(f"trial {c.number} ({c.mean:.4f})" for c in level[1:])
        return [
            Finding(
                "tie",
                "info",
                f"{evidence} does not beat {others} by more than {TIE_ERRORS:g} standard errors",
                "take the cheapest of them; more seeds or more validation images would tell",
            )
        ]
    second = f"; next is trial {found[1].number} with {found[1].mean:.4f}" if found[1:] else ""
    return [Finding("winner", "ok", evidence + second)]
