"""Advice on transfer learning: freeze the backbone, fine-tune, or use other weights (CS231n)."""

from cnntune.data.parts import Data
from cnntune.findings import Finding

LITTLE = 50  # training images per class; with more, fine-tuning beats a linear probe
# (benchmarks/search/transfer.py)
PHOTOGRAPH = 64  # pixels of the shorter side; smaller images hardly resemble ImageNet's

PROBE = "train.freeze=backbone"
TENTH = "train.backbone_lr=0.1"


def transfer_finding(data: Data) -> Finding:
    """How to use ImageNet weights for these images; shown by `init` and `inspect`.

    Colour images of at least 64 pixels count as similar to ImageNet.
    """
    channels, height, width = data.in_shape
    similar = channels == 3 and min(height, width) >= PHOTOGRAPH
    seen = f"{width}x{height} pixels, {'colour' if channels == 3 else f'{channels} channel(s)'}"
    return advise(len(data.train) / len(data.classes), similar=similar, seen=seen)


def advise(images_per_class: float, *, similar: bool, seen: str = "") -> Finding:
    """CS231n, transfer learning: the advice depends on the amount of data and its similarity.

    Little and similar data: train a linear classifier on frozen features. Little and different: the
    late layers are too specific to the old task. Much data: fine-tune all layers, with a higher
    learning rate if the data is different.
    """
    little = images_per_class < LITTLE
    near = "like photographs" if similar else "unlike the photographs of ImageNet"
    amount = "little" if little else "much"
    evidence = (
        f"{images_per_class:.0f} training images per class ({amount}); {near}"
        f"{f' ({seen})' if seen else ''}"
    )
    if little and similar:
        advice = f"--set model.weights=imagenet --set {PROBE}: train only the head"
    elif little:
        advice = (
            "use weights from more similar images (model.weights = one of your best.pt files), or"
            " unfreeze ImageNet weights from the last layers on: --set model.weights=imagenet"
            f" --set {PROBE} --set train.unfreeze_every=1; and augment the images"
        )
    elif similar:
        advice = f"--set model.weights=imagenet --set {TENTH}: fine-tune all layers"
    else:
        advice = (
            "--set model.weights=imagenet --set train.backbone_lr=1.0: fine-tune all layers at the"
            " full learning rate, and compare with training from scratch"
        )
    return Finding("transfer", "info", evidence, advice, measured=images_per_class, expected=LITTLE)
