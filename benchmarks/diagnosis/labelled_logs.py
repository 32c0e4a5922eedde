"""Whether `cnntune diagnose` agrees with labels that people gave to real logs, held out.

    python benchmarks/diagnosis/labelled_logs.py FOLDER [FOLDER ...] [--write docs/benchmarks.md]

Each FOLDER is a set: it holds `labels.csv` with the columns file, label, also (labels that an
expert would accept too, separated by |) and source (the repository that a log is from). Logs with
the label "ambiguous" are left out. Printed are, as Markdown,

- per set, the agreement as the rules are, and where each log is judged with thresholds that were
  chosen without its repository, or without its whole set: for each fold the thresholds below are
  set, one after the other, to the value that agrees best on the other logs, less those that stand
  in both. Without the set is the nearest to what an unseen set gets, although the form of the
  rules was chosen with all sets in view;
- how often each label was said of logs with each label, without their set;
- of the runs with a given confidence, without their set, how many have the label itself, and how
  many one that is accepted: a table that `--write` puts between the two marks in the page.
"""

import argparse
import csv
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from cnntune.diagnosis import rules
from cnntune.diagnosis.curve import Curve
from cnntune.diagnosis.load_runs import read_paths
from cnntune.errors import CnntuneError

LABELS = ("overfitting", "underfitting", "still-improving", "converged", "unstable")
TOO_SHORT, SKIPPED, UNREAD = "too-short", "skipped", "unread"
SAID = (*LABELS, TOO_SHORT, SKIPPED, UNREAD)
FOLDS = 20
FACTORS = (0.5, 0.75, 1.0, 1.5, 2.0)  # that a threshold is tried at, times its value in the code
THRESHOLDS = (
    "RISE",
    "GAP",
    "IMPROVING",
    "NOISE",
    "ACC_GAP",
    "UNLEARNED",
    "NOTICEABLE",
)
MARKS = ("<!-- reliability -->", "<!-- end of reliability -->")
CONFIDENCES = (0.0, 0.6, 0.7, 0.8, 0.9, 1.01)


@dataclass(frozen=True)
class Log:
    """A labelled log: the curve of its last run, None where it was not read."""

    group: str
    name: str
    source: str
    label: str
    also: frozenset[str]
    curve: Curve | None


@dataclass(frozen=True)
class Answer:
    """What was said about a log."""

    log: Log
    label: str
    confidence: float

    @property
    def agrees(self) -> bool:
        """Whether the label is the one that was given to the log."""
        return self.label == self.log.label

    @property
    def accepted(self) -> bool:
        """Whether an expert would accept the label."""
        return self.agrees or self.label in self.log.also


def logs_of(folder: Path) -> Iterator[Log]:
    """The labelled logs of a folder, but for those on which experts would disagree."""
    with (folder / "labels.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["label"] not in SAID:
                continue
            try:
                runs, _ = read_paths([folder / row["file"]])
            except CnntuneError:
                runs = []
            curve = runs[-1].curve if runs else None
            also = frozenset(row["also"].split("|")) - {""}
            yield Log(str(folder), row["file"], row["source"], row["label"], also, curve)


def answer(log: Log) -> Answer:
    if log.curve is None:
        return Answer(log, SKIPPED if SKIPPED in {log.label, *log.also} else UNREAD, 0.0)
    found = rules.diagnose(log.curve)
    return Answer(log, found.label, found.confidence)


@contextmanager
def thresholds(values: Mapping[str, float]) -> Iterator[None]:
    """Judge with these values in place of those in the code."""
    before = {name: getattr(rules, name) for name in values}
    for name, value in values.items():
        setattr(rules, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(rules, name, value)


def chosen(logs: Sequence[Log]) -> dict[str, float]:
    """The thresholds that agree best on these logs; of equals, the nearest to those in the code."""
    best: dict[str, float] = {}
    for name in THRESHOLDS:
        now = getattr(rules, name)
        scores = {}
        for factor in sorted(FACTORS, key=lambda factor: abs(factor - 1)):
            with thresholds(best | {name: now * factor}):
                scores[now * factor] = sum(answer(log).agrees for log in logs)
        best[name] = max(scores, key=lambda value: scores[value])
    return best


def held_out(logs: Sequence[Log], key: Callable[[Log], str], folds: int) -> list[Answer]:
    """Each log judged with thresholds chosen without the logs of the same key in its fold."""
    keys = sorted({key(log) for log in logs})
    answers: dict[int, Answer] = {}
    for fold in range(min(folds, len(keys))):
        left_out = set(keys[fold::folds])
        here = [at for at, log in enumerate(logs) if key(log) in left_out]
        twice = {content(logs[at]) for at in here}
        others = [log for log in logs if key(log) not in left_out and content(log) not in twice]
        with thresholds(chosen(others)):
            answers |= {at: answer(logs[at]) for at in here}
    return [answers[at] for at in range(len(logs))]


def content(log: Log) -> str:
    """What tells two logs apart: the values of the curves, in any format."""
    curve = log.curve
    if curve is None:
        return log.name
    return repr((curve.train_loss, curve.val_loss, curve.train_acc, curve.val_acc))


def macro_f1(answers: Sequence[Answer]) -> float:
    """The mean over the labels of 2 TP / (2 TP + FP + FN)."""
    scores = []
    for label in LABELS:
        hit = sum(one.agrees for one in answers if one.label == label)
        named = sum(one.label == label for one in answers)
        true = sum(one.log.label == label for one in answers)
        scores.append(2 * hit / (named + true) if hit else 0.0)
    return sum(scores) / len(scores)


def by_source(log: Log) -> str:
    return log.source


def by_group(log: Log) -> str:
    return log.group


def figures(answers: Sequence[Answer]) -> tuple[float, float, float]:
    """The shares of answers that agree and that are accepted, and macro-F1."""
    strict = sum(one.agrees for one in answers) / len(answers)
    lenient = sum(one.accepted for one in answers) / len(answers)
    return strict, lenient, macro_f1(answers)


def line(name: str, answers: Sequence[Answer]) -> str:
    strict, lenient, f1 = figures(answers)
    unread = sum(one.label == UNREAD for one in answers)
    return (
        f"{name:<42}{len(answers):>5} logs, {unread} unread: strict {strict:.3f},"
        f" lenient {lenient:.3f}, macro-F1 {f1:.3f}"
    )


def by_set(columns: Mapping[str, Sequence[Answer]]) -> str:
    """The Markdown table of the figures of each set, and of all logs, with a column per method."""
    lines = [
        "| set | logs | not read |" + "".join(f" {name} |" for name in columns),
        "|---|---|---|" + "---|" * len(columns),
    ]
    first = next(iter(columns.values()))
    for group in [*dict.fromkeys(one.log.group for one in first), None]:
        kept = {
            name: [one for one in answers if group in (one.log.group, None)]
            for name, answers in columns.items()
        }
        some = next(iter(kept.values()))
        unread = sum(one.label == UNREAD for one in some)
        cells = [" {:.1%}, {:.1%}, {:.2f} |".format(*figures(answers)) for answers in kept.values()]
        lines.append(f"| {group or 'all'} | {len(some)} | {unread} |{''.join(cells)}")
    return "\n".join(lines)


def confusion(answers: Sequence[Answer]) -> str:
    """The Markdown table of how often each label was said, in columns, of logs with each label."""
    counts = Counter((one.log.label, one.label) for one in answers)
    said = [label for label in SAID if any(pair[1] == label for pair in counts)]
    true = [label for label in SAID if any(pair[0] == label for pair in counts)]
    lines = [f"| label \\ said | {' | '.join(said)} |", "|---|" + "---|" * len(said)]
    lines += [f"| {row} | {' | '.join(str(counts[row, one]) for one in said)} |" for row in true]
    return "\n".join(lines)


def reliability(answers: Sequence[Answer]) -> str:
    """The Markdown table of how often runs with a given confidence are right."""
    lines = ["| confidence | runs | the label itself | accepted |", "|---|---|---|---|"]
    for low, high in pairwise(CONFIDENCES):
        held = [one for one in answers if low <= one.confidence < high and one.log.curve]
        if held:
            same = sum(one.agrees for one in held) / len(held)
            accepted = sum(one.accepted for one in held) / len(held)
            span = f"{low:.1f} to {min(high, 1.0):.1f}"
            lines.append(f"| {span} | {len(held)} | {same:.0%} | {accepted:.0%} |")
    return "\n".join(lines)


def with_table(page: str, table: str) -> str:
    """The page with the table between the two marks, in place of what is there.

    Raises:
        ValueError: where the page does not hold both marks, in order.
    """
    before, start, rest = page.partition(MARKS[0])
    _, end, after = rest.partition(MARKS[1])
    if not (start and end):
        raise ValueError(f"the page must hold {MARKS[0]} and then {MARKS[1]}")
    return f"{before}{start}\n{table}\n{end}{after}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the table into this page")
    args = parser.parse_args()
    logs = [log for folder in args.folders for log in logs_of(folder)]
    now = [answer(log) for log in logs]
    columns = {"as they are": now, "without repository": held_out(logs, by_source, FOLDS)}
    apart = columns["without repository"]
    if len(args.folders) > 1:
        apart = columns["without set"] = held_out(logs, by_group, len(args.folders))
    print("strict, lenient, macro-F1:", by_set(columns), sep="\n")
    print("said of logs with each label, held out:", confusion(apart), sep="\n")
    print("of the runs with this confidence, held out:", reliability(apart), sep="\n")
    if args.write:
        page = args.write.read_text(encoding="utf-8")
        args.write.write_text(with_table(page, reliability(apart)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
