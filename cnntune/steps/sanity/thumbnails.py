"""Thumbnails of a set's images: what is needed to compare thousands of images with each other."""

import hashlib
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional as F

from cnntune.data import Part
from cnntune.data.parts import ResidentPart
from cnntune.data.stream import StreamedPart
from cnntune.seeds import derive_seed

SAMPLE_SIZE = 2000  # images per set: 1 % of the images are then about 20 of the sample
THUMBNAIL_SIDE = 12  # pixels
NEAR = 0.98  # correlation of two thumbnails of one image, with noise or other lighting
SIGNIFICANT = 5.0  # standard errors, for what is compared: about one false alarm in a million
CHUNK_PIXELS = 2**22  # read at once: keeps the memory for large images small


@dataclass(frozen=True)
class Pictures:
    """A random sample of a set's images.

    `digests` (int64 `[N]`) are equal for images that are equal bit for bit, and `halves` (int64
    `[N, 4]`) for equal left, right, upper and lower halves. `small` is float32
    `[N, C, 12, 12]`: thumbnails without brightness and contrast, as unit vectors. `means` and
    `stds` are float32 `[N, C]`, over the pixels of each image. `indices` (int64 `[N]`) are indices
    into the set. All tensors are on the CPU: mps supports adaptive pooling to few sizes only.
    """

    digests: Tensor
    halves: Tensor
    labels: Tensor
    small: Tensor
    means: Tensor
    stds: Tensor
    indices: Tensor

    @classmethod
    def of(cls, part: Part, seed: int) -> "Pictures":
        """Sample up to 2,000 images of a set."""
        height, width = part.image_size
        order = drawn(part, SAMPLE_SIZE, seed)
        chunks = part.batches(order, max(1, CHUNK_PIXELS // (height * width)))
        looked = [(*_reduced(inputs.cpu()), labels.cpu()) for inputs, labels in chunks]
        digests, halves, small, means, stds, labels = (
            torch.cat(columns) for columns in zip(*looked, strict=True)
        )
        return cls(digests, halves, labels, small, means, stds, order)

    def only(self, chosen: Tensor) -> "Pictures":
        """Those that are `chosen`, bool `[N]`."""
        return Pictures(*(getattr(self, field.name)[chosen] for field in fields(self)))

    def __len__(self) -> int:
        return len(self.labels)


def draw_images(part: Part, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Up to `count` images of a set in a fixed random order, as fed to the network."""
    batches = list(part.batches(drawn(part, count, seed), 1024))
    inputs = torch.cat([inputs for inputs, _ in batches])
    return inputs, torch.cat([labels for _, labels in batches])


def drawn(part: Part, count: int, seed: int) -> Tensor:
    """The indices of the images that `draw_images` returns, int64 `[at most count]`."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "sanity"))
    return torch.randperm(len(part), generator=generator)[:count]


def not_finite(part: Part, seed: int) -> Tensor:
    """The indices of images with NaN or infinite pixels; of a streamed set among 2,000 images."""
    order = torch.arange(len(part))
    if isinstance(part, ResidentPart):
        if not part.images.pixels.is_floating_point():
            return order[:0]
    elif isinstance(part, StreamedPart):
        if part.bytes_only:
            return order[:0]
        order = drawn(part, SAMPLE_SIZE, seed).sort().values
    height, width = part.image_size
    chunks = part.batches(order, max(1, CHUNK_PIXELS // (height * width)))
    broken = [~torch.isfinite(inputs).flatten(1).all(1).cpu() for inputs, _ in chunks]
    return order[torch.cat(broken)] if broken else order


def _reduced(images: Tensor) -> tuple[Tensor, ...]:
    height, width = images.shape[-2:]
    shrunk = F.adaptive_avg_pool2d(
        images, (min(THUMBNAIL_SIDE, height), min(THUMBNAIL_SIDE, width))
    )
    vectors = shrunk.flatten(1)
    unit = F.normalize(vectors - vectors.mean(1, keepdim=True), dim=1).view_as(shrunk)
    pixels = images.flatten(2)
    row, column = height // 2, width // 2
    parts = images[..., :column], images[..., column:], images[:, :, :row], images[:, :, row:]
    halves = torch.stack([_digests(part) for part in parts], 1)
    return _digests(images), halves, unit, pixels.mean(2), pixels.std(2)


def _digests(images: Tensor) -> Tensor:
    rows = images.contiguous().numpy()
    hashes = [hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in rows]
    return torch.tensor([int.from_bytes(digest, "big", signed=True) for digest in hashes])


def correlations(images: Tensor, among: Tensor) -> Tensor:
    """Of thumbnails `[N, C, s, s]` with others `[M, C, s, s]`: float32 `[N, M]` in -1..1."""
    return images.flatten(1) @ among.flatten(1).T


def nearest_labels(images: Pictures, among: Pictures) -> Tensor:
    """For each image the label of the most similar one in `among`, int64 `[N]`."""
    return among.labels[correlations(images.small, among.small).argmax(1)]


def twins(pictures: Pictures, among: Pictures) -> Tensor:
    """For each image the index of an equal one in `among`, int64 `[N]`; arbitrary if none is."""
    digests, order = among.digests.sort()
    return order[torch.searchsorted(digests, pictures.digests).clamp(max=len(digests) - 1)]
