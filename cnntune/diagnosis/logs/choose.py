"""Which columns of a record are its curves; guesses are noted."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

from cnntune.diagnosis.curve import MIN_POINTS
from cnntune.diagnosis.logs.names import (
    CURVES,
    FAR_FROM_ACCURACY,
    REGRESSION_RANK,
    Kind,
    Meaning,
    Split,
    is_adversarial,
    is_of_gan,
    meaning,
)
from cnntune.diagnosis.logs.record import Point, Record

RATES: frozenset[Kind] = frozenset({"accuracy", "error"})
HELD_OUT = ("val", "test")
# XGBoost names the sets in `eval_set` by their index.
EVALUATION_SET = re.compile(r"validation_(?P<index>\d+)(?P<metric>[-/_].+)")
FIRST_OF_TWO = (
    "the first of two sets in XGBoost's eval_set, which is most often the training set;"
    " it also has the better values"
)
COMPONENT_RANK = 1  # of a loss with one more word, such as `box_loss`
MAX_LISTED = 5  # columns named in a remark


@dataclass(frozen=True)
class Choice:
    """The columns of each role, and what was guessed about them.

    Roles are `train_loss`, `val_loss`, `train_acc`, `val_acc`, `lr` and `epoch`. Several columns of
    a loss are components to be summed. `errors` are the accuracies that were logged as errors.
    """

    columns: dict[str, tuple[str, ...]] = field(default_factory=dict)
    errors: frozenset[str] = frozenset()
    guesses: tuple[str, ...] = ()


@dataclass(frozen=True)
class Candidate:
    """A column, the meaning of its name, and its split, perhaps guessed from other columns."""

    name: str
    meaning: Meaning
    points: int
    split: Split
    guess: str = ""


def choose(record: Record, mapping: Mapping[str, str] | None = None) -> Choice:
    """The columns that are the curves of a record; `mapping` names some of them, by role."""
    given = {role: name for role, name in (mapping or {}).items() if name in record.columns}
    known = {name: meaning(name) for name, points in record.columns.items() if points}
    gan = _gan_losses(record, known)
    known = {name: its for name, its in known.items() if name not in gan}
    candidates = [
        column for column in _candidates(record, known) if column.name not in given.values()
    ]
    chosen: dict[str, Candidate] = {}
    for short, kinds in (("loss", frozenset[Kind]({"loss"})), ("acc", RATES)):
        found = [column for column in candidates if column.meaning.kind in kinds]
        if "val_loss" in chosen:
            found = [column for column in found if column.meaning.rank < FAR_FROM_ACCURACY]
        held_out = _best_held_out(found)
        partner = held_out.meaning.base if held_out else None
        train = _best([column for column in found if column.split == "train"], partner)
        chosen |= {
            f"{split}_{short}": column
            for split, column in (("train", train), ("val", held_out))
            if column is not None
        }
    for kind in ("lr", "epoch"):
        if column := _best([column for column in candidates if column.meaning.kind == kind]):
            chosen[kind] = column
    columns: dict[str, tuple[str, ...]] = {role: (column.name,) for role, column in chosen.items()}
    columns |= _loss_components(record, candidates, chosen)
    errors = {role for role, column in chosen.items() if column.meaning.kind == "error"}
    for role, name in given.items():
        accuracy = role.replace("_err", "_acc")
        columns[accuracy] = (name,)
        errors = errors | {accuracy} if role != accuracy else errors - {role}
    guesses = [
        f"{role} is taken from {column.name!r}, {column.guess}"
        for role, column in chosen.items()
        if column.guess and columns[role] == (column.name,) and role not in given
    ]
    remarks = [*_others_like(candidates, columns, given)]
    if "val_loss" not in columns:
        remarks += _bare_losses(record, candidates, chosen.get("train_loss"))
    if gan := [name for name in gan if name not in given.values()]:
        remarks.append(
            f"{_listed(gan)}: the losses of a generator and its discriminator do not"
            " measure progress; map a metric such as a validation loss with --map"
        )
    return Choice(columns, frozenset(errors), (*guesses, *remarks))


def _gan_losses(record: Record, known: Mapping[str, Meaning]) -> list[str]:
    """The losses of the networks of a GAN, each of which falls as the other gets worse."""
    losses = [
        name
        for name, its in known.items()
        if its.kind == "loss" and _distinct(record.columns[name]) >= MIN_POINTS
    ]
    if not is_adversarial(losses):
        return []
    of_networks = [record.columns[name] for name in losses if is_of_gan(name)]
    # some tools log the loss of a network under a second name
    return [name for name in losses if is_of_gan(name) or record.columns[name] in of_networks]


def _others_like(
    candidates: Sequence[Candidate],
    columns: Mapping[str, Sequence[str]],
    given: Mapping[str, str],
) -> Iterator[str]:
    """A remark where several validation sets were logged alike, and one of them was chosen."""
    by_name = {column.name: column for column in candidates}
    for role in ("val_loss", "val_acc"):
        name, *more = columns.get(role, ("",))
        chosen = by_name.get(name)
        if more or role in given or chosen is None:
            continue
        others = [
            column.name
            for column in candidates
            if column.name != chosen.name
            and (column.meaning.kind, column.split) == (chosen.meaning.kind, chosen.split)
            and column.meaning.rank == chosen.meaning.rank
            and column.points >= MIN_POINTS
        ]
        if others:
            yield f"{role} is {chosen.name!r}; also logged: {_listed(others)}"


def _bare_losses(
    record: Record, candidates: Sequence[Candidate], chosen: Candidate | None
) -> Iterator[str]:
    """A remark on losses that were not used, though one could be the validation loss.

    A less direct name that was logged together with the train loss is a part of it.
    """
    if chosen is None:
        return
    steps = [step for step, _ in record.columns[chosen.name]]
    others = [
        column.name
        for column in candidates
        if column.meaning.kind == "loss"
        and not (column.meaning.split or column.meaning.batch)
        and column.meaning.rank < REGRESSION_RANK
        and column.name != chosen.name
        and column.points >= MIN_POINTS
        and (
            column.meaning.rank == chosen.meaning.rank
            or [step for step, _ in record.columns[column.name]] != steps
        )
    ]
    if others:
        yield f"not used, since the name does not say the split: {_listed(others)}; see --map"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:MAX_LISTED])) + ", ..." * (len(names) > MAX_LISTED)


def _candidates(record: Record, known: Mapping[str, Meaning]) -> list[Candidate]:
    """The columns as candidates; columns with few points do not decide how others are read."""
    points = {name: _distinct(record.columns[name]) for name in known}
    enough = {
        name: its
        for name, its in known.items()
        # evaluations may be few, but a single one is a summary
        if points[name] >= (2 if its.split in HELD_OUT else MIN_POINTS)
    }
    found = []
    first = _first_of_two_sets(record, enough)
    for name, its in known.items():
        split, guess = _split(name, record, enough if points[name] >= MIN_POINTS else known)
        if name in first:
            split, guess = "train", FIRST_OF_TWO
        found.append(Candidate(name, its, points[name], split, guess))
    return found


def _first_of_two_sets(record: Record, known: Mapping[str, Meaning]) -> frozenset[str]:
    """The columns of XGBoost's `validation_0`, where that is likely to be the training set.

    That is so beside `validation_1` alone, with better values at the end in a shared metric.
    """
    found = {name: its for name in known if (its := EVALUATION_SET.fullmatch(name))}
    if {its["index"] for its in found.values()} != {"0", "1"} or any(
        its.split == "train" for its in known.values()
    ):
        return frozenset()
    first = {name for name, its in found.items() if its["index"] == "0"}
    for name in first:
        other = f"validation_1{found[name]['metric']}"
        if other in found and known[name].kind in CURVES:
            lead = record.columns[other][-1][1] - record.columns[name][-1][1]
            if lead > 0 if known[name].kind != "accuracy" else lead < 0:
                return frozenset(first)
    return frozenset()


def _distinct(points: Sequence[Point]) -> int:
    """The number of epochs or steps with a value."""
    return len({step for step, _ in points})


def _split(name: str, record: Record, known: Mapping[str, Meaning]) -> tuple[Split, str]:
    """The split of a column, and how it was guessed where its name does not say it."""
    own = known[name]
    if own.split or own.kind not in CURVES:
        return own.split, ""
    if own.kind == "loss":
        return ("" if _names(known, {"loss"}, "train") else "train"), ""
    if record.bare:
        return record.bare, ""
    if any(other.split in HELD_OUT and other.base == own.base for other in known.values()):
        return "train", ""
    if beside := _beside(name, record, known):
        return beside, "which names no split but was logged together with others of this split"
    if _names(known, RATES, *HELD_OUT):
        return "train", "since validation has a separate column"
    if _names(known, CURVES, *HELD_OUT) or _names(known, CURVES, "train"):
        return "val", "which names no split: most scripts log this for the validation set"
    return "train", ""


def _names(known: Mapping[str, Meaning], kinds: Collection[str], *splits: str) -> bool:
    return any(other.kind in kinds and other.split in splits for other in known.values())


def _beside(name: str, record: Record, known: Mapping[str, Meaning]) -> Split:
    """The split whose columns were logged at the same steps; empty if neither or both were."""
    steps = [step for step, _ in record.columns[name]]
    others: dict[Split, list[list[float]]] = {"train": [], "val": []}
    for other, its in known.items():
        bare_loss = its.kind == "loss" and not its.split
        if other != name and its.kind in CURVES and (its.split or bare_loss):
            split: Split = "train" if its.split == "train" or bare_loss else "val"
            others[split].append([step for step, _ in record.columns[other]])
    train, val = (steps in others[split] for split in ("train", "val"))
    if train == val:
        train, val = (_mostly_in(steps, others[split]) for split in ("train", "val"))
    if train == val:
        return ""
    return "train" if train else "val"


def _mostly_in(steps: Sequence[float], others: Sequence[Sequence[float]]) -> bool:
    logged = set(chain.from_iterable(others))
    return sum(step in logged for step in steps) * 2 > len(steps)


def _best_held_out(found: Sequence[Candidate]) -> Candidate | None:
    """The validation column, or that of the test set where only it has enough points."""
    val, test = (_best([column for column in found if column.split == s]) for s in HELD_OUT)
    if val is None or (test is not None and val.points < MIN_POINTS <= test.points):
        return test
    return val


def _best(found: Sequence[Candidate], partner: str | None = None) -> Candidate | None:
    """The column of lowest rank, among those with enough points and a base of `partner` if any."""
    return min(
        found,
        key=lambda column: (
            column.points < MIN_POINTS,
            partner is not None and column.meaning.base != partner,
            column.meaning.rank,
            len(column.meaning.base.split()),  # `loss` before `loss_0`, one of its parts
            -column.points,
        ),
        default=None,
    )


def _loss_components(
    record: Record, candidates: Sequence[Candidate], chosen: Mapping[str, Candidate]
) -> dict[str, tuple[str, ...]]:
    """The losses to sum where train and val log components and no total, as YOLO does."""
    losses = [chosen.get(role) for role in ("train_loss", "val_loss")]
    if any(loss is None or loss.meaning.rank != COMPONENT_RANK for loss in losses):
        return {}
    components: dict[str, dict[str, str]] = {"train": {}, "val": {}}
    for column in candidates:
        if column.meaning.kind == "loss" and column.meaning.rank == COMPONENT_RANK:
            components.get(column.split, {}).setdefault(column.meaning.base, column.name)
    shared = [base for base in components["train"] if base in components["val"]]
    distinct: dict[str, str] = {}
    for base in shared:  # the same numbers under a second name are no further component
        both = [record.columns[names[base]] for names in components.values()]
        distinct.setdefault(repr(both), base)
    shared = list(distinct.values())
    if len(shared) < 2:
        return {}
    return {
        f"{split}_loss": tuple(names[base] for base in shared)
        for split, names in components.items()
    }
