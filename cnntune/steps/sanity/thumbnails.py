"""Images of a part in small: what is needed to compare thousands of pictures with each other."""

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from cnntune.data import Part
from cnntune.data.parts import ResidentPart
from cnntune.data.stream import StreamedPart
from cnntune.seeds import derive_seed

LOOKED_AT = 2000  # images of a part: a share of 1 % then shows with 20 of them
SMALL = 12  # pixels a side for comparing pictures
CHUNK_PIXELS = 2**22  # read at a time, so that large images need no memory


@dataclass(frozen=True)
class Pictures:
    """Some images of a part, drawn at random.

    `digests` (int64 `[N]`) are equal where two images are, bit for bit. `small` is float32 `[N, C,
    12, 12]`: unit vectors without brightness and contrast. `means` and `stds` are those of pixels.
    `indices` (int64 `[N]`) are their places in the part. All of them are on the CPU, since mps
    shrinks images to few sizes only; it is little work.
    """

    digests: Tensor
    labels: Tensor
    small: Tensor
    means: Tensor
    stds: Tensor
    indices: Tensor

    @classmethod
    def of(cls, part: Part, seed: int) -> "Pictures":
        """Look at up to 2,000 images of a part."""
        height, width = part.image_size
        order = drawn(part, LOOKED_AT, seed)
        chunks = part.batches(order, max(1, CHUNK_PIXELS // (height * width)))
        looked = [(*_reduced(inputs.cpu()), labels.cpu()) for inputs, labels in chunks]
        digests, small, means, stds, labels = (
            torch.cat(columns) for columns in zip(*looked, strict=True)
        )
        return cls(digests, labels, small, means, stds, order)

    def __len__(self) -> int:
        return len(self.labels)


def draw_images(part: Part, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Up to `count` images of a part in a fixed random order, as the network sees them."""
    batches = list(part.batches(drawn(part, count, seed), 1024))
    inputs = torch.cat([inputs for inputs, _ in batches])
    return inputs, torch.cat([labels for _, labels in batches])


def drawn(part: Part, count: int, seed: int) -> Tensor:
    """The indices of what `draw_images` gives, int64 `[at most count]`."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "sanity"))
    return torch.randperm(len(part), generator=generator)[:count]


def not_finite(part: Part, seed: int) -> Tensor:
    """The indices of images with NaN or infinite pixels, among 2,000 of a streamed part."""
    order = torch.arange(len(part))
    if isinstance(part, ResidentPart):
        if not part.images.pixels.is_floating_point():
            return order[:0]
    elif isinstance(part, StreamedPart):
        if part.bytes_only:
            return order[:0]
        order = drawn(part, LOOKED_AT, seed).sort().values
    height, width = part.image_size
    chunks = part.batches(order, max(1, CHUNK_PIXELS // (height * width)))
    broken = [~torch.isfinite(inputs).flatten(1).all(1).cpu() for inputs, _ in chunks]
    return order[torch.cat(broken)] if broken else order


def _reduced(images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    height, width = images.shape[-2:]
    shrunk = F.adaptive_avg_pool2d(images, (min(SMALL, height), min(SMALL, width)))
    vectors = shrunk.flatten(1)
    unit = F.normalize(vectors - vectors.mean(1, keepdim=True), dim=1).view_as(shrunk)
    pixels = images.flatten(1)
    return _digests(images), unit, pixels.mean(1), pixels.std(1)


def _digests(images: Tensor) -> Tensor:
    rows = images.contiguous().numpy()
    hashes = [hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in rows]
    return torch.tensor([int.from_bytes(digest, "big", signed=True) for digest in hashes])


def correlations(images: Tensor, among: Tensor) -> Tensor:
    """Of small pictures `[N, C, s, s]` with others `[M, C, s, s]`: float32 `[N, M]` in -1..1."""
    return images.flatten(1) @ among.flatten(1).T


def nearest_labels(images: Pictures, among: Pictures) -> Tensor:
    """For each picture the label of the one among others that resembles it most, int64 `[N]`."""
    return among.labels[correlations(images.small, among.small).argmax(1)]
