"""The result of a run, as `summary.json` keeps it."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from cnntune.runs.chance import Chance
from cnntune.runs.run import Epoch, best_epoch, logged, score_of

# `running` has no summary.json yet; `dropped` is a trial that another machine took over.
Status = Literal["complete", "pruned", "diverged", "failed", "running", "dropped"]
ENDED = ("complete", "pruned", "diverged", "failed")  # the statuses in a summary.json
# `kind` of every CnntuneError, then a killed worker, a bug in cnntune, and a file without a kind.
FailureKind = Literal[
    "user-error",
    "recipe",
    "data",
    "device",
    "study",
    "user-code",
    "out-of-memory",
    "killed",
    "bug",
    "unknown",
]
# What the user can fix, after which the trial may well be trained: nothing about its values.
USER_ERRORS: tuple[FailureKind, ...] = (
    "user-error",
    "recipe",
    "data",
    "device",
    "study",
    "user-code",
)
TRACEBACK = "Traceback"  # start of a Python traceback, whose last line is the error
RESULTS = ("val_acc", "val_loss", "train_acc", "train_loss")  # in the order of `score_of`
FAILURE_KINDS: tuple[FailureKind, ...] = get_args(FailureKind)


@dataclass(frozen=True)
class Failure:
    """Why a run could not be trained: a word for programs, and the message or the traceback."""

    kind: FailureKind
    message: str

    @property
    def by_user(self) -> bool:
        """Whether the user's code or recipe is the cause, and neither memory nor a bug of ours."""
        return self.kind in USER_ERRORS

    @property
    def line(self) -> str:
        """The message as one line: the error that a traceback ends with, or the first line.

        Below what the user's code raised stands where it was.
        """
        first, *rest = self.message.strip().splitlines() or ["no message"]
        if not rest:
            return first
        if first.startswith(TRACEBACK):
            return rest[-1]
        return f"{first} ({rest[-1].strip()})" if self.by_user else first

    @classmethod
    def of(cls, kind: object, message: object) -> "Failure":
        """`unknown` where an old version wrote no kind, or a later one a kind of its own."""
        known: FailureKind = next((one for one in FAILURE_KINDS if one == kind), "unknown")
        return cls(known, str(message))


@dataclass(frozen=True)
class Ranked:
    """The number that ranks the trials of a command, under the name and in the unit of its log.

    `value` is that of the best epoch; that of any score is `times` x score + `plus`.
    """

    name: str
    value: float
    times: float = 1.0
    plus: float = 0.0

    def of(self, score: float) -> float:
        """A score in the unit of the log."""
        return self.times * score + self.plus

    @classmethod
    def read(cls, document: object) -> "Ranked | None":
        """What a document holds; None where it holds something else."""
        if not isinstance(document, Mapping) or not isinstance(document.get("name"), str):
            return None
        numbers = {key: document.get(key) for key in ("value", "times", "plus")}
        if not all(isinstance(value, int | float) for value in numbers.values()):
            return None
        return cls(document["name"], **{key: float(value or 0.0) for key, value in numbers.items()})


@dataclass(frozen=True)
class Summary:
    """The result of a run, its fields in the order of the keys of `summary.json`.

    Losses (nats) and accuracies (0..1) are those of the best epoch. A number that is not known is
    None; `val_loss` is NaN where the file has none.
    """

    status: Status
    epochs: int = 0  # trained
    best_epoch: int | None = None
    train_loss: float | None = None
    train_acc: float | None = None
    val_loss: float | None = None
    val_acc: float | None = None
    error: Failure | None = None
    parameters: int | None = None
    chance_acc: float | None = None  # see `Chance`
    chance_loss: float | None = None
    val_images: int | None = None
    waited_seconds: float | None = None  # for images
    seconds: float | None = None
    metric: str | None = None  # of a command: what it is ranked by, and where that was read
    ranked: Ranked | None = None  # of a command whose metric is no plain loss or accuracy

    @classmethod
    def failed(cls, kind: str, message: str) -> "Summary":
        """The summary of a run that could not be trained."""
        return cls("failed", error=Failure.of(kind, message))

    @property
    def chance(self) -> Chance | None:
        """What guessing gives on the run's validation set; None where the summary lacks it."""
        return Chance.in_summary(asdict(self))

    @property
    def score(self) -> float:
        """What the run is ranked by, see `score_of`; minus infinity where it has no result."""
        loss = self.val_loss
        known = None if loss is None or math.isnan(loss) else loss
        return score_of(self.val_acc, known, self.train_acc, self.train_loss)

    @property
    def ranks(self) -> bool:
        """Whether the accuracy counts: the run was trained whole or pruned."""
        return self.status in ("complete", "pruned")

    def to_json(self) -> dict[str, Any]:
        """The document that `summary.json` holds, without what is not known."""
        document: dict[str, Any] = {}
        for key, value in vars(self).items():
            if isinstance(value, Failure):
                document["error"] = value.message
                if value.kind != "unknown":
                    document["error_kind"] = value.kind
            elif isinstance(value, Ranked):
                document[key] = vars(value)
            elif value is not None or key == "best_epoch":
                document[key] = value
        return document

    @classmethod
    def from_json(cls, document: Mapping[str, Any] | None) -> "Summary | None":
        """The summary that a document holds; None where it lacks what trials are compared by.

        A loss that is missing, or that JSON cannot hold, is NaN. Other keys, such as those of a
        final test, are left to whoever reads the document itself.
        """
        if not document or document.get("status") not in ENDED:
            return None
        known = {key: document[key] for key in cls.__dataclass_fields__ if key in document}
        known.pop("error", None)
        known["ranked"] = Ranked.read(document.get("ranked"))
        if document["status"] == "failed":
            error = Failure.of(document.get("error_kind"), document.get("error", ""))
            return cls(**known, error=error)
        if document["status"] == "diverged":
            return cls(**known)
        results = [document.get(key) for key in RESULTS]
        if not all(value is None or isinstance(value, int | float) for value in results):
            return None
        if not isinstance(document.get("epochs"), int | float) or score_of(*results) == -math.inf:
            return None
        loss = document.get("val_loss")
        return cls(**known | {"val_loss": math.nan if loss is None else loss})


def summarise(rows: list[Epoch], chance: Chance | None = None) -> Summary:
    """The result of a run: its best epoch, or that it diverged.

    It diverged where its last loss is no finite number, or so far above that of guessing that there
    is no way back (`Chance.hopeless`). This is decided here alone, once, when the run ends.
    """
    best = best_epoch(rows)
    if best is None or (chance and chance.hopeless(rows[-1].val_loss, rows[-1].val_acc)):
        return Summary("diverged", len(rows))
    return Summary(
        "complete",
        len(rows),
        best.epoch,
        train_loss=logged(best.train_loss),
        train_acc=logged(best.train_acc),
        val_loss=logged(best.val_loss),
        val_acc=logged(best.val_acc),
    )
