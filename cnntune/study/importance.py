"""Which keys the accuracy depends on (fANOVA, Hutter et al. 2014)."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import optuna
from optuna.trial import create_trial

from cnntune.config.space import Space
from cnntune.study.samplers import distribution
from cnntune.study.trial import Trial

MIN_TRIALS = 20  # below, fANOVA's answer moves by 0.2 from seed to seed
SEED = 0


@dataclass(frozen=True)
class Importance:
    """The share of the accuracy's variance that each key explains, after so many epochs."""

    shares: dict[str, float]
    epochs: int
    trials: int


def prepare() -> None:
    """Import the random forest behind fANOVA, which takes a second, while nothing else runs."""
    import optuna.importance  # noqa: F401


@dataclass(frozen=True)
class Comparable:
    """The trials that are compared after `epochs`, and the accuracy of each by its number."""

    trials: list[Trial]
    accs: dict[int, float]
    epochs: int


def comparable(trials: Sequence[Trial], space: Space) -> Comparable | None:
    """Judged after the most epochs that 20 trials have reached; None where no epoch has as many.

    A trial whose curve is missing is left out. One that diverged counts as the worst of the others:
    as zero it would outweigh everything else.
    """
    keys = set(space)
    judged = [t for t in trials if t.status in ("complete", "pruned") and keys <= set(t.values)]
    diverged = [t for t in trials if t.status == "diverged" and keys <= set(t.values)]
    curves = {trial.number: trial.curve for trial in judged}
    judged = [trial for trial in judged if curves[trial.number]]
    reached = sorted((trial.summary.epochs for trial in judged), reverse=True)
    wanted = MIN_TRIALS - len(diverged)
    if not judged or len(reached) < wanted:
        return None
    epochs = reached[max(wanted, 1) - 1]
    accs = {
        trial.number: max(row.score for row in curves[trial.number][:epochs])
        for trial in judged
        if trial.summary.epochs >= epochs
    }
    worst = min(accs.values())
    accs |= {trial.number: worst for trial in diverged}
    return Comparable([t for t in [*judged, *diverged] if t.number in accs], accs, epochs)


def importance(trials: Sequence[Trial], space: Space) -> Importance | None:
    """The shares of the keys, see `comparable`; None also where all accuracies are the same."""
    found = comparable(trials, space)
    if found is None or statistics.pstdev(found.accs.values()) == 0:
        return None
    study = optuna.create_study(direction="maximize")
    distributions = {key: distribution(dimension) for key, dimension in space.items()}
    study.add_trials(
        create_trial(
            value=found.accs[trial.number],
            params={key: trial.values[key] for key in space},
            distributions=distributions,
        )
        for trial in found.trials
    )
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    shares = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=SEED))
    return Importance(dict(shares), found.epochs, len(found.accs))
