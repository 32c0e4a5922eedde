"""Which columns of a record are its curves; guesses are noted."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

from cnntune.diagnosis.curve import MIN_POINTS
from cnntune.diagnosis.logs.names import CURVES, Kind, Meaning, Split, meaning
from cnntune.diagnosis.logs.record import Record

# What `--map` may name: a curve, an error rate instead of an accuracy, the lr, the epoch.
ROLES = (
    *("train_loss", "val_loss", "train_acc", "val_acc"),
    *("train_err", "val_err", "lr", "epoch"),
)
RATES: frozenset[Kind] = frozenset({"accuracy", "error"})
HELD_OUT = ("val", "test")
COMPONENT_RANK = 1  # of a loss with one more word, such as `box_loss`


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
    """The columns that are the curves of a record; `mapping` names columns for some of `ROLES`."""
    given = {role: name for role, name in (mapping or {}).items() if name in record.columns}
    known = {name: meaning(name) for name, points in record.columns.items() if points}
    candidates = [_candidate(name, record, known) for name in known if name not in given.values()]
    chosen: dict[str, Candidate] = {}
    for short, kinds in (("loss", frozenset[Kind]({"loss"})), ("acc", RATES)):
        found = [column for column in candidates if column.meaning.kind in kinds]
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
    columns |= _loss_components(candidates, chosen)
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
    return Choice(columns, frozenset(errors), tuple(guesses))


def _candidate(name: str, record: Record, known: Mapping[str, Meaning]) -> Candidate:
    split, guess = _split(name, record, known)
    return Candidate(name, known[name], len(record.columns[name]), split, guess)


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
            -column.points,
        ),
        default=None,
    )


def _loss_components(
    candidates: Sequence[Candidate], chosen: Mapping[str, Candidate]
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
    if len(shared) < 2:
        return {}
    return {
        f"{split}_loss": tuple(names[base] for base in shared)
        for split, names in components.items()
    }
