"""Custom code for cnntune: a data set, a model and a loss, each a plain function.

Their keyword arguments are the keys of the recipe's `[data]` and `[model]`, which are checked
against the annotations before anything is trained.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset


def stripes(
    *, seed: int, images: int = 600, noise: float = 0.3
) -> tuple[TensorDataset, TensorDataset, TensorDataset]:
    """Grey 16x16 images of stripes in one of four directions, which is the label."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(4, (images,), generator=generator)
    phases = torch.rand(images, generator=generator) * 6.28
    angles = (labels * torch.pi / 4).view(-1, 1, 1)
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    waves = torch.sin(x * torch.cos(angles) + y * torch.sin(angles) + phases.view(-1, 1, 1))
    pixels = 0.5 + 0.4 * waves + noise * torch.randn(waves.shape, generator=generator)
    whole = pixels.unsqueeze(1)  # float [N, 1, 16, 16]
    train, val = int(0.6 * images), int(0.8 * images)
    return (
        TensorDataset(whole[:train], labels[:train]),
        TensorDataset(whole[train:val], labels[train:val]),
        TensorDataset(whole[val:], labels[val:]),
    )


def tiny_net(*, num_classes: int, in_shape: tuple[int, int, int], channels: int = 16) -> nn.Module:
    """Two convolutions and a linear layer: float `[N, C, H, W]` -> logits `[N, num_classes]`."""
    return nn.Sequential(
        nn.Conv2d(in_shape[0], channels, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(channels, channels, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(channels * 16, num_classes),
    )


def focal(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy that down-weights well classified images (Lin et al. 2017, gamma 1)."""
    losses = F.cross_entropy(logits, targets, reduction="none")
    return ((1 - torch.exp(-losses)) * losses).mean()
