"""What only torch can measure for a study before its first trial, in a process of its own."""

from collections.abc import Sequence
from contextlib import suppress

import torch

from cnntune.config.recipe import Recipe
from cnntune.errors import CnntuneError, DeviceError, OutOfMemoryError
from cnntune.machine.memory import fit
from cnntune.training.build import build_model, load_data, load_few
from cnntune.training.evaluate import evaluate
from cnntune.training.loop import Learner
from cnntune.training.precision import CHECKED_IMAGES, resolve
from cnntune.user_code.borders import explaining
from cnntune.workers.capacity import CONTEXT_BYTES, Found, largest

STEPS = 2  # the optimizer's state is there after the first


def measure(recipe: Recipe, devices: Sequence[str], try_largest: bool) -> Found:
    """The precision of the recipe, the bytes of its images, the free memory of GPUs.

    With `try_largest` also the memory of the largest trial on a GPU. Runs in a fresh process, whose
    memory holds nothing else and is freed when it ends.

    Raises:
        CnntuneError: where data or network cannot be used, or the precision cannot be decided on
            because memory runs out.
    """
    device = torch.device(devices[0])
    free: tuple[int, ...] = ()
    if device.type == "cuda":
        # The contexts of this very process are in use while it asks, and free when it has ended.
        free = tuple(
            torch.cuda.mem_get_info(torch.device(gpu))[0] + CONTEXT_BYTES for gpu in devices
        )
    precision, image_bytes = _precision(recipe, device)
    image_bytes = max(image_bytes, _largest_images(recipe))
    if not try_largest:
        return Found(precision, image_bytes, free)
    stream = recipe.data.stream or not fit(image_bytes, 1, min(free))
    trial = recipe.with_values({"train.precision": precision, "data.stream": stream})
    trial = largest(trial.model_copy(update={"space": recipe.space}))
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    try:
        with explaining():
            try_out(trial, device)
    except CnntuneError as error:
        return Found(precision, image_bytes, free, problem=str(error).splitlines()[0])
    return Found(precision, image_bytes, free, torch.cuda.max_memory_reserved(device))


def _precision(recipe: Recipe, device: torch.device) -> tuple[str, int]:
    """The precision of the recipe as it stands, and the bytes of its images."""
    data, image_bytes = load_few(recipe, device, CHECKED_IMAGES)
    try:
        with explaining():
            return resolve(recipe, data, device).train.precision, image_bytes
    except OutOfMemoryError as error:
        raise DeviceError(
            f"{device}: out of memory in a forward pass of {len(data.train)} images ({error})"
        ) from None


def _largest_images(recipe: Recipe) -> int:
    """The bytes of the images where the space makes them largest; 0 where it is not over them."""
    if not any(key.startswith("data.") for key in recipe.space):
        return 0
    with suppress(CnntuneError):  # largest values that do not go together
        return load_few(largest(recipe), torch.device("cpu"), 1)[1]
    return 0


def try_out(recipe: Recipe, device: torch.device) -> None:
    """The most that a run of the recipe holds at a time, for a moment."""
    data = load_data(recipe, device, stream=recipe.data.stream)
    learner = Learner.of(recipe, build_model(recipe, data), device)
    learner.begin(1)
    size = recipe.train.batch_size
    for _ in range(STEPS):
        inputs, labels = next(data.train.batches(torch.arange(min(size, len(data.train))), size))
        learner.step(inputs, labels)
    evaluate(learner.model, data.val)
