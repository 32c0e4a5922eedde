"""What the checks look at: a recipe's data and fresh copies of its network."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cnntune.build import Loss, build_loss, build_model
from cnntune.data import Data, Part
from cnntune.recipe import Recipe
from cnntune.seeds import derive_seed

BATCH_IMAGES = (64, 256)  # least and most in the batch that is looked at
BATCH_PIXELS = 2**22  # 4,096 images of 32x32, 84 of 224x224: a second on a CPU core


@dataclass(frozen=True)
class Subject:
    """A set-up under examination. Nothing of the user's is changed: every check has its own model.

    `inputs` is float32 `[N, C, H, W]`, a fixed draw of training images as the network sees them,
    without augmentation; `labels` is int64 `[N]`. N is 64 to 256, or all images there are.
    """

    recipe: Recipe
    data: Data
    device: torch.device
    inputs: Tensor
    labels: Tensor

    @classmethod
    def of(cls, recipe: Recipe, data: Data, device: torch.device) -> "Subject":
        """Draw the batch that is looked at."""
        height, width = data.train.image_size
        least, most = BATCH_IMAGES
        count = max(least, min(most, BATCH_PIXELS // (height * width)))
        inputs, labels = draw_images(data.train, count, recipe.seed)
        return cls(recipe, data, device, inputs, labels)

    @property
    def classes(self) -> int:
        """The number of classes."""
        return len(self.data.classes)

    def model(self, draw: int = 0) -> nn.Module:
        """The network with its initial weights, in train mode; `draw` counts initialisations."""
        seed = self.recipe.seed if draw == 0 else derive_seed(self.recipe.seed, "draw", draw)
        return build_model(self.recipe, self.data, seed=seed).to(self.device).train()

    def loss(self) -> Loss:
        """The recipe's own loss."""
        return build_loss(self.recipe)


def draw_images(part: Part, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Up to `count` images of a part in a fixed random order, as the network sees them."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "sanity"))
    order = torch.randperm(len(part), generator=generator)[:count]
    batches = list(part.batches(order, 1024))
    inputs = torch.cat([inputs for inputs, _ in batches])
    return inputs, torch.cat([labels for _, labels in batches])
