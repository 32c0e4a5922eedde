"""The ten blocks and their network: shapes, hand counts, initial activations, errors."""

import itertools
import math
import statistics
import typing
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from cnntune.errors import RecipeError
from cnntune.models.block_net import block_net
from cnntune.models.blocks import BLOCKS, WITH_SHORTCUT, Block, Residual, Style
from cnntune.models.layers import ACTIVATIONS, Activation, Norm
from cnntune.training.open_recipe import argument_problems

NORMS = typing.get_args(Norm)
SHAPE = (1, 8, 8)
VANISHING = ("layer", "group", "none")  # norms that keep a sigmoid's offset in every channel


def net(in_shape: tuple[int, int, int] = SHAPE, **arguments: Any) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = block_net(num_classes=10, in_shape=in_shape, **arguments)
    assert isinstance(model, nn.Sequential)
    return model


def images(n: int, shape: tuple[int, int, int] = SHAPE) -> Tensor:
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(0))


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


# 3x3 kernels without bias and two numbers a channel for each batch norm, 64 channels in and out.
HAND_COUNTS: dict[Block, int] = {
    "plain": 2 * (64 * 64 * 9 + 128),
    "residual": 2 * (64 * 64 * 9 + 128),
    "bottleneck": 64 * 16 + 32 + 16 * 16 * 9 + 32 + 16 * 64 + 128,
    # eight groups of four channels: each of 32 outputs sees four
    "grouped": 64 * 32 + 64 + 32 * 4 * 9 + 64 + 32 * 64 + 128,
    # 16 new channels from 64, 80, 96 and 112, then 128 to 64
    "dense": (64 + 80 + 96 + 112) * 16 * 9 + 4 * 32 + 128 * 64 + 128,
    # 64 means to 16 units and back, with biases
    "squeeze-excitation": 2 * (64 * 64 * 9 + 128) + 64 * 16 + 16 + 16 * 64 + 64,
    # 16; 24 and 32; 4 and 8; 8
    "inception": (64 * 16 + 32)
    + (64 * 24 + 48 + 24 * 32 * 9 + 64)
    + (64 * 4 + 8 + 4 * 8 * 25 + 16)
    + (64 * 8 + 16),
    "separable": 64 * 9 + 128 + 64 * 64 + 128,
    "inverted-residual": 64 * 384 + 768 + 384 * 9 + 768 + 384 * 64 + 128,
    "convnext": 64 * 49 + 128 + 64 * 256 + 256 + 256 * 64 + 64,
}


@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_has_the_parameters_counted_by_hand(block: Block) -> None:
    assert parameters(BLOCKS[block](64, 64, Style())) == HAND_COUNTS[block]


@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_keeps_the_map_and_changes_the_width(block: Block) -> None:
    for channels, out in ((16, 16), (16, 24), (24, 8)):
        layer = BLOCKS[block](channels, out, Style())
        assert layer(images(2, (channels, 7, 5))).shape == (2, out, 7, 5)


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 33, 20)])
def test_every_weight_of_a_network_of_blocks_gets_a_gradient(
    block: Block, shape: tuple[int, int, int]
) -> None:
    model = net(shape, block=block, depths=1)
    logits = model(images(16, shape))
    assert logits.shape == (16, 10)
    torch.autograd.backward(cross_entropy(logits, torch.arange(16) % 10))
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("block", BLOCKS)
def test_the_map_shrinks_between_stages_down_to_four_pixels(block: Block) -> None:
    for side, last in {8: 4, 16: 4, 32: 8, 224: 56}.items():
        with torch.device("meta"):
            body = net((3, side, side), block=block, depths=1)[:-1]
            assert body(torch.empty(1, 3, side, side)).shape == (1, 64, last, last)


def start(block: Block, norm: Norm, activation: Activation) -> str:
    """What is wrong with a fresh network; nothing where it is sound."""
    model = net(block=block, norm=norm, activation=activation)
    inputs = images(32)
    # With soft labels equal for all classes, chance cannot bring the loss below log C.
    loss = cross_entropy(model(inputs), torch.full((32, 10), 0.1))
    torch.autograd.backward(loss)
    features = model[:-1](inputs).detach()
    differs = float(features.std(0).square().mean().sqrt())
    gradients = [
        float(p.grad.square().mean().sqrt())
        for p in model.parameters()
        if p.ndim > 1 and p.grad is not None
    ]
    wrong = [f"{block} {norm} {activation}: loss {loss.item():.3f}, images differ by {differs:.2g}"]
    # Logits of standard deviation s add about s^2 / 2: `sanity` accepts 0.3 without a finding.
    sound = math.log(10) <= loss.item() < math.log(10) + 0.3 and 1e-3 < differs < 5
    sound &= min(gradients) > 1e-6 * statistics.median(gradients)
    return "" if sound else wrong[0]


@pytest.mark.parametrize("block", BLOCKS)
def test_a_network_of_any_block_has_a_sound_initialisation(block: Block) -> None:
    pairs: list[tuple[Norm, Activation]] = [("batch", "relu"), ("none", "gelu"), ("layer", "tanh")]
    # Without an activation after the last sum, the mean after an instance norm would be 0 always.
    pairs += [("instance", "silu")]
    assert [fault for norm, bend in pairs if (fault := start(block, norm, bend))] == []


@pytest.mark.slow
def test_every_block_norm_and_activation_is_sound_except_sigmoids_that_are_not_centred() -> None:
    # CS231n: sigmoid outputs are not zero-centred and their slope is at most 1/4.
    faults = [
        fault
        for block, norm, activation in itertools.product(BLOCKS, NORMS, ACTIVATIONS)
        if not (activation == "sigmoid" and norm in VANISHING)
        and (fault := start(block, norm, activation))
    ]
    assert faults == []


@pytest.mark.parametrize(
    "block",
    [pytest.param(b, marks=[pytest.mark.slow] if b != "residual" else []) for b in BLOCKS],
)
def test_a_network_of_any_block_memorises_sixteen_images(block: Block) -> None:
    model = net(block=block, depths=1)
    inputs, labels = images(16), torch.arange(16) % 10
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(150):
        loss = cross_entropy(model(inputs), labels)
        if loss.item() < 0.05:
            return
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    pytest.fail(f"loss {loss.item()} after 150 steps")


def widths_of(model: nn.Sequential) -> list[int]:
    with torch.no_grad():
        layers = [name for name, _ in model.named_children() if name.startswith("stage")]
        x, widths = images(2), []
        for name, layer in model.named_children():
            x = layer(x)
            widths += [x.shape[1]] * (name in layers)
    return widths


def test_a_single_width_doubles_and_a_single_depth_stays() -> None:
    assert widths_of(net(widths=8, depths=2)) == [8, 8, 16, 16, 32, 32]
    assert widths_of(net(widths=[8, 24], depths=[1, 3])) == [8, 24, 24, 24]
    assert widths_of(net(widths=8, depths=[1, 1, 1, 1])) == [8, 16, 32, 64]


def conv_weights(model: nn.Module) -> list[Tensor]:
    return [m.weight.detach() for m in model.modules() if isinstance(m, nn.Conv2d)]


def test_initial_weights_have_the_std_of_the_recipe() -> None:
    # Plain blocks of width 64: 3x3x64 inputs, and as many outputs.
    spread = {
        "kaiming": math.sqrt(2 / 576),
        "xavier": math.sqrt(2 / (576 + 576)),
        "normal:0.01": 0.01,
        "default": math.sqrt(1 / 576 / 3),  # torch's: uniform within sqrt(1 / fan-in)
    }
    for init, expected in spread.items():
        model = net(block="plain", widths=[64, 64], depths=1, init=init)
        for weight in conv_weights(model)[1:]:
            assert weight.std().item() == pytest.approx(expected, rel=0.02), init


def test_tanh_has_a_gain_of_one() -> None:
    weight = conv_weights(net(block="plain", widths=[64], depths=1, activation="tanh"))[1]
    assert weight.std().item() == pytest.approx(math.sqrt(1 / 576), rel=0.02)


def test_normal_weights_are_not_rescaled_in_branches_and_head() -> None:
    model = net(block="residual", widths=[64], depths=2, norm="none", init="normal:0.05")
    head = [m.weight for m in model.modules() if isinstance(m, nn.Linear)]
    for weight in [*conv_weights(model), *head]:
        assert weight.std().item() == pytest.approx(0.05, rel=0.1)


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_a_deep_stack_of_residual_blocks_keeps_its_scale(norm: Norm) -> None:
    body = net((3, 8, 8), depths=15, norm=norm)[:-1]
    # 45 branches of relative size 45^-1/2 take the variance from 1/2 to at most e/2; two poolings
    # without a norm add a factor of 1.5 each.
    assert 0.5 < body(images(16, (3, 8, 8))).square().mean().sqrt() < 3


def test_stochastic_depth_skips_later_branches_more_often() -> None:
    model = net(widths=8, depths=2, stochastic_depth=0.3)
    rates = [m.drop.p for m in model if isinstance(m, Residual)]
    assert rates == pytest.approx([0.05, 0.1, 0.15, 0.2, 0.25, 0.3])
    inputs = images(8)
    assert not torch.equal(model(inputs), model(inputs))
    model.eval()
    assert torch.equal(model(inputs), model(inputs))


def test_a_skipped_branch_leaves_the_shortcut() -> None:
    layer = BLOCKS["convnext"](8, 8, Style())
    assert isinstance(layer, Residual)
    layer.set_drop_rate(1.0)
    x = images(4, (8, 4, 4))
    assert torch.equal(layer(x), x)


def test_stochastic_depth_of_a_block_without_a_shortcut_is_rejected() -> None:
    for block in BLOCKS:
        if block in WITH_SHORTCUT:
            net(block=block, depths=1, stochastic_depth=0.1)
            continue
        with pytest.raises(RecipeError, match="must be 0 with block") as caught:
            net(block=block, stochastic_depth=0.1)
        assert block in caught.value.lines[0]


def test_lists_of_different_lengths_are_rejected() -> None:
    with pytest.raises(RecipeError) as caught:
        net(widths=[8, 16], depths=[1, 1, 1])
    line = "model.depths: must have one number for each of the 2 widths (got 3)"
    assert caught.value.lines == [line]


def messages(**model: Any) -> list[str]:
    found = argument_problems({"model": {"name": "block-net", **model}})
    return [f"{problem.key}: {problem.message}" for problem in found]


def test_the_recipe_rejects_unknown_words_and_numbers_out_of_range() -> None:
    assert messages(widths=[8, 16], depths=1, init="normal:1e-2", norm="instance") == []
    per_stage = "must be an integer >= 8, or a list with one per stage"
    assert messages(widths=4) == [f"model.widths: {per_stage} (got 4)"]
    assert messages(widths=[]) == [f"model.widths: {per_stage} (got [])"]
    assert messages(widths=[16, 8.5]) == [f"model.widths: {per_stage} (got [16, 8.5])"]
    init = "model.init: must be kaiming, xavier, default or normal:STD"
    for text in ("normal", "normal:0", "normal:-1", "normal:nan", "kaiming:1", "he"):
        assert messages(init=text) == [f"{init} (got {text!r})"]
    assert "did you mean 'bottleneck'" in messages(block="bottlneck")[0]
