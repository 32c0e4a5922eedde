"""What these images allow without the user's network: nearest neighbours and a small CNN of ours.

If one of them classifies held-out images well, a network that does not has a fault.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnntune.config.recipe import AugmentSection
from cnntune.data.augment import augment, loss_of
from cnntune.runs.chance import ABOVE_CHANCE, ENOUGH_IMAGES, SHORTFALL
from cnntune.seeds import derive_seed
from cnntune.steps.sanity.subject import Subject, once
from cnntune.steps.sanity.thumbnails import Pictures, draw_images, nearest_labels
from cnntune.training.device import seeded
from cnntune.training.optimizers import AdamW

PLAIN_IMAGES = 1000  # per set: a standard error of at most 1.6 points
PLAIN_PIXELS = 2**22  # of these images, so that large ones fit in memory; 64 of 256x256
PLAIN_SIDE = 32  # pixels; larger images are shrunk to it: what takes seconds on a CPU core
PLAIN_STEPS = 150  # of 64 images
PLAIN_BATCH = 64  # images
PLAIN_LRS = (3e-3, 3e-2)  # of AdamW: its usual learning rate after BatchNorm, and ten times as much


@dataclass(frozen=True)
class Reference:
    """How well validation images are classified without the user's network.

    `acc` is in 0..1; `images` is how many validation images it was measured on.
    """

    name: str
    acc: float
    images: int


def far_below(acc: float, reference: Reference) -> bool:
    """Whether an accuracy is below the reference by more than 15 points and its sampling error."""
    error = ABOVE_CHANCE * math.sqrt(reference.acc * (1 - reference.acc) / reference.images)
    return reference.acc - acc > max(SHORTFALL, error)


@once
def best_reference(subject: Subject) -> Reference:
    """The most accurate of three references: thumbnails, mean and spread, and the small CNN.

    Copies of training images are left out of the first two, which would only find the original.
    """
    train, val = subject.train_pictures, subject.new_val_pictures
    predicted = {
        "the nearest training image": nearest_labels(val, train),
        "mean and spread of the pixels": _by_statistics(val, train),
    }
    found = [
        Reference(name, float((labels == val.labels).float().mean()), len(val))
        for name, labels in predicted.items()
        if len(val) >= ENOUGH_IMAGES
    ]
    found.append(plain_cnn(subject, AugmentSection()))
    return max(found, key=lambda one: one.acc)


def _by_statistics(images: Pictures, among: Pictures) -> Tensor:
    """For each image the label of the one in `among` with the nearest mean and deviation."""
    points = [torch.cat([part.means, part.stds], 1) for part in (images, among)]
    scale = points[1].std(0).clamp(min=1e-12)
    return among.labels[torch.cdist(points[0] / scale, points[1] / scale).argmin(1)]


@once
def plain_cnn(subject: Subject, augmentation: AugmentSection) -> Reference:
    """A small CNN on pixels scaled by us, trained with cross-entropy and `augmentation`.

    The learning rate is the one with the lower training loss.
    """
    height, width = subject.data.train.image_size
    count = min(PLAIN_IMAGES, max(PLAIN_BATCH, PLAIN_PIXELS // (height * width)))
    parts = (subject.data.train, subject.data.val)
    train, val = (draw_images(part, count, subject.recipe.seed) for part in parts)
    tried = [_train_plain(subject, train, augmentation, lr) for lr in PLAIN_LRS]
    model = min(tried, key=lambda one: one[0])[1].eval()
    with torch.no_grad():
        right = [
            model(images).argmax(1) == labels
            for images, labels in zip(*(both.split(256) for both in val), strict=True)
        ]
    return Reference("a small CNN", float(torch.cat(right).float().mean()), len(val[1]))


def _train_plain(
    subject: Subject, train: tuple[Tensor, Tensor], augmentation: AugmentSection, lr: float
) -> tuple[float, nn.Module]:
    """The mean loss over the last third of the steps, and the network."""
    seed = derive_seed(subject.recipe.seed, "plain")
    generator = torch.Generator().manual_seed(seed)
    inputs, labels = train
    with seeded(seed, device=subject.device):
        model = _Plain(inputs, subject.classes).to(inputs.device).train()
    optimizer = AdamW([{"params": list(model.parameters()), "lr": lr, "weight_decay": 0.0}])
    losses = []
    for _ in range(PLAIN_STEPS):
        chosen = torch.randperm(len(labels), generator=generator)[:PLAIN_BATCH].to(labels.device)
        images, targets = augment(
            inputs[chosen], labels[chosen], augmentation, subject.data.normalise, generator
        )
        loss = loss_of(F.cross_entropy, model(images), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    last = losses[-PLAIN_STEPS // 3 :]
    return sum(last) / len(last), model


class _Plain(nn.Module):
    """Two convolutions with BatchNorm on standardized pixels, and a linear layer."""

    def __init__(self, inputs: Tensor, classes: int) -> None:
        super().__init__()
        self.mean = inputs.mean((0, 2, 3), keepdim=True)
        self.std = inputs.std((0, 2, 3), keepdim=True).clamp(min=1e-12)
        sizes = [min(PLAIN_SIDE, size) for size in inputs.shape[-2:]]
        channels = inputs.shape[1]
        self.layers = nn.Sequential(
            nn.AdaptiveAvgPool2d((sizes[0], sizes[1])),
            *(nn.Conv2d(channels, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()),
            nn.MaxPool2d(2),
            *(nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU()),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Linear(32 * 16, classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Images as fed to the user's network to logits `[N, classes]`."""
        logits: Tensor = self.layers((images - self.mean) / self.std)
        return logits
