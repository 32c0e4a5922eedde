"""Whether a model that is fitted to labelled logs diagnoses better than the rules, held out.

    python benchmarks/diagnosis/learned_models.py FOLDER [FOLDER ...]

The models see the numbers that the rules compare: multinomial logistic regression, a random forest
and gradient boosting (scikit-learn), each fitted without the repositories of the logs that it
labels. Logs as for labelled_logs.py. A run that ends in NaN is left to the rules by both.
"""

import argparse
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from labelled_logs import FOLDS, LABELS, Answer, Log, line, logs_of
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cnntune.diagnosis import rules
from cnntune.diagnosis.curve import fall_error, fraction, log_ratio, measure, noise, scatter
from cnntune.diagnosis.signs import spikes

UNKNOWN = -1.0  # of a number that the log does not hold
LIMIT = 5.0  # a share or ratio beyond it says no more
MODELS = {
    "logistic regression": make_pipeline(StandardScaler(), LogisticRegression(C=0.3, max_iter=999)),
    "random forest": RandomForestClassifier(300, min_samples_leaf=2, random_state=0),
    "gradient boosting": GradientBoostingClassifier(n_estimators=60, random_state=0),
}


def numbers(log: Log) -> list[float]:
    """What the rules compare of a log, as 14 shares, ratios and counts."""
    shape = measure(log.curve) if log.curve else None
    if shape is None:
        return [UNKNOWN] * 14
    train = shape.train.values or shape.val.values
    accuracy = rules.best_accuracy(shape)[1]
    found = (
        np.log(len(shape.val)),
        fraction(shape.trend, shape.range),
        fraction(shape.trend, shape.end),
        fraction(shape.trend, fall_error(shape.last_third)),
        fraction(shape.rise, shape.range),
        log_ratio(shape.end, shape.smooth[shape.best]),
        fraction(shape.rise, noise(shape.val.values[shape.best :])),
        shape.gap,
        rules.gap_score(shape),
        UNKNOWN if shape.acc_gap is None else shape.acc_gap,
        UNKNOWN if accuracy is None else accuracy,
        rules.loss_left(shape),
        fraction(scatter(train), max(train) - min(train)),
        float(len(spikes(train))),
    )
    return [float(np.clip(value, -LIMIT, LIMIT)) for value in found]


def held_out(model: object, logs: Sequence[Log]) -> list[Answer]:
    """Each log labelled by the model, fitted to the logs of other repositories."""
    table = np.array([numbers(log) for log in logs])
    labels = np.array([log.label for log in logs])
    sources = [log.source for log in logs]
    answers = []
    for others, left_out in GroupKFold(FOLDS).split(table, labels, sources):
        fitted = model.fit(table[others], labels[others])  # type: ignore[attr-defined]
        said = zip(left_out, fitted.predict_proba(table[left_out]), strict=True)
        answers += [
            Answer(logs[at], str(fitted.classes_[chances.argmax()]), float(chances.max()))
            for at, chances in said
        ]
    return answers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    folders = parser.parse_args().folders
    warnings.simplefilter("ignore")
    logs = [
        log
        for folder in folders
        for log in logs_of(folder)
        if log.curve is not None and log.label in LABELS
    ]
    kept = [log for log in logs if log.curve and rules.diverged(log.curve) is None]
    for name, model in MODELS.items():
        print(line(f"{name}, held out by repository", held_out(model, kept)))


if __name__ == "__main__":
    main()
