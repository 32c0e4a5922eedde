"""A study's trials: Optuna keeps the values drawn and the results, the run folders the curves.

One process writes, under the study's lock. A trial's number is its slot, its values follow from
(seed, slot), and a trial that a dead process left RUNNING is taken up again under its number. So a
study that was stopped, killed or extended holds the same trials as one that ran through.
"""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import optuna
import torch
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState, create_trial

from cnntune.build import argument_problems
from cnntune.errors import StudyError, UserCodeError
from cnntune.recipe import Recipe, differences, parse
from cnntune.runs import Run, Study
from cnntune.space import Choice, Dimension, Space, Value, draw
from cnntune.workers import Event, Job, run_jobs

if TYPE_CHECKING:
    import pandas as pd

STUDY_NAME = "cnntune"  # in every study.db: the folder may be renamed
SQLITE_WAIT_SECONDS = 60  # for another program's lock; SQLite's own 5 s fail under a backup
SAME_FAILURES = 3  # in a row: Keras Tuner stops there too; what fails in each trial is a bug
IMPORTANCE_TRIALS = 20  # below, fANOVA's answer moves by 0.2 from seed to seed
IMPORTANCE_SEED = 0
DIVERGED_VALUE = 0.0  # the accuracy that Optuna is told: finite, and never the best

optuna.logging.set_verbosity(optuna.logging.WARNING)


@dataclass(frozen=True)
class Trial:
    """One trial: what was drawn, how it stands, and its curve's best epoch."""

    number: int
    status: str  # complete, diverged, failed or running
    values: dict[str, Value]
    run: Run
    summary: dict[str, Any]

    @property
    def val_acc(self) -> float:
        """Validation accuracy of the best epoch, 0..1; -1 where the trial has none."""
        return float(self.summary["val_acc"]) if self.status == "complete" else -1.0


def create(study: Study, recipe: Recipe, asked: Recipe) -> Recipe:
    """Create the study of `recipe`, or open it where it exists. Call it under the lock.

    `asked` is the recipe before its space was completed; with it a study is recognised. Returns the
    recipe that the study was created with, whose space is the one that is searched.

    Raises:
        StudyError: where the study holds another recipe; the keys that differ are named.
    """
    known = exists(study)
    optuna_study = optuna.create_study(
        study_name=STUDY_NAME, storage=_storage(study), direction="maximize", load_if_exists=True
    )
    attributes = optuna_study.user_attrs
    if not known:
        if study.trial(0).path.exists():
            raise StudyError(
                f"{study.path}: holds trials of a study whose study.db is gone; search under a"
                " name of its own (--study NAME) or remove the folder"
            )
        optuna_study.set_user_attr("recipe", recipe.as_values())
        optuna_study.set_user_attr("asked", asked.as_values())
        return recipe
    stored = _parse(attributes["asked"], study)
    differing = differences(asked, stored)
    if differing:
        raise StudyError(
            [
                *(f"{study.path}: holds another recipe: {line}" for line in differing),
                f"{study.path}: search under a name of its own (--study NAME) or remove the folder",
            ]
        )
    return stored_recipe(study)


def stored_recipe(study: Study) -> Recipe:
    """The recipe that the study's trials are drawn from.

    Raises:
        StudyError: where there is no study.
    """
    return _parse(_open(study).user_attrs["recipe"], study)


def _parse(values: Mapping[str, Any], study: Study) -> Recipe:
    """A stored recipe; the builders' signatures tell again which keys are whole numbers."""
    file = str(study.path / "study.db")
    return parse(values, file=file, check_arguments=argument_problems)


def exists(study: Study) -> bool:
    """Whether a search was begun here; a study that was killed while it was made is none yet."""
    if not (study.path / "study.db").is_file():
        return False
    try:
        found = optuna.load_study(study_name=STUDY_NAME, storage=_storage(study))
    except KeyError:
        return False
    return "asked" in found.user_attrs


def _open(study: Study) -> optuna.Study:
    if not exists(study):
        raise StudyError(f"{study.path}: holds no search; run `cnntune search` first")
    return optuna.load_study(study_name=STUDY_NAME, storage=_storage(study))


def _storage(study: Study) -> optuna.storages.RDBStorage:
    study.path.mkdir(parents=True, exist_ok=True)
    return optuna.storages.RDBStorage(
        f"sqlite:///{study.path / 'study.db'}",
        engine_kwargs={"connect_args": {"timeout": SQLITE_WAIT_SECONDS}},
    )


def run_trials(
    study: Study,
    recipe: Recipe,
    *,
    budget: int,
    workers: int,
    device: torch.device,
    given: Sequence[Mapping[str, Value]] = (),
    seed: int | None = None,
) -> Iterator[Event]:
    """Bring the study to `budget` trials and yield what happens; call it under the lock.

    `recipe` is what `create` returned. The first trials take the values `given`, the others draw
    theirs from `seed`, the recipe's if left out.

    Raises:
        UserCodeError: where three trials in a row fail in the same way.
    """
    optuna_study = _open(study)
    _tell_finished(study, optuna_study)
    stream = recipe.seed if seed is None else seed

    def jobs() -> Iterator[Job]:
        for number, values in sorted(_running(optuna_study).items()):
            yield Job(number, recipe.for_trial(values), study.trial(number).path)
        for number in range(len(optuna_study.get_trials(deepcopy=False)), budget):
            values = (
                dict(given[number])
                if number < len(given)
                else draw(recipe.space, seed=stream, slot=number)
            )
            _begin(optuna_study, recipe.space, values)
            yield Job(number, recipe.for_trial(values), study.trial(number).path)

    failures: list[str] = []
    for event in run_jobs(jobs(), workers=workers, device=device):
        if event.summary is not None:
            _tell(optuna_study, event.job.number, event.summary)
            error = event.summary.get("error")
            failures = [*failures, error] if error else []
        yield event
        if len(failures) >= SAME_FAILURES and len(set(failures[-SAME_FAILURES:])) == 1:
            raise UserCodeError(
                [*failures[-1].splitlines(), f"stopped: {SAME_FAILURES} trials in a row failed so"]
            )


def _begin(optuna_study: optuna.Study, space: Space, values: Mapping[str, Value]) -> None:
    """Record a trial as RUNNING, with its values, in one transaction."""
    distributions = {
        key: _distribution(space[key]) if key in space else CategoricalDistribution((value,))
        for key, value in values.items()
    }
    optuna_study.add_trial(
        create_trial(state=TrialState.RUNNING, params=dict(values), distributions=distributions)
    )


def _distribution(dimension: Dimension) -> BaseDistribution:
    if isinstance(dimension, Choice):
        return CategoricalDistribution(dimension.options)
    if dimension.integer:
        return IntDistribution(int(dimension.low), int(dimension.high), log=dimension.log)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log)


def _running(optuna_study: optuna.Study) -> dict[int, dict[str, Value]]:
    """What a dead process left unfinished; nobody else can be running it, for we hold the lock."""
    trials = optuna_study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    return {trial.number: dict(trial.params) for trial in trials}


def _tell_finished(study: Study, optuna_study: optuna.Study) -> None:
    """Tell Optuna of trials that were finished on disk when their coordinator died."""
    for number in _running(optuna_study):
        summary = study.trial(number).summary()
        if summary is not None:
            _tell(optuna_study, number, summary)


def _tell(optuna_study: optuna.Study, number: int, summary: Mapping[str, Any]) -> None:
    if summary["status"] == "failed":
        optuna_study.tell(number, state=TrialState.FAIL)
    elif summary["status"] == "diverged":
        optuna_study.tell(number, DIVERGED_VALUE)
    else:
        optuna_study.tell(number, summary["val_acc"])


def trials_of(study: Study) -> list[Trial]:
    """All trials of a study, by number.

    Raises:
        StudyError: where there is no study.
    """
    return [_trial(study, frozen) for frozen in _open(study).get_trials(deepcopy=False)]


def _trial(study: Study, frozen: FrozenTrial) -> Trial:
    run = study.trial(frozen.number)
    summary = run.summary() or {}
    running = not frozen.state.is_finished()
    status = "running" if running else summary.get("status", "failed")
    return Trial(frozen.number, status, dict(frozen.params), run, summary)


def best_of(trials: Sequence[Trial]) -> Trial | None:
    """The trial with the highest validation accuracy, then the lowest loss; None without one."""
    complete = ranked(trials)
    return complete[0] if complete else None


def ranked(trials: Sequence[Trial]) -> list[Trial]:
    """The complete trials, best first."""
    complete = [trial for trial in trials if trial.status == "complete"]
    return sorted(complete, key=lambda trial: (-trial.val_acc, trial.summary["val_loss"]))


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


def importance(study: Study) -> dict[str, float]:
    """The share of the accuracy's variance that each key explains (fANOVA, Hutter et al. 2014).

    Empty below 20 complete trials, and where all trials came to the same accuracy.
    """
    optuna_study = _open(study)
    complete = optuna_study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    values = [trial.value for trial in complete if trial.value is not None]
    if len(values) < IMPORTANCE_TRIALS or statistics.pstdev(values) == 0:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=IMPORTANCE_SEED)
    return dict(optuna.importance.get_param_importances(optuna_study, evaluator=evaluator))
