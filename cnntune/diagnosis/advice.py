"""What to change after a diagnosis: the lecture's advice, in its order, one line per change.

Where the value of a recipe key is known, a line names the key, that value and the one to try;
otherwise it gives the advice in general words.
"""

import math
import numbers
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cnntune.config.combinations import conflicts
from cnntune.errors import RecipeError

Settings = Mapping[str, Any]

MAX_WEIGHT_DECAY = 1e-2  # the top of the usual search range; beyond it networks stop fitting
MAX_DROPOUT = 0.5  # of activations; Srivastava et al. 2014 find no gain beyond it
MILD_DECAY = 1e-4  # CS231n's "small weight decay": lowering it further has no effect
MILD_DROPOUT = 0.05  # of activations
LABEL_SMOOTHING = 0.1  # Szegedy et al. 2016, and the default of most recipes since
CROP_PADDING = 4  # pixels; He et al. 2016 for 32x32 images
DIGITS_SIDE = 8  # pixels
GRAD_CLIP = 1.0  # gradient norm; Pascanu et al. 2013 suggest about the average norm
EPOCHS_FACTOR = 2.0  # for a run that still improves, as in the Deep Learning Tuning Playbook


@dataclass(frozen=True)
class Change:
    """A change of a recipe key, and the same advice in general words if its value is unknown.

    `new_value` maps the present value to the one to try, or to None where the change has been made
    already; a value of another type than `kind` comes from an edited file and counts as unknown.
    """

    key: str
    general: str
    new_value: Callable[[Any], Any]
    kind: type = numbers.Real


def _up_to(limit: float, factor: float, start: float) -> Callable[[float], float | None]:
    """Multiply by `factor`, from `start` if it is 0, up to `limit`.

    Not where the limit leaves less than half of the change, by the logarithm: it would do nothing.
    """

    def new_value(value: float) -> float | None:
        near = value * math.sqrt(factor) > limit
        return None if near else min(limit, value * factor if value else start)

    return new_value


def _from_zero(value: float) -> Callable[[float], float | None]:
    """Turn a setting on at `value`; one that is on already stays as it is."""
    return lambda present: value if present == 0 else None


def _times(factor: float, *, above: float = 0.0) -> Callable[[float], float | None]:
    """Multiply a value above `above`; below it the setting has hardly any effect."""
    return lambda present: present * factor if present > above else None


def _whole_times(factor: float) -> Callable[[int], int]:
    """Multiply a count, rounded up."""
    return lambda present: -int(-present * factor // 1)


MORE_AUGMENTATION = Change(
    "augment.crop",
    "augment the training data; for images: random crops, flips, colour",
    _from_zero(CROP_PADDING),
)
MORE_WEIGHT_DECAY = Change(
    "train.weight_decay", "raise the weight decay tenfold", _up_to(MAX_WEIGHT_DECAY, 10, 1e-4)
)
MORE_DROPOUT = Change(
    "model.dropout", "add dropout before the classifier", _up_to(MAX_DROPOUT, 2, 0.2)
)
MORE_SMOOTHING = Change(
    "train.label_smoothing", "smooth the labels by 0.1", _from_zero(LABEL_SMOOTHING)
)
LESS_WIDTH = Change("model.width", "use a smaller network, or a pretrained one", _whole_times(0.5))
MORE_WIDTH = Change("model.width", "use a larger network, or a pretrained one", _whole_times(2))
LESS_WEIGHT_DECAY = Change(
    "train.weight_decay", "lower the weight decay tenfold", _times(0.1, above=MILD_DECAY)
)
LESS_DROPOUT = Change("model.dropout", "halve the dropout", _times(0.5, above=MILD_DROPOUT))
MORE_EPOCHS = Change(
    "train.epochs", "train twice as long, with the schedule stretched", _whole_times(EPOCHS_FACTOR)
)
FEWER_EPOCHS = Change(
    "train.epochs", "halve the epochs: the second half gained next to nothing", _whole_times(0.5)
)
HIGHER_LR = Change("train.lr", "raise the learning rate threefold", _times(3))
LOWER_LR = Change("train.lr", "lower the learning rate threefold", _times(1 / 3))
MUCH_LOWER_LR = Change("train.lr", "lower the learning rate tenfold", _times(0.1))
WARM_UP = Change("train.warmup_epochs", "warm up the learning rate over an epoch", _from_zero(1))
CLIP = Change("train.grad_clip", "clip the gradient norm at 1", _from_zero(GRAD_CLIP))
DECAY_LR = Change(
    "train.schedule",
    "decay the learning rate over the run, such as by a cosine",
    lambda present: "cosine" if present == "constant" else None,
    str,
)

# With the command that trains after `--` where a recipe of ours did not write the log.
SWEEP = "find a learning rate that lowers the loss: run `cnntune lr-sweep`"
FIT_A_FEW = "see whether the network can fit a few samples at all: run `cnntune sanity`"
FIND_NAN = "check inputs, labels and loss for NaN or infinity: run `cnntune sanity`"
WORDS = "command.words"  # of the settings: a search over a command
COMMAND = "COMMAND"  # of a log of which only the reader knows it

ADVICE: dict[str, tuple[Change | str, ...]] = {
    "diverged": (
        MUCH_LOWER_LR,
        WARM_UP,
        CLIP,
        FIND_NAN,
    ),
    "oscillating": (LOWER_LR, DECAY_LR, WARM_UP, CLIP),
    "stuck": (SWEEP, FIT_A_FEW),
    "stuck-slow": (SWEEP, HIGHER_LR, FIT_A_FEW),
    "stuck-above": (SWEEP, LOWER_LR, FIT_A_FEW),
    "guessing": (SWEEP, FIT_A_FEW),
    "too-weak": (MORE_WIDTH, LESS_WEIGHT_DECAY, LESS_DROPOUT, HIGHER_LR, MORE_EPOCHS),
    "overfitting": (
        MORE_AUGMENTATION,
        MORE_WEIGHT_DECAY,
        MORE_DROPOUT,
        "collect more training data",
        LESS_WIDTH,
    ),
    "over-confident": (MORE_SMOOTHING, MORE_WEIGHT_DECAY),
    "still-improving": (MORE_EPOCHS,),
    "converged": (DECAY_LR, "spend further time on the search, not on more epochs"),
    "converged-early": (DECAY_LR, FEWER_EPOCHS),
    "converged-with-gap": (MORE_AUGMENTATION, MORE_WEIGHT_DECAY, DECAY_LR),
    "too-short": ("train longer, or evaluate more often, before judging: from 5 points on",),
}


def advice_for(problem: str, settings: Settings | None) -> list[str]:
    """One line per change for a key of `ADVICE`; `settings` maps flat recipe keys to values.

    Changes that the recipe already has, or that its validation would reject, are left out.
    """
    lines = [
        _as_typed(change, settings) if isinstance(change, str) else _line(change, settings or {})
        for change in ADVICE[problem]
    ]
    return [line for line in lines if line]


def _as_typed(line: str, settings: Settings | None) -> str:
    """A line with the commands in it as they are typed where a recipe of ours is not the source."""
    if "`cnntune " not in line or (settings is not None and WORDS not in settings):
        return line
    command = COMMAND if settings is None else _command_of(settings)
    head, verb, rest = line.partition("`cnntune ")
    name, _, after = rest.partition("`")
    return f"{head}{verb}{name} -- {command}`{after}"


def _command_of(settings: Settings) -> str:
    """The command of a trial as it is typed in a shell, its placeholders filled in."""
    from cnntune.config.command import stored  # loads pydantic, which other logs do not need
    from cnntune.config.recipe import set_key

    values: dict[str, Any] = {}
    try:
        for key, value in settings.items():
            set_key(values, key, value)
        return shlex.join(stored(values, file="config.json").words())
    except (RecipeError, KeyError, TypeError):  # the file was edited
        return COMMAND


@dataclass(frozen=True)
class Prescription:
    """A change of a recipe key that the advice asks for, and the line that asks for it."""

    key: str
    before: Any
    after: Any
    line: str


def prescriptions(problem: str, settings: Settings | None) -> list[Prescription]:
    """The changes of recipe keys in the advice, first one first; empty if no setting is known."""
    found = []
    for change in ADVICE[problem]:
        present = None if isinstance(change, str) else (settings or {}).get(change.key)
        if isinstance(change, str) or settings is None or not isinstance(present, change.kind):
            continue
        wanted = _wanted(change, settings)
        if wanted is not None:
            after = wanted if isinstance(wanted, str | int) else float(f"{wanted:.3g}")
            found.append(Prescription(change.key, present, after, _line(change, settings)))
    return found


def _wanted(change: Change, settings: Settings) -> Any:
    """The value to try; None where there is no further one, or the recipe would reject it."""
    present = settings[change.key]
    wanted = change.new_value(present)
    if change is MORE_AUGMENTATION and wanted is not None:
        wanted = _crop_padding(settings)
    return None if wanted == present or conflicts({**settings, change.key: wanted}) else wanted


def _crop_padding(settings: Settings) -> int:
    """4 pixels, but at most an eighth of the image side, the ratio in He et al. 2016."""
    side = DIGITS_SIDE if settings.get("data.name") == "digits" else settings.get("data.image_size")
    return CROP_PADDING if not isinstance(side, int) else max(1, min(CROP_PADDING, side // 8))


def _line(change: Change, settings: Settings) -> str:
    present = settings.get(change.key)
    if not isinstance(present, change.kind):
        return change.general
    wanted = _wanted(change, settings)
    if wanted is None:
        return ""
    if isinstance(present, str) or present == 0:
        return f"set {change.key} to {_text(wanted)} (now {_text(present)})"
    verb = "raise" if wanted > present else "lower"
    return f"{verb} {change.key} from {_text(present)} towards {_text(wanted)}"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:.3g}"
