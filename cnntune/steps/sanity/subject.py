"""What the checks look at: a recipe's data, fresh copies of its network, and what these cost."""

import math
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from cnntune.config.recipe import Recipe
from cnntune.data import Data
from cnntune.seeds import derive_seed
from cnntune.steps.sanity.thumbnails import Pictures, draw_images, drawn, not_finite
from cnntune.training.build import Loss, build_loss, build_model
from cnntune.training.device import seeded

BATCH_IMAGES = (4, 256)  # least and most in the batch that is looked at
BATCH_PIXELS = 2**22  # 4,096 images of 32x32, 84 of 224x224: a second on a CPU core
LOOK_SECONDS = 9.0  # for all passes of that batch; a small network needs one
LOOK_PASSES = 3  # forward and backward, or three forward: what the rules do with that batch
COST_IMAGES = (4, 16)  # the second, where the first are quick: small batches take longer each
QUICK_SECONDS = 0.2
COST_PASSES = (2, 6)  # the least and most; the first one also allocates memory
REPEAT_SECONDS = 1.0  # after which there are no more than the least: slow ones vary little
WARM_SECONDS = 1.5  # a first pass that took longer is not repeated
UPDATE_SECONDS = 6e-9  # of AdamW for a weight; measured on a CPU core with 50 million


@dataclass(frozen=True)
class Cost:
    """What a network takes, in seconds of the cores that compute it."""

    image: float  # forward and backward of one image
    update: float  # a step of the optimizer

    def steps(self, seconds: float, images: int) -> int:
        """How many training steps of so many images fit in the time."""
        return int(seconds / (images * self.image + self.update + 1e-9))

    def images(self, seconds: float) -> int:
        """How many images pass forward alone, a third of the work, in the time."""
        return int(seconds / (self.image / 3 + 1e-9))


@dataclass(frozen=True)
class Subject:
    """A set-up under examination. Nothing of the user's is changed: every check has its own model.

    `labels` is int64 `[N]`. N is 256 where network and images are small, and 8 at least.
    """

    recipe: Recipe
    data: Data
    device: torch.device
    cost: Cost
    kept_inputs: Tensor
    labels: Tensor

    @classmethod
    def of(cls, recipe: Recipe, data: Data, device: torch.device) -> "Subject":
        """Measure the network, and draw a batch that it can be looked at with in reasonable time.

        Time is that of the process, so that other load on the machine changes nothing.
        """
        height, width = data.train.image_size
        model = build_model(recipe, data).to(device).train()
        for few in COST_IMAGES:
            images, _ = draw_images(data.train, few, recipe.seed)
            cost = _measure(model, images, device)
            if cost.image * len(images) > QUICK_SECONDS:
                break
        least, most = BATCH_IMAGES
        affordable = int(LOOK_SECONDS / (LOOK_PASSES * cost.image + 1e-9))
        count = max(least, min(most, affordable, BATCH_PIXELS // (height * width)))
        return cls(recipe, data, device, cost, *draw_images(data.train, count, recipe.seed))

    @property
    def inputs(self) -> Tensor:
        """Training images as the network sees them, float32 `[N, C, H, W]`, without augmentation.

        A copy each time, since a network may change its input in place.
        """
        return self.kept_inputs.clone()

    @property
    def classes(self) -> int:
        """The number of classes."""
        return len(self.data.classes)

    @cached_property
    def broken(self) -> dict[str, Tensor]:
        """For each part, the indices of images with NaN or infinite pixels (int64 `[N]`)."""
        parts = {"training": self.data.train, "validation": self.data.val}
        parts |= {"test": self.data.test} if self.data.test else {}
        return {name: not_finite(part, self.recipe.seed) for name, part in parts.items()}

    def named(self, chosen: Tensor) -> str:
        """Up to five of `inputs` by name; `chosen` is bool `[N]`, or int64 places among them."""
        indices = drawn(self.data.train, len(self.labels), self.recipe.seed)
        return self.data.train.names.of(indices[chosen.cpu()].sort().values)

    @cached_property
    def train_pictures(self) -> Pictures:
        """Up to 2,000 training images in small."""
        return Pictures.of(self.data.train, self.recipe.seed)

    @cached_property
    def val_pictures(self) -> Pictures:
        """Up to 2,000 validation images in small."""
        return Pictures.of(self.data.val, self.recipe.seed)

    def model(self, draw: int = 0) -> nn.Module:
        """The network with its initial weights, in train mode; `draw` counts initialisations."""
        seed = self.recipe.seed if draw == 0 else derive_seed(self.recipe.seed, "draw", draw)
        return build_model(self.recipe, self.data, seed=seed).to(self.device).train()

    @cached_property
    def untrained(self) -> nn.Module:
        """One network for all that change no weight, since large ones take a second to build.

        In train mode, without gradients; its running statistics have moved.
        """
        return self.model()

    def loss(self) -> Loss:
        """The recipe's own loss, whatever it gives: the rules say what is wrong with it."""
        return build_loss(self.recipe, checked=False)


def computing_seconds(device: torch.device) -> float:
    """A clock that stands still while other programs have the CPU."""
    if device.type == "cpu":
        return time.process_time() / torch.get_num_threads()
    torch.accelerator.synchronize(device)
    return time.perf_counter()


def _measure(model: nn.Module, images: Tensor, device: torch.device) -> Cost:
    weights = sum(parameter.numel() for parameter in model.parameters())
    seconds, total = math.inf, 0.0
    least, most = COST_PASSES
    for done in range(most):  # the quickest counts: other programs make passes only slower
        if (done and seconds > WARM_SECONDS) or (done >= least and total > REPEAT_SECONDS):
            break
        start = computing_seconds(device)
        with seeded("cost", device=device):
            logits = model(images.clone())
        if isinstance(logits, Tensor) and logits.requires_grad:
            with suppress(RuntimeError):  # `outputs.first_step` tells the user
                logits.float().square().mean().backward()
        took = computing_seconds(device) - start
        seconds, total = min(seconds, took), total + took
    return Cost(seconds / len(images), UPDATE_SECONDS * weights)
