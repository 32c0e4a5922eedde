"""What a study's folder tells, gathered into values that a page can show."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnntune import refine
from cnntune.errors import CnntuneError
from cnntune.findings import Finding
from cnntune.importance import Importance, importance
from cnntune.judge import JudgedRun, judge_runs
from cnntune.ledger import Ledger, Trial, best_of, exists, ranked
from cnntune.own_code import add_code_folder
from cnntune.reading import read_paths
from cnntune.recipe import Recipe, parse
from cnntune.runs import Epoch, Run, Study
from cnntune.search_findings import (
    TRACEBACK,
    count,
    edge_findings,
    importance_findings,
    region_findings,
    trial_findings,
    worth_findings,
)
from cnntune.space import Space

JUDGED = 3  # single runs, beside the trials that `refine` trains again over seeds


@dataclass(frozen=True)
class Chapter:
    """A search or a refinement: its trials, how its space came about, what it says.

    `curves` holds the rows of each trial that has any.
    """

    study: Study
    recipe: Recipe
    trials: list[Trial]
    curves: dict[int, list[Epoch]]
    importance: Importance | None
    changes: list[str]
    findings: list[Finding]
    candidates: list[refine.Candidate]

    @property
    def title(self) -> str:
        """`search`, or the name of the refinement's folder."""
        return self.study.name if self.study.name.startswith("refine-") else "search"

    @property
    def keys(self) -> list[str]:
        """What was searched, the keys of the space first."""
        drawn = (key for trial in self.trials for key in trial.values)
        return list(dict.fromkeys([*self.recipe.space, *drawn]))

    @property
    def counts(self) -> dict[str, int]:
        """How many trials stand how, without those of which there are none."""
        counts = count(self.trials)
        counts["complete"] -= counts["diverged"]
        return {status: number for status, number in counts.items() if number}

    @property
    def best(self) -> Trial | None:
        """The best trial over seeds, else the best one of a single seed."""
        if self.repeated:
            return next(t for t in self.trials if t.number == self.candidates[0].number)
        return best_of(self.trials)

    @property
    def best_over_seeds(self) -> refine.Candidate | None:
        """The best trial's accuracies, where it was trained with further seeds."""
        return self.candidates[0] if self.repeated else None

    @property
    def repeated(self) -> bool:
        """Whether the best trials were trained with further seeds."""
        return any(len(c.val_accs) + c.diverged > 1 for c in self.candidates)


@dataclass(frozen=True)
class SingleRun:
    """A run of `cnntune train` in the study's folder."""

    run: Run
    rows: list[Epoch]
    summary: dict[str, Any]

    @property
    def status(self) -> str:
        """`running` also stands for a run that was interrupted."""
        return str(self.summary.get("status", "running"))


@dataclass(frozen=True)
class Story:
    """All that a page tells of a study; `documents` are the last results of its steps."""

    study: Study
    recipe_toml: str
    chapters: list[Chapter]
    single_runs: list[SingleRun]
    judged: list[JudgedRun]
    documents: dict[str, dict[str, Any]]

    @property
    def recipe(self) -> Recipe | None:
        """The recipe of the search, its space completed."""
        return self.chapters[0].recipe if self.chapters else None

    @property
    def commands(self) -> list[dict[str, Any]]:
        """What was typed, `argv` and `at`, in the order of time; refinements keep their own."""
        abouts = [self.documents.get("study"), *(c.study.read("study") for c in self.chapters[1:])]
        typed = [command for about in abouts if about for command in about.get("commands", [])]
        return sorted(typed, key=lambda command: str(command["at"]))

    @property
    def lead(self) -> str:
        """The study in a line."""
        statuses = Counter(trial.status for part in self.chapters for trial in part.trials)
        total = statuses.total()
        if not total:
            return "Nothing was searched yet."
        listed = ", ".join(f"{number} {status}" for status, number in statuses.most_common())
        rounds = f" in {len(self.chapters)} rounds" if self.chapters[1:] else ""
        return f"{counted(total, 'trial')}{rounds}: {listed}."

    @property
    def loop(self) -> list[dict[str, Any]]:
        """What `tune` said at its end, but for what the chapters say."""
        told = {change for chapter in self.chapters for change in chapter.changes}
        told |= {finding.evidence for chapter in self.chapters for finding in chapter.findings}
        found = self.documents.get("tune", {}).get("findings", [])
        return [finding for finding in found if finding["evidence"] not in told]

    @property
    def winner(self) -> Chapter | None:
        """The chapter whose best trial is to be trained.

        The last one whose best trials were repeated over seeds, else the one with the highest
        accuracy of a single seed.
        """
        return _winner(self.chapters)


def read(study: Study) -> Story:
    """Read a study as it stands: unfinished, failed, or with nothing searched yet.

    Nothing is written and no lock is needed, so that a search may go on meanwhile.

    Raises:
        StudyError: where a file of the study cannot be read.
    """
    documents = {
        step: found
        for step in ("study", "sanity", "lr-sweep", "tune", "test")
        if (found := study.read(step)) is not None
    }
    for folder in (Path.cwd(), Path(documents.get("study", {}).get("code", "."))):
        add_code_folder(folder)
    toml = study.path / "recipe.toml"
    chapters: list[Chapter] = []
    for part in [study, *refine.rounds(study)]:
        if exists(part):
            chapters.append(_chapter(part, chapters[0].recipe.space if chapters else None))
    singles = _single_runs(study)
    winner = _winner(chapters)
    best = [winner.study.trial(one.number) for one in winner.candidates] if winner else []
    judged = _judge([*best, *(one.run for one in singles[-JUDGED:])])
    return Story(
        study,
        toml.read_text(encoding="utf-8", errors="replace") if toml.is_file() else "",
        chapters,
        singles,
        judged,
        documents,
    )


def _winner(chapters: Sequence[Chapter]) -> Chapter | None:
    repeated = [chapter for chapter in chapters if chapter.repeated]
    if repeated:
        return repeated[-1]
    bests = [(chapter.best.val_acc, chapter) for chapter in chapters if chapter.best]
    return max(bests, key=lambda pair: pair[0])[1] if bests else None


def _chapter(study: Study, whole_space: Space | None) -> Chapter:
    """`whole_space` is that of the search that a refinement belongs to: its edges are the edges."""
    ledger = Ledger.open(study)
    recipe = _recipe(ledger)
    trials = ledger.trials()
    found = importance(trials, recipe.space)
    space = recipe.space if whole_space is None else whole_space
    repeats = study.path.glob("trial-*-seed-*")
    seeds = 1 + max((int(path.name.rpartition("-")[2]) for path in repeats), default=0)
    candidates = refine.candidates(study, trials, seeds=seeds)
    best = best_of(trials)
    images = best.summary.get("val_images") if best else None
    findings = [
        *trial_findings(trials),
        *edge_findings(recipe.model_copy(update={"space": space}), best),
        *region_findings(recipe, trials),
        *worth_findings(trials),
        *importance_findings(trials, found),
        *refine.seed_findings(candidates, val_images=images),
    ]
    changes = (study.read("plan") or {}).get("changes", [])
    curves = {trial.number: rows for trial in trials if (rows := trial.run.rows())}
    return Chapter(study, recipe, trials, curves, found, changes, findings, candidates)


def _recipe(ledger: Ledger) -> Recipe:
    """The recipe of the trials; own code that is gone cannot say which keys are whole numbers."""
    try:
        return ledger.recipe
    except CnntuneError:
        return parse(ledger.optuna_study.user_attrs["recipe"], file=str(ledger.study.path))


def _single_runs(study: Study) -> list[SingleRun]:
    runs = [Run(path) for path in sorted(study.path.glob("train-*")) if path.is_dir()]
    return [SingleRun(run, run.rows(), run.summary() or {}) for run in runs]


def _judge(runs: Sequence[Run]) -> list[JudgedRun]:
    """The diagnoses, in the order of the runs, of those that have a curve."""
    paths = [run.path for run in runs if run.rows()]
    found = judge_runs(read_paths(paths)[0]) if paths else []
    return sorted(found, key=lambda one: paths.index(one.path))


def by_rank(trials: Sequence[Trial]) -> list[Trial]:
    """Best first; those without an accuracy come last, by number."""
    best_first = ranked(trials)
    return [*best_first, *(trial for trial in trials if trial not in best_first)]


def cause(summary: dict[str, Any]) -> str:
    """Why a trial failed, in a line; empty where it did not."""
    lines = str(summary.get("error", "")).strip().splitlines() or [""]
    return lines[-1] if lines[0].startswith(TRACEBACK) else lines[0]


def counted(number: int, noun: str) -> str:
    """`1 trial`, `2 trials`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
