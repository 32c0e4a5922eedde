"""Random changes that keep the label, batched on the device with one draw for each image."""

import torch
from torch import Tensor
from torch.nn import functional as F

from cnntune.recipe import AugmentSection


def augment(inputs: Tensor, settings: AugmentSection, generator: torch.Generator) -> Tensor:
    """Augment float `[B, C, H, W]`; `generator` lives on the CPU and is advanced.

    What lies outside the image is 0, which is the mean colour once inputs are normalised.
    """
    if settings.flip:
        inputs = flip(inputs, generator)
    if settings.crop:
        inputs = crop(inputs, settings.crop, generator)
    return inputs


def flip(inputs: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror half of the images, left to right."""
    mirrored = torch.rand(len(inputs), generator=generator) < 0.5
    return torch.where(mirrored.to(inputs.device).view(-1, 1, 1, 1), inputs.flip(3), inputs)


def crop(inputs: Tensor, padding: int, generator: torch.Generator) -> Tensor:
    """Shift each image by up to `padding` pixels in both directions: pad, then crop back."""
    count, _, height, width = inputs.shape
    padded = F.pad(inputs, [padding] * 4)
    offsets = torch.randint(2 * padding + 1, (2, count), generator=generator).to(inputs.device)
    rows = offsets[0].view(-1, 1) + torch.arange(height, device=inputs.device)
    columns = offsets[1].view(-1, 1) + torch.arange(width, device=inputs.device)
    images = torch.arange(count, device=inputs.device).view(-1, 1, 1)
    # Indices around the channel axis move it last: [B, H, W, C], which is channels-last memory.
    shifted = padded[images, :, rows.unsqueeze(2), columns.unsqueeze(1)]
    return shifted.permute(0, 3, 1, 2)
