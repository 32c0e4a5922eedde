"""Checks of the data: pixels, labels, and whether validation images are new images of one kind."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from cnntune.findings import Finding, Severity
from cnntune.sanity.subject import Subject, draw_images

LOOKED_AT = 2000  # images of a part: a share of 1 % then shows with 20 of them
IMBALANCE = 10.0  # largest class over smallest (ecosystem practice: warn the reader of accuracy)
SCALE = (0.02, 20.0)  # standard deviation of network inputs; usual is 1, 0..255 bytes have 70
OUTLIER = 40.0  # standard deviations; a picture with one bright pixel in 1,000 reaches 32
CENTRE = 20.0  # mean of network inputs in units of 1
INTERLEAVED = 0.05  # of correlation by which a further pixel resembles more than the next one
SMOOTH = 0.1  # correlation of neighbours, below which pictures are noise and tell nothing

COPIES = 0.05  # share of validation images that are training images: accuracy is off by as much
FEW_COPIES = 0.005
NEAR = 0.98  # correlation of two small pictures that are one picture with noise or other light
SMALL = 12  # pixels a side for comparing pictures
SHIFT = 1.0  # standard deviations between the mean brightness of training and validation images
FAR_SHIFT = 3.0
CONTRAST = 1.5  # times the contrast of a training image
FEW_IMAGES = 5  # from which one class alone is no chance any more
SIGNIFICANT = 5.0  # standard errors: about one false alarm in a million
MAPPED = 0.8  # of the training classes' accuracy, found again under other names


def inputs(subject: Subject) -> list[Finding]:
    """Pixels must be finite, differ between images, have a sane scale, and lie in [C, H, W] order.

    Networks are initialised for inputs of mean 0 and standard deviation 1 (CS231n, "preprocess the
    data"); bytes fed as 0..255 are 70 times too large. Rows, columns and channels in the wrong
    order train too, only badly.
    """
    pixels = subject.inputs
    if not torch.isfinite(pixels).all():
        broken = int((~torch.isfinite(pixels)).flatten(1).any(1).sum())
        text = f"{broken} of {len(pixels)} images hold NaN or infinite pixels"
        return [Finding("inputs", "fail", text, "mend or leave out these images", measured=broken)]
    flat = pixels.flatten(1)
    distinct = len(torch.unique(flat, dim=0))
    if distinct == 1 and len(flat) > 1:
        text = "all images are the same"
        return [Finding("inputs", "fail", text, "look at how they are read", measured=1.0)]
    found = [*_order(pixels), *_scale(pixels), *_outliers(pixels), *_empty(pixels)]
    text = f"mean {float(pixels.mean()):.2g}, standard deviation {float(pixels.std()):.2g}"
    return found or [Finding("inputs", "ok", text, measured=float(pixels.std()), expected=1.0)]


def _order(pixels: Tensor) -> list[Finding]:
    _, channels, height, width = pixels.shape
    if channels not in (1, 3, 4) and width in (1, 3, 4) and height > 4:
        text = f"images are {channels}x{height}x{width}: the last axis looks like the channels"
        return [Finding("inputs", "fail", text, "return [C, H, W]: image.permute(2, 0, 1)")]
    if channels == 1:
        return []
    near, far = _correlation(pixels, 1), _correlation(pixels, channels)
    if far > max(near, SMOOTH) + INTERLEAVED:
        text = f"pixels resemble the {channels}rd neighbour ({far:.2f}) more than the next"
        text += f" ({near:.2f}): channels are interleaved in the rows"
        return [Finding("inputs", "fail", text, "permute HWC to CHW; view or reshape scrambles it")]
    return []


def _correlation(pixels: Tensor, lag: int) -> float:
    """How much pixels resemble those `lag` to their right, in one channel, over all images."""
    centred = pixels - pixels.mean((2, 3), keepdim=True)
    here, there = centred[..., :-lag], centred[..., lag:]
    size = here.square().mean().sqrt() * there.square().mean().sqrt()
    return float((here * there).mean() / size.clamp(min=1e-12))


def _scale(pixels: Tensor) -> list[Finding]:
    mean, std = float(pixels.mean()), float(pixels.std())
    if SCALE[0] < std < SCALE[1] and abs(mean) < CENTRE:
        return []
    text = f"mean {mean:.3g}, standard deviation {std:.3g}; networks expect 0 and 1"
    advice = "set data.normalize = true, or scale the images yourself"
    return [Finding("inputs", "fail", text, advice, measured=std, expected=1.0)]


def _outliers(pixels: Tensor) -> list[Finding]:
    """A few enormous pixels rule mean and standard deviation, and squeeze all others together."""
    far = (pixels - pixels.mean()).abs() / pixels.std()
    image = int(far.flatten(1).amax(1).argmax())
    if float(far.max()) < OUTLIER:
        return []
    text = f"a pixel lies {float(far.max()):.0f} standard deviations off the mean; the others are"
    text += " squeezed together"
    advice = f"clip or leave out such images (number {image} of those looked at)"
    return [Finding("inputs", "fail", text, advice, measured=float(far.max()), expected=OUTLIER)]


def _empty(pixels: Tensor) -> list[Finding]:
    """Channels without any contrast, and images of a single colour."""
    found = []
    flat_channels = (pixels.amax((0, 2, 3)) == pixels.amin((0, 2, 3))).nonzero().flatten().tolist()
    if flat_channels:
        text = f"channel {flat_channels[0]} has the same value in every image"
        found.append(Finding("inputs", "warn", text, "look at how the channels are read"))
    blank = (pixels.amax((2, 3)) == pixels.amin((2, 3))).all(1).float().mean().item()
    if blank > COPIES and len(flat_channels) < pixels.shape[1]:
        text = f"{blank:.0%} of the images are of one colour"
        found.append(Finding("inputs", "warn", text, "look at these images", measured=blank))
    return found


def labels(subject: Subject) -> list[Finding]:
    """Every class must have training images, and one picture must have one label."""
    counts = torch.bincount(subject.data.train.labels, minlength=subject.classes)
    present = int((counts > 0).sum())
    names = subject.data.classes
    if present == 1:
        text = f"all training images are of class {names[int(counts.argmax())]}"
        return [Finding("labels", "fail", text, "look at how labels are made", measured=1.0)]
    missing = [names[int(k)] for k in (counts == 0).nonzero().flatten()]
    if missing:
        text = f"{len(missing)} of {len(names)} classes have no training image: "
        text += ", ".join(missing[:5])
        seen = torch.bincount(subject.data.val.labels, minlength=subject.classes)[counts == 0]
        advice = "give them images, or count labels from 0 without gaps"
        if int(seen.sum()):
            text += f"; {int(seen.sum())} validation images are of such classes"
        severity: Severity = "fail" if int(seen.sum()) or len(missing) > len(names) / 2 else "warn"
        return [
            Finding("labels", severity, text, advice, measured=float(len(missing)), expected=0.0)
        ]
    found = _contradictions(subject)
    ratio = float(counts.max() / counts.min())
    if ratio > IMBALANCE:
        majority = float(counts.max() / counts.sum())
        text = f"the largest class has {ratio:.0f} times the images of the smallest: always"
        text += f" answering {names[int(counts.argmax())]} is right {majority:.0%} of the time"
        found.append(Finding("labels", "info", text, "read accuracies against that floor"))
    text = f"{len(names)} classes, {int(counts.min())} to {int(counts.max())} training images each"
    return found or [Finding("labels", "ok", text)]


def _contradictions(subject: Subject) -> list[Finding]:
    """The same picture under two labels."""
    images, targets = draw_images(subject.data.train, LOOKED_AT, subject.recipe.seed)
    _, which = torch.unique(images.flatten(1), dim=0, return_inverse=True)
    first = torch.full((int(which.max()) + 1,), -1, device=targets.device)
    first[which] = targets
    several = float((first[which] != targets).float().mean())
    if several == 0:
        return []
    text = f"{several:.1%} of the training images occur again with another label"
    return [Finding("labels", "warn", text, "decide on one label a picture", measured=several)]


def split(subject: Subject) -> list[Finding]:
    """Validation images must be new images of the same kind, under the same class numbers.

    Copies of training images make validation accuracy a training accuracy. Other light, another
    scale, another order of classes make it worthless. Looked at without the network: by comparing
    pictures, and by how well the nearest training picture tells the class.
    """
    train_images, train_labels = draw_images(subject.data.train, LOOKED_AT, subject.recipe.seed)
    val_images, val_labels = draw_images(subject.data.val, LOOKED_AT, subject.recipe.seed)
    found = [
        *_copies(train_images, val_images, len(subject.data.train)),
        *_shift(train_images, val_images),
        *_classes(subject),
    ]
    if not found:
        found = _mapping(train_images, train_labels, val_images, val_labels, subject.classes)
    text = f"{len(subject.data.train)} training and {len(subject.data.val)} validation images,"
    return found or [Finding("split", "ok", f"{text} none in both")]


def _copies(train: Tensor, val: Tensor, train_count: int) -> list[Finding]:
    """Validation pictures that are training pictures, exactly or but for noise and light."""
    both = torch.cat([train, val]).flatten(1)
    _, which = torch.unique(both, dim=0, return_inverse=True)
    copies = float(torch.isin(which[len(train) :], which[: len(train)]).float().mean())
    seen = min(1.0, len(train) / train_count)
    estimate = min(1.0, copies / seen)
    advice = "split before copying or augmenting, and keep one source's images in one part"
    if copies > FEW_COPIES:
        text = f"{estimate:.1%} of the validation images are training images"
        severity: Severity = "fail" if estimate > COPIES else "warn"
        return [Finding("split", severity, text, advice, measured=estimate, expected=0.0)]
    some = train[: len(val)]
    mirrored = float((_nearest(val, train.flip(3))[0] > NEAR).float().mean())
    near = max(mirrored, float((_nearest(val, train)[0] > NEAR).float().mean()))
    usual = float((_nearest(some, train, skip_self=True)[0] > NEAR).float().mean())
    usual = max(
        usual, float((_nearest(some, train.flip(3), skip_self=True)[0] > NEAR).float().mean())
    )
    if near > max(COPIES, 2 * usual):
        text = f"{near:.1%} of the validation images are near copies of training images"
        return [Finding("split", "warn", text, advice, measured=near, expected=usual)]
    return []


def _small(images: Tensor) -> Tensor:
    """Pictures as unit vectors of a few pixels, without their brightness and contrast."""
    height, width = images.shape[-2:]
    size = (min(SMALL, height), min(SMALL, width))
    vectors = F.adaptive_avg_pool2d(images, size).flatten(1)
    return F.normalize(vectors - vectors.mean(1, keepdim=True), dim=1)


def _nearest(images: Tensor, among: Tensor, *, skip_self: bool = False) -> tuple[Tensor, Tensor]:
    """For each picture its highest correlation with one of `among`, and which that is."""
    similar = _small(images) @ _small(among).T
    if skip_self:
        similar.fill_diagonal_(-math.inf)
    return similar.max(1)[0], similar.max(1)[1]


def nearest_labels(images: Tensor, train: Tensor, train_labels: Tensor) -> Tensor:
    """For each picture the label of the training picture that resembles it most."""
    return train_labels[_nearest(images, train)[1]]


def _shift(train: Tensor, val: Tensor) -> list[Finding]:
    """Brightness or contrast of validation images that no random split would give."""
    means = train.mean((1, 2, 3)), val.mean((1, 2, 3))
    stds = train.flatten(1).std(1), val.flatten(1).std(1)
    spread = float(means[0].std()) + 1e-6
    apart = abs(float(means[1].mean() - means[0].mean())) / spread
    contrast = float(stds[1].mean() / stds[0].mean().clamp(min=1e-6))
    ratio = max(contrast, 1 / max(contrast, 1e-6))
    if apart < SHIFT and ratio < CONTRAST:
        return []
    text = f"validation images are {apart:.1f} standard deviations brighter or darker than"
    text += f" training images, with {contrast:.2g} times their contrast"
    severity: Severity = "fail" if apart > FAR_SHIFT or ratio > 2 * CONTRAST else "warn"
    advice = "read and scale both parts in the same way, and split at random"
    return [Finding("split", severity, text, advice, measured=apart, expected=0.0)]


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
    if (chi2 - freedom) / math.sqrt(2 * freedom) > 4 * SIGNIFICANT:
        text = "classes have other shares in validation than in training"
        worst = int(((val - expected).abs() / expected.clamp(min=1)).argmax())
        text += f": {int(val[worst])} images of class {subject.data.classes[worst]} instead of"
        text += f" about {float(expected[worst]):.0f}"
        return [Finding("split", "warn", text, "shuffle before splitting, class by class")]
    return []


def _mapping(
    train: Tensor, train_labels: Tensor, val: Tensor, val_labels: Tensor, classes: int
) -> list[Finding]:
    """The nearest training picture tells the class among training images, and not in validation."""
    within = train_labels[_nearest(train, train, skip_self=True)[1]]
    told = float((within == train_labels).float().mean())
    nearest = nearest_labels(val, train, train_labels)
    told_val = float((nearest == val_labels).float().mean())
    error = math.sqrt(max(told * (1 - told), 0.01) / len(val))
    if (told - told_val) / error < SIGNIFICANT:
        return []
    table = torch.zeros(classes, classes)
    table.index_put_((nearest.cpu(), val_labels.cpu()), torch.ones(len(val)), accumulate=True)
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
