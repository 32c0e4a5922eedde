"""A study's ledger: Optuna keeps what was drawn and what came of it.

A trial is recorded as RUNNING with its values in one transaction, so there is no moment at which it
exists without them. Its number is its slot and names its folder.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import alembic.migration  # noqa: F401  # by Optuna when a study is made: here a search waits anyway
import optuna
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import URL
from sqlalchemy.pool import NullPool

from cnntune.errors import StudyError
from cnntune.recipe import Recipe, differences, stored
from cnntune.rungs import Bracket
from cnntune.runs import Run, Study
from cnntune.samplers import distribution
from cnntune.space import Space, Value

STUDY_NAME = "cnntune"  # in every study.db: the folder may be renamed
SQLITE_WAIT_SECONDS = 60  # for another program's lock; SQLite's own 5 s fail under a backup
DIVERGED_VALUE = 0.0  # the accuracy that Optuna is told: finite, and never the best
STATES = {"failed": TrialState.FAIL, "pruned": TrialState.PRUNED}

GONE: dict[str, Any] = {  # the summary of a trial that ended, and whose folder somebody removed
    "status": "failed",
    "epochs": 0,
    "best_epoch": None,
    "error": "its folder is gone",
}

optuna.logging.set_verbosity(optuna.logging.ERROR)


@dataclass(frozen=True)
class Trial:
    """One trial: what was drawn, how it stands, and its curve's best epoch."""

    number: int
    status: str  # complete, pruned, diverged, failed or running
    values: dict[str, Value]
    run: Run
    summary: dict[str, Any]

    @property
    def val_acc(self) -> float:
        """Validation accuracy of the best epoch, 0..1; -1 where the trial has none."""
        return float(self.summary["val_acc"]) if "val_acc" in self.summary else -1.0


@dataclass(frozen=True)
class Ledger:
    """A study's record, open. Writing needs the study's lock."""

    study: Study
    storage: optuna.storages.RDBStorage
    optuna_study: optuna.Study

    @classmethod
    def open(cls, study: Study) -> "Ledger":
        """The record of a search that was begun.

        Raises:
            StudyError: where there is none.
        """
        ledger = cls._find(study)
        if ledger is None:
            raise StudyError(f"{study.path}: holds no search; run `cnntune search` first")
        return ledger

    @classmethod
    def _find(cls, study: Study) -> "Ledger | None":
        """None also for a study that was killed while it was made."""
        if not (study.path / "study.db").is_file():
            return None
        storage = sqlite(study.path / "study.db")
        try:
            ledger = cls(study, storage, optuna.load_study(study_name=STUDY_NAME, storage=storage))
        except KeyError:
            return None
        return ledger if "asked" in ledger.optuna_study.user_attrs else None

    @classmethod
    def create(cls, study: Study, recipe: Recipe, asked: Recipe) -> "Ledger":
        """Begin the study of `recipe`, or open it where it exists.

        `asked` is the recipe before its space was completed; with it a study is recognised.

        Raises:
            StudyError: where the study holds another recipe; the keys that differ are named.
        """
        kept = study.read("server")
        if kept is not None:
            raise StudyError(f"{study.path}: its search is on {kept['server']}; give --storage")
        known = cls._find(study)
        if known is not None:
            known.refuse_another(asked)
            return known
        if study.trial(0).path.exists():
            raise StudyError(
                f"{study.path}: holds trials of a study whose study.db is gone; search under a"
                " name of its own (--study NAME) or remove the folder"
            )
        study.path.mkdir(parents=True, exist_ok=True)
        storage = sqlite(study.path / "study.db")
        optuna_study = optuna.create_study(
            study_name=STUDY_NAME, storage=storage, direction="maximize", load_if_exists=True
        )
        optuna_study.set_user_attr("recipe", recipe.as_values())
        optuna_study.set_user_attr("asked", asked.as_values())
        return cls(study, storage, optuna_study)

    def refuse_another(self, asked: Recipe) -> None:
        """Name the keys in which the study's recipe differs from the one asked for."""
        differing = differences(asked, self._recipe("asked"))
        if not differing:
            return
        path = self.study.path
        raise StudyError(
            [
                *(f"{path}: holds another recipe: {line}" for line in differing),
                f"{path}: search under a name of its own (--study NAME) or remove the folder",
            ]
        )

    @property
    def recipe(self) -> Recipe:
        """The recipe that the study's trials are drawn from."""
        return self._recipe("recipe")

    def _recipe(self, attribute: str) -> Recipe:
        file = str(self.study.path / "study.db")
        return stored(self.optuna_study.user_attrs[attribute], file=file)

    @property
    def asked(self) -> Recipe:
        """The recipe as it was asked for, before anything was decided."""
        return self._recipe("asked")

    @property
    def image_bytes(self) -> int | None:
        """What all images take in memory; None in a study that is older than this number."""
        found: int | None = self.optuna_study.user_attrs.get("image_bytes")
        return found

    def settle(self, precision: str, image_bytes: int, *, stream: bool) -> None:
        """Record in what all trials are computed, and whether their images are streamed here.

        A precision that is recorded stays: the curves of a study are of one arithmetic.
        """
        self._record(precision, image_bytes)
        values = self.optuna_study.user_attrs["recipe"]
        if values["data"].get("stream", False) != stream:
            values["data"]["stream"] = stream
            self.optuna_study.set_user_attr("recipe", values)

    def _record(self, precision: str, image_bytes: int) -> None:
        attributes = self.optuna_study.user_attrs
        values = attributes["recipe"]
        if values["train"].get("precision", "auto") == "auto":
            values["train"]["precision"] = precision
            self.optuna_study.set_user_attr("recipe", values)
        if attributes.get("image_bytes") != image_bytes:
            self.optuna_study.set_user_attr("image_bytes", image_bytes)

    @property
    def brackets(self) -> list[Bracket]:
        """The brackets that the study's trials compete in."""
        stored = self.optuna_study.user_attrs.get("brackets", [])
        return [Bracket.from_json(bracket) for bracket in stored]

    def set_brackets(self, brackets: Sequence[Bracket]) -> None:
        """Record the brackets, before a trial of a new one begins."""
        stored = [bracket.as_json() for bracket in brackets]
        self.optuna_study.set_user_attr("brackets", stored)

    def begin(
        self, space: Space, values: Mapping[str, Value], about: Mapping[str, Any] | None = None
    ) -> None:
        """Record the next trial as RUNNING, with its values, in one transaction.

        `about` goes into the trial's attributes.
        """
        distributions = {
            key: distribution(space[key]) if key in space else CategoricalDistribution((value,))
            for key, value in values.items()
        }
        self.optuna_study.add_trial(
            create_trial(
                state=TrialState.RUNNING,
                params=dict(values),
                distributions=distributions,
                user_attrs=dict(about or {}),
            )
        )

    def tell(self, number: int, summary: Mapping[str, Any]) -> None:
        """Record what a trial came to; a diverged one is complete, with the worst accuracy."""
        state = STATES.get(summary["status"], TrialState.COMPLETE)
        if state is TrialState.COMPLETE:
            self.optuna_study.tell(number, summary.get("val_acc", DIVERGED_VALUE))
            return
        if state is TrialState.PRUNED:
            study_id = self.storage.get_study_id_from_name(self.optuna_study.study_name)
            trial_id = self.storage.get_trial_id_from_study_id_trial_number(study_id, number)
            epochs, acc = summary["epochs"], summary["val_acc"]
            self.storage.set_trial_intermediate_value(trial_id, epochs, acc)
        self.optuna_study.tell(number, state=state)

    def trials(self) -> list[Trial]:
        """All trials of the study, by number."""
        return [_trial(self.study, t) for t in self.optuna_study.get_trials(deepcopy=False)]


def begun_precision(study: Study) -> str | None:
    """What the trials of a study and of its refinements are computed in; None without a trial.

    A study that is older than its record of it says it in each trial alone.
    """
    for path in sorted(study.path.glob("**/trial-*/config.json")):
        config = Run(path.parent).config()
        if found := config.get("train", {}).get("precision"):
            return str(found)
    return None


def exists(study: Study) -> bool:
    """Whether a search was begun here."""
    return Ledger._find(study) is not None


def sqlite(path: Path) -> optuna.storages.RDBStorage:
    """Optuna's storage in a file."""
    url = URL.create("sqlite", database=str(path))
    # Without a pool nothing stays open: the ledger of a finished command is just forgotten.
    arguments = {"connect_args": {"timeout": SQLITE_WAIT_SECONDS}, "poolclass": NullPool}
    return optuna.storages.RDBStorage(url.render_as_string(), engine_kwargs=arguments)


def _trial(study: Study, frozen: FrozenTrial) -> Trial:
    """One on a server carries its summary; others have it in their folder."""
    run = study.trial(frozen.number)
    summary = frozen.user_attrs.get("summary") or run.summary() or GONE
    unfinished = not frozen.state.is_finished()
    status = "running" if unfinished else summary["status"]
    return Trial(frozen.number, status, dict(frozen.params), run, {} if unfinished else summary)


def best_of(trials: Sequence[Trial]) -> Trial | None:
    """The complete trial with the highest validation accuracy, then the lowest loss, if any."""
    complete = [trial for trial in ranked(trials) if trial.status == "complete"]
    return complete[0] if complete else None


def ranked(trials: Sequence[Trial]) -> list[Trial]:
    """The trials with an accuracy, best first: those that were trained whole before pruned ones."""
    found = [trial for trial in trials if trial.status in ("complete", "pruned")]
    return sorted(found, key=_rank)


def _rank(trial: Trial) -> tuple[bool, int, float, float]:
    """A pruned trial comes after those that went further, and among its equals by accuracy."""
    pruned = trial.status == "pruned"
    epochs = -trial.summary["epochs"] if pruned else 0
    return pruned, epochs, -trial.val_acc, float(trial.summary["val_loss"])
