"""A study's ledger on a server, which several machines write in turn.

A trial's number is its slot here too. It also names its owner, the coordinator that trains it, and
once it has ended its summary and its curve, so that every machine can show the whole result.
"""

import functools
import secrets
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Concatenate, ParamSpec, TypeVar

import optuna

from cnntune.config.recipe import Recipe
from cnntune.config.space import Space, Value
from cnntune.errors import StudyError
from cnntune.runs.files import FORMAT, finite, write_json
from cnntune.runs.study import Study
from cnntune.runs.summary import Summary
from cnntune.study.ledger import STUDY_NAME, Ledger, sqlite
from cnntune.study.postgres import Server
from cnntune.study.trial import Trial

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def retried(
    method: Callable[Concatenate["SharedLedger", Parameters], Result],
) -> Callable[Concatenate["SharedLedger", Parameters], Result]:
    """The method, called again where the connection to the server breaks."""

    @functools.wraps(method)
    def again(self: "SharedLedger", /, *args: Parameters.args, **more: Parameters.kwargs) -> Result:
        return self.server.with_retries(lambda: method(self, *args, **more))

    return again


@dataclass(frozen=True)
class SharedLedger(Ledger):
    """A study's record on a server. Each method that decides holds the study's lock meanwhile."""

    server: Server

    @classmethod
    def join(cls, study: Study, server: Server, asked: Recipe, recipe: Recipe) -> "SharedLedger":
        """Open the study of that name on the server, or begin it with `recipe`.

        `asked` is the recipe before its space was completed; with it a study is recognised.

        Raises:
            StudyError: where the study or the folder holds something else.
        """
        return server.with_retries(lambda: cls._join(study, server, asked, recipe))

    @classmethod
    def _join(cls, study: Study, server: Server, asked: Recipe, recipe: Recipe) -> "SharedLedger":
        with server.study_lock():
            opened = optuna.create_study(
                study_name=server.study,
                storage=server.storage,
                direction="maximize",
                load_if_exists=True,
            )
            ledger = cls(study, server.storage, opened, server)
            if "asked" in opened.user_attrs:
                ledger.refuse_another(asked)
                ledger._mark_folder(opened.user_attrs["id"])
                return ledger
            identity = secrets.token_hex(8)
            ledger._mark_folder(identity)
            opened.set_user_attr("id", identity)
            opened.set_user_attr("recipe", recipe.as_values())
            opened.set_user_attr("asked", asked.as_values())
            return ledger

    def _mark_folder(self, identity: str) -> None:
        """Record in the folder where its study is, so that no curve of another study counts for it.

        Raises:
            StudyError: where the folder holds trials of another study.
        """
        path = self.study.path
        marked = (self.study.read("server") or {}).get("id")
        used = (path / "study.db").exists() or any(path.glob("trial-*"))
        if used and marked != identity:
            raise StudyError(
                f"{path}: holds trials of another study than {self.server.study!r} on"
                f" {self.server.name}; search under another name (--study NAME) or remove the"
                " folder"
            )
        about = {"format": FORMAT, "server": self.server.name, "id": identity}
        self.study.write("server", about)

    @functools.cached_property
    def recipe(self) -> Recipe:
        """The recipe that the study's trials are drawn from; it changes in `settle` alone."""
        return self.server.with_retries(lambda: self._recipe("recipe"))

    @retried
    def settle(self, precision: str, image_bytes: int, *, stream: bool) -> None:
        """Record in what all trials are computed, unless another machine did so before.

        Each machine streams images or not by itself, for its own memory.
        """
        with self.server.study_lock():
            self._record(precision, image_bytes)
        recipe = self._recipe("recipe")
        data = recipe.data.model_copy(update={"stream": stream})
        vars(self)["recipe"] = recipe.model_copy(update={"data": data})  # where it is cached

    def reopened(self) -> "SharedLedger":
        """This very record: other machines have read that the trials ended, and read it once."""
        return self

    @retried
    def trials(self) -> list[Trial]:
        """All trials of the study, by number, whichever machine trained them."""
        return super().trials()

    @retried
    def claim(
        self,
        space: Space,
        budget: int,
        busy: Collection[int],
        values_of: Callable[[int], Mapping[str, Value]],
    ) -> tuple[int, dict[str, Value]] | None:
        """A trial to train here: one whose machine is dead, else the next of the budget.

        `values_of` gives a slot's values. `busy` are the trials that train here already. None where
        there is nothing to do.
        """
        with self.server.study_lock():
            trials = self.optuna_study.get_trials(deepcopy=False)
            alive = self.server.alive()
            for trial in trials:
                if trial.state.is_finished() or trial.number in busy:
                    continue
                owner = trial.user_attrs.get("owner")
                if owner == self.server.owner or owner not in alive:
                    self.storage.set_trial_user_attr(
                        self._id(trial.number), "owner", self.server.owner
                    )
                    return trial.number, dict(trial.params)
            if len(trials) >= budget:
                return None
            values = values_of(len(trials))
            self.begin(space, values, {"owner": self.server.owner})
            return len(trials), dict(values)

    @retried
    def tell_own(self, number: int, summary: Summary) -> str | None:
        """Record the result of a trial, with its curve.

        Returns the owner where another machine has taken it over: then nothing is recorded.
        """
        with self.server.study_lock():
            trial_id = self._id(number)
            trial = self.storage.get_trial(trial_id)
            owner = trial.user_attrs.get("owner")
            if owner != self.server.owner:
                return str(owner)
            if not trial.state.is_finished():  # else the answer to the last attempt was lost
                metrics = self.study.trial(number).metrics
                curve = metrics.read_text(encoding="utf-8") if metrics.exists() else ""
                self.storage.set_trial_user_attr(trial_id, "metrics", curve)
                self.storage.set_trial_user_attr(trial_id, "summary", finite(summary.to_json()))
                self.tell(number, summary)
            return None

    def _id(self, number: int) -> int:
        study_id = self.storage.get_study_id_from_name(self.server.study)
        return self.storage.get_trial_id_from_study_id_trial_number(study_id, number)

    @retried
    def fetch(self) -> None:
        """Bring here what the other machines trained: a folder for each trial, and a `study.db`.

        What reads a study afterwards finds it as if all of it had been trained here.
        """
        from cnntune.training.build import (
            with_defaults,  # it needs torch, and the coordinator has none
        )

        recipe = self.recipe
        for trial in self.optuna_study.get_trials(deepcopy=False):
            run = self.study.trial(trial.number)
            if "summary" not in trial.user_attrs or run.summary() is not None:
                continue
            run.path.mkdir(parents=True, exist_ok=True)
            config = with_defaults(recipe.for_trial(dict(trial.params))).as_values()
            write_json(run.path / "config.json", config)
            self.study.write_text(f"{run.path.name}/metrics.csv", trial.user_attrs["metrics"])
            run.finish(trial.user_attrs["summary"])
        self._copy_study()

    def _copy_study(self) -> None:
        draft = self.study.path / f".study.db.{self.server.owner.replace(':', '-')}"
        draft.unlink(missing_ok=True)
        optuna.copy_study(
            from_study_name=self.server.study,
            from_storage=self.storage,
            to_storage=sqlite(draft),
            to_study_name=STUDY_NAME,
        )
        draft.replace(self.study.path / "study.db")
