"""A linear probe on stored features: the frozen backbone computes each image once."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from cnntune.data.parts import NAMELESS, Data, Names, Part

MAX_BATCH_PIXELS = 2**20  # 1,024 images of 32x32, 20 of 224x224
SAMPLE_SIZE = 4  # images read twice, to find a data set that augments by itself


@dataclass(frozen=True)
class FeaturePart:
    """A data set whose images are replaced by the backbone's features: float `[N, F]`."""

    features: Tensor
    labels: Tensor
    image_size: tuple[int, int] = (1, 1)
    waited_seconds: float = 0.0
    names: Names = NAMELESS

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, order: Tensor, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Features float32 `[B, F]` and labels int64 `[B]` in `order`, on the device."""
        labels = self.labels.to(self.features.device)
        for indices in order.to(self.features.device).split(batch_size):
            yield self.features[indices], labels[indices]


@torch.no_grad()
def features_of(model: nn.Module, head: nn.Module, data: Data) -> Data | None:
    """`data` as the inputs of `head`, with `model` in eval mode.

    None where features cannot stand for images: where the head is not the last layer, where its
    inputs are not vectors, or where images differ when they are read again.
    """
    model.eval()
    seen: list[Tensor] = []
    hook = head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        some = torch.arange(min(SAMPLE_SIZE, len(data.train)))
        first, _ = next(data.train.batches(some, len(some)))
        again, _ = next(data.train.batches(some, len(some)))
        logits = model(first)
        found = seen.pop() if seen else None
        same = torch.equal(first, again)
        if found is None or found.ndim != 2 or not same or not torch.equal(head(found), logits):
            return None
        seen.clear()

        def part(images: Part) -> FeaturePart:
            height, width = images.image_size
            batch = max(1, MAX_BATCH_PIXELS // (height * width))
            for inputs, _ in images.batches(torch.arange(len(images)), batch):
                model(inputs)
            features = torch.cat(seen)
            seen.clear()
            return FeaturePart(features, images.labels, names=images.names)

        return replace(data, train=part(data.train), val=part(data.val), test=None)
    finally:
        hook.remove()
