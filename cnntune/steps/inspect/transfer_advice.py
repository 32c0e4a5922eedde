"""Whether to freeze, to fine-tune or to look elsewhere: the lecture's rule of two questions."""

from cnntune.data.parts import Data
from cnntune.findings import Finding

LITTLE = 50  # training images a class; there fine-tuning overtakes the probe, says
# benchmarks/transfer.py
PHOTOGRAPH = 64  # pixels of the shorter side; below, an image has little of what ImageNet shows

PROBE = "train.freeze=backbone"
TENTH = "train.backbone_lr=0.1"


def transfer_finding(data: Data) -> Finding:
    """What to do with ImageNet's weights for these images, for `init` and `inspect` to show.

    Colour images of 64 pixels and more count as similar to ImageNet's. Whoever knows better, or has
    other weights, asks `advise`.
    """
    channels, height, width = data.in_shape
    similar = channels == 3 and min(height, width) >= PHOTOGRAPH
    seen = f"{width}x{height} pixels, {'colour' if channels == 3 else f'{channels} channel(s)'}"
    return advise(len(data.train) / len(data.classes), similar=similar, seen=seen)


def advise(images_per_class: float, *, similar: bool, seen: str = "") -> Finding:
    """CS231n, transfer learning: how much data there is, and how near to what was learned before.

    Little and similar: a linear classifier on top. Little and different: the late layers know too
    much of the old task. Much: fine-tune all, the more so the more it differs.
    """
    little = images_per_class < LITTLE
    near = "like photographs" if similar else "unlike the photographs of ImageNet"
    amount = "little" if little else "much"
    evidence = (
        f"{images_per_class:.0f} training images a class, which is {amount}; {near}"
        f"{f' ({seen})' if seen else ''}"
    )
    if little and similar:
        advice = f"--set model.weights=imagenet --set {PROBE}: train the head alone"
    elif little:
        advice = (
            "weights from images nearer to these (model.weights = a best.pt of your own), or"
            f" ImageNet's with the late layers thawed: --set {PROBE} --set train.unfreeze_every=1;"
            " and augment"
        )
    elif similar:
        advice = f"--set model.weights=imagenet --set {TENTH}: fine-tune all layers"
    else:
        advice = (
            "--set model.weights=imagenet --set train.backbone_lr=1.0: fine-tune all layers at full"
            " rate, and compare with training from scratch"
        )
    return Finding("transfer", "info", evidence, advice, measured=images_per_class, expected=LITTLE)
