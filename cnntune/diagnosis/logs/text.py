"""Text logs: printed lines that name an epoch and hold numbers after their names.

Epoch: [3][50/391] Time 0.1 (0.1) Loss 0.31 (0.29) Prec@1 89.1 (90.2)     PyTorch's examples
 * Prec@1 84.700
Epoch(val) [4][625]  accuracy_top-1: 80.99                                mmcv
Epoch 3/10 - loss: 0.31 - acc: 0.90 - val_loss: 0.42 - val_acc: 0.85      Keras
epoch 3 | train loss 0.31 | val loss 0.42 | val acc 85.1%                 home-made
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import pairwise
from statistics import median
from typing import NamedTuple

from cnntune.diagnosis.curve import MIN_POINTS
from cnntune.diagnosis.logs.align import MAX_FRACTION
from cnntune.diagnosis.logs.cells import NUMBER, percentage, without_time
from cnntune.diagnosis.logs.dialects import (
    epochs_after,
    name_by_trend,
    names_two_splits,
    with_decimal_points,
    without_pairs,
    without_reports,
)
from cnntune.diagnosis.logs.languages import english
from cnntune.diagnosis.logs.names import (
    COUNTS,
    CURVES,
    SPLITS,
    has_curves,
    meaning,
    words,
    words_of,
)
from cnntune.diagnosis.logs.record import MAX_POINTS, Record
from cnntune.diagnosis.logs.rows import Axis, records

MAX_LINE_LENGTH = 2000  # characters; a longer line is not one that a person would print
MAX_NAME_LENGTH = 80  # characters before a number in which its name is searched for
MAX_HEADING_LENGTH = 60  # characters; a longer line without a value is prose, not a heading

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
REDRAWN = re.compile(r"\x08+")  # some progress bars step back instead of returning to the start
VALUE = re.compile(r"\d|nan|inf", re.IGNORECASE)  # found in every line with a value
BLANKS = re.compile(r"[ \t]{2,}")
EPOCH = re.compile(
    r"(?<!\w)(?P<word>epochs?|ep\.?) ?(?:\( ?(?P<split>[a-z]+) ?\))?"
    r"[\s:#=\[(_-]{0,9}(?P<epoch>[0-9]+(?:\.[0-9]+)?)(?!\w|\.(?!\.))(?P<of> ?(?:/|of) ?\d+)?",
    re.IGNORECASE,
)
# mmcv's `Iter [50/20000]`, where no epoch is named; `Iter(val) [50]` is another count
ITERATION = re.compile(
    r"(?<!\w)(?:iter(?:ation)?|step) ?[:#=\[(]{0,3} ?(?P<step>[0-9]+)(?![\w.])", re.IGNORECASE
)
# timm's `Train: 0 [  50/1251 (  4%)]` and Catalyst's `valid (3/10)`: the epoch without a name
SPLIT_EPOCH = re.compile(
    r" ?(?P<split>train|test|val|valid|eval)\w*(?:: (?P<timm>[0-9]+) \["
    r"| ?\( ?(?P<catalyst>[0-9]+) ?/ ?[0-9]+ ?\) )",
    re.IGNORECASE,
)
# XGBoost's `[3]  train-rmse:0.4` and CatBoost's `3: learn: 0.4`: a count without a name
LEADING_COUNT = re.compile(
    r"(?: ?\[\d\d:\d\d:\d\d\])? ?"
    r"(?:\[ ?(?P<boxed>[0-9]+)\]|(?P<bare>[0-9]+):|[Ee](?P<glued>[0-9]+)(?=[:, ]))"
    r"[ \t:,|-]+(?=[^\W\d])"
)
MIN_RISING = 0.8  # of the changes from one such count to the next
# `train=0.81 val=0.74`: a value of which only the split is named
BARE_SPLIT = re.compile(
    r"(?<![\w./-])(?P<split>" + "|".join(sorted(SPLITS, key=len, reverse=True)) + r") ?[:=] ?"
    rf"(?P<value>(?=[-+0-9]*\.){NUMBER})(?![\w/:])(?P<percent> ?%)?"
    r"(?! ?(?:s|sec|secs|seconds|ms|m|min|h)\b)",
    re.IGNORECASE,
)
NAMED_VALUE = re.compile(
    rf"(?<=[\s:=('\"])(?P<value>{NUMBER})"
    rf"(?: ?/ ?(?P<whole>[0-9]+)(?![\w.])"
    rf"|(?![\w/:]|\.(?!\.(?!\d))|,\d|-\d| ?-+>)(?P<percent> ?%)?"
    rf"(?: ?\( ?(?P<mean>{NUMBER}) ?%? ?\))?)",
    re.IGNORECASE,
)
# `[38/200], [1/600]`: an epoch and a step of it
TWO_COUNTS = re.compile(
    r"\[ ?(?P<epoch>[0-9]+) ?/ ?[0-9]+ ?\][\s,:|-]{0,4}\[ ?(?P<step>[0-9]+) ?/ ?[0-9]+ ?\]"
)
# `[1, 2000] loss: 2.173` of PyTorch's tutorial: an epoch and a batch of it
EPOCH_AND_BATCH = re.compile(r" ?\[ ?(?P<epoch>[0-9]+) ?, ?(?P<batch>[0-9]+) ?\](?=[ :])")
# `Batch 3/28`, which counts within an epoch
BATCH = re.compile(
    r"(?<!\w)(?:mini-?)?batch ?[:#=\[(]{0,3} ?(?P<batch>[0-9]+)(?![\w.])", re.IGNORECASE
)
# `current best: recall: 0.8, train_loss: inf`: what follows is of an earlier epoch
BEST = re.compile(r"(?<![\w/])best(?: [a-z]+){0,2} ?[:=] ?(?=[a-z])", re.IGNORECASE)
# `2.1 C.E. Loss, 70% Accuracy`; separators on both sides tell it from a sentence
VALUE_FIRST = re.compile(
    rf"(?:^|[:,;|@(\t-] ?)(?P<value>(?=[-+0-9]*\.|[0-9]+ ?%){NUMBER})(?P<percent> ?%)? "
    r"(?P<name>[^\W\d][\w.@-]*(?: [^\W\d][\w.@-]*){0,3})(?= ?(?:[,;|)]|$))"
)
WORD = r"[^\W\d][\w@()./-]*|\([\w@()./-]*"
NAME = re.compile(
    rf"(?<![\w./])([^\W\d][\w@()./-]*(?:(?:'s)?[ \t](?:{WORD})){{0,3}})"
    r"['\"]? ?[:=]? ?['\"]?(?:[A-Za-z.]*(?:tensor|[Aa]rray)\( ?)?$"
)
# `Epoch0 loss`, which would be another name in each epoch
NUMBERED = re.compile(r"^(?:epoch|ep|step|iter(?:ation)?)s?[0-9]+[ \t]+", re.IGNORECASE)
FREE_SPLIT = re.compile(
    r"(?<![\w/.-])(" + "|".join(sorted(set(SPLITS) - {"learn"})) + r")(?![\w/=-]|\.(?! [A-Za-z]))",
    re.IGNORECASE,
)
# Words of sentences about other epochs, not about values of this one.
PROSE = words(
    "best from improved improve improves resume resumed resuming last decreased increased reduced"
    " dropped reached saving saved restored than did not"
)
# `Training Loss (Thu Oct 31 10:00:00 2024)`
DATES = words(
    "mon tue wed thu fri sat sun jan feb mar apr jun jul aug sep oct nov dec monday tuesday"
    " wednesday thursday friday saturday sunday january february march april june july august"
    " september october november december am pm"
)
# A line with one of these lists the settings of a run, as does one with two of `SETTING`.
SETTINGS = re.compile(
    r"(?<![a-z])(?:params|args|arguments|config|configuration|options|hyper-?parameters) ?[:=]"
    r"|\bnamespace\(",
    re.IGNORECASE,
)
SETTING = re.compile(
    r"(?<![a-z])((?:num_|n_|max_)?epochs|batch[_-]?size|lr0|optimizer|weight[_-]decay|momentum"
    r"|num_workers|pretrained|seed|patience|dropout)['\"]?\s*[:=]",
    re.IGNORECASE,
)
CODE = re.compile(
    r"\s*(?:return|raise|assert|import|from \w+ import|print ?\(|def \w+\(|for \w+ in |File \")"
)
CODE_PARTS = (
    *("self.", ".append(", ".backward(", ".item(", ".plot(", ".format(", "= nn.", "(nn."),
    *(" += ", " -= ", " *= ", " == ", "= torch.", "torch.nn"),
)
METHOD_CALL = re.compile(r"\w\.\w+\($")
# `[epoch: 3/200, iter: 25/489] total: 1.2756`, where no other number has a name
TOTAL = re.compile(
    rf"(?:^|[^\w\s]) ?(?P<name>total) ?[:=] ?(?P<value>(?=[-+0-9]*\.){NUMBER})(?= ?(?:[,;|)]|$))",
    re.IGNORECASE,
)
# A tag before a message, as loggers put it; alone in a line it is a heading
TAGGED = re.compile(r"\s*\[(?P<tag>[ \w-]+)\]\s*\S")
BAR_PARTS = ("[=", "[>", "[.", "━", "─")  # one of which is in the line of such a bar
KERAS_BAR = re.compile(r"\d+/\d+ (?:\[[=>.]+\]|[━─]+)")  # its values are means of the epoch so far
# `Loss after epoch 3: 0.41`, `Loss at step 100: 2.3`
AFTER = re.compile(
    r" (?:after|at|in|for|of) (?:epoch|iter|iteration|step)s? ?#?[0-9]+(?= ?[:=])", re.IGNORECASE
)
DECIMALS = re.compile(r"[0-9]*\.[0-9]+(?:e[-+]?[0-9]+)?|\bnan\b|\binf\b", re.IGNORECASE)
DIGITS = re.compile(r"[0-9]+")
MAX_LINES_BACK = 1000  # in which a line like the last one is searched for
MAX_LINES = 10  # with values per epoch: a log with more prints every few batches
MIN_EPOCHS = 5  # counted beside batches; fewer have no shape, and the curve is that of the batches
MIN_TWICE = 0.8  # of the epochs: a line given twice in so many is that of two splits
UNEQUAL = 1.5  # times as many values as another name has: the two do not count the same
PERCENTAGES = re.compile(
    r"(?:acc|prec)@[15]|top-?[15]", re.IGNORECASE
)  # where one of these is above 1, all are percentages

PRESENT_EPOCH, NO_EPOCH, OTHER_EPOCH = "present", "none", "other"  # what a line is about
GIVEN_TWICE = "the same line is printed twice per epoch: the second one is taken for validation"
TRUNCATED_LINE = "the last line may be truncated and was skipped"


class Value(NamedTuple):
    """A value of a curve: `running` if it is a mean of the epoch so far, `signed` if in percent."""

    name: str
    value: float
    running: bool = False
    signed: bool = False


@dataclass
class _State:
    """The state of the reader: the present epoch and split, and the rows so far."""

    epoch: float | None = None
    step: float | None = None
    split: str = ""
    rows: list[dict[str, float]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)  # that of each row
    leading: list[float | None] = field(default_factory=list)  # the count at the start of each row
    batch: float | None = None
    batches: list[float | None] = field(default_factory=list)  # the batch of each row
    signed: set[str] = field(default_factory=set)  # names of values with a percent sign
    paired: bool = False  # lines begin with `[epoch, batch]`
    marks: list[tuple[int, float]] = field(default_factory=list)  # see `epochs_after`
    running: dict[str, dict[str, float]] = field(default_factory=dict)


def read(text: str) -> list[Record]:
    """The runs in a text log; an empty list where no line holds a curve."""
    lines = with_decimal_points(REDRAWN.sub("\n", ESCAPES.sub(" ", text))).split("\n")
    notes = []
    if _may_be_truncated(lines):
        notes.append(TRUNCATED_LINE)
        lines.pop()
    state, points = _State(), 0
    for line in without_reports(lines):
        if 0 < len(line) <= MAX_LINE_LENGTH:
            points += _read_line(line, state)
        if points > MAX_POINTS:
            notes.append(f"only the first {MAX_POINTS} values were read")
            break
    if _name_second_of_two(state):
        notes.append(GIVEN_TWICE)
    _count_by_leading(state)
    if note := _count_by_batch(state):
        notes.append(note)
    counts = Counter(name for row in state.rows for name in row if has_curves([name]))
    known = {meaning(name).split for name, count in counts.items() if count >= MIN_POINTS}
    if note := name_by_trend(state.rows, known):
        notes.append(note)
    rows = epochs_after(state.rows, state.marks)
    rows = [row for row in rows if set(row) - COUNTS]
    names = {name for row in rows for name in row}
    if not has_curves(names):
        return []
    counted = [row for row in rows if "epoch" in row] or [row for row in rows if "step" in row]
    rows = counted or _counted(rows)
    axis: Axis = "epoch" if "epoch" in rows[0] else "step"
    rates = {
        name
        for name in filter(PERCENTAGES.search, names)
        if meaning(name).kind in ("accuracy", "error")
    }
    percent = any(row.get(name, 0) > MAX_FRACTION for row in rows for name in rates)
    fractions = frozenset(state.signed)
    return [
        replace(run, percent=percent, fractions=fractions)
        for run in records("text", rows, notes, axis)
    ]


def _may_be_truncated(lines: list[str]) -> bool:
    """Whether the last line, which no newline ends, may lack a part of its last number.

    It does not where earlier lines of the same form mostly end with no more decimals.
    """
    last = lines[-1].rstrip()
    if last[-1:] not in tuple("0123456789.+-eE"):
        return False
    if not last[-1].isdigit():
        return True
    form = DIGITS.sub("0", last)
    alike = [line.rstrip() for line in lines[-MAX_LINES_BACK:-1]]
    lengths = [_last_digits(line) for line in alike if line and DIGITS.sub("0", line) == form]
    return not lengths or _last_digits(last) < median(lengths)


def _last_digits(line: str) -> int:
    """The number of digits at the end of a line."""
    return len(line) - len(line.rstrip("0123456789"))


def _read_line(line: str, state: _State) -> int:
    """Update `state` with the epoch, split and values of a line; returns the number of values."""
    line = without_pairs(BLANKS.sub(" ", english(without_time(line))))
    leading, line = _leading_count(_without_best(line))
    state.batch = None
    values: list[Value] = []
    if VALUE.search(line):
        about = _read_epoch(line, state)
        if about == OTHER_EPOCH:
            return 0
        values, split = _values(line, state.split)
        if not values and (shorter := AFTER.sub("", line)) != line:
            values, split = _values(shorter, state.split)
        values += [
            Value(SPLITS[bare["split"].lower()], _of_percent(bare))
            for bare in BARE_SPLIT.finditer(line)
        ]
        if not values and about == PRESENT_EPOCH and (total := TOTAL.search(line)):
            values = [Value(f"{total['name']} loss", float(total["value"]))]
        if values and (_is_code(line) or (about == NO_EPOCH and _is_settings(line))):
            return 0
        if not _is_tagged(line):
            state.split = split
    elif _is_tagged(line):
        return 0
    elif len(line) < MAX_HEADING_LENGTH:
        state.split = _free_split(line) or state.split
    _add_row(values, line, leading, state)
    return len(values)


def _add_row(values: Sequence[Value], line: str, leading: float | None, state: _State) -> None:
    """Append the values of a line as a row; a running mean replaces that of its epoch so far."""
    row = {} if state.epoch is None else {"epoch": state.epoch}
    if state.epoch is None and state.step is not None:
        row = {"step": state.step}
    for name, value, running, signed in values:
        if signed:
            state.signed.add(name)
        if running and state.epoch is not None:
            earlier = state.running.get(name, {})
            if earlier.get("epoch") == state.epoch:
                earlier.pop(name, None)
            state.running[name] = row
        row[name] = value
    if values:
        state.rows.append(row)
        state.lines.append(line)
        state.leading.append(leading)
        state.batches.append(state.batch)


def _without_best(line: str) -> str:
    """The line up to the values of the best epoch so far."""
    found = BEST.search(line) if "best" in line or "Best" in line else None
    return line[: found.start()] if found else line


def _of_percent(found: re.Match[str]) -> float:
    percent = percentage(found["value"]) if found["percent"] else None
    return float(found["value"]) if percent is None else percent


def _count_by_leading(state: _State) -> None:
    """Take the counts at the start of lines, which have no name, where nothing else counts.

    Nearly all must rise: a process number in brackets does not, and a list may begin again.
    """
    pairs = list(zip(state.rows, state.leading, strict=True))
    if any(count is None or COUNTS & set(row) for row, count in pairs):
        return
    changes = [(b or 0.0) - (a or 0.0) for a, b in pairwise(state.leading)]
    if len(changes) < MIN_POINTS - 1 or sum(x > 0 for x in changes) < MIN_RISING * len(changes):
        return
    for row, count in pairs:
        row["step"] = count or 0.0


def _count_by_batch(state: _State) -> str:
    """Count rows by batch, in place, where few epochs or none are counted; returns a note on it.

    Batches alone count as steps as long as they rise, and begin an epoch where they go back. Of
    epochs and batches, as in `[1, 2000]`, the batches count where there are few epochs.
    """
    pairs = list(zip(state.rows, state.batches, strict=True))
    counts = [count for _, count in pairs if count is not None]
    if not counts:
        return ""
    if not any(COUNTS & set(row) for row in state.rows) and len(counts) == len(pairs):
        back = sum(b < a for a, b in pairwise(counts))
        if not back:
            for row, count in pairs:
                row["step"] = count or 0.0
            return "counts batches and no epochs: each batch is a step"
        epoch, last = 1.0, 0.0
        for row, count in pairs:
            epoch += (count or 0.0) < last
            last = count or 0.0
            row["epoch"] = epoch
        return "names no epoch: one begins where the count of batches goes back"
    epochs = {row["epoch"] for row in state.rows if "epoch" in row}
    if not state.paired or len(epochs) >= MIN_EPOCHS:
        return ""
    each, first = max(counts), min(epochs)
    for row, count in pairs:
        if "epoch" in row:
            row["step"] = (row.pop("epoch") - first) * each + (each if count is None else count)
    return (
        f"[{first:g}, {counts[0]:g}] is an epoch and a batch of it: each batch is a step, {each:g}"
        f" per epoch, since fewer than {MIN_EPOCHS} epochs have no shape"
    )


def _leading_count(line: str) -> tuple[float | None, str]:
    """The count at the start of a line with values, and the rest of the line."""
    found = LEADING_COUNT.match(line)
    if not found or not VALUE.search(line, found.end()):
        return None, line
    return float(found["boxed"] or found["bare"] or found["glued"]), line[found.end() :]


def _is_tagged(line: str) -> bool:
    """Whether a line begins with its own split, as in `[valid] epoch 3: ...`."""
    return bool((found := TAGGED.match(line)) and _free_split(found["tag"]))


def _read_epoch(line: str, state: _State) -> str:
    """Update `state` with the epoch in a line, if there is one; returns what the line is about.

    `best epoch: 12, val acc: 0.9` is a summary; `epochs: 100` may be a setting.
    """
    if counted := SPLIT_EPOCH.match(line):
        state.epoch = float(counted["timm"] or counted["catalyst"])
        state.marks.append((len(state.rows), state.epoch))
        state.split = counted["split"].lower()
        return PRESENT_EPOCH
    if found := EPOCH.search(line):
        before = line[max(0, found.start() - MAX_NAME_LENGTH) : found.start()].split()
        if before and before[-1].lower() in PROSE:
            return OTHER_EPOCH
        if found["word"].lower() == "epochs" and not found["of"]:
            return NO_EPOCH
    found = found or TWO_COUNTS.search(line)
    if counted := BATCH.search(line):
        state.batch = float(counted["batch"])
    if not found and (found := EPOCH_AND_BATCH.match(line)):
        state.batch, state.paired = float(found["batch"]), True
    if found:
        state.epoch = float(found["epoch"])
        state.marks.append((len(state.rows), state.epoch))
        state.split = (found.groupdict().get("split") or "").lower()
    elif step := ITERATION.search(line):
        if state.epoch is None:
            state.step, state.split = float(step["step"]), ""
    else:
        return NO_EPOCH
    return PRESENT_EPOCH


def _is_code(line: str) -> bool:
    return bool(CODE.match(line)) or any(part in line for part in CODE_PARTS)


def _is_settings(line: str) -> bool:
    return bool(SETTINGS.search(line)) or len(set(SETTING.findall(line.lower()))) > 1


def _values(line: str, split: str) -> tuple[list[Value], str]:
    """The values of curves in a line, and the split that a name without one takes after it.

    A name without a split word takes the last separate one before it: `val loss 0.4 acc 0.9`. The
    last such word of a line with values, or of a short line, also applies to the next line.
    """
    values, end, context = [], 0, split
    for found in NAMED_VALUE.finditer(line):
        before = line[max(end, found.start() - MAX_NAME_LENGTH) : found.start()]
        counted, _, before = before.rpartition("]")  # `Test: [50/79]`: differs in every line
        end = found.end()
        context = _free_split(before) or _split_before_counter(counted) or context
        name, wants_split = _name_before(before)
        if not name:
            continue
        mean = found["mean"]
        if mean and _is_change(mean, found["value"]):
            mean = None
        value = float(mean or found["value"])
        if found["whole"] is not None:  # 9826/10000 correct answers; after a loss, a counter
            if float(found["whole"]) == 0 or meaning(name).kind not in ("accuracy", "error"):
                continue
            value = float(found["value"]) / float(found["whole"])
        elif found["percent"]:
            value = percentage(found["value"]) or value / 100
        named = f"{context}/{name}" if context and wants_split else name
        values.append(Value(named, value, bool(mean), bool(found["percent"])))
    if not values and (values := _values_first(line, split)):
        return values, split
    if any(part in line for part in BAR_PARTS) and KERAS_BAR.search(line):
        values = [value._replace(running=True) for value in values]
    if not values and len(line) >= MAX_HEADING_LENGTH:
        return values, split
    return values, _free_split(line[max(end, len(line) - MAX_NAME_LENGTH) :]) or context


def _is_change(mean: str, value: str) -> bool:
    """Whether the number in brackets is a change, such as `26.6 (+0.31)`, and not a mean."""
    return mean.startswith("+") or (mean.startswith("-") and not value.startswith("-"))


def _values_first(line: str, context: str) -> list[Value]:
    """The values as in `_values`, of a line that has each name after its value."""
    values, end = [], 0
    for found in VALUE_FIRST.finditer(line):
        context = _free_split(line[max(end, found.start() - MAX_NAME_LENGTH) : found.start()]) or (
            context
        )
        end = found.end()
        name, wants_split = _name_before(found["name"])
        if name:
            percent = percentage(found["value"]) if found["percent"] else None
            value = float(found["value"]) if percent is None else percent
            named = f"{context}/{name}" if context and wants_split else name
            values.append(Value(named, value, signed=percent is not None))
    return values


@lru_cache(maxsize=4096)  # the same words stand before the numbers of every line
def _name_before(text: str) -> tuple[str, bool]:
    """The name of a curve or learning rate at the end of a text, and whether it lacks a split."""
    found = NAME.search(text)
    if not found or (PROSE | DATES) & set(words_of(found[1])) or names_two_splits(found[1]):
        return "", False
    if METHOD_CALL.search(found[1]):
        return "", False
    name = NUMBERED.sub("", found[1])
    known = meaning(name)
    if known.kind not in CURVES and known.kind != "lr":
        return "", False
    return name, not known.split and known.kind != "lr"


@lru_cache(maxsize=4096)
def _free_split(text: str) -> str:
    """The last split word in a text that is not part of a longer name."""
    return str((FREE_SPLIT.findall(text) or [""])[-1]).lower()


def _split_before_counter(text: str) -> str:
    """The split in `Test: [50/79`, or in a tag such as `[valid`."""
    outside, _, inside = text.partition("[")
    return _free_split(outside) or (_free_split(inside) if inside.strip().isalpha() else "")


def _name_second_of_two(state: _State) -> bool:
    """Name the second of two equal lines per epoch as validation; False where that is not so.

    Some scripts print the same line after training and after validation. Only its decimals may
    differ: what a script prints for every hundredth batch also counts these.
    """
    if any(meaning(name).split for name in {name for row in state.rows for name in row}):
        return False
    epochs = len({row.get("epoch") for row in state.rows})
    if len(state.rows) > MAX_LINES * epochs:
        return False
    together: dict[tuple[float, str], list[dict[str, float]]] = {}
    for row, line in zip(state.rows, state.lines, strict=True):
        if "epoch" in row and has_curves(row):
            form = DECIMALS.sub("", line)
            together.setdefault((row["epoch"], form), []).append(row)
    twice = [
        rows[1]
        for rows in together.values()
        if len(rows) == 2 and rows[0] != rows[1]  # equal: logged twice
    ]
    if len(twice) < max(MIN_POINTS, MIN_TWICE * len(together)):
        return False
    for row in twice:
        for name in [name for name in row if has_curves([name])]:
            row[f"val/{name}"] = row.pop(name)
    return True


def _counted(rows: list[dict[str, float]]) -> list[dict[str, float]]:
    """Rows that name neither epoch nor step, with a count.

    Each further value of a name counts as one more epoch. Where that would give names of very
    different lengths, as those of training and of rare evaluations, rows are counted in their
    order.
    """
    seen = Counter(name for row in rows for name in row if has_curves([name]))
    lengths = [count for count in seen.values() if count >= MIN_POINTS]
    if lengths and max(lengths) > UNEQUAL * min(lengths):
        return [{"step": float(at), **row} for at, row in enumerate(rows, start=1)]
    return sorted(_one_row_each(rows), key=lambda row: row["epoch"])


def _one_row_each(rows: list[dict[str, float]]) -> Iterator[dict[str, float]]:
    """Where no epoch is named, each further value of a name counts as one more epoch."""
    seen: dict[str, int] = {}
    for row in rows:
        for name, value in row.items():
            seen[name] = seen.get(name, 0) + 1
            yield {"epoch": float(seen[name]), name: value}
