"""A study's ledger: Optuna keeps the values of each trial and its result.

A trial is recorded as RUNNING with its values in one transaction, so there is no moment at which it
exists without them. Its number is its slot and names its folder.
"""

import math
import shlex
import shutil
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import alembic.migration  # noqa: F401  # by Optuna when a study is made: here a search waits anyway
import optuna
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import URL
from sqlalchemy.pool import NullPool

from cnntune.config.command import CommandRecipe, stored_recipe
from cnntune.config.recipe import Recipe, differences
from cnntune.config.space import Space, Value
from cnntune.errors import StudyError
from cnntune.runs.run import Epoch
from cnntune.runs.study import Study
from cnntune.runs.summary import Failure, Status, Summary, summarise
from cnntune.study.pruning import Bracket
from cnntune.study.samplers import distribution
from cnntune.study.trial import Trial

STUDY_NAME = "cnntune"  # in every study.db: the folder may be renamed
SQLITE_WAIT_SECONDS = 60  # for another program's lock; SQLite's own 5 s fail under a backup
DIVERGED_VALUE = 0.0  # the accuracy that Optuna records: finite, and never the best
LOST = "holds trials of a study whose study.db is missing or empty"
AGAIN = "again"  # the attribute of a trial that is trained again after it failed
STATES = {"failed": TrialState.FAIL, "pruned": TrialState.PRUNED}

optuna.logging.set_verbosity(optuna.logging.ERROR)


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
            if any(study.path.glob("trial-*")):
                raise StudyError(f"{study.path}: {LOST}; restore it from a copy")
            raise StudyError(f"{study.path}: holds no search; run `cnntune search` first")
        return ledger

    @classmethod
    def _find(cls, study: Study) -> "Ledger | None":
        """None also for a study that was killed while it was made."""
        path = study.path / "study.db"
        if not path.is_file() or path.stat().st_size == 0:
            return None
        _check_database(path)
        storage = sqlite(path)
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
            StudyError: where the study holds another recipe; the keys that differ are named. Where
                its record is damaged or missing.
        """
        known = cls.of_recipe(study, asked)
        if known is not None:
            return known
        study.path.mkdir(parents=True, exist_ok=True)
        storage = sqlite(study.path / "study.db")
        optuna_study = optuna.create_study(
            study_name=STUDY_NAME, storage=storage, direction="maximize", load_if_exists=True
        )
        optuna_study.set_user_attr("recipe", recipe.as_values())
        optuna_study.set_user_attr("asked", asked.as_values())
        return cls(study, storage, optuna_study)

    @classmethod
    def of_recipe(cls, study: Study, asked: Recipe) -> "Ledger | None":
        """The record of a search of this very recipe, None where none was begun.

        Raises:
            StudyError: where the folder cannot take a search of that recipe, or its record is
                damaged or missing.
        """
        kept = study.read("server")
        if kept is not None:
            where = kept.get("server", "a server")
            raise StudyError(f"{study.path}: its search is stored on {where}; add --storage")
        known = cls._find(study)
        if known is not None:
            known.take_corrected_command(asked)
            known.refuse_another(asked)
        elif any(study.path.glob("trial-*")):
            raise StudyError(
                f"{study.path}: {LOST}; restore it from a copy, search under another name"
                " (--study NAME) or remove the folder"
            )
        return known

    def take_corrected_command(self, asked: Recipe) -> None:
        """Replace the command of a search of which no trial could be run, as its error is in there.

        Space and seed have to be the same: the trials keep their values.
        """
        there = self._recipe("asked")
        if not (isinstance(there, CommandRecipe) and isinstance(asked, CommandRecipe)):
            return
        same_space = not differences(asked.model_copy(update={"command": there.command}), there)
        if not same_space or asked.command == there.command or not self._without_results():
            return
        for attribute in ("recipe", "asked"):  # in this order: `asked` says that it is done
            values = self._recipe(attribute).model_copy(update={"command": asked.command})
            self.optuna_study.set_user_attr(attribute, values.as_values())

    def _without_results(self) -> bool:
        """Whether every trial failed by the user's code, or has waited since without a row."""
        for trial in self.trials():
            error = trial.summary.error
            if not (trial.status == "failed" and error is not None and error.by_user) and not (
                trial.status == "running" and not trial.run.rows()
            ):
                return False
        return True

    def refuse_another(self, asked: Recipe) -> None:
        """Name the keys in which the study's recipe differs from the one asked for."""
        there, path = self._recipe("asked"), self.study.path
        if isinstance(there, CommandRecipe) and not isinstance(asked, CommandRecipe):
            words = shlex.join(there.command.words)
            raise StudyError(f"{path}: searches over a command; type it again: -- {words}")
        differing = differences(asked, there)
        if not differing:
            return
        raise StudyError(
            [
                *(f"{path}: holds another recipe: {line}" for line in differing),
                f"{path}: search under another name (--study NAME) or remove the folder",
            ]
        )

    @property
    def recipe(self) -> Recipe:
        """The recipe that the study's trials are drawn from."""
        return self._recipe("recipe")

    def _recipe(self, attribute: str) -> Recipe:
        file = str(self.study.path / "study.db")
        return stored_recipe(self.optuna_study.user_attrs[attribute], file=file)

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
    def again(self) -> set[int]:
        """The trials that wait again after they failed, see `reopened`."""
        trials = self.optuna_study.get_trials(deepcopy=False)
        return {t.number for t in trials if AGAIN in t.user_attrs and not t.state.is_finished()}

    def reopened(self) -> "Ledger":
        """The record in which trials that failed by a user's error wait again; needs the lock.

        Number, slot and values stay, and the folder is removed: its curve is that of other code.
        Optuna opens no trial that has ended, so the record is copied, and replaced by a rename. One
        that was killed before its folders were removed reads there again that the trials failed.
        """
        errors = {trial.number: trial.summary.error for trial in self.trials()}
        failed = {number for number, error in errors.items() if error and error.by_user}
        if not failed:
            return self
        path, draft = self.study.path / "study.db", self.study.path / ".study.db.reopened"
        draft.unlink(missing_ok=True)
        copy = optuna.create_study(
            study_name=STUDY_NAME, storage=sqlite(draft), direction="maximize"
        )
        for key, value in self.optuna_study.user_attrs.items():
            copy.set_user_attr(key, value)
        for trial in self.optuna_study.get_trials(deepcopy=False):
            copy.add_trial(_waiting(trial) if trial.number in failed else trial)
        draft.replace(path)
        for number in failed:
            folder = self.study.trial(number).path
            if folder.is_dir():  # renamed first: half a folder could be resumed
                folder = folder.rename(folder.with_name(f".failed-{folder.name}"))
                shutil.rmtree(folder)
        return Ledger.open(self.study)

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

    def tell(self, number: int, summary: Summary) -> None:
        """Record the result of a trial; a diverged one is complete, with the worst accuracy."""
        state = STATES.get(summary.status, TrialState.COMPLETE)
        acc = value_of(summary)
        if state is TrialState.COMPLETE:
            self.optuna_study.tell(number, acc)
            return
        if state is TrialState.PRUNED:
            study_id = self.storage.get_study_id_from_name(self.optuna_study.study_name)
            trial_id = self.storage.get_trial_id_from_study_id_trial_number(study_id, number)
            self.storage.set_trial_intermediate_value(trial_id, summary.epochs, acc)
        self.optuna_study.tell(number, state=state)

    def trials(self) -> list[Trial]:
        """All trials of the study, by number."""
        epochs = self.optuna_study.user_attrs["recipe"]["search"]["epochs"]
        trials = self.optuna_study.get_trials(deepcopy=False)
        return [_trial(self.study, trial, epochs) for trial in trials]


def value_of(summary: Summary) -> float:
    """The value that Optuna maximizes: the accuracy, or for a loss a number in 0..1 that it fits.

    A loss may be any number, and a diverged trial needs a value below that of all others: a loss
    of 0 counts as 0.5, and one of 1 as 0.25.
    """
    if not summary.ranks:
        return DIVERGED_VALUE
    if summary.val_acc is not None:
        return summary.val_acc
    score = summary.score
    return (1 + score / (1 + abs(score))) / 2


def _waiting(trial: FrozenTrial) -> FrozenTrial:
    """The trial with its values, as it was before it was trained."""
    return create_trial(
        state=TrialState.RUNNING,
        params=trial.params,
        distributions=trial.distributions,
        user_attrs=trial.user_attrs | {AGAIN: True},
    )


def exists(study: Study) -> bool:
    """Whether a search was begun here."""
    return begun(study) is not None


def begun(study: Study) -> Ledger | None:
    """The record of the search that was begun here, None where none was."""
    return Ledger._find(study)


def sqlite(path: Path) -> optuna.storages.RDBStorage:
    """Optuna's storage in a file."""
    url = URL.create("sqlite", database=str(path))
    # Without a pool nothing stays open: the ledger of a finished command is just forgotten.
    arguments = {"connect_args": {"timeout": SQLITE_WAIT_SECONDS}, "poolclass": NullPool}
    try:
        return optuna.storages.RDBStorage(url.render_as_string(), engine_kwargs=arguments)
    except RuntimeError as error:  # tables of another version of Optuna
        raise StudyError(f"{path}: {' '.join(str(error).split())}") from None


def _check_database(path: Path) -> None:
    """Let SQLite check the file, before Optuna fails in the middle of something.

    Raises:
        StudyError: where it is damaged, no SQLite database, or cannot be opened.
    """
    try:
        with closing(sqlite3.connect(path, timeout=SQLITE_WAIT_SECONDS)) as database:
            (answer,) = database.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
            raise
        raise StudyError(f"{path}: cannot be opened: {error}") from None
    except sqlite3.DatabaseError as error:
        answer = str(error)
    if answer != "ok":
        reason = " ".join(answer.split())
        raise StudyError(
            f"{path}: is damaged ({reason}); restore it from a copy, or remove it: `cnntune report`"
            " works without it"
        )


def _trial(study: Study, frozen: FrozenTrial, epochs: int) -> Trial:
    """One on a server carries its summary; others have it in their folder.

    `epochs` are those of a whole run.
    """
    run, values = study.trial(frozen.number), dict(frozen.params)
    if not frozen.state.is_finished():
        return Trial(frozen.number, values, run, Summary("running"))
    summary = Summary.from_json(frozen.user_attrs.get("summary") or run.summary())
    if summary is None:
        summary = _known(frozen, run.rows(), epochs)
    return Trial(frozen.number, values, run, summary)


def _known(frozen: FrozenTrial, rows: list[Epoch], epochs: int) -> Summary:
    """The summary of a trial that has none: from its curve, else what Optuna recorded."""
    if frozen.state is TrialState.FAIL:
        error = Failure("unknown", "unknown: its summary.json is missing")
        return Summary("failed", error=error)
    pruned = frozen.state is TrialState.PRUNED
    if pruned:
        epochs, acc = max(frozen.intermediate_values.items(), default=(0, DIVERGED_VALUE))
    else:
        acc = float(frozen.value or DIVERGED_VALUE)
    read = summarise(rows)
    if rows and value_of(read) == acc:  # else the curve is not whole
        read = replace(read, seconds=sum(row.seconds for row in rows))
        return replace(read, status="pruned") if pruned and read.ranks else read
    if acc == DIVERGED_VALUE and not pruned:
        return Summary("diverged", len(rows))
    status: Status = "pruned" if pruned else "complete"
    return Summary(status, epochs, val_loss=math.nan, val_acc=acc)
