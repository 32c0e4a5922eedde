"""The data of a search or a refinement that the page shows."""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field

from cnntune.config.command import stored_recipe
from cnntune.config.recipe import Recipe, flatten
from cnntune.config.space import Space, hull
from cnntune.errors import StudyError
from cnntune.findings import Finding
from cnntune.runs.run import Epoch, Run
from cnntune.runs.study import Study
from cnntune.runs.summary import Ranked, Summary
from cnntune.steps.repeats import has_fresh_seeds
from cnntune.steps.search import default_space
from cnntune.steps.search_findings import (
    count,
    findings_of,
    importance_findings,
    nothing_learned,
)
from cnntune.steps.winner import Candidate, Rival, rival_of
from cnntune.study.importance import Importance, importance
from cnntune.study.ledger import Ledger, exists
from cnntune.study.trial import Trial, best_of, ranked
from cnntune.texts import counted


@dataclass(frozen=True)
class Chapter:
    """A search or a refinement: its trials, the changes of its space, and its findings.

    `curves` contains the rows of each trial that has any, by number. `candidates` are the study's
    best trials that belong to this round.
    """

    study: Study
    recipe: Recipe
    trials: list[Trial]
    curves: dict[int, list[Epoch]]
    importance: Importance | None
    changes: list[str]
    findings: list[Finding]
    rivals: list[Rival]
    candidates: list[Candidate] = field(default_factory=list)

    @property
    def title(self) -> str:
        """`search`, or the name of the refinement's folder."""
        return self.study.name if self.study.name.startswith("refine-") else "search"

    @property
    def keys(self) -> list[str]:
        """The searched keys, those of the space first."""
        drawn = (key for trial in self.trials for key in trial.values)
        return list(dict.fromkeys([*self.recipe.space, *drawn]))

    @property
    def length(self) -> str:
        """How long a trial is, in words; a script without a number of epochs runs to its end."""
        epochs = self.recipe.search.epochs
        return counted(epochs, "epoch") if epochs else "the whole script"

    @property
    def kind_of_repeats(self) -> str:
        """What the best trials were repeated with: the words over their table."""
        return "fresh seeds" if has_fresh_seeds(self.recipe) else "repeats"

    @property
    def counts(self) -> dict[str, int]:
        """The number of trials by status, without zeros."""
        counts = count(self.trials)
        return {status: number for status, number in counts.items() if number}

    @property
    def ranked(self) -> Ranked | None:
        """What ranks the trials of a command; None for a plain accuracy or loss."""
        found = best_of(self.trials)
        return found.summary.ranked if found else None

    @property
    def best(self) -> Trial | None:
        """The best trial over fresh seeds or, without repeats, by a single seed."""
        if self.repeated:
            return next(t for t in self.trials if t.number == self.candidates[0].number)
        return best_of(self.trials)

    @property
    def best_over_seeds(self) -> Candidate | None:
        """The accuracies of the best trial over fresh seeds, if there are any."""
        return self.candidates[0] if self.repeated and self.candidates[0].val_accs else None

    @property
    def repeated(self) -> bool:
        """Whether the best trials were trained with fresh seeds."""
        return any(c.val_accs or c.diverged for c in self.candidates)


def read_chapter(study: Study, whole_space: Space | None) -> Chapter | None:
    """The chapter of a search or refinement; None if nothing was searched.

    `whole_space` is what the rounds before a refinement searched; edges are those of it and of its
    own ranges.
    """
    found_trials = _trials(study)
    if found_trials is None:
        return None
    recipe, trials = found_trials
    found = None if nothing_learned(trials) else importance(trials, recipe.space)
    rivals = [rival_of(trial, recipe) for trial in trials]
    findings = [
        *findings_of(recipe, trials, hull([whole_space or recipe.space, recipe.space])),
        *importance_findings(trials, found),
    ]
    changes = (study.read("plan") or {}).get("changes", [])
    curves = {trial.number: rows for trial in trials if (rows := trial.run.rows())}
    return Chapter(study, recipe, trials, curves, found, changes, findings, rivals)


def seeds_of(study: Study) -> int:
    """The planned number of fresh seeds of the repeated trials of a round."""
    repeats = study.path.glob("trial-*-seed-*")
    return max((int(path.name.rpartition("-")[2]) for path in repeats), default=0)


def _trials(study: Study) -> tuple[Recipe, list[Trial]] | None:
    """The recipe that trials were drawn from, and the trials.

    Without a `study.db`, because it is missing or on a server, trials are read from their folders.
    """
    if exists(study):
        ledger = Ledger.open(study)
        return ledger.recipe, ledger.trials()
    folders = [path for path in sorted(study.path.glob("trial-*")) if path.name[6:].isdigit()]
    toml = study.path / "recipe.toml"
    if not folders or not toml.is_file():
        return None
    try:
        recipe = stored_recipe(tomllib.loads(toml.read_text(encoding="utf-8")), file=str(toml))
    except ValueError as error:
        raise StudyError(f"{toml}: is not TOML: {error}") from None
    space = recipe.space or default_space(recipe.train.optimizer)
    trials = []
    for folder in folders:
        run = Run(folder)
        summary, config = Summary.from_json(run.summary()), flatten(run.config())
        summary = summary or Summary("running")
        values = {key: config[key] for key in space if key in config}
        trials.append(Trial(int(folder.name[6:]), values, run, summary))
    return recipe.model_copy(update={"space": space}), trials


def by_rank(trials: Sequence[Trial]) -> list[Trial]:
    """Best first; those without an accuracy come last, by number."""
    best_first = ranked(trials)
    return [*best_first, *(trial for trial in trials if trial not in best_first)]


def cause(summary: Summary) -> str:
    """Why a trial failed, as a line; empty if it did not."""
    return summary.error.line if summary.error else ""
