"""The data of a whole study that the page shows, read from its folder."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cnntune.config.command import CommandRecipe
from cnntune.config.recipe import Recipe
from cnntune.config.space import hull
from cnntune.diagnosis.judge import JudgedRun, judge_runs
from cnntune.diagnosis.load_runs import read_paths
from cnntune.errors import DataError, StudyError
from cnntune.findings import Finding
from cnntune.runs.run import Epoch, Run
from cnntune.runs.study import Study
from cnntune.steps import repeats
from cnntune.steps.optimism import optimism_findings
from cnntune.steps.report.chapter import Chapter, read_chapter, seeds_of
from cnntune.steps.winner import (
    Candidate,
    best_rivals,
    candidates,
    findings,
    order,
    rounds,
    val_images,
)
from cnntune.texts import counted
from cnntune.user_code.imports import add_code_folders

DOCUMENTS = {  # JSON files of the folder, with the keys that the page shows
    "study": ("commands", "versions", "device"),
    "sanity": ("findings",),
    "lr-sweep": ("findings", "curves", "lr"),
    "tune": ("findings",),
    "test": ("looks",),
}
SHOWN = 3  # the last single runs, with their curve and diagnosis


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
    """All that the page shows of a study; `documents` are the last results of its steps."""

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
        """The commands, with `argv` and `at`, in chronological order, those of refinements too."""
        abouts = [self.documents.get("study"), *(c.study.read("study") for c in self.chapters[1:])]
        typed = [command for about in abouts if about for command in about.get("commands", [])]
        return sorted(typed, key=lambda command: str(command["at"]))

    @property
    def shown_runs(self) -> list[SingleRun]:
        """The last single runs that have a curve."""
        return [one for one in self.single_runs[-SHOWN:] if one.rows]

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
        """The findings of `tune`, without those of the chapters."""
        shown = {change for chapter in self.chapters for change in chapter.changes}
        shown |= {finding.evidence for chapter in self.chapters for finding in chapter.findings}
        found = self.documents.get("tune", {}).get("findings", [])
        return [finding for finding in found if finding["evidence"] not in shown]

    @property
    def winner(self) -> Chapter | None:
        """The chapter with the best trial: over fresh seeds or, without repeats, by one seed."""
        return _winner(self.chapters)

    @property
    def winners_config(self) -> Path | None:
        """The `config.json` with which `cnntune train` trains the best trial."""
        best = self.winner.best if self.winner else None
        return best.run.path / "config.json" if best else None

    @property
    def winners_script(self) -> str:
        """The command of the best trial, where the study is a search over a command."""
        chapter = self.winner
        if chapter is None or not chapter.best or not isinstance(chapter.recipe, CommandRecipe):
            return ""
        return chapter.recipe.for_trial(chapter.best.values).line()


def read(study: Study) -> Story:
    """Read a study in any state: unfinished, failed, or with nothing searched yet.

    Nothing is written and no lock is needed, so a search may be running.

    Raises:
        StudyError: if a file of the study cannot be read.
    """
    documents = {step: found for step in DOCUMENTS if (found := _document(study, step))}
    add_code_folders(Path(documents.get("study", {}).get("code", ".")))
    toml = study.path / "recipe.toml"
    chapters: list[Chapter] = []
    for part in [study, *rounds(study)]:
        chapter = read_chapter(part, hull([one.recipe.space for one in chapters]))
        if chapter:
            chapters.append(chapter)
    singles = _single_runs(study)
    rivals = best_rivals([rival for chapter in chapters[::-1] for rival in chapter.rivals])
    seeds = max((seeds_of(chapter.study) for chapter in chapters), default=0)
    over_seeds = candidates(rivals, seeds=seeds)
    study_findings = _of_study(chapters, over_seeds, documents) if seeds else []
    chapters = [_with_candidates(chapter, over_seeds, study_findings) for chapter in chapters]
    best = [candidate.rival.trial.run for candidate in over_seeds]
    judged = _judge([*best, *(one.run for one in singles[-SHOWN:])])
    return Story(
        study,
        toml.read_text(encoding="utf-8", errors="replace") if toml.is_file() else "",
        chapters,
        singles,
        judged,
        documents,
    )


def _document(study: Study, step: str) -> dict[str, Any] | None:
    """The last result of a step; None if there is none.

    Raises:
        StudyError: if the file lacks what the page shows of it.
    """
    found = study.read(step)
    missing = [key for key in DOCUMENTS[step] if found is not None and key not in found]
    if missing:
        raise StudyError(
            f"{study.path / step}.json: has no {', '.join(missing)}; run the command again"
        )
    return found


def _of_study(
    chapters: Sequence[Chapter],
    over_seeds: Sequence[Candidate],
    documents: Mapping[str, dict[str, Any]],
) -> list[Finding]:
    """The winner or a tie, and beside the luck in its accuracy the final test, if there was one."""
    images = val_images([candidate.rival for candidate in over_seeds])
    trials = [trial for chapter in chapters for trial in chapter.trials]
    optimism = optimism_findings(trials, over_seeds, images)
    looks = documents.get("test", {}).get("looks") or []
    if looks:
        first = looks[0]
        text = f"; the first final test, of {first['run']}, gave {first['test_acc']:.4f}"
        optimism = [replace(found, evidence=found.evidence + text, advice="") for found in optimism]
    return [*findings(over_seeds, val_images=images), *optimism]


def _with_candidates(
    chapter: Chapter, over_seeds: Sequence[Candidate], study_findings: Sequence[Finding]
) -> Chapter:
    """The chapter with its candidates, and `study_findings` if the first candidate is in it."""
    own = [one for one in over_seeds if one.rival.study.path == chapter.study.path]
    first = own and own[0] is over_seeds[0]
    extra = repeats.findings(chapter.recipe, over_seeds, study_findings) if first else []
    return replace(chapter, candidates=own, findings=[*chapter.findings, *extra])


def _winner(chapters: Sequence[Chapter]) -> Chapter | None:
    repeated = [chapter for chapter in chapters if chapter.best_over_seeds]
    if repeated:
        return min(repeated, key=lambda chapter: order(chapter.candidates[0]))
    bests = [(chapter.best.score, chapter) for chapter in chapters if chapter.best]
    return max(bests, key=lambda pair: pair[0])[1] if bests else None


def _single_runs(study: Study) -> list[SingleRun]:
    runs = [Run(path) for path in sorted(study.path.glob("train-*")) if path.is_dir()]
    return [SingleRun(run, run.rows(), run.summary() or {}) for run in runs]


def _judge(runs: Sequence[Run]) -> list[JudgedRun]:
    """The diagnoses of runs that have a curve, in the order of the runs."""
    paths = [run.path for run in runs if run.rows()]
    try:
        found = judge_runs(read_paths(paths)[0]) if paths else []
    except DataError:  # all of them still run, and are too short to judge
        found = []
    return sorted(found, key=lambda one: paths.index(one.path))
