"""What the rules examine: a recipe's data, fresh copies of its network, and what these cost."""

import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import torch
from torch import Tensor, nn

from cnntune.config.recipe import Recipe
from cnntune.data import Data
from cnntune.seeds import derive_seed
from cnntune.steps.sanity.thumbnails import (
    NEAR,
    Pictures,
    correlations,
    draw_images,
    drawn,
    not_finite,
)
from cnntune.training.build import Loss, build_loss, build_model
from cnntune.training.contracts import is_own
from cnntune.training.device import seeded

BATCH_IMAGES = (10, 256)  # of the batch that the rules use; CS231n step 2 takes 10 or more
BATCH_PIXELS = 2**22  # 4,096 images of 32x32, 84 of 224x224: about a second on a CPU core
BATCH_SECONDS = 9.0  # for all passes over that batch; a small network needs one
BATCH_PASSES = 3  # forward passes, or one forward and backward: the rules' work on that batch
COST_IMAGES = (4, 16)  # 16 if 4 are quick: small batches take more time per image
QUICK_SECONDS = 0.2
COST_PASSES = (2, 6)  # minimum and maximum; the first pass also allocates memory
REPEAT_SECONDS = 1.0  # after this only the minimum number of passes: slow passes vary little
WARM_SECONDS = 1.5  # a first pass that took longer is not repeated
UPDATE_SECONDS = 6e-9  # per weight, AdamW; measured on a CPU core with 50 million weights


@dataclass(frozen=True)
class Cost:
    """The compute cost of a network, in seconds."""

    image: float  # forward and backward pass, per image
    update: float  # one optimizer step

    def steps(self, seconds: float, images: int) -> int:
        """How many training steps on `images` images fit in `seconds`."""
        return int(seconds / (images * self.image + self.update + 1e-9))

    def images(self, seconds: float) -> int:
        """How many images fit in `seconds` with a forward pass alone, a third of the work."""
        return int(seconds / (self.image / 3 + 1e-9))


@dataclass(frozen=True, eq=False)
class Subject:
    """The set-up under test. It is not modified: every rule gets its own copy of the model.

    `labels` is int64 `[N]`, with N from 10 (fewer where the set has fewer) to 256, depending on the
    cost of the network and the size of the images. `suspects` are parts that show a symptom, and
    `causes` are rules that failed for sure.
    """

    recipe: Recipe
    data: Data
    device: torch.device
    cost: Cost
    kept_inputs: Tensor
    labels: Tensor
    measured: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)
    suspects: set[str] = field(default_factory=set, init=False, repr=False)
    causes: set[str] = field(default_factory=set, init=False, repr=False)

    @classmethod
    def of(cls, recipe: Recipe, data: Data, device: torch.device) -> "Subject":
        """Measure the network, and draw a batch of a size that it can process in reasonable time.

        CPU time of this process is measured, so that other load on the machine has no effect.
        """
        height, width = data.train.image_size
        model = build_model(recipe, data).to(device).train()
        for few in COST_IMAGES:
            images, _ = draw_images(data.train, few, recipe.seed)
            cost = _measure(model, images, device)
            if cost.image * len(images) > QUICK_SECONDS:
                break
        least, most = BATCH_IMAGES
        affordable = int(BATCH_SECONDS / (BATCH_PASSES * cost.image + 1e-9))
        count = max(least, min(most, affordable, BATCH_PIXELS // (height * width)))
        return cls(recipe, data, device, cost, *draw_images(data.train, count, recipe.seed))

    @property
    def inputs(self) -> Tensor:
        """Training images as fed to the network, float32 `[N, C, H, W]`, without augmentation.

        A copy on each access, since a network may modify its input in place. Images for user code
        are in the layout that its forward pass gets, which would be a copy otherwise.
        """
        own = is_own(self.recipe.model.name)
        layout = torch.contiguous_format if own else torch.preserve_format
        return self.kept_inputs.clone(memory_format=layout)

    @property
    def classes(self) -> int:
        """The number of classes."""
        return len(self.data.classes)

    @cached_property
    def broken(self) -> dict[str, Tensor]:
        """For each set, the indices of images with NaN or infinite pixels (int64 `[N]`)."""
        parts = {"training": self.data.train, "validation": self.data.val}
        parts |= {"test": self.data.test} if self.data.test else {}
        return {name: not_finite(part, self.recipe.seed) for name, part in parts.items()}

    def named(self, chosen: Tensor) -> str:
        """Up to five of `inputs` by name; `chosen` is bool `[N]`, or int64 indices into them."""
        indices = drawn(self.data.train, len(self.labels), self.recipe.seed)
        return self.data.train.names.of(indices[chosen.cpu()].sort().values)

    @cached_property
    def train_pictures(self) -> Pictures:
        """Thumbnails of up to 2,000 training images."""
        return Pictures.of(self.data.train, self.recipe.seed)

    @cached_property
    def val_pictures(self) -> Pictures:
        """Thumbnails of up to 2,000 validation images."""
        return Pictures.of(self.data.val, self.recipe.seed)

    @cached_property
    def new_val_pictures(self) -> Pictures:
        """Those of `val_pictures` that are not, or hardly changed, among `train_pictures`."""
        likeness = correlations(self.val_pictures.small, self.train_pictures.small).amax(1)
        copied = torch.isin(self.val_pictures.digests, self.train_pictures.digests)
        return self.val_pictures.only(~copied & (likeness <= NEAR))

    def model(self, draw: int = 0) -> nn.Module:
        """The network with initial weights, in train mode; `draw` numbers the initialisations."""
        seed = self.recipe.seed if draw == 0 else derive_seed(self.recipe.seed, "draw", draw)
        return build_model(self.recipe, self.data, seed=seed).to(self.device).train()

    @cached_property
    def untrained(self) -> nn.Module:
        """One network shared by all rules that change no weight: large ones are slow to build.

        In train mode, without gradients; its running statistics have been updated.
        """
        return self.model()

    def loss(self) -> Loss:
        """The recipe's loss, not validated: the rules report what is wrong with it."""
        return build_loss(self.recipe, checked=False)


P = ParamSpec("P")
R = TypeVar("R")


def once(measure: Callable[Concatenate[Subject, P], R]) -> Callable[Concatenate[Subject, P], R]:
    """Measure something of a subject once for all rules; further arguments must be hashable."""

    @wraps(measure)
    def measured(subject: Subject, /, *args: P.args, **kwargs: P.kwargs) -> R:
        key = (measure, args, *sorted(kwargs.items()))
        if key not in subject.measured:
            subject.measured[key] = measure(subject, *args, **kwargs)
        found: R = subject.measured[key]
        return found

    return measured


def computing_seconds(device: torch.device) -> float:
    """A clock that does not advance while other programs use the CPU."""
    if device.type == "cpu":
        return time.process_time() / torch.get_num_threads()
    torch.accelerator.synchronize(device)
    return time.perf_counter()


def _measure(model: nn.Module, images: Tensor, device: torch.device) -> Cost:
    weights = sum(parameter.numel() for parameter in model.parameters())
    seconds, total = math.inf, 0.0
    least, most = COST_PASSES
    for done in range(most):  # the fastest pass counts: other load only slows passes down
        if (done and seconds > WARM_SECONDS) or (done >= least and total > REPEAT_SECONDS):
            break
        start = computing_seconds(device)
        with seeded("cost", device=device):
            logits = model(images.clone())
        if isinstance(logits, Tensor) and logits.requires_grad:
            with suppress(RuntimeError):  # `outputs.first_step` reports it
                logits.float().square().mean().backward()
        took = computing_seconds(device) - start
        seconds, total = min(seconds, took), total + took
    return Cost(seconds / len(images), UPDATE_SECONDS * weights)
