"""How often `diagnose` is right on made-up curves whose label is known by construction.

    python benchmarks/diagnosis/diagnosis_robustness.py [--seeds 40] [--errors]

A family is a shape that real logs show. Each is drawn with many lengths, class counts, levels and
noises; the share of right labels is printed a family and a noise level, a label that a careful
reader would take as well counting as right.
"""

import argparse
import math
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from cnntune.diagnosis.curve import Curve, Values
from cnntune.diagnosis.rules import diagnose

NOISES = (0.0, 0.005, 0.02)  # of the loss at chance, on each value
CLASSES = (2, 3, 4, 10, 100, 1000)
LENGTHS = (12, 20, 30, 60, 100, 200)
NAN = math.nan


class Draw:
    """One set of random numbers that a family is drawn with, and the noise on its values."""

    def __init__(self, seed: int, noise: float) -> None:
        self.random = random.Random(seed)
        self.classes = self.random.choice(CLASSES)
        self.chance = math.log(self.classes)
        self.epochs = self.random.choice(LENGTHS)
        self.noise = noise

    def between(self, low: float, high: float) -> float:
        """Any number from `low` to `high`."""
        return self.random.uniform(low, high)

    def noisy(self, values: list[float], times: float = 1.0) -> list[float]:
        """Noise on each value; a loss that is all but zero stays above zero."""
        size = times * self.noise * self.chance
        return [max(value / 2, value + self.random.gauss(0, size)) for value in values]

    def fall(self, low: float, at_rest: float, epochs: int | None = None) -> list[float]:
        """An exponential fall from chance to the part `low` of it, by e^-7 at part `at_rest`."""
        count = epochs or self.epochs
        speed = 7 / (at_rest * count)
        return [self.chance * (low + (1 - low) * math.exp(-speed * x)) for x in range(count)]

    def accuracy(self, losses: list[float]) -> list[float]:
        """1 - 0.8 x loss / chance, which is quantised as a val set of a few hundred images is."""
        images = self.random.choice((200, 1000, 10000))
        return [
            round(images * min(1.0, max(1 / self.classes, 1 - 0.8 * loss / self.chance))) / images
            for loss in losses
        ]


def curve(
    train: Values = (), val: Values = (), accuracies: tuple[Values, Values] = ((), ())
) -> Curve:
    count = max(map(len, (train, val, *accuracies)))
    return Curve([float(epoch + 1) for epoch in range(count)], train, val, *accuracies)


def healthy(draw: Draw) -> Curve:
    low = draw.between(0.03, 0.3)
    train, val = draw.fall(low, 0.6), draw.fall(low + draw.between(0.0, 0.08), 0.6)
    return curve(draw.noisy(train), draw.noisy(val))


def healthy_with_accuracy(draw: Draw) -> Curve:
    bare = healthy(draw)
    accuracies = draw.accuracy(list(bare.train_loss)), draw.accuracy(list(bare.val_loss))  # type: ignore[arg-type]
    return replace(bare, train_acc=accuracies[0], val_acc=accuracies[1])


def overfitting(draw: Draw) -> Curve:
    best, height = draw.between(0.2, 0.6), draw.between(0.15, 1.0)
    train, val = draw.fall(0.02, 0.8), draw.fall(0.3, best)
    turn = int(best * draw.epochs * 0.7)
    after = max(1, draw.epochs - turn)
    val = [value + draw.chance * height * max(0, x - turn) / after for x, value in enumerate(val)]
    return curve(draw.noisy(train), draw.noisy(val))


def memorised(draw: Draw) -> Curve:
    train, val = draw.fall(0.02, 0.6), draw.fall(draw.between(0.4, 0.7), 0.4)
    return curve(draw.noisy(train), draw.noisy(val))


def stuck(draw: Draw) -> Curve:
    level = [draw.chance] * draw.epochs
    small = draw.noise / 2
    train, val = ([value * (1 + draw.random.gauss(0, small)) for value in level] for _ in range(2))
    return curve(train, val)


def diverging(draw: Draw) -> Curve:
    turn = int(draw.epochs * draw.between(0.2, 0.7))
    growth = draw.between(1.5, 10) ** (4 / (draw.epochs - turn))
    train = draw.fall(0.2, 0.9)
    train = [v if x < turn else train[turn] * growth ** (x - turn + 1) for x, v in enumerate(train)]
    return curve(draw.noisy(train), draw.noisy([1.1 * value for value in train]))


def ends_in_nan(draw: Draw) -> Curve:
    bare, rows = healthy(draw), draw.random.randint(2, 6)
    tail = [NAN] * rows
    return curve([*bare.train_loss[:-rows], *tail], [*bare.val_loss[:-rows], *tail])


def oscillating(draw: Draw) -> Curve:
    size = draw.between(0.3, 0.6)
    swing = [
        draw.chance * (1 + size * (-1) ** x * draw.between(0.7, 1)) for x in range(draw.epochs)
    ]
    return curve(draw.noisy(swing), draw.noisy([1.05 * value for value in swing]))


def still_improving(draw: Draw) -> Curve:
    slow = draw.between(3.0, 6.0)
    train = draw.fall(0.05, slow)
    return curve(draw.noisy(train), draw.noisy([value + 0.02 * draw.chance for value in train]))


def rate_steps(draw: Draw) -> Curve:
    """Two drops of the rate: each ends a plateau, and val rests after the last.

    With fewer than 8 epochs to a rate nobody could tell that the last one rests.
    """
    third = max(8, draw.epochs // 3)
    levels = (0.5, 0.25, 0.18)
    train: list[float] = []
    for level in levels:
        start = train[-1] / draw.chance if train else 1.0
        speed = 7 / third * 2
        train += [
            draw.chance * (level + (start - level) * math.exp(-speed * x)) for x in range(third)
        ]
    return curve(draw.noisy(train), draw.noisy([value + 0.05 * draw.chance for value in train]))


def cyclic_rate(draw: Draw) -> Curve:
    period, base = draw.random.choice((5, 8, 10)), draw.fall(0.2, 0.5)
    size = 0.15 * draw.chance
    val = [
        value + size * (1 - x / draw.epochs) ** 2 * (1 + math.cos(2 * math.pi * x / period)) / 2
        for x, value in enumerate(base)
    ]
    return curve(draw.noisy([0.95 * value for value in val]), draw.noisy(val))


def mixed_up(draw: Draw) -> Curve:
    """Train images are mixed: train stays far above val, and both rest."""
    train, val = draw.fall(draw.between(0.4, 0.6), 0.6), draw.fall(0.12, 0.6)
    return curve(draw.noisy(train), draw.noisy(val))


def near_zero(draw: Draw) -> Curve:
    train, val = draw.fall(0.001, 0.5), draw.fall(0.0005, 0.5)
    wiggle = [value + 0.002 * draw.chance * draw.random.random() for value in val]
    return curve(train, wiggle)


def small_val_set(draw: Draw) -> Curve:
    bare = healthy(draw)
    train = [value or 0.0 for value in bare.train_loss]
    rough = [round((value or 0.0) / draw.chance * 20) / 20 * draw.chance for value in bare.val_loss]
    return curve(train, rough)


def spikes(draw: Draw) -> Curve:
    bare = healthy(draw)
    train, val = list(bare.train_loss), list(bare.val_loss)
    for _ in range(2):
        at = draw.random.randrange(2, draw.epochs - 3)
        train[at], val[at] = 5 * draw.chance, 6 * draw.chance
    return curve(train, val)


def nan_that_recovers(draw: Draw) -> Curve:
    bare = healthy(draw)
    train = list(bare.train_loss)
    at = draw.random.randrange(2, draw.epochs - 4)
    train[at : at + 2] = [NAN, NAN]
    return curve(train, bare.val_loss)


def val_never_a_number(draw: Draw) -> Curve:
    bare = healthy(draw)
    return curve(bare.train_loss, [NAN] * draw.epochs)


def accuracy_only(draw: Draw) -> Curve:
    bare = healthy_with_accuracy(draw)
    return curve(accuracies=(bare.train_acc, bare.val_acc))


def val_only(draw: Draw) -> Curve:
    return curve((), healthy(draw).val_loss)


def train_only(draw: Draw) -> Curve:
    return curve(healthy(draw).train_loss)


def few_points(draw: Draw) -> Curve:
    return few_points_of(draw, draw.random.randint(3, 6))


def plateau(
    draw: Draw,
    level: float,
    gap: float = 0.01,
    loss_per_error: float = 1.0,
    at_rest: float = 0.3,
) -> Curve:
    """Both accuracies rise to `level` by the part `at_rest` and stay; the loss does as they do."""
    start = 1 / draw.classes
    accuracies: list[list[float]] = []
    losses: list[list[float]] = []
    for end in (level, level - gap):
        speed = 7 / (at_rest * draw.epochs)
        accs = [end + (start - end) * math.exp(-speed * (x + 1)) for x in range(draw.epochs)]
        accs = [acc + draw.random.gauss(0, draw.noise / 2) for acc in accs]
        left = [(1 - acc) / (1 - start) for acc in accs]
        losses.append([draw.chance * (1 - loss_per_error * (1 - part)) for part in left])
        accuracies.append([min(1.0, max(0.0, acc)) for acc in accs])
    return curve(losses[0], losses[1], (accuracies[0], accuracies[1]))


def low_plateau(draw: Draw) -> Curve:
    """A network too small: it stops at a third to a half of the answers, also in training."""
    draw.classes = draw.random.choice((5, 10, 20, 100))
    draw.chance = math.log(draw.classes)
    return plateau(draw, draw.between(0.28, 0.5))


def low_plateau_of_two(draw: Draw) -> Curve:
    """Two classes, of which 55 to 65 % are right."""
    draw.classes, draw.chance = 2, math.log(2)
    return plateau(draw, draw.between(0.55, 0.65), loss_per_error=0.5)


def low_plateau_of_accuracies(draw: Draw) -> Curve:
    bare = low_plateau(draw)
    return curve(accuracies=(bare.train_acc, bare.val_acc))


def low_plateau_in_few_epochs(draw: Draw) -> Curve:
    draw.epochs = draw.random.randint(6, 10)
    return low_plateau(draw)


def high_plateau(draw: Draw) -> Curve:
    return plateau(draw, draw.between(0.85, 0.99), gap=0.02)


def hard_task(draw: Draw) -> Curve:
    """A thousand classes, of which 62 to 75 % are right: nothing is wrong with the network."""
    draw.classes, draw.chance = 1000, math.log(1000)
    return plateau(draw, draw.between(0.62, 0.75), gap=0.03, loss_per_error=1.1, at_rest=0.8)


def next_words(draw: Draw) -> Curve:
    """A language model: two fifths of the words are right, and the loss is a third of its first."""
    draw.classes, draw.chance = 30000, math.log(30000)
    return plateau(draw, draw.between(0.38, 0.5), loss_per_error=1.5, at_rest=0.8)


def mixed_up_accuracies(draw: Draw) -> Curve:
    """Train accuracy is measured on mixed images: 40 to 60 %, while val is right."""
    bare = high_plateau(draw)
    low = draw.between(0.45, 0.65)
    train = [0.2 + value * low for value in bare.train_loss or () if value is not None]
    return replace(
        bare,
        train_loss=[draw.chance * low + value for value in train],
        train_acc=[low * (acc or 0.0) for acc in bare.train_acc],
    )


def repeated_spikes(draw: Draw) -> Curve:
    bare = healthy(draw)
    train, val = ([value or 0.0 for value in losses] for losses in (bare.train_loss, bare.val_loss))
    for at in range(2, draw.epochs - 1, 3 if draw.epochs < 20 else draw.random.randint(4, 6)):
        height = draw.between(0.8, 4) * draw.chance
        train[at], val[at] = train[at] + height, val[at] + height
    return curve(train, val)


def swinging_accuracy(draw: Draw) -> Curve:
    bare = healthy(draw)
    return replace(bare, val_acc=[draw.between(0.2, 0.9) for _ in range(draw.epochs)])


def contradictory(draw: Draw) -> Curve:
    """Three or four points of val that go down and up again."""
    train = draw.fall(0.8, 1.0, draw.random.choice((3, 4)))
    turn = draw.between(0.06, 0.15) * draw.chance
    val = [
        0.9 * draw.chance + turn * (x % 2) * (-1) for x in range(len(train) - len(train) % 2 + 1)
    ]
    return curve(draw.noisy(train), draw.noisy(val[: len(train)]))


def few_and_clear(draw: Draw) -> Curve:
    """Three or four epochs of which each is far better than the one before."""
    return few_points_of(draw, draw.random.choice((3, 4)))


def few_points_of(draw: Draw, count: int) -> Curve:
    train = draw.fall(0.1, 3.0, count)
    return curve(draw.noisy(train), draw.noisy([1.03 * value for value in train]))


def overfitting_with_accuracy(draw: Draw) -> Curve:
    bare = overfitting(draw)
    accs = draw.accuracy([value or 0.0 for value in bare.val_loss])
    return replace(
        bare, train_acc=draw.accuracy([value or 0.0 for value in bare.train_loss]), val_acc=accs
    )


def one_step_decay(draw: Draw) -> Curve:
    """Val falls at once where the rate drops, then rests over the last third."""
    high, low = draw.between(0.45, 0.6), draw.between(0.2, 0.3)
    turn = max(6, draw.epochs // 2)
    rest = max(8, draw.epochs - turn)
    first = [draw.chance * (high + (1 - high) * math.exp(-10 * x / turn)) for x in range(turn)]
    second = [draw.chance * (low + (high - low) * math.exp(-1.5 * (x + 1))) for x in range(rest)]
    train = first + second
    return curve(draw.noisy(train), draw.noisy([value + 0.04 * draw.chance for value in train]))


def warm_restarts(draw: Draw) -> Curve:
    """Cosine cycles that double in length; each ends lower than the last, and rests there."""
    values: list[float] = []
    length, level = 6, 0.4
    while len(values) < draw.epochs:
        values += [
            draw.chance * (level + 0.15 * (1 + math.cos(math.pi * x / length)) / 2)
            for x in range(length)
        ]
        length, level = length * 2, level * 0.85
    return curve(draw.noisy([0.95 * value for value in values]), draw.noisy(values))


def late_overfitting(draw: Draw) -> Curve:
    """A val loss that ends a quarter to a half above its best, far below the first train loss."""
    best = draw.between(0.03, 0.12)
    train, val = draw.fall(0.003, 0.7), draw.fall(best, 0.3)
    turn = draw.epochs // 3
    height = draw.between(0.25, 0.6) * best * draw.chance
    after = max(1, draw.epochs - 1 - turn)
    val = [value + height * max(0, x - turn) / after for x, value in enumerate(val)]
    return curve(train, val)


def near_zero_drift(draw: Draw) -> Curve:
    """A val loss that rises tenfold, from next to nothing to a thousandth of the first loss."""
    train, val = draw.fall(0.0001, 0.4), draw.fall(0.0003, 0.3)
    turn = draw.epochs // 3
    after = max(1, draw.epochs - 1 - turn)
    rise = draw.between(0.001, 0.003) * draw.chance
    return curve(train, [value + rise * max(0, x - turn) / after for x, value in enumerate(val)])


def rare_spikes(draw: Draw) -> Curve:
    """Three or four spikes in hundreds of epochs, of which the run recovered from each."""
    draw.epochs = draw.random.randint(250, 400)
    bare = healthy(draw)
    train, val = list(bare.train_loss), list(bare.val_loss)
    for part in (0.3, 0.5, 0.7, 0.8)[: draw.random.randint(3, 4)]:
        at = int(part * draw.epochs)
        train[at], val[at] = 3 * draw.chance, 3 * draw.chance
    return curve(train, val)


CONVERGED, IMPROVING = ("converged",), ("still-improving",)
UNDERFITTING, UNSTABLE = ("underfitting",), ("unstable",)
FAMILIES: dict[Callable[[Draw], Curve], tuple[str, ...]] = {
    healthy: CONVERGED,
    healthy_with_accuracy: CONVERGED,
    overfitting: ("overfitting",),
    memorised: ("overfitting",),
    stuck: ("underfitting",),
    diverging: ("unstable",),
    ends_in_nan: ("unstable",),
    oscillating: ("unstable",),
    still_improving: IMPROVING,
    rate_steps: CONVERGED,
    cyclic_rate: (*CONVERGED, *IMPROVING),
    mixed_up: CONVERGED,
    near_zero: CONVERGED,
    small_val_set: CONVERGED,
    spikes: CONVERGED,
    nan_that_recovers: CONVERGED,
    val_never_a_number: CONVERGED,
    accuracy_only: CONVERGED,
    val_only: CONVERGED,
    train_only: CONVERGED,
    few_points: IMPROVING,
    low_plateau: UNDERFITTING,
    low_plateau_of_two: UNDERFITTING,
    low_plateau_of_accuracies: UNDERFITTING,
    low_plateau_in_few_epochs: UNDERFITTING,
    high_plateau: CONVERGED,
    hard_task: CONVERGED,
    next_words: CONVERGED,
    mixed_up_accuracies: CONVERGED,
    repeated_spikes: UNSTABLE,
    swinging_accuracy: UNSTABLE,
    contradictory: ("too-short",),
    few_and_clear: IMPROVING,
    overfitting_with_accuracy: ("overfitting",),
    one_step_decay: CONVERGED,
    warm_restarts: (*CONVERGED, *IMPROVING),
    late_overfitting: ("overfitting",),
    near_zero_drift: CONVERGED,
    rare_spikes: CONVERGED,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--errors", action="store_true", help="tell what was said instead")
    args = parser.parse_args()
    print(f"{'':24}" + "".join(f"{f'noise {noise:g}':>13}" for noise in NOISES))
    total = 0.0
    for family, right in FAMILIES.items():
        shares, wrong = [], Counter[str]()
        for noise in NOISES:
            said = [diagnose(family(Draw(seed, noise))).label for seed in range(args.seeds)]
            shares.append(sum(label in right for label in said) / args.seeds)
            wrong.update(label for label in said if label not in right)
        total += sum(shares) / len(shares) / len(FAMILIES)
        told = f"  {dict(wrong)}" if args.errors and wrong else ""
        print(f"{family.__name__:24}" + "".join(f"{share:13.0%}" for share in shares) + told)
    print(f"{'all':24}{total:13.1%}")


if __name__ == "__main__":
    main()
