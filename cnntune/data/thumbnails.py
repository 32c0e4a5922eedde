"""Small pictures of images, as the network gets them."""

import io

import torch
from PIL import Image
from torch import Tensor

from cnntune.data.parts import Normalise, Part

MAX_SIDE = 96  # pixels of a thumbnail's longer side


def to_bytes(pixels: Tensor) -> Tensor:
    """Uint8 `[N, H, W, 3]` of float `[N, C, H, W]`; unless C is 3, their mean is shown.

    Floats outside 0..1 are rescaled to it.
    """
    pixels = pixels.detach().float().cpu()
    if pixels.shape[1] != 3:
        pixels = pixels.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    low, high = min(0.0, float(pixels.min())), max(1.0, float(pixels.max()))
    scaled = (pixels - low) / (high - low) * 255
    return scaled.round().byte().permute(0, 2, 3, 1)


def thumbnails(part: Part, indices: Tensor, normalise: Normalise) -> list[bytes]:
    """The images at `indices`, each as a PNG of at most 96 pixels per side."""
    if not len(indices):
        return []
    batches = part.batches(indices, len(indices))
    shown = to_bytes(torch.cat([normalise.undo(inputs) for inputs, _ in batches]))
    return [_png(Image.fromarray(pixels.contiguous().numpy())) for pixels in shown]


def _png(image: Image.Image) -> bytes:
    image.thumbnail((MAX_SIDE, MAX_SIDE))
    written = io.BytesIO()
    image.save(written, "PNG")
    return written.getvalue()
