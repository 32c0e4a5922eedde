"""Checks of the pixels: are they finite, of a sane scale, in order, and different?"""

import math

import torch
from torch import Tensor

from cnntune.data.augment import augment
from cnntune.findings import Finding, Severity
from cnntune.steps.sanity.subject import Subject
from cnntune.steps.sanity.thumbnails import draw_images

SCALE = (0.02, 20.0)  # standard deviation of network inputs; usual is 1, 0..255 bytes have 70
TWICE = 2.5  # standard deviation; ImageNet's constants applied twice leave 3 to 5
OUTLIER = 40.0  # standard deviations; a picture with one bright pixel in 1,000 reaches 32
SCALED = (0.03, 0.97)  # of the images, by contrast: a few faint ones are found anywhere
SCALED_IMAGES = 64
APART = 100.0  # times; light differs by a factor of 10, bytes and shares of 1 by 255
CENTRE = 20.0  # mean of network inputs in units of 1
INTERLEAVED = 0.05  # of correlation by which a further pixel resembles more than the next one
SMOOTH = 0.1  # correlation of neighbours, below which pictures are noise and tell nothing
BLANK = 0.05  # share of images of one colour
FLAT = 0.01  # of an image's contrast, below which nothing is to be seen
EMPTIED = 0.3  # of the images: what augmentation may leave without contrast
REPEATED = 0.1  # pictures an image: each is there ten times
TELLING_IMAGES = 512
TELLING_PIXELS = 2**25  # of these images, with their channels: 128 MB
OF_A_CLASS = 5  # images a class, to see that a pixel is the same in all of them
TELLING = 0.01  # deviation within classes over that between them; JPEG leaves as much of a stamp
STAMP = 0.25  # of the pixels: more is no stamp but what the classes look like


def inputs(subject: Subject) -> list[Finding]:
    """Pixels must be finite, differ between images, have a sane scale, and lie in [C, H, W] order.

    Networks are initialised for inputs of mean 0 and standard deviation 1 (CS231n, "preprocess the
    data"); bytes fed as 0..255 are 70 times too large. Rows, columns and channels in the wrong
    order train too, only badly.
    """
    if not finite(subject):
        return [_not_finite(subject)]
    pixels = subject.inputs
    if all_alike(subject):
        text = "all images are the same"
        return [Finding("inputs", "fail", text, "look at how they are read", measured=1.0)]
    found = [*_order(pixels), *_scale(pixels), *_outliers(subject), *_empty(subject)]
    found += _two_scales(subject)
    found += [*_repeated(subject), *_tell_tale(subject), *_emptied(subject)]
    text = f"mean {float(pixels.mean()):.2g}, standard deviation {float(pixels.std()):.2g}"
    if all(finding.severity == "info" for finding in found):
        found.append(Finding("inputs", "ok", text, measured=float(pixels.std()), expected=1.0))
    return [*(Finding("inputs", "info", remark) for remark in subject.data.remarks), *found]


def finite(subject: Subject) -> bool:
    """Whether all pixels are numbers: beside NaN, other checks of images mean nothing."""
    return not any(map(len, subject.broken.values()))


def all_alike(subject: Subject) -> bool:
    """Whether there is only one image: then nothing can be learned, whatever the network."""
    flat = subject.inputs.flatten(1)
    return len(flat) > 1 and len(torch.unique(flat.cpu(), dim=0)) == 1  # mps cannot


def _not_finite(subject: Subject) -> Finding:
    """One finding for all parts."""
    parts = {"training": subject.data.train, "validation": subject.data.val}
    parts |= {"test": subject.data.test} if subject.data.test else {}
    told = [
        f"{len(broken)} of {len(parts[name])} {name} images hold NaN or infinite pixels:"
        f" {parts[name].names.of(broken)}"
        for name, broken in subject.broken.items()
        if len(broken)
    ]
    count = sum(map(len, subject.broken.values()))
    advice = "fix or leave out these images"
    return Finding("inputs", "fail", "; ".join(told), advice, measured=count, expected=0.0)


def _order(pixels: Tensor) -> list[Finding]:
    _, channels, height, width = pixels.shape
    if channels not in (1, 3, 4) and width in (1, 3, 4) and height > 4:
        text = f"images are {channels}x{height}x{width}: the last axis looks like the channels"
        return [Finding("inputs", "fail", text, "return [C, H, W]: image.permute(2, 0, 1)")]
    if channels == 1:
        return []
    near, far = correlation(pixels, 1), correlation(pixels, channels)
    if far > max(near, SMOOTH) + INTERLEAVED:
        text = f"pixels resemble the {channels}rd neighbour ({far:.2f}) more than the next"
        text += f" ({near:.2f}): channels are interleaved in the rows"
        return [Finding("inputs", "fail", text, "permute HWC to CHW; view or reshape scrambles it")]
    return []


def correlation(pixels: Tensor, lag: int) -> float:
    """How much pixels resemble those `lag` to their right, in one channel, over all images."""
    centred = pixels - pixels.mean((2, 3), keepdim=True)
    here, there = centred[..., :-lag], centred[..., lag:]
    size = here.square().mean().sqrt() * there.square().mean().sqrt()
    return float((here * there).mean() / size.clamp(min=1e-12))


def _scale(pixels: Tensor) -> list[Finding]:
    mean, std = float(pixels.mean()), float(pixels.std())
    if SCALE[0] < std < TWICE and abs(mean) < CENTRE:
        return []
    severity: Severity = "warn" if SCALE[0] < std < SCALE[1] and abs(mean) < CENTRE else "fail"
    text = f"mean {mean:.3g}, standard deviation {std:.3g}; networks expect 0 and 1"
    advice = "set data.normalize = true, or scale the images yourself, once"
    return [Finding("inputs", severity, text, advice, measured=std, expected=1.0)]


def _outliers(subject: Subject) -> list[Finding]:
    """A few enormous pixels rule mean and standard deviation, and squeeze all others together."""
    pixels = subject.inputs
    far = (pixels - pixels.mean()).abs() / pixels.std()
    if float(far.max()) < OUTLIER:
        return []
    text = f"a pixel lies {float(far.max()):.0f} standard deviations off the mean; the others are"
    text += f" squeezed together: {subject.named(far.flatten(1).amax(1) >= OUTLIER)}"
    advice = "clip or leave out such images"
    return [Finding("inputs", "fail", text, advice, measured=float(far.max()), expected=OUTLIER)]


def _two_scales(subject: Subject) -> list[Finding]:
    """Some images in 0..1 among others in 0..255."""
    contrasts = subject.inputs.flatten(1).std(1)
    shown = ~_blank(subject.inputs)
    if int(shown.sum()) < SCALED_IMAGES:
        return []
    low, high = torch.quantile(contrasts[shown], torch.tensor(SCALED).to(contrasts)).tolist()
    if high < APART * low:
        return []
    faint = shown & (contrasts < math.sqrt(low * high))
    strong = shown & ~faint
    fewer, word = (faint, "little") if faint.sum() <= strong.sum() else (strong, "much")
    text = f"the contrast of images differs by a factor of {high / low:.0f}: {word} in"
    text += f" {subject.named(fewer)}"
    advice = "look for some that are scaled to 0..1 and others that are not"
    return [Finding("inputs", "warn", text, advice, measured=high / low, expected=1.0)]


def _blank(pixels: Tensor) -> Tensor:
    """Which images are of one colour, bool `[N]`; rounding gives them a deviation above 0."""
    return (pixels.amax((2, 3)) == pixels.amin((2, 3))).all(1)


def _empty(subject: Subject) -> list[Finding]:
    """Channels without any contrast, and images of a single colour."""
    pixels = subject.inputs
    found = []
    flat_channels = (pixels.amax((0, 2, 3)) == pixels.amin((0, 2, 3))).nonzero().flatten().tolist()
    if flat_channels:
        text = f"channel {flat_channels[0]} has the same value in every image"
        found.append(Finding("inputs", "warn", text, "look at how the channels are read"))
    is_blank = _blank(pixels)
    blank = is_blank.float().mean().item()
    if blank > BLANK and len(flat_channels) < pixels.shape[1]:
        text = f"{blank:.0%} of the images are of one colour: {subject.named(is_blank)}"
        found.append(Finding("inputs", "warn", text, "look at these images", measured=blank))
    elif 0 < blank <= BLANK:
        text = f"{int(is_blank.sum())} of {len(pixels)} images looked at are of one colour:"
        text += f" {subject.named(is_blank)}"
        found.append(Finding("inputs", "info", text, "look at these images", measured=blank))
    return found


def _repeated(subject: Subject) -> list[Finding]:
    """A handful of pictures again and again."""
    digests = subject.train_pictures.digests
    pictures, which, counts = torch.unique(digests, return_inverse=True, return_counts=True)
    different = len(pictures)
    if different > REPEATED * len(digests):
        return []
    same = subject.train_pictures.indices[(which == counts.argmax()).cpu()].sort().values
    text = f"{len(digests)} training images looked at are {different} different pictures: one is"
    text += f" {subject.data.train.names.of(same)}"
    severity: Severity = "fail" if different <= subject.classes else "warn"
    advice = "look at the index that images are read with, and at what is kept by class or name"
    return [Finding("inputs", severity, text, advice, measured=float(different))]


def _tell_tale(subject: Subject) -> list[Finding]:
    """A few pixels that are the same in each class and differ between classes: a leaked label."""
    train = subject.data.train
    affordable = TELLING_PIXELS // max(1, subject.kept_inputs[0].numel())
    images, labels = draw_images(train, min(TELLING_IMAGES, affordable), subject.recipe.seed)
    classes = labels.unique()
    if len(labels) < OF_A_CLASS * len(classes):
        return []
    groups = [images[labels == k] for k in classes]
    within = sum(group.sub(group.mean(0)).square().sum(0) for group in groups) / len(labels)
    overall = images.sub(images.mean(0)).square().mean(0)
    telling = ((within < TELLING**2 * (overall - within)) & (overall > 0)).any(0)
    share = float(telling.float().mean())
    if not 0 < share < STAMP:
        return []
    row, column = telling.nonzero()[0].tolist()
    text = f"the pixel in row {row}, column {column} alone tells the class ({share:.2%} of the"
    text += " pixels do): the same within each class, and different between them"
    advice = "look for a mark or stamp; a network would read that and nothing else"
    return [Finding("inputs", "warn", text, advice, measured=share, expected=0.0)]


def _emptied(subject: Subject) -> list[Finding]:
    """Augmentation that leaves nothing of the images."""
    before = subject.inputs
    generator = torch.Generator().manual_seed(subject.recipe.seed)
    settings, normalise = subject.recipe.augment, subject.data.normalise
    after, _ = augment(subject.inputs, subject.labels, settings, normalise, generator)
    contrast = [images.std((2, 3)).amax(1) for images in (before, after)]
    lost = (contrast[1] <= FLAT * contrast[0].median()) & (contrast[0] > 0)
    share = float(lost.float().mean())
    if share < EMPTIED:
        return []
    text = f"augmentation leaves {share:.0%} of the images without contrast: {subject.named(lost)}"
    advice = "lower what [augment] asks for: `cnntune inspect` shows an augmented batch"
    return [Finding("inputs", "warn", text, advice, measured=share, expected=0.0)]
