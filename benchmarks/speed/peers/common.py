"""What every peer shares: the network, the images, the ranges. Plain PyTorch."""

import math

import numpy as np
import torch
from torch import nn

BATCH = 64
WIDTH = 32
SMALLEST_MAP = 4  # pixels: as often is the map halved
MOMENTUM = 0.9
LR = (1e-3, 1.0)
WEIGHT_DECAY = (1e-6, 1e-2)


def network(channels: int, size: int, classes: int) -> nn.Sequential:
    """The layers of cnntune's `small-cnn` with its defaults."""
    halvings = min(3, int(math.log2(size / SMALLEST_MAP)))
    layers: list[nn.Module] = []
    last = -1
    for i in range(3):
        group = i * halvings // 3
        out = WIDTH * 2**group
        layers.append(nn.Conv2d(channels, out, 3, padding=1, bias=False))
        if group > last:
            layers.append(nn.MaxPool2d(2))
        layers += [nn.BatchNorm2d(out), nn.ReLU()]
        channels, last = out, group
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(out, classes))


def images(path: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """`x_train, y_train, x_val, y_val`; images uint8 `[N, H, W, C]`."""
    with np.load(path) as file:
        return tuple(file[name] for name in ("x_train", "y_train", "x_val", "y_val"))


def tensors(pixels: np.ndarray) -> torch.Tensor:
    """Float32 `[N, C, H, W]`, 0..1."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
