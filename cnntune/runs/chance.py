"""What guessing gives: the accuracy and the loss that a network has to beat."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ABOVE_CHANCE = 3.0  # standard errors: one false alarm in 700
ENOUGH_IMAGES = 40  # validation images below which chance cannot be told from skill
UNKNOWN_NOISE = 0.3  # of the accuracy of guessing, where the number of images is not known
HOPELESS = 100.0  # times the loss of guessing: the right class has a probability of C^-100
SHORTFALL = 0.15  # of accuracy; the worst of 56 sound set-ups is 4.5 points below its reference


@dataclass(frozen=True)
class Chance:
    """What a network reaches on a validation set without using the images.

    `acc` is that of always answering the largest class, in 0..1; `loss` is that of answering with
    the shares of the classes, in nats: log C for C classes of equal size. `images` is the size of
    the set, None where it is not known.
    """

    acc: float
    loss: float
    images: int | None = None

    @classmethod
    def of(cls, labels: Sequence[int]) -> "Chance":
        """From the labels of the validation images, at least one."""
        images = len(labels)
        shares = [count / images for count in Counter(labels).values()]
        entropy = -sum(share * math.log(share) for share in shares)
        return cls(max(shares), max(0.0, entropy), images)

    @classmethod
    def among(cls, classes: int) -> "Chance":
        """From the number of classes, all of one size."""
        return cls(1 / classes, math.log(classes))

    @classmethod
    def in_summary(cls, summary: Mapping[str, Any]) -> "Chance | None":
        """From a run's `summary.json`; None where it lacks the numbers, as those of old runs."""
        values = [summary.get(key) for key in ("chance_acc", "chance_loss", "val_images")]
        if not all(isinstance(value, int | float) for value in values):
            return None
        return cls(*values)  # type: ignore[arg-type]

    def as_json(self) -> dict[str, Any]:
        """The keys of a run's `summary.json`."""
        return {"chance_acc": self.acc, "chance_loss": self.loss, "val_images": self.images}

    @property
    def noise(self) -> float:
        """By how much guessing may be above `acc` by luck."""
        if self.images is None:
            return UNKNOWN_NOISE * self.acc
        return ABOVE_CHANCE * math.sqrt(self.acc * (1 - self.acc) / self.images)

    @property
    def tells(self) -> bool:
        """Whether the set is large enough, and has classes enough, to tell skill from chance."""
        return self.acc < 1 and (self.images is None or self.images >= ENOUGH_IMAGES)

    def beaten_by(self, acc: float) -> bool:
        """Whether an accuracy is above that of guessing by more than luck."""
        return acc > self.acc + self.noise

    def hopeless(self, loss: float, acc: float) -> bool:
        """Whether a run that ends so has diverged, though its loss is still a number."""
        return 0 < HOPELESS * self.loss < loss and not self.beaten_by(acc)
