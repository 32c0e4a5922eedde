"""In what a network is computed, and that the choice is written down and can be pinned."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cnntune.config.recipe import Recipe, parse
from cnntune.data import Data
from cnntune.findings import Finding
from cnntune.steps import sanity
from cnntune.training import precision
from cnntune.training.build import load_data
from cnntune.training.loop import train
from cnntune.training.precision import apply, gains_by_bfloat16, resolve

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def threads() -> Any:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def native(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor that computes bfloat16; every processor can be told to, only more slowly."""
    monkeypatch.setattr(precision, "_cpu_has_bfloat16", lambda: True)


def recipe(name: str = "shapes", size: int = 200, **train: Any) -> Recipe:
    return parse({"data": {"name": name, "size": size}, "train": train}, file="test")


@pytest.fixture(scope="module")
def shapes() -> Data:
    return load_data(recipe(), CPU)  # 32x32 pixels


@pytest.mark.usefixtures("native")
def test_a_processor_with_bfloat16_uses_it_for_images_that_gain_by_it(shapes: Data) -> None:
    assert resolve(recipe(), shapes, CPU).train.precision == "bfloat16"
    small = recipe("digits")  # 8x8 pixels
    assert resolve(small, load_data(small, CPU), CPU).train.precision == "float32"


def test_another_processor_computes_in_float32(
    shapes: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "_cpu_has_bfloat16", lambda: False)
    assert resolve(recipe(), shapes, CPU).train.precision == "float32"


@pytest.mark.usefixtures("native")
def test_a_pinned_precision_stays_and_deterministic_means_float32(shapes: Data) -> None:
    assert resolve(recipe(precision="float32"), shapes, CPU).train.precision == "float32"
    assert resolve(recipe(deterministic=True), shapes, CPU).train.precision == "float32"
    pinned = recipe(deterministic=True, precision="bfloat16")
    assert resolve(pinned, shapes, CPU).train.precision == "bfloat16"


class Rounding(nn.Module):
    """Its logits are the digits of 1000 + x that eight bits of precision cannot hold."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3 * 32 * 32, 8)
        nn.init.zeros_(self.linear.weight)
        nn.init.constant_(self.linear.bias, 1000.0)
        self.linear.bias.data[0] = 1003.0

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.linear(x.flatten(1))
        return logits


class Float32Only(nn.Module):
    """Own code that mixes what autocast rounds with what it does not."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3 * 32 * 32, 8)
        self.weight = nn.Parameter(torch.ones(8, 8))

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_autocast_enabled("cpu"):
            raise RuntimeError("expected m1 and m2 to have the same dtype")
        hidden: Tensor = self.linear(x.flatten(1)) @ self.weight
        return hidden


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("network", [Rounding, Float32Only])
def test_a_network_that_bfloat16_changes_or_breaks_stays_in_float32(
    network: type[nn.Module], shapes: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "build_model", lambda *_: network())
    assert resolve(recipe(), shapes, CPU).train.precision == "float32"


@pytest.mark.usefixtures("native")
def test_settling_leaves_the_random_state_alone_and_is_settled_once(shapes: Data) -> None:
    before = torch.get_rng_state()
    settled = resolve(recipe(), shapes, CPU)
    assert torch.equal(torch.get_rng_state(), before)
    assert resolve(settled, shapes, CPU) is settled


def test_no_run_decides_on_its_precision_by_itself(shapes: Data) -> None:
    with pytest.raises(AssertionError, match=r"precision\.resolve comes before training"):
        next(train(recipe(), shapes, CPU))


def test_a_small_batch_has_one_thread_and_a_large_one_every_core(
    shapes: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "cores", lambda: 7)
    # 31 images of 32x32 are 31744 pixels, 32 are 32768: the limit, two to the 15.
    assert resolve(recipe(batch_size=31), shapes, CPU).train.threads == 1
    assert resolve(recipe(batch_size=32), shapes, CPU).train.threads == 7
    assert resolve(recipe(batch_size=32, threads=3), shapes, CPU).train.threads == 3


def test_a_settled_recipe_says_in_words_what_it_computes_in() -> None:
    assert recipe(precision="bfloat16", threads=1).arithmetic() == "bfloat16, 1 thread"
    exact = recipe(precision="float32", threads=2, deterministic=True)
    assert exact.arithmetic() == "float32, 2 threads, deterministic"


def test_what_is_used_is_what_the_recipe_says() -> None:
    apply(recipe(threads=2, deterministic=True))
    assert torch.get_num_threads() == 2
    assert torch.are_deterministic_algorithms_enabled()
    apply(recipe(threads=1))
    assert torch.get_num_threads() == 1
    assert not torch.are_deterministic_algorithms_enabled()


def rounds_convolutions() -> bool:
    return bool(torch.backends.cudnn.allow_tf32)


def test_a_gpu_computes_in_whole_float32_where_that_is_promised(shapes: Data) -> None:
    assert rounds_convolutions()  # PyTorch's default
    with precision.using(resolve(recipe(deterministic=True), shapes, CPU)):
        assert not rounds_convolutions()
    assert rounds_convolutions()
    torch.backends.cuda.matmul.allow_tf32 = True  # as user code may
    try:
        with precision.whole_float32():
            assert not rounds_convolutions()
            assert not torch.backends.cuda.matmul.allow_tf32
        assert torch.backends.cuda.matmul.allow_tf32
    finally:
        torch.backends.cuda.matmul.allow_tf32 = False
    assert rounds_convolutions()


def test_sanity_computes_in_whole_float32(shapes: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []

    def rule(_: Any) -> list[Finding]:
        seen.append(rounds_convolutions())
        return [Finding("inputs", "ok", "")]

    monkeypatch.setitem(sanity.DATA_RULES, "inputs", rule)
    next(sanity.check(resolve(recipe(), shapes, CPU), shapes, CPU))
    assert seen == [False]


def test_images_gain_from_16_pixels_a_side_on() -> None:
    cpu_has_it = precision._cpu_has_bfloat16()
    assert gains_by_bfloat16(CPU, (3, 16, 16)) == cpu_has_it
    assert not gains_by_bfloat16(CPU, (3, 15, 16))
