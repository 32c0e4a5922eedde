"""Checks of the split: new validation images, from the same distribution, with the same classes."""

import itertools
import math

import torch
from torch import Tensor
from torch.nn import functional as F

from cnntune.data.custom import some
from cnntune.findings import Finding, Severity
from cnntune.runs.chance import ENOUGH_IMAGES
from cnntune.steps.sanity.subject import Subject
from cnntune.steps.sanity.thumbnails import (
    NEAR,
    SIGNIFICANT,
    Pictures,
    correlations,
    nearest_labels,
    twins,
)

COPIES = 0.05  # share of validation images that are training images: accuracy is off by as much
MIN_COPIES = 0.005
MIN_PAIRS = 3  # a single similar pair may be chance among simple images
CLOSEST = 0.05  # quantile of the training images' similarity to their nearest neighbours
CLOSER = 0.3  # share of validation images above it; by chance 0.05, with 40 images up to 0.15
PARTNERS = 0.5  # share of validation images with a partner; small binary masks have 0.34
PARTNER_CORRELATION = 0.9  # minimum correlation with a partner
APART = 0.2  # of 1 - correlation: the partner's over that of the next neighbours, at most
MIN_SIDE = 4  # pixels of an image, or of a half of a thumbnail: too few pixels are alike by chance
NEIGHBOURS = 20  # nearest ones: an image may have been stored in up to as many variants
PARTNER_IMAGES = 300  # validation images tested for a partner
SHIFT = 1.0  # standard deviations between the mean brightness of training and validation images
FAR_SHIFT = 3.0
CONTRAST = 1.5  # times the contrast of training images
MIN_IMAGES = 5  # with fewer, a single class may be chance, and an image is worth 20 points or more
STANDS_OUT = 2.0  # times the next largest class
MAPPED = 0.8  # of the training set's nearest-neighbour accuracy, after renaming the classes


def split(subject: Subject) -> list[Finding]:
    """Validation images must be new images from the same distribution, with the same class numbers.

    With copies of training images, validation accuracy measures memorisation. With other lighting,
    another scale or another order of classes, it measures nothing. The network is not used: images
    are compared with each other, and classified by their nearest training image.
    """
    if not len(subject.data.val):
        text = f"0 validation images, {len(subject.data.train)} training images"
        advice = "set data.val_fraction, or check what builds the validation set"
        return [Finding("split", "fail", text, advice, measured=0.0)]
    train, val = subject.train_pictures, subject.val_pictures
    found = [
        *_few(subject),
        *_copies(subject),
        *_shift(train, val),
        *_test_copies(subject),
        *(_classes(subject) or _rare(subject)),
    ]
    if all(finding.severity == "info" for finding in found):
        found += _mapping(train, val, subject.classes)
    text = f"{len(subject.data.train)} training and {len(subject.data.val)} validation images,"
    return found or [Finding("split", "ok", f"{text} none in both")]


def _few(subject: Subject) -> list[Finding]:
    """So few validation images that accuracy takes only a few values."""
    count = len(subject.data.val)
    if count >= min(MIN_IMAGES, subject.classes):
        return []
    text = f"{count} validation images for {subject.classes} classes: each is worth"
    text += f" {1 / count:.0%} of accuracy"
    return [Finding("split", "warn", text, "raise data.val_fraction", measured=float(count))]


def _copies(subject: Subject) -> list[Finding]:
    """Validation images that are training images, exactly or apart from noise and lighting."""
    train, val = subject.train_pictures, subject.val_pictures
    copied = torch.isin(val.digests, train.digests)
    copies = float(copied.float().mean())
    seen = min(1.0, len(train) / len(subject.data.train))
    estimate = min(1.0, copies / seen)
    advice = "split before copying or augmenting, and keep images of one source in one set"
    repeated = 1 - len(torch.unique(train.digests)) / len(train)
    if copies > max(MIN_COPIES, COPIES if repeated > copies / 2 else 0.0):
        text = f"{estimate:.1%} of the validation images are training images: "
        text += _pairs(subject, copied, twins(val, train))
        if _coincide(train, val) >= copies:
            text += "; so simple that halves of different images are equal too: by chance"
            return [Finding("split", "info", text, measured=estimate)]
        severity: Severity = "fail" if estimate > COPIES else "warn"
        return [Finding("split", severity, text, advice, measured=estimate, expected=0.0)]
    few = MIN_PAIRS / len(val)
    for mirrored in (False, True):
        others = train.small.flip(3) if mirrored else train.small
        usual = correlations(train.small, others).fill_diagonal_(-math.inf).amax(1)
        likeness, nearest = correlations(val.small, others).max(1)
        near, expected = (float((best > NEAR).float().mean()) for best in (likeness, usual))
        if near > max(COPIES, 2 * expected) and near >= few:
            text = f"{near:.1%} of the validation images are near copies of training images"
            text += " mirrored: " if mirrored else ": "
            text += _pairs(subject, likeness > NEAR, nearest)
            return [Finding("split", "warn", text, advice, measured=near, expected=expected)]
        is_closer = likeness > usual.quantile(1 - CLOSEST)
        closer = float(is_closer.float().mean())
        if not mirrored and closer > CLOSER and len(val) >= ENOUGH_IMAGES:
            text = f"{closer:.0%} of the validation images are nearer to a training image than"
            text += f" {1 - CLOSEST:.0%} of the training images are to any other: "
            text += _pairs(subject, is_closer, nearest)
            return [Finding("split", "warn", text, advice, measured=closer, expected=CLOSEST)]
    has_partner, nearest = _partners(train, val)
    partners = float(has_partner.float().mean()) if len(has_partner) else 0.0
    if partners > PARTNERS and len(val) >= ENOUGH_IMAGES:
        text = f"{partners:.0%} of the validation images have a partner in the training set, far"
        text += " more similar than any other image after a shift or flip: "
        text += _pairs(subject, has_partner, nearest)
        return [Finding("split", "fail", text, advice, measured=partners, expected=0.0)]
    return []


def _coincide(train: Pictures, val: Pictures) -> float:
    """The share of validation images whose two halves occur in different training images.

    If whole images are equal by chance, halves are so more often. Photographs of which copies
    exist have equal halves in these copies only.
    """
    recurs = []
    for side in range(train.halves.shape[1]):
        halves = torch.cat([train.halves[:, side], val.halves[:, side]])
        pairs = torch.stack([halves, torch.cat([train.digests, val.digests])], 1).unique(dim=0)
        known, wholes = pairs[:, 0].unique(return_counts=True)
        recurs.append(torch.isin(val.halves[:, side], known[wholes > 1]))
    left, right, upper, lower = recurs
    return float(((left & right) | (upper & lower)).float().mean())


def _pairs(subject: Subject, chosen: Tensor, partners: Tensor) -> str:
    """Names of the `chosen` validation images and of their `partners` (indices, int64 `[N]`)."""
    rows = chosen.nonzero().flatten().cpu()
    train, val = subject.train_pictures.indices, subject.val_pictures.indices
    return subject.data.val.names.pairs(
        val[rows].tolist(), subject.data.train.names, train[partners.cpu()[rows]].tolist()
    )


def _test_copies(subject: Subject) -> list[Finding]:
    """Test images that are also training or validation images."""
    if subject.data.test is None or not len(subject.data.test):
        return []
    test = Pictures.of(subject.data.test, subject.recipe.seed)
    parts = {"training": subject.train_pictures, "validation": subject.val_pictures}
    for name, part in parts.items():
        others = subject.data.train if name == "training" else subject.data.val
        seen = min(1.0, len(part) / len(others))
        copied = torch.isin(test.digests, part.digests)
        share = min(1.0, float(copied.float().mean()) / seen)
        if share > COPIES:
            rows = copied.nonzero().flatten().cpu()
            equal = twins(test, part).cpu()[rows]
            text = f"{share:.1%} of the test images are {name} images: "
            text += subject.data.test.names.pairs(
                test.indices[rows].tolist(), others.names, part.indices[equal].tolist()
            )
            severity: Severity = "fail" if name == "training" else "warn"
            advice = "draw the three sets from one list, without replacement"
            return [Finding("split", severity, text, advice, measured=share, expected=0.0)]
    return []


def _partners(train: Pictures, val: Pictures) -> tuple[Tensor, Tensor]:
    """Which of 300 validation images have one training image far more similar than all others.

    Returns bool `[N]`, and the index of the most similar training image, int64 `[N]`. Thumbnails
    are compared without their border, shifted by one of their twelve pixels in all directions, and
    mirrored: this is what augmentation before the split does. Images that merely look alike, such
    as digits, have many similar neighbours, at all distances, and images of a class that is a
    single picture with noise are all alike.
    """
    none = torch.zeros(0, dtype=torch.int64)
    if min(train.small.shape[-2:]) < 2 * MIN_SIDE or len(train) <= NEIGHBOURS:
        return none.bool(), none
    inner = _inner(val.small[:PARTNER_IMAGES])
    likeness = torch.full((len(inner), len(train)), -1.0, device=inner.device)
    for mirrored in (False, True):
        others = train.small.flip(3) if mirrored else train.small
        for move in itertools.product((-1, 0, 1), repeat=2):
            moved = _inner(others.roll(move, dims=(2, 3)))
            likeness = torch.maximum(likeness, inner @ moved.T)
    best, nearest = likeness.topk(NEIGHBOURS + 1, dim=1)
    same = val.labels[: len(inner), None] == train.labels
    of_class = likeness.masked_fill(~same, math.nan).nanmedian(1).values.nan_to_num(-1.0)
    usual = torch.minimum((1 - best[:, -1]), (1 - of_class))
    apart = (1 - best[:, 0]) < APART * usual
    return apart & (best[:, 0] > PARTNER_CORRELATION), nearest[:, 0]


def _inner(small: Tensor) -> Tensor:
    """Thumbnails without their border, as unit vectors `[N, C * s * s]`."""
    inner = small[:, :, 1:-1, 1:-1].flatten(1)
    return F.normalize(inner - inner.mean(1, keepdim=True), dim=1)


def _shift(train: Pictures, val: Pictures) -> list[Finding]:
    """A channel whose brightness or contrast differs more than a random split allows."""
    moved = (val.means.mean(0) - train.means.mean(0)).abs() / (train.means.std(0) + 1e-6)
    floor = 1e-6  # images of a single colour have no contrast to compare
    contrasts = val.stds.mean(0).clamp(min=floor) / train.stds.mean(0).clamp(min=floor)
    apart, ratio = float(moved.max()), float(torch.maximum(contrasts, 1 / contrasts).max())
    if apart < SHIFT and ratio < CONTRAST:
        return []
    worst = int(moved.argmax() if apart >= SHIFT else contrasts.log().abs().argmax())
    text = f"validation images differ by {float(moved[worst]):.1f} standard deviations in"
    text += f" brightness from training images, and have {float(contrasts[worst]):.2g} times their"
    text += " contrast" + (f" (channel {worst})" if len(moved) > 1 else "")
    severity: Severity = "fail" if apart > FAR_SHIFT or ratio > 2 * CONTRAST else "warn"
    advice = "read and scale both sets in the same way, and split at random"
    return [Finding("split", severity, text, advice, measured=apart, expected=0.0)]


def _classes(subject: Subject) -> list[Finding]:
    """Classes that a set lacks, or has in another proportion than chance allows."""
    train = torch.bincount(subject.data.train.labels, minlength=subject.classes).float()
    val = torch.bincount(subject.data.val.labels, minlength=subject.classes).float()
    expected = val.sum() * train / train.sum()
    present = int((val > 0).sum())
    if present == 1 and int((train > 0).sum()) > 1 and len(subject.data.val) >= MIN_IMAGES:
        text = f"all {len(subject.data.val)} validation images are of class"
        text += f" {subject.data.classes[int(val.argmax())]}"
        return [Finding("split", "fail", text, "shuffle, or split class by class")]
    absent = [
        subject.data.classes[k]
        for k in range(subject.classes)
        if train[k] > 0 and val[k] == 0 and expected[k] > SIGNIFICANT
    ]
    if absent:
        text = f"no validation image of class {', '.join(absent[:5])}"
        text += f" ({len(absent)} of {subject.classes} classes)"
        advice = "shuffle, or split class by class"
        severity: Severity = "fail" if len(absent) > subject.classes / 4 else "warn"
        return [Finding("split", severity, text, advice, measured=float(len(absent)), expected=0.0)]
    known = expected > 0
    chi2 = float(((val - expected)[known].square() / expected[known].clamp(min=1)).sum())
    freedom = max(1, subject.classes - 1)
    if (chi2 - freedom) / math.sqrt(2 * freedom) > 4 * SIGNIFICANT and not _balanced(train, val):
        text = "classes have other proportions in the validation set than in the training set"
        worst = int(((val - expected).abs() / expected.clamp(min=1)).argmax())
        text += f": {int(val[worst])} images of class {subject.data.classes[worst]} instead of"
        text += f" about {float(expected[worst]):.0f}"
        return [Finding("split", "warn", text, "shuffle, or split class by class")]
    return []


def _rare(subject: Subject) -> list[Finding]:
    """Classes with so few images that by chance none is in the validation set."""
    train = torch.bincount(subject.data.train.labels, minlength=subject.classes)
    val = torch.bincount(subject.data.val.labels, minlength=subject.classes)
    unseen = ((train > 0) & (val == 0)).nonzero().flatten().tolist()
    if not unseen:
        return []
    names = some(f"{subject.data.classes[k]} ({int(train[k])} for training)" for k in unseen)
    text = f"no validation image of {names}: accuracy does not cover"
    text += " this class" if len(unseen) == 1 else " these classes"
    advice = "add images, or raise data.val_fraction"
    return [Finding("split", "info", text, advice, measured=float(len(unseen)), expected=0.0)]


def _balanced(train: Tensor, val: Tensor) -> bool:
    """Whether the validation set is balanced on purpose, as in studies of long-tailed data.

    A single training class that stands out is no long tail, but the effect of a default label.
    """
    mean, freedom = float(val.mean()), max(1, len(val) - 1)
    chi2 = float((val - mean).square().sum()) / mean
    if (chi2 - freedom) / math.sqrt(2 * freedom) > SIGNIFICANT:
        return False
    first, second = train.sort(descending=True).values[:2].tolist()
    alike = len(train) > 2 and second < STANDS_OUT * float(train.median())
    return not (alike and first > STANDS_OUT * second)


def _mapping(train: Pictures, val: Pictures, classes: int) -> list[Finding]:
    """The nearest training image predicts the class in the training set, but not in validation."""
    likeness = correlations(train.small, train.small).fill_diagonal_(-math.inf)
    train_acc = float((train.labels[likeness.argmax(1)] == train.labels).float().mean())
    nearest = nearest_labels(val, train)
    val_acc = float((nearest == val.labels).float().mean())
    error = math.sqrt(max(train_acc * (1 - train_acc), 0.01) / len(val))
    if (train_acc - val_acc) / error < SIGNIFICANT:
        return []
    table = torch.zeros(classes, classes)
    table.index_put_((nearest.cpu(), val.labels.cpu()), torch.ones(len(val)), accumulate=True)
    from scipy.optimize import linear_sum_assignment  # comes with scikit-learn

    rows, columns = linear_sum_assignment(-table.numpy())
    renamed = float(table[rows, columns].sum()) / len(val)
    text = f"the nearest training image has the right class for {train_acc:.0%} of the training"
    text += f" images, but for {val_acc:.0%} of the validation images"
    advice = "check how validation images and labels are read and ordered"
    pairs = [f"{a} is {b}" for a, b in zip(rows, columns, strict=True) if a != b]
    if pairs and renamed > MAPPED * train_acc and (renamed - val_acc) / error > SIGNIFICANT:
        text += f"; with renamed classes for {renamed:.0%} ({', '.join(pairs[:3])})"
        advice = "number the classes of both sets from one list of names"
    elif val_acc > train_acc / 2:
        return []  # less similar images, such as those of another camera, prove nothing
    return [Finding("split", "fail", text, advice, measured=val_acc, expected=train_acc)]
