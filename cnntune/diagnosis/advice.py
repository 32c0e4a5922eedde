"""What to change after a diagnosis: the lecture's cures, in its order, as one-line advice.

Where the value of a recipe key is known, a line names the key, that value and the one to try; where
it is not, the line gives the general cure.
"""

import numbers
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cnntune.config.combinations import conflicts

Settings = Mapping[str, Any]

MAX_WEIGHT_DECAY = 1e-2  # the top of the usual search range; beyond it networks stop fitting
MAX_DROPOUT = 0.5  # of activations; Srivastava et al. 2014 find no gain beyond it
MILD_DECAY = 1e-4  # CS231n's "small weight decay": it holds nothing back
MILD_DROPOUT = 0.05  # of activations
LABEL_SMOOTHING = 0.1  # Szegedy et al. 2016, and the default of most recipes since
CROP_PADDING = 4  # pixels; He et al. 2016 for 32x32 images
DIGITS_SIDE = 8  # pixels
GRAD_CLIP = 1.0  # gradient norm; Pascanu et al. 2013 suggest about the average norm
EPOCHS_FACTOR = 2.0  # a run that still improves: the tuning playbook doubles before it judges


@dataclass(frozen=True)
class Cure:
    """One change: of a recipe key where its value is known, in general words where it is not.

    `change` maps the present value to the wanted one, or to None where the cure is used up; a value
    of another type than `kind` comes from an edited file and counts as not known.
    """

    key: str
    general: str
    change: Callable[[Any], Any]
    kind: type = numbers.Real


def _up_to(limit: float, factor: float, start: float) -> Callable[[float], float | None]:
    """Multiply by `factor`, from `start` if it is 0, and never beyond `limit`."""

    def change(value: float) -> float | None:
        return None if value >= limit else min(limit, value * factor if value else start)

    return change


def _from_zero(value: float) -> Callable[[float], float | None]:
    """Switch a setting on at `value`; one that is on already is left alone."""
    return lambda present: value if present == 0 else None


def _times(factor: float, *, least: float = 0.0) -> Callable[[float], float | None]:
    """Multiply what is above `least`; below it the setting has no effect to speak of."""
    return lambda present: present * factor if present > least else None


def _whole_times(factor: float) -> Callable[[int], int]:
    """Multiply a count, rounded up."""
    return lambda present: -int(-present * factor // 1)


MORE_AUGMENTATION = Cure(
    "augment.crop",
    "augment the training images: random crops, flips, colour",
    _from_zero(CROP_PADDING),
)
MORE_WEIGHT_DECAY = Cure(
    "train.weight_decay", "raise the weight decay tenfold", _up_to(MAX_WEIGHT_DECAY, 10, 1e-4)
)
MORE_DROPOUT = Cure(
    "model.dropout", "add dropout before the classifier", _up_to(MAX_DROPOUT, 2, 0.2)
)
MORE_SMOOTHING = Cure(
    "train.label_smoothing", "smooth the labels by 0.1", _from_zero(LABEL_SMOOTHING)
)
LESS_WIDTH = Cure("model.width", "use a smaller network, or a pretrained one", _whole_times(0.5))
MORE_WIDTH = Cure("model.width", "use a larger network, or a pretrained one", _whole_times(2))
LESS_WEIGHT_DECAY = Cure(
    "train.weight_decay", "lower the weight decay tenfold", _times(0.1, least=MILD_DECAY)
)
LESS_DROPOUT = Cure("model.dropout", "halve the dropout", _times(0.5, least=MILD_DROPOUT))
MORE_EPOCHS = Cure(
    "train.epochs", "train twice as long, with the schedule stretched", _whole_times(EPOCHS_FACTOR)
)
FEWER_EPOCHS = Cure(
    "train.epochs", "halve the epochs: the second half gained next to nothing", _whole_times(0.5)
)
HIGHER_RATE = Cure("train.lr", "raise the learning rate threefold", _times(3))
LOWER_RATE = Cure("train.lr", "lower the learning rate threefold", _times(1 / 3))
MUCH_LOWER_RATE = Cure("train.lr", "lower the learning rate tenfold", _times(0.1))
WARM_UP = Cure("train.warmup_epochs", "warm the learning rate up over an epoch", _from_zero(1))
CLIP = Cure("train.grad_clip", "clip the gradient norm at 1", _from_zero(GRAD_CLIP))
DECAY_RATE = Cure(
    "train.schedule",
    "decay the learning rate over the run, such as by a cosine",
    lambda present: "cosine" if present == "constant" else None,
    str,
)

CURES: dict[str, tuple[Cure | str, ...]] = {
    "diverged": (
        MUCH_LOWER_RATE,
        WARM_UP,
        CLIP,
        "check inputs, labels and loss for what is not finite: run `cnntune sanity`",
    ),
    "oscillating": (LOWER_RATE, DECAY_RATE, WARM_UP, CLIP),
    "stuck": (
        "find a learning rate that lowers the loss: run `cnntune lr-sweep`",
        HIGHER_RATE,
        "see whether the network can fit a few images at all: run `cnntune sanity`",
    ),
    "guessing": (
        "find a learning rate that lowers the loss: run `cnntune lr-sweep`",
        "see whether the network can fit a few images at all: run `cnntune sanity`",
    ),
    "too-weak": (MORE_WIDTH, LESS_WEIGHT_DECAY, LESS_DROPOUT, HIGHER_RATE, MORE_EPOCHS),
    "overfitting": (
        MORE_AUGMENTATION,
        MORE_WEIGHT_DECAY,
        MORE_DROPOUT,
        "collect more training images",
        LESS_WIDTH,
    ),
    "over-confident": (MORE_SMOOTHING, MORE_WEIGHT_DECAY),
    "still-improving": (MORE_EPOCHS,),
    "converged": (DECAY_RATE, "spend further time on the search, not on more epochs"),
    "converged-early": (DECAY_RATE, FEWER_EPOCHS),
    "converged-with-gap": (MORE_AUGMENTATION, MORE_WEIGHT_DECAY, DECAY_RATE),
    "too-short": ("train for at least 3 epochs before judging",),
}


def prescribe(problem: str, settings: Settings | None) -> list[str]:
    """One line a cure for a key of `CURES`; `settings` maps flat recipe keys to values.

    Cures that the recipe already uses, or would refuse, are left out.
    """
    lines = [
        cure if isinstance(cure, str) else _line(cure, settings or {}) for cure in CURES[problem]
    ]
    return [line for line in lines if line]


def first_change(problem: str, settings: Settings | None) -> tuple[str, Any] | None:
    """The first cure that names a key of the recipe, as the key and its new value."""
    for cure in CURES[problem]:
        present = None if isinstance(cure, str) else (settings or {}).get(cure.key)
        if isinstance(cure, str) or settings is None or not isinstance(present, cure.kind):
            continue
        wanted = _wanted(cure, settings)
        if wanted is not None:
            return cure.key, wanted if isinstance(wanted, str | int) else float(f"{wanted:.3g}")
    return None


def _wanted(cure: Cure, settings: Settings) -> Any:
    """The value to try, None where the cure is used up or the recipe would refuse it."""
    present = settings[cure.key]
    wanted = cure.change(present)
    if cure is MORE_AUGMENTATION and wanted is not None:
        wanted = _crop_padding(settings)
    return None if wanted == present or conflicts({**settings, cure.key: wanted}) else wanted


def _crop_padding(settings: Settings) -> int:
    """4 pixels, but at most an eighth of the images' side, as 4 is of He et al.'s."""
    side = DIGITS_SIDE if settings.get("data.name") == "digits" else settings.get("data.image_size")
    return CROP_PADDING if not isinstance(side, int) else max(1, min(CROP_PADDING, side // 8))


def _line(cure: Cure, settings: Settings) -> str:
    present = settings.get(cure.key)
    if not isinstance(present, cure.kind):
        return cure.general
    wanted = _wanted(cure, settings)
    if wanted is None:
        return ""
    if isinstance(present, str) or present == 0:
        return f"set {cure.key} to {_text(wanted)} (now {_text(present)})"
    verb = "raise" if wanted > present else "lower"
    return f"{verb} {cure.key} from {_text(present)} towards {_text(wanted)}"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:.3g}"
