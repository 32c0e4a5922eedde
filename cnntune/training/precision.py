"""In what a network is computed: precision, threads, algorithms. All of it is decided here.

A study decides once, before its first trial (`cnntune.workers.memory_probe`); a command without a
study decides when it has its images. Whoever trains further down only checks that this was done.

Networks are always computed in channels-last order, which costs nothing and gains 1.2 to 1.6 times
on the CPU. `torch.compile` is never used: on a CPU it is slower, and a trial is over before it has
paid (`docs/performance.md`).
"""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from cnntune.config.recipe import Recipe
from cnntune.data import Data
from cnntune.data.parts import ResidentPart
from cnntune.machine.cpus import cores, load_of_others, threads_beside
from cnntune.training.build import build_loss, build_model
from cnntune.training.device import seeded
from cnntune.user_code.failures import out_of_memory

SMALL_BATCH_PIXELS = 2**15  # 32 images of 32x32: below, two threads gain at most a fifth when the
# machine is idle, and lose tenfold when it is not, since they wait for each other
BFLOAT16_PIXELS = 16 * 16  # of an image: below, a CPU gains nothing by it (docs/performance.md)
SAME_LOSS = 0.02  # of the loss: an operation in bfloat16 is off by 0.4 %, and errors average
CHECKED_IMAGES = 32


def resolve(recipe: Recipe, data: Data, device: torch.device) -> Recipe:
    """The recipe with the number of threads and the precision that it leaves open filled in.

    The choice depends on the device, the recipe and the images, never on a measured time: another
    moment must not choose otherwise, for another number of threads or precision gives other floats.
    `train.precision = "auto"` is bfloat16 where the device computes it natively, the images are
    large enough to gain by it, and the initial loss is the same as in float32. The network for
    that is built for the purpose: a forward pass in train mode changes running statistics, and not
    every network can be copied.

    Raises:
        UserCodeError: what building the model or the loss raises.
        Exception: what user code raises for a batch in float32; or that memory ran out.
    """
    recipe = with_threads(recipe, data)
    if recipe.train.precision != "auto":
        return recipe
    lower = not recipe.train.deterministic and gains_by_bfloat16(device, data.in_shape)
    same = lower and _same_loss(recipe, data, device)
    return _with(recipe, precision="bfloat16" if same else "float32")


def check_resolved(recipe: Recipe) -> None:
    """Assert that the precision was decided where all runs to be compared share the decision."""
    assert recipe.train.precision != "auto", "precision.resolve comes before training"


def with_threads(recipe: Recipe, data: Data) -> Recipe:
    """The recipe with its number of threads filled in: 1 for small batches, else all cores."""
    if recipe.train.threads:
        return recipe
    height, width = data.train.image_size
    small = recipe.train.batch_size * height * width < SMALL_BATCH_PIXELS
    return _with(recipe, threads=1 if small else cores())


def _with(recipe: Recipe, **values: Any) -> Recipe:
    return recipe.model_copy(update={"train": recipe.train.model_copy(update=values)})


def parallel_runs(device: torch.device, data: Data) -> int:
    """How many runs to compute at the same time: one on a GPU, else one per CPU core.

    Streamed images have loader processes already, so there it is one too.
    """
    return cores() if device.type == "cpu" and isinstance(data.train, ResidentPart) else 1


def beside_others(recipe: Recipe, data: Data, device: str) -> tuple[Recipe, str]:
    """The recipe with its threads filled in, and a line where other processes use the cores.

    There are fewer threads then, unless the recipe gives their number or is deterministic.
    """
    filled = with_threads(recipe, data)
    threads = filled.train.threads
    if device != "cpu" or threads == 1:
        return filled, ""
    fixed = bool(recipe.train.threads) or recipe.train.deterministic
    found, reason = threads_beside(
        load_of_others(), threads, machine=os.cpu_count() or 1, given=threads if fixed else 0
    )
    return recipe.with_values({"train.threads": found}), reason


def apply(recipe: Recipe) -> None:
    """Set torch to the threads and the algorithms of a resolved recipe."""
    exact = recipe.train.deterministic
    torch.set_num_threads(recipe.train.threads)
    torch.backends.cudnn.benchmark = not exact
    torch.backends.cudnn.allow_tf32 = not exact
    if exact:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # PyTorch, "Reproducibility"
    if exact != torch.are_deterministic_algorithms_enabled():  # setting it imports the compiler
        torch.use_deterministic_algorithms(exact)


@contextmanager
def using(recipe: Recipe) -> Iterator[None]:
    """`apply` within the block; torch's settings are restored afterwards."""
    threads, benchmark = torch.get_num_threads(), torch.backends.cudnn.benchmark
    rounded = torch.backends.cudnn.allow_tf32
    exact = torch.are_deterministic_algorithms_enabled()
    apply(recipe)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.backends.cudnn.benchmark = benchmark
        torch.backends.cudnn.allow_tf32 = rounded
        if exact != torch.are_deterministic_algorithms_enabled():
            torch.use_deterministic_algorithms(exact)


@contextmanager
def whole_float32() -> Iterator[None]:
    """Within the block a GPU computes float32 in float32.

    Outside, cuDNN rounds the factors of a convolution to TF32's 10 bits (PyTorch, "CUDA
    semantics"), and matrix products stay in float32 unless user code allows otherwise.
    """
    convolutions, products = torch.backends.cudnn, torch.backends.cuda.matmul
    before = convolutions.allow_tf32, products.allow_tf32
    convolutions.allow_tf32 = products.allow_tf32 = False
    try:
        yield
    finally:
        convolutions.allow_tf32, products.allow_tf32 = before


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """The context in which a network is computed in that precision."""
    lower = precision == "bfloat16"
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=lower)


def gains_by_bfloat16(device: torch.device, in_shape: tuple[int, int, int]) -> bool:
    """Whether the device computes bfloat16 itself, and images `[C, H, W]` are large enough."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    large = in_shape[1] * in_shape[2] >= BFLOAT16_PIXELS
    return large and device.type == "cpu" and _cpu_has_bfloat16()


@lru_cache
def _cpu_has_bfloat16() -> bool:
    found: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # older versions lack it
    return any(bool(found.get(name)) for name in ("avx512_bf16", "amx_bf16"))


def _same_loss(recipe: Recipe, data: Data, device: torch.device) -> bool:
    """Whether the initial loss of a batch in bfloat16 is that in float32, in train mode.

    False also where user code cannot compute in bfloat16. What it raises in float32 is passed on:
    swallowing it would choose a precision by accident.
    """
    model = build_model(recipe, data).to(device).train()
    loss = build_loss(recipe)
    few = torch.arange(min(CHECKED_IMAGES, len(data.train)))
    inputs, labels = next(data.train.batches(few, len(few)))
    exact = _initial_loss(model, inputs.clone(), labels, loss, "float32", device)
    try:
        rounded = _initial_loss(model, inputs.clone(), labels, loss, "bfloat16", device)
    except Exception as error:  # user code may raise anything
        if out_of_memory(error):
            raise
        return False
    return math.isfinite(exact) and abs(rounded - exact) <= SAME_LOSS * max(1.0, abs(exact))


@torch.no_grad()
def _initial_loss(
    model: nn.Module, inputs: Any, labels: Any, loss: Any, precision: str, device: torch.device
) -> float:
    with seeded("precision", device=device), autocast(precision, device):  # the same dropout
        return float(loss(model(inputs), labels))
