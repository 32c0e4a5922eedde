"""How a user feeds small images (a tensor in memory) and coloured ones (PIL, crop, flip)."""

from typing import Any

import numpy as np
import torch
from common import BATCH, tensors
from PIL import Image
from torch.utils.data import DataLoader, Dataset, TensorDataset
from torchvision import transforms


class Pictures(Dataset[Any]):
    """Images transformed one by one."""

    def __init__(self, pixels: np.ndarray, labels: np.ndarray, transform: Any) -> None:
        self.pixels, self.labels, self.transform = pixels, labels, transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.pixels[index])), int(self.labels[index])


def loaders(arrays: Any, workers: int) -> tuple[DataLoader[Any], DataLoader[Any]]:
    """Training and validation images in batches."""
    x, y, x_val, y_val = arrays
    if x.shape[-1] == 1:
        parts = [
            TensorDataset(tensors(pixels), torch.from_numpy(labels).long())
            for pixels, labels in ((x, y), (x_val, y_val))
        ]
        return DataLoader(parts[0], BATCH, shuffle=True), DataLoader(parts[1], 512)
    normalise = [transforms.ToTensor(), transforms.Normalize((0.5,) * 3, (0.25,) * 3)]
    augment = [transforms.RandomCrop(x.shape[1], padding=4), transforms.RandomHorizontalFlip()]
    train = Pictures(x, y, transforms.Compose([*augment, *normalise]))
    val = Pictures(x_val, y_val, transforms.Compose(normalise))
    return (
        DataLoader(train, BATCH, shuffle=True, num_workers=workers),
        DataLoader(val, 512, num_workers=workers),
    )
