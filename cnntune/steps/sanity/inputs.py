"""Checks of the pixels: finite, of a usual scale, in axis order, different between images."""

import torch
from torch import Tensor

from cnntune.findings import Finding
from cnntune.steps.sanity.subject import Subject
from cnntune.steps.sanity.symptom import PIXELS, Symptom
from cnntune.steps.sanity.thumbnails import draw_images

SCALE = (0.02, 2.5)  # standard deviation of network inputs; bytes 0..255 have 70, ImageNet's
# constants applied twice give 3 to 5
CENTRE = 20.0  # largest |mean| of network inputs
INTERLEAVED = 0.05  # by which the correlation with a further pixel exceeds that with the next
SMOOTH = 0.1  # correlation of neighbours, below which images look like noise
BLANK = 0.05  # share of images that have a single colour
TELLING_IMAGES = 512
TELLING_PIXELS = 2**25  # of these images, with their channels: 128 MB
MIN_IMAGES_PER_CLASS = 5  # to see that a pixel is the same in all images of a class
TELLING = 0.01  # deviation within classes over that between them; a stamp after JPEG has as much
STAMP = 0.25  # largest share of pixels in a stamp: more is what the classes look like


def inputs(subject: Subject) -> list[Finding]:
    """Pixels must be finite, differ between images, have the usual scale, and be in CHW order.

    Networks are initialised for inputs of mean 0 and standard deviation 1 (CS231n, "preprocess the
    data"); bytes fed as 0..255 are 70 times too large. With rows, columns and channels in the wrong
    order a network still trains, but badly.
    """
    if not finite(subject):
        return [_not_finite(subject)]
    pixels = subject.inputs
    if all_alike(subject):
        text = "all images are the same"
        return [Finding("inputs", "fail", text, "check how images are read", measured=1.0)]
    found = [*_order(pixels), *_scale(pixels), *_empty(subject), *_tell_tale(subject)]
    text = f"mean {float(pixels.mean()):.2g}, standard deviation {float(pixels.std()):.2g}"
    if all(finding.severity == "info" for finding in found):
        found.append(Finding("inputs", "ok", text, measured=float(pixels.std()), expected=1.0))
    return [*(Finding("inputs", "info", remark) for remark in subject.data.remarks), *found]


def finite(subject: Subject) -> bool:
    """Whether all pixels are finite; otherwise other checks of the images mean nothing."""
    return not any(map(len, subject.broken.values()))


def all_alike(subject: Subject) -> bool:
    """Whether all images are the same: then no network can learn anything."""
    flat = subject.inputs.flatten(1)
    return len(flat) > 1 and len(torch.unique(flat.cpu(), dim=0)) == 1  # mps cannot


def _not_finite(subject: Subject) -> Finding:
    """One finding for all sets."""
    parts = {"training": subject.data.train, "validation": subject.data.val}
    parts |= {"test": subject.data.test} if subject.data.test else {}
    lines = [
        f"{len(broken)} of {len(parts[name])} {name} images have NaN or infinite pixels:"
        f" {parts[name].names.of(broken)}"
        for name, broken in subject.broken.items()
        if len(broken)
    ]
    count = sum(map(len, subject.broken.values()))
    advice = "fix or remove these images"
    return Finding("inputs", "fail", "; ".join(lines), advice, measured=count, expected=0.0)


def _order(pixels: Tensor) -> list[Finding]:
    _, channels, height, width = pixels.shape
    if channels not in (1, 3, 4) and width in (1, 3, 4) and height > 4:
        text = f"images are {channels}x{height}x{width}: the last axis looks like the channels"
        return [Finding("inputs", "fail", text, "return [C, H, W]: image.permute(2, 0, 1)")]
    if channels == 1:
        return []
    for axis, along in (("columns", pixels), ("rows", pixels.transpose(2, 3))):
        if along.shape[3] <= channels:
            continue
        near, far = correlation(along, 1), correlation(along, channels)
        if far > max(near, SMOOTH) + INTERLEAVED:
            text = f"pixels correlate more with those {channels} {axis} further on ({far:.2f}) than"
            text += f" with the next ones ({near:.2f}): channels are interleaved along the {axis}"
            advice = "permute HWC to CHW; view and reshape scramble pixels"
            return [Finding("inputs", "fail", text, advice)]
    return []


def correlation(pixels: Tensor, lag: int) -> float:
    """The correlation of pixels with those `lag` to their right, in the same channel."""
    centred = pixels - pixels.mean((2, 3), keepdim=True)
    here, there = centred[..., :-lag], centred[..., lag:]
    size = here.square().mean().sqrt() * there.square().mean().sqrt()
    return float((here * there).mean() / size.clamp(min=1e-12))


def _scale(pixels: Tensor) -> list[Finding]:
    mean, std = float(pixels.mean()), float(pixels.std())
    if SCALE[0] < std < SCALE[1] and abs(mean) < CENTRE:
        return []
    text = f"mean {mean:.3g}, standard deviation {std:.3g}; networks expect 0 and 1"
    advice = "set data.normalize = true, or scale the images yourself, once"
    return [Symptom("inputs", "warn", text, advice, measured=std, expected=1.0, part=PIXELS)]


def _blank(pixels: Tensor) -> Tensor:
    """Which images have a single colour, bool `[N]`; by rounding, their deviation may exceed 0."""
    return (pixels.amax((2, 3)) == pixels.amin((2, 3))).all(1)


def _empty(subject: Subject) -> list[Finding]:
    """Channels without any contrast, and images of a single colour."""
    pixels = subject.inputs
    found: list[Finding] = []
    flat_channels = (pixels.amax((0, 2, 3)) == pixels.amin((0, 2, 3))).nonzero().flatten().tolist()
    if flat_channels:
        text = f"channel {flat_channels[0]} has the same value in every image"
        found.append(Symptom("inputs", "warn", text, "check how channels are read"))
    is_blank = _blank(pixels)
    blank = is_blank.float().mean().item()
    if blank > BLANK and len(flat_channels) < pixels.shape[1]:
        text = f"{blank:.0%} of the images have a single colour: {subject.named(is_blank)}"
        found.append(Finding("inputs", "warn", text, "check these images", measured=blank))
    elif 0 < blank <= BLANK:
        text = f"{int(is_blank.sum())} of {len(pixels)} sampled images have a single colour:"
        text += f" {subject.named(is_blank)}"
        found.append(Finding("inputs", "info", text, "check these images", measured=blank))
    return found


def _tell_tale(subject: Subject) -> list[Finding]:
    """A few pixels are constant within each class and differ between classes: a leaked label."""
    train = subject.data.train
    affordable = TELLING_PIXELS // max(1, subject.kept_inputs[0].numel())
    images, labels = draw_images(train, min(TELLING_IMAGES, affordable), subject.recipe.seed)
    classes = labels.unique()
    if len(labels) < MIN_IMAGES_PER_CLASS * len(classes):
        return []
    groups = [images[labels == k] for k in classes]
    within = sum(group.sub(group.mean(0)).square().sum(0) for group in groups) / len(labels)
    overall = images.sub(images.mean(0)).square().mean(0)
    telling = ((within < TELLING**2 * (overall - within)) & (overall > 0)).any(0)
    share = float(telling.float().mean())
    if not 0 < share < STAMP:
        return []
    row, column = telling.nonzero()[0].tolist()
    text = f"the pixel in row {row}, column {column} alone reveals the class ({share:.2%} of the"
    text += " pixels do): it is constant within each class and differs between classes"
    advice = "remove the mark or stamp: a network would learn nothing else"
    return [Finding("inputs", "warn", text, advice, measured=share, expected=0.0)]
