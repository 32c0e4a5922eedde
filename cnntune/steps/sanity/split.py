"""Checks of the split: are validation images new images of the same kind, with the same classes?"""

import itertools
import math

import torch
from torch import Tensor
from torch.nn import functional as F

from cnntune.data.custom import some
from cnntune.findings import Finding, Severity
from cnntune.steps.sanity.inputs import SMOOTH, correlation
from cnntune.steps.sanity.subject import Subject
from cnntune.steps.sanity.thumbnails import Pictures, correlations, draw_images, nearest_labels

COPIES = 0.05  # share of validation images that are training images: accuracy is off by as much
FEW_COPIES = 0.005
NEAR = 0.98  # correlation of two small pictures that are one picture with noise or other light
FEW_TWINS = 3  # a pair that looks alike is chance among simple pictures
CLOSEST = 0.05  # of the training images, by their likeness to the nearest other one
CLOSER = 0.3  # share of validation images as close; by chance 0.05, with 40 images 0.15
ENOUGH_IMAGES = 40  # validation images, to tell likeness from chance
PARTNERS = 0.3  # share of validation images with one; sound digits, all alike, reach 0.17
PARTNER = 0.9  # correlation with it,
APART = 0.2  # and its distance from 1, as a share of that of the one in place
LEAST_SIDE = 4  # pixels of a small picture, to move it by one
OTHERS = 20  # by likeness: an image may have been stored in up to as many variants
PARTNER_IMAGES = 300  # validation images looked at
TEXTURE_IMAGES = 64  # of each part
PICTURE = 0.4  # correlation of neighbours, above which there are pictures; SMOOTH is noise
SHIFT = 1.0  # standard deviations between the mean brightness of training and validation images
FAR_SHIFT = 3.0
CONTRAST = 1.5  # times the contrast of a training image
FEW_IMAGES = 5  # from which one class alone is no chance any more; with fewer an image is 20 points
STANDS_OUT = 2.0  # times: a class beside the next largest one
SIGNIFICANT = 5.0  # standard errors: about one false alarm in a million
MAPPED = 0.8  # of the training classes' accuracy, found again under other names


def split(subject: Subject) -> list[Finding]:
    """Validation images must be new images of the same kind, under the same class numbers.

    Copies of training images make validation accuracy a training accuracy. Other light, another
    scale, another order of classes make it worthless. Looked at without the network: by comparing
    pictures, and by how well the nearest training picture tells the class.
    """
    if not len(subject.data.val):
        text = f"0 validation images beside {len(subject.data.train)} training images"
        advice = "set data.val_fraction, or look at what fills the validation part"
        return [Finding("split", "fail", text, advice, measured=0.0)]
    train, val = subject.train_pictures, subject.val_pictures
    found = [
        *_few(subject),
        *_copies(subject),
        *_shift(train, val),
        *_scattered(subject),
        *_test_copies(subject),
        *(_classes(subject) or _rare(subject)),
    ]
    if all(finding.severity == "info" for finding in found):
        found += _mapping(train, val, subject.classes)
    text = f"{len(subject.data.train)} training and {len(subject.data.val)} validation images,"
    return found or [Finding("split", "ok", f"{text} none in both")]


def _few(subject: Subject) -> list[Finding]:
    """So few validation images that an accuracy can hardly take two values."""
    count = len(subject.data.val)
    if count >= min(FEW_IMAGES, subject.classes):
        return []
    text = f"{count} validation images for {subject.classes} classes: each is worth"
    text += f" {1 / count:.0%} of accuracy"
    return [Finding("split", "warn", text, "raise data.val_fraction", measured=float(count))]


def _copies(subject: Subject) -> list[Finding]:
    """Validation pictures that are training pictures, exactly or but for noise and light."""
    train, val = subject.train_pictures, subject.val_pictures
    copied = torch.isin(val.digests, train.digests)
    copies = float(copied.float().mean())
    seen = min(1.0, len(train) / len(subject.data.train))
    estimate = min(1.0, copies / seen)
    advice = "split before copying or augmenting, and keep one source's images in one part"
    twins = 1 - len(torch.unique(train.digests)) / len(train)
    if copies > max(FEW_COPIES, COPIES if twins > copies / 2 else 0.0):
        text = f"{estimate:.1%} of the validation images are training images: "
        text += _pairs(subject, copied, _twins(val, train))
        severity: Severity = "fail" if estimate > COPIES else "warn"
        return [Finding("split", severity, text, advice, measured=estimate, expected=0.0)]
    few = FEW_TWINS / len(val)
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
            text += f" {1 - CLOSEST:.0%} of the training images are to each other: "
            text += _pairs(subject, is_closer, nearest)
            return [Finding("split", "warn", text, advice, measured=closer, expected=CLOSEST)]
    has_partner, nearest = _partners(train, val)
    partners = float(has_partner.float().mean()) if len(has_partner) else 0.0
    if partners > PARTNERS and len(val) >= ENOUGH_IMAGES:
        text = f"{partners:.0%} of the validation images have a partner among training images: as"
        text += " alike as no other, but for a shift, a flip or other light: "
        text += _pairs(subject, has_partner, nearest)
        return [Finding("split", "warn", text, advice, measured=partners, expected=0.0)]
    return []


def _twins(pictures: Pictures, among: Pictures) -> Tensor:
    """For each picture the place of an equal one among others, any where none is: int64 `[N]`."""
    digests, order = among.digests.sort()
    return order[torch.searchsorted(digests, pictures.digests).clamp(max=len(digests) - 1)]


def _pairs(subject: Subject, chosen: Tensor, partners: Tensor) -> str:
    """Validation images by name, each with the training image at `partners` (places, `[N]`)."""
    places = chosen.nonzero().flatten().cpu()
    train, val = subject.train_pictures.indices, subject.val_pictures.indices
    return subject.data.val.names.pairs(
        val[places].tolist(), subject.data.train.names, train[partners.cpu()[places]].tolist()
    )


def _test_copies(subject: Subject) -> list[Finding]:
    """Test images that have been seen before, in training or in choosing a model."""
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
            places = copied.nonzero().flatten().cpu()
            twins = _twins(test, part).cpu()[places]
            text = f"{share:.1%} of the test images are {name} images: "
            text += subject.data.test.names.pairs(
                test.indices[places].tolist(), others.names, part.indices[twins].tolist()
            )
            severity: Severity = "fail" if name == "training" else "warn"
            advice = "draw the three parts from one list without putting back"
            return [Finding("split", severity, text, advice, measured=share, expected=0.0)]
    return []


def _partners(train: Pictures, val: Pictures) -> tuple[Tensor, Tensor]:
    """Which of 300 validation pictures have one training picture far more like them than others.

    Returns bool `[N]`, and the place of the training picture that is most alike, int64 `[N]`.
    Pictures are compared without their border, turned by a pixel of twelve in all directions, and
    mirrored: what augmentation before the split does. Pictures that merely look alike, such as
    digits, have many such neighbours, at all distances.
    """
    if min(train.small.shape[-2:]) < LEAST_SIDE or len(train) <= OTHERS:
        return torch.zeros(0, dtype=torch.bool), torch.zeros(0, dtype=torch.int64)
    inner = _inner(val.small[:PARTNER_IMAGES])
    likeness = torch.full((len(inner), len(train)), -1.0, device=inner.device)
    for mirrored in (False, True):
        others = train.small.flip(3) if mirrored else train.small
        for move in itertools.product((-1, 0, 1), repeat=2):
            moved = _inner(others.roll(move, dims=(2, 3)))
            likeness = torch.maximum(likeness, inner @ moved.T)
    best, places = likeness.topk(OTHERS + 1, dim=1)
    apart = (1 - best[:, 0]) < APART * (1 - best[:, -1])
    return apart & (best[:, 0] > PARTNER), places[:, 0]


def _inner(small: Tensor) -> Tensor:
    """Pictures without their border, as unit vectors `[N, C*s*s]`."""
    inner = small[:, :, 1:-1, 1:-1].flatten(1)
    return F.normalize(inner - inner.mean(1, keepdim=True), dim=1)


def _shift(train: Pictures, val: Pictures) -> list[Finding]:
    """Brightness or contrast of validation images that no random split would give."""
    means, stds = (train.means, val.means), (train.stds, val.stds)
    spread = float(means[0].std()) + 1e-6
    apart = abs(float(means[1].mean() - means[0].mean())) / spread
    floor = torch.tensor(1e-6)  # images of one colour each have no contrast to compare
    contrast = float(stds[1].mean().clamp(min=floor) / stds[0].mean().clamp(min=floor))
    ratio = max(contrast, 1 / max(contrast, 1e-6))
    if apart < SHIFT and ratio < CONTRAST:
        return []
    text = f"validation images are {apart:.1f} standard deviations brighter or darker than"
    text += f" training images, with {contrast:.2g} times their contrast"
    severity: Severity = "fail" if apart > FAR_SHIFT or ratio > 2 * CONTRAST else "warn"
    advice = "read and scale both parts in the same way, and split at random"
    return [Finding("split", severity, text, advice, measured=apart, expected=0.0)]


def _scattered(subject: Subject) -> list[Finding]:
    """Neighbouring pixels are alike in one part, and strangers to each other in the other."""
    parts = (subject.data.train, subject.data.val)
    if min(subject.data.train.image_size) < LEAST_SIDE:
        return []
    drawn = [draw_images(part, TEXTURE_IMAGES, subject.recipe.seed)[0] for part in parts]
    train, val = (
        max(correlation(images, 1), correlation(images.transpose(2, 3), 1)) for images in drawn
    )
    if min(train, val) > SMOOTH or max(train, val) < PICTURE:
        return []
    text = f"neighbouring pixels correlate by {train:.2f} in training images and by {val:.2f} in"
    text += " validation images"
    advice = "look for pixels that are shuffled, viewed in another shape, or drowned in noise"
    return [Finding("split", "fail", text, advice, measured=val, expected=train)]


def _classes(subject: Subject) -> list[Finding]:
    """Classes that a part lacks, or has in another proportion than chance allows."""
    train = torch.bincount(subject.data.train.labels, minlength=subject.classes).float()
    val = torch.bincount(subject.data.val.labels, minlength=subject.classes).float()
    expected = val.sum() * train / train.sum()
    present = int((val > 0).sum())
    if present == 1 and int((train > 0).sum()) > 1 and len(subject.data.val) >= FEW_IMAGES:
        text = f"all {len(subject.data.val)} validation images are of class"
        text += f" {subject.data.classes[int(val.argmax())]}"
        return [Finding("split", "fail", text, "shuffle before splitting, class by class")]
    absent = [
        subject.data.classes[k]
        for k in range(subject.classes)
        if train[k] > 0 and val[k] == 0 and expected[k] > SIGNIFICANT
    ]
    if absent:
        text = f"no validation image of class {', '.join(absent[:5])}"
        text += f" ({len(absent)} of {subject.classes} classes)"
        advice = "shuffle before splitting, class by class"
        severity: Severity = "fail" if len(absent) > subject.classes / 4 else "warn"
        return [Finding("split", severity, text, advice, measured=float(len(absent)), expected=0.0)]
    known = expected > 0
    chi2 = float(((val - expected)[known].square() / expected[known].clamp(min=1)).sum())
    freedom = max(1, subject.classes - 1)
    if (chi2 - freedom) / math.sqrt(2 * freedom) > 4 * SIGNIFICANT and not _balanced(train, val):
        text = "classes have other shares in validation than in training"
        worst = int(((val - expected).abs() / expected.clamp(min=1)).argmax())
        text += f": {int(val[worst])} images of class {subject.data.classes[worst]} instead of"
        text += f" about {float(expected[worst]):.0f}"
        return [Finding("split", "warn", text, "shuffle before splitting, class by class")]
    return []


def _rare(subject: Subject) -> list[Finding]:
    """Classes with so few training images that chance leaves none of them for validation."""
    train = torch.bincount(subject.data.train.labels, minlength=subject.classes)
    val = torch.bincount(subject.data.val.labels, minlength=subject.classes)
    unseen = ((train > 0) & (val == 0)).nonzero().flatten().tolist()
    if not unseen:
        return []
    names = some(f"{subject.data.classes[k]} ({int(train[k])} for training)" for k in unseen)
    text = f"no validation image of {names}: accuracy says nothing about"
    text += " that class" if len(unseen) == 1 else " these classes"
    advice = "add images, or raise data.val_fraction"
    return [Finding("split", "info", text, advice, measured=float(len(unseen)), expected=0.0)]


def _balanced(train: Tensor, val: Tensor) -> bool:
    """Validation has its classes in equal shares on purpose, as in studies of long-tailed data.

    A single training class that stands out is no tail, but what a default label leaves.
    """
    mean, freedom = float(val.mean()), max(1, len(val) - 1)
    chi2 = float((val - mean).square().sum()) / mean
    if (chi2 - freedom) / math.sqrt(2 * freedom) > SIGNIFICANT:
        return False
    first, second = train.sort(descending=True).values[:2].tolist()
    alike = len(train) > 2 and second < STANDS_OUT * float(train.median())
    return not (alike and first > STANDS_OUT * second)


def _mapping(train: Pictures, val: Pictures, classes: int) -> list[Finding]:
    """The nearest training picture tells the class among training images, and not in validation."""
    likeness = correlations(train.small, train.small).fill_diagonal_(-math.inf)
    told = float((train.labels[likeness.argmax(1)] == train.labels).float().mean())
    nearest = nearest_labels(val, train)
    told_val = float((nearest == val.labels).float().mean())
    error = math.sqrt(max(told * (1 - told), 0.01) / len(val))
    if (told - told_val) / error < SIGNIFICANT:
        return []
    table = torch.zeros(classes, classes)
    table.index_put_((nearest.cpu(), val.labels.cpu()), torch.ones(len(val)), accumulate=True)
    from scipy.optimize import linear_sum_assignment  # comes with scikit-learn

    rows, columns = linear_sum_assignment(-table.numpy())
    renamed = float(table[rows, columns].sum()) / len(val)
    text = f"the nearest training image tells the class of {told:.0%} of the training images, but"
    text += f" of {told_val:.0%} of the validation images"
    advice = "look at how validation images and labels are read and ordered"
    pairs = [f"{a} is {b}" for a, b in zip(rows, columns, strict=True) if a != b]
    if pairs and renamed > MAPPED * told and (renamed - told_val) / error > SIGNIFICANT:
        text += f"; with classes renamed of {renamed:.0%} ({', '.join(pairs[:3])})"
        advice = "number the classes of both parts from one list of names"
    elif told_val > told / 2:
        return []  # weaker likeness, as of another camera, is no proof
    return [Finding("split", "fail", text, advice, measured=told_val, expected=told)]
