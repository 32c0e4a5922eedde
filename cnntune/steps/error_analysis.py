"""What a trained network gets wrong on the validation set (lecture step 6).

Nothing here reads the test set: who looks at its mistakes and changes something tunes on it.
"""

import base64
import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn

from cnntune.config.recipe import FinalTestSection, Recipe
from cnntune.data import Data, Part
from cnntune.data.thumbnails import thumbnails
from cnntune.runs.files import FORMAT, write_by_rename, write_json
from cnntune.runs.run import ERRORS, Run
from cnntune.training.evaluate import evaluate, predict
from cnntune.training.tta import views

ROWS = "predictions.csv"
COLUMNS = ("image", "label", "predicted", "probability", "label_probability", "suspected")
CONFIDENCE = 0.95  # of the intervals of accuracies
BINS = 15  # of the probability, of equal width (Guo et al. 2017, section 2)
MAX_MATRIX = 100  # classes: of more, a confusion matrix cannot be read
PICTURES = 24  # mistakes that are shown
SUSPECTS = 24  # labels that are shown
PAIRS = 10  # of classes that are confused
VIEWS: tuple[Literal["one", "flip", "five-crop"], ...] = ("one", "flip", "five-crop")
VIEW_IMAGES = 1000  # at most, for the views: eight evaluations of each image


@dataclass(frozen=True)
class ClassAccuracy:
    """How many images of a class there are, and how many of them are classified correctly.

    `interval` is that of Wilson at 95 % (0..1); `taken_for` is the class that its mistakes are
    predicted as most often. Without images, `accuracy` and `interval` are None.
    """

    name: str
    images: int
    accuracy: float | None
    interval: tuple[float, float] | None
    taken_for: str | None


@dataclass(frozen=True)
class Bin:
    """Images whose highest probability is in (low, high], their mean of it and their accuracy."""

    low: float
    high: float
    images: int
    probability: float
    accuracy: float


@dataclass(frozen=True)
class Prediction:
    """One image: its label, the class with the highest probability, and the probability of both."""

    image: str
    label: str
    predicted: str
    probability: float
    label_probability: float
    suspected: bool


@dataclass(frozen=True)
class ErrorAnalysis:
    """The predictions of a network for a set of images.

    `log_probs` are float `[N, C]`, `labels` int64 `[N]`, both on the CPU; `images` are the N names.
    `views` are accuracies with test-time augmentation, by the word of `test.views`, beside that of
    "one" on the same images.
    """

    log_probs: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    images: Sequence[str]
    views: dict[str, float]

    @cached_property
    def predicted(self) -> Tensor:
        """The class with the highest probability, `[N]`."""
        return self.log_probs.argmax(1)

    @cached_property
    def confusion(self) -> Tensor:
        """Counts `[C, C]`: rows are labels, columns are predictions."""
        number = len(self.classes)
        flat = self.labels * number + self.predicted
        return torch.bincount(flat, minlength=number**2).view(number, number)

    @property
    def accuracy(self) -> float:
        """The share of correct predictions, 0..1."""
        return float(self.confusion.diagonal().sum()) / len(self.labels)

    @property
    def mistakes(self) -> Tensor:
        """The indices of wrong predictions, the most confident ones first."""
        probability = self.log_probs.max(1).values
        wrong = (self.predicted != self.labels).nonzero().flatten()
        return wrong[probability[wrong].argsort(descending=True, stable=True)]

    @cached_property
    def suspected(self) -> Tensor:
        """The indices of labels that are probably wrong, the least probable label first.

        Confident learning (Northcutt et al. 2021, section 3): another class reaches the mean
        probability that it has on its own images. The images have to be others than those that the
        network was trained on. A suspicion: a network that errs gives the same picture.
        """
        probs = self.log_probs.exp()
        own = torch.zeros(len(self.classes)).index_add(0, self.labels, self._label_probs())
        threshold = own / self._per_class().clamp(min=1)
        confident = (probs >= threshold) & (self._per_class() > 0)
        likely = torch.where(confident, probs, -1.0).argmax(1)
        found = confident.any(1) & (likely != self.labels) & (likely == self.predicted)
        indices = found.nonzero().flatten()
        return indices[self._label_probs()[indices].argsort(stable=True)]

    def _per_class(self) -> Tensor:
        return self.confusion.sum(1)

    def _label_probs(self) -> Tensor:
        return self.log_probs.gather(1, self.labels[:, None]).flatten().exp()

    def per_class(self) -> list[ClassAccuracy]:
        """The accuracy of each class."""
        return [self._class(number) for number in range(len(self.classes))]

    def _class(self, number: int) -> ClassAccuracy:
        from scipy.stats import binomtest  # takes 0.3 s, and only this needs it

        row = self.confusion[number]
        images, right = int(row.sum()), int(row[number])
        name = self.classes[number]
        if not images:
            return ClassAccuracy(name, 0, None, None, None)
        found = binomtest(right, images).proportion_ci(CONFIDENCE, method="wilson")
        others = row.clone()
        others[number] = 0
        taken_for = self.classes[int(others.argmax())] if right < images else None
        interval = float(found.low), float(found.high)
        return ClassAccuracy(name, images, right / images, interval, taken_for)

    def pairs(self) -> list[dict[str, Any]]:
        """The classes that are confused most often, with the number of images."""
        others = self.confusion.clone().fill_diagonal_(0)
        counts, places = others.flatten().topk(min(PAIRS, others.numel()))
        number = len(self.classes)
        return [
            {
                "label": self.classes[place // number],
                "predicted": self.classes[place % number],
                "images": count,
            }
            for count, place in zip(counts.tolist(), places.tolist(), strict=True)
            if count
        ]

    def bins(self) -> list[Bin]:
        """The bins of the reliability diagram that hold images (Guo et al. 2017)."""
        probability = self.log_probs.max(1).values.exp().double()
        right = (self.predicted == self.labels).double()
        place = (probability * BINS).ceil().long().clamp(1, BINS) - 1
        found = []
        for number in place.unique().tolist():
            inside = place == number
            found.append(
                Bin(
                    number / BINS,
                    (number + 1) / BINS,
                    int(inside.sum()),
                    float(probability[inside].mean()),
                    float(right[inside].mean()),
                )
            )
        return found

    def calibration_error(self) -> float:
        """The expected calibration error (0..1): the mean distance of accuracy and probability."""
        distances = (bin.images * abs(bin.accuracy - bin.probability) for bin in self.bins())
        return sum(distances) / len(self.labels)

    def overconfidence(self) -> float:
        """Mean probability minus accuracy; below 0 where predictions are better than they say."""
        return float(self.log_probs.max(1).values.exp().mean()) - self.accuracy

    def predictions(self, indices: Tensor) -> list[Prediction]:
        """The images at `indices`."""
        probabilities, of_labels = self.log_probs.max(1).values.exp(), self._label_probs()
        suspects = set(self.suspected.tolist())
        return [
            Prediction(
                self.images[index],
                self.classes[int(self.labels[index])],
                self.classes[int(self.predicted[index])],
                float(probabilities[index]),
                float(of_labels[index]),
                index in suspects,
            )
            for index in indices.tolist()
        ]

    def as_json(self) -> dict[str, Any]:
        """The figures; a confusion matrix of at most 100 classes."""
        small = len(self.classes) <= MAX_MATRIX
        return {
            "set": "validation",
            "images": len(self.labels),
            "accuracy": self.accuracy,
            "classes": [asdict(found) for found in self.per_class()],
            "confusion": self.confusion.tolist() if small else None,
            "pairs": self.pairs(),
            "calibration_error": self.calibration_error(),
            "overconfidence": self.overconfidence(),
            "bins": [asdict(bin) for bin in self.bins()],
            "views": self.views,
            "mistakes": [asdict(one) for one in self.predictions(self.mistakes[:PICTURES])],
            "suspected_labels": len(self.suspected),
            "suspected": [asdict(one) for one in self.predictions(self.suspected[:SUSPECTS])],
        }


def analyse(model: nn.Module, data: Data, recipe: Recipe) -> ErrorAnalysis:
    """The predictions of `model` for the validation set, in the precision of the recipe."""
    precision = recipe.train.precision
    log_probs = predict(model, data.val, precision=precision)
    names = data.val.names.files or [f"validation image {k}" for k in range(len(data.val))]
    scores = _by_views(model, data.val, data.normalise.black, precision)
    return ErrorAnalysis(log_probs, data.val.labels, data.classes, names, scores)


def _by_views(model: nn.Module, part: Part, black: Tensor, precision: str) -> dict[str, float]:
    """The accuracy by each kind of view, all on the same images."""
    few = torch.linspace(0, len(part) - 1, min(len(part), VIEW_IMAGES)).long()
    found: dict[str, float] = {}
    for word in VIEWS:
        shown = views(FinalTestSection(views=word, scales=[1.0]), black)
        found[word] = evaluate(model, part, few, views=shown, precision=precision).acc
    return found


def store(found: ErrorAnalysis, data: Data, run: Run) -> dict[str, Any]:
    """Write `predictions.csv`, and `errors.json` with the figures and pictures; returns figures."""
    figures = found.as_json()
    write_by_rename(run.path / ROWS, _rows(found))
    pictures = {
        key: [base64.b64encode(png).decode() for png in thumbnails(data.val, at, data.normalise)]
        for key, at in (
            ("mistakes", found.mistakes[:PICTURES]),
            ("suspected", found.suspected[:SUSPECTS]),
        )
    }
    write_json(run.path / ERRORS, {"format": FORMAT, **figures, "pictures": pictures})
    return figures


def _rows(found: ErrorAnalysis) -> str:
    """A row per image of the set, in its order."""
    written = io.StringIO()
    table = csv.writer(written, lineterminator="\n")
    table.writerow(COLUMNS)
    for one in found.predictions(torch.arange(len(found.labels))):
        probabilities = (f"{one.probability:.6f}", f"{one.label_probability:.6f}")
        table.writerow(
            (one.image, one.label, one.predicted, *probabilities, str(one.suspected).lower())
        )
    return written.getvalue()
