"""Checks of the labels: classes without images, a single class, one image with two labels."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from cnntune.data import Data
from cnntune.data.custom import some
from cnntune.findings import Finding, Severity
from cnntune.runs.chance import ENOUGH_IMAGES
from cnntune.steps.sanity.references import Reference, best_reference, far_below
from cnntune.steps.sanity.subject import Subject
from cnntune.steps.sanity.thumbnails import SIGNIFICANT, Pictures, correlations, twins

WRONG_LABELS = 0.5  # of the training labels; data sets from the web have up to a third
CONTRADICTIONS = 0.1  # of the training images; data sets from the web have a hundredth
VOTERS = 10  # nearest training images
MAJORITY = 0.5  # share of the voters, and of the images that have a majority
DOUBTFUL = 0.1  # share of the labels that the majority contradicts; of clean digits it is 1 to 3 %
MIN_DOUBTFUL = 20  # of them: enough to see that most are off by one
OFF_BY_ONE = 0.8  # of them; by chance 1 / (C - 1)
MIN_SHIFTED_CLASSES = 5  # with fewer, most may be off by one by chance
FROM_ONE = "number them from 0: subtract 1 from each label"
IMBALANCE = 10.0  # images of the largest class over those of the smallest


def labels(subject: Subject) -> list[Finding]:
    """Every class must have training images, and equal images must have the same label.

    Labels must be the numbers 0 to C - 1. If similar images share a label in the validation set but
    not in the training set, training labels are wrong. Labels that most of the nearest training
    images contradict are counted; where they are one class too far, two lists were joined with an
    offset:

        labels = lines[1:] + lines[:1]    # before: 20 % of the labels are k + 1 instead of k
        labels = lines                    # after

    With imbalanced classes, compare accuracies with the share of the largest class.
    """
    if outside := _outside(subject):
        return outside
    counts = torch.bincount(subject.data.train.labels, minlength=subject.classes)
    present = int((counts > 0).sum())
    names = subject.data.classes
    if present == 1:
        text = f"all training images are of class {names[int(counts.argmax())]}"
        return [Finding("labels", "fail", text, "check how labels are read", measured=1.0)]
    missing = [names[int(k)] for k in (counts == 0).nonzero().flatten()]
    if missing:
        text = f"{len(missing)} of {len(names)} classes have no training image: "
        text += ", ".join(missing[:5])
        seen = torch.bincount(subject.data.val.labels, minlength=subject.classes)[counts == 0]
        advice = "add images for them, or number labels from 0 without gaps"
        if from_one(subject.data):
            text += f"; labels run from 1 to {len(names) - 1}"
            advice = FROM_ONE
        if int(seen.sum()):
            text += f"; {int(seen.sum())} validation images are of such classes"
        severity: Severity = "fail" if int(seen.sum()) or len(missing) > len(names) / 2 else "warn"
        return [
            Finding("labels", severity, text, advice, measured=float(len(missing)), expected=0.0)
        ]
    found = (
        _contradictions(subject) or _contradicted(subject) or _noise(subject) or _doubtful(subject)
    )
    found += _single(subject, counts)
    ratio = float(counts.max() / counts.min())
    if ratio > IMBALANCE:
        majority = float(counts.max() / counts.sum())
        text = f"the largest class has {ratio:.0f} times the images of the smallest: always"
        text += f" predicting {names[int(counts.argmax())]} has an accuracy of {majority:.0%}"
        found.append(Finding("labels", "info", text, "compare accuracies with that baseline"))
    least, most = int(counts.min()), int(counts.max())
    each = f"{least} to {most}" if least < most else f"{most}"
    text = f"{len(names)} classes, {each} training images per class"
    return found or [Finding("labels", "ok", text)]


def _single(subject: Subject, counts: Tensor) -> list[Finding]:
    """Classes with a single training image."""
    single = (counts == 1).nonzero().flatten().tolist()
    if not single:
        return []
    names = [subject.data.classes[k] for k in single]
    one = len(single) == 1
    text = f"class {names[0]} has" if one else f"{len(names)} classes have"
    text += " a single training image" + ("" if one else f": {some(names)}")
    unseen = [subject.data.classes[k] for k in single if k not in subject.data.val.labels]
    if unseen:
        text += f"; no validation image of {some(unseen)}"
    advice = "add images or remove the class: nothing can be learned from one image"
    return [Finding("labels", "warn", text, advice, measured=float(len(single)), expected=0.0)]


def usable(data: Data) -> bool:
    """Whether a loss can be computed: at least two classes, and no label outside them."""
    parts = [data.train, data.val, *([data.test] if data.test else [])]
    inside = all(bool(((p.labels >= 0) & (p.labels < len(data.classes))).all()) for p in parts)
    return inside and len(data.classes) > 1


def from_one(data: Data) -> bool:
    """Whether labels are numbered 1 to C instead of 0 to C - 1.

    No label is 0, of numbered classes that all others have images of.
    """
    numbered = list(data.classes) == [str(k) for k in range(len(data.classes))]
    labels = data.train.labels
    return (
        numbered
        and len(labels) > 0
        and set(range(1, len(data.classes))) <= set(labels.unique().tolist())
        and int(labels.min()) == 1
    )


def _outside(subject: Subject) -> list[Finding]:
    """Labels outside the classes."""
    found = []
    named = {"training": subject.data.train, "validation": subject.data.val}
    named |= {"test": subject.data.test} if subject.data.test else {}
    for name, part in named.items():
        wrong = part.labels[(part.labels < 0) | (part.labels >= subject.classes)]
        if not len(wrong):
            continue
        text = f"{len(wrong)} of {len(part)} {name} labels are outside 0 to {subject.classes - 1}:"
        text += f" {', '.join(str(label) for label in wrong.unique().tolist()[:5])}"
        advice = "number classes from 0 without gaps, and remove images without a label"
        if from_one(subject.data) and int(part.labels.max()) == subject.classes:
            text += f"; labels run from 1 to {subject.classes}"
            advice = FROM_ONE
        found.append(Finding("labels", "fail", text, advice, measured=len(wrong), expected=0))
    return found


def _contradictions(subject: Subject) -> list[Finding]:
    """Equal images with different labels."""
    pictures = subject.train_pictures
    _, which = torch.unique(pictures.digests, return_inverse=True)
    first = torch.full((len(pictures),), -1, device=pictures.labels.device)
    first[which] = pictures.labels
    again = first[which] != pictures.labels
    several = float(again.float().mean())
    if several == 0:
        return []
    indices, names = pictures.indices, subject.data.train.names
    shown = again.nonzero().flatten().cpu()
    partners = [_other(pictures, int(index)) for index in shown]
    text = f"{several:.1%} of the training images have a copy with another label: "
    text += names.pairs(indices[shown].tolist(), names, indices[partners].tolist())
    severity: Severity = "fail" if several > CONTRADICTIONS else "warn"
    advice = "keep one label per image"
    return [Finding("labels", severity, text, advice, measured=several)]


def _contradicted(subject: Subject) -> list[Finding]:
    """Validation images that are training images with another label."""
    if not len(subject.data.val):
        return []
    train, val = subject.train_pictures, subject.val_pictures
    equal = twins(val, train)
    other = (train.digests[equal] == val.digests) & (train.labels[equal] != val.labels)
    share = float(other.float().mean())
    if share == 0:
        return []
    shown, names = other.nonzero().flatten(), subject.data.val.names
    text = f"{share:.1%} of the validation images are training images with another label: "
    partners = train.indices[equal[shown]].tolist()
    text += names.pairs(val.indices[shown].tolist(), subject.data.train.names, partners)
    severity: Severity = "fail" if share > CONTRADICTIONS else "warn"
    return [Finding("labels", severity, text, "keep one label per image", measured=share)]


def _other(pictures: Pictures, index: int) -> int:
    """The index in the sample of an equal image with another label."""
    same = pictures.digests == pictures.digests[index]
    return int((same & (pictures.labels != pictures.labels[index])).nonzero()[0])


def _noise(subject: Subject) -> list[Finding]:
    """Similar images share a label in the validation set, but not in the training set.

    If a share c of the labels is right, two similar images agree about c^2 as often.
    """
    if len(subject.data.val) < ENOUGH_IMAGES:
        return []
    train, val = _agreement(subject.train_pictures), _agreement(subject.val_pictures)
    if val == 0:
        return []
    error = math.sqrt(max(val * (1 - val), 0.01) / len(subject.val_pictures))
    right = math.sqrt(train / val)
    if right > 1 - WRONG_LABELS or (val - train) / error < SIGNIFICANT:
        return []
    text = f"the most similar image has the same label for {val:.0%} of the validation images, but"
    text += f" for {train:.0%} of the training images: about {1 - right:.0%} of the training labels"
    text += " are wrong"
    # Training images that are augmented are less alike, but a network learns from them.
    learned = best_reference(subject)
    misled = far_below(learned.acc, Reference("", val, len(subject.val_pictures)))
    text += f"; with them {learned.name} is right for {learned.acc:.0%}" if misled else ""
    advice = "check how training labels are read, joined or shuffled"
    severity: Severity = "fail" if misled else "warn"
    return [Finding("labels", severity, text, advice, measured=1 - right, expected=0.0)]


def _doubtful(subject: Subject) -> list[Finding]:
    """Validation labels that most of the ten nearest training images contradict.

    Only where most images have such a majority, and where it is right more than half of the way
    from chance to always: then the thumbnails tell the classes apart.
    """
    if min(len(subject.data.val), len(subject.data.train)) < ENOUGH_IMAGES:
        return []
    train, val = subject.train_pictures, subject.val_pictures
    nearest = correlations(val.small, train.small).topk(VOTERS, dim=1).indices
    votes = F.one_hot(train.labels[nearest], subject.classes).float().mean(1)
    guess, certain = votes.argmax(1), votes.amax(1) > MAJORITY
    wrong = certain & (guess != val.labels)
    count = int(wrong.sum())
    share = count / max(1, int(certain.sum()))
    chance = float((torch.bincount(val.labels) / len(val)).square().sum())
    informed = float(certain.float().mean()) > MAJORITY and share < (1 - chance) / 2
    if share < DOUBTFUL or not informed:
        return []
    text = f"most of the {VOTERS} nearest training images contradict {share:.0%} of the validation"
    text += " labels"
    steps = (val.labels - guess)[wrong] % subject.classes
    further = max(float((steps == step).float().mean()) for step in (1, subject.classes - 1))
    if count >= MIN_DOUBTFUL and subject.classes >= MIN_SHIFTED_CLASSES and further > OFF_BY_ONE:
        text += f", {further:.0%} of them by one class: the lists of images and labels are shifted"
        advice = "read images and labels from one list, and check its header and its end"
        return [Finding("labels", "fail", text, advice, measured=share, expected=0.0)]
    text += ": wrong labels, or images that do not tell the classes apart"
    return [Finding("labels", "info", text, "look at these images", measured=share, expected=0.0)]


def _agreement(pictures: Pictures) -> float:
    likeness = correlations(pictures.small, pictures.small).fill_diagonal_(-math.inf)
    return float((pictures.labels[likeness.argmax(1)] == pictures.labels).float().mean())
