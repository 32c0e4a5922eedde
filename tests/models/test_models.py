"""Models: shapes, hand-counted parameters, the initial loss, and every torchvision classifier."""

import inspect
import math
import typing
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from cnntune import models
from cnntune.errors import RecipeError
from cnntune.machine.optional import import_torchvision
from cnntune.models.auxiliary import with_auxiliary
from cnntune.models.layers import ACTIVATIONS, Activation, Norm
from cnntune.models.small import small_cnn, small_resnet

SMALL = (small_cnn, small_resnet)
SIZES = (8, 16, 28, 32, 64)
NORMS = typing.get_args(Norm)
Shape = tuple[int, int, int]


def batch(n: int, shape: Shape, classes: int = 10) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(n, *shape, generator=generator)
    return images, torch.arange(n) % classes


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def fresh(builder: Callable[..., nn.Module], **arguments: Any) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return builder(**arguments)


def map_sides(model: nn.Module, shape: Shape) -> list[int]:
    """The side of the map after each child of a small network but its head."""
    sides = []
    x, _ = batch(2, shape)
    for layer in list(model.children())[:-1]:
        x = layer(x)
        sides.append(x.shape[-1])
    return sides


@pytest.mark.parametrize("builder", SMALL)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", SIZES)
def test_small_networks_accept_every_small_image_and_train_every_weight(
    builder: Callable[..., nn.Module], channels: int, size: int
) -> None:
    shape = (channels, size, size)
    model = fresh(builder, num_classes=7, in_shape=shape, width=8)
    images, labels = batch(4, shape, classes=7)
    logits = model(images)
    assert logits.shape == (4, 7)
    torch.autograd.backward(cross_entropy(logits, labels))
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("builder", SMALL)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_small_networks_start_at_the_loss_of_guessing(
    builder: Callable[..., nn.Module], norm: Norm, activation: Activation
) -> None:
    shape = (3, 16, 16)
    model = fresh(
        builder, num_classes=10, in_shape=shape, width=8, depth=4, norm=norm, activation=activation
    )
    images, labels = batch(64, shape)
    loss = cross_entropy(model(images), labels).item()
    # Logits that spread by at most 0.7 add at most half of 0.7^2.
    assert loss == pytest.approx(math.log(10), abs=0.245)


@pytest.mark.parametrize("builder", SMALL)
@pytest.mark.parametrize(
    "norm", [pytest.param(n, marks=[pytest.mark.slow] if n != "batch" else []) for n in NORMS]
)
def test_small_networks_memorise_sixteen_images(
    builder: Callable[..., nn.Module], norm: Norm
) -> None:
    shape = (3, 8, 8)
    model = fresh(builder, num_classes=10, in_shape=shape, width=32, depth=2, norm=norm)
    images, labels = batch(16, shape)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    # An instance norm removes the mean and scale of each channel, which the head would use.
    steps = 300 if norm == "instance" else 100
    for _ in range(steps):
        loss = cross_entropy(model(images), labels)
        if loss.item() < 0.05:
            return
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    pytest.fail(f"loss {loss.item()} after {steps} steps")


def test_small_cnn_has_the_parameters_counted_by_hand() -> None:
    # 3x3 kernels without bias, two numbers a channel for each norm, 128 features to 10 classes.
    convolutions = 3 * 32 * 9 + 32 * 64 * 9 + 64 * 128 * 9  # 93,024
    norms = 2 * (32 + 64 + 128)  # 448
    head = 128 * 10 + 10  # 1,290
    model = small_cnn(num_classes=10, in_shape=(3, 32, 32))
    assert parameters(model) == convolutions + norms + head == 94_762


def test_small_cnn_on_digits_has_19_242_parameters() -> None:
    # One halving, so one group: 1 -> 32 -> 32 -> 32 channels.
    model = small_cnn(num_classes=10, in_shape=(1, 8, 8))
    assert parameters(model) == (9 + 32 * 9 + 32 * 9) * 32 + 3 * 64 + 330 == 19_242


def test_without_a_norm_each_convolution_has_a_bias_instead() -> None:
    model = small_cnn(num_classes=10, in_shape=(3, 32, 32), norm="none")
    assert parameters(model) == 93_024 + (32 + 64 + 128) + 1_290


def test_small_resnet_is_resnet_20_by_default() -> None:
    # He et al. 2015, table 6, gives 0.27 million with shortcuts that have no weights: 269,722.
    # Ours have 1x1 projections at both changes of width: 16*32 + 64 and 32*64 + 128.
    model = small_resnet(num_classes=10, in_shape=(3, 32, 32))
    assert parameters(model) == 269_722 + 16 * 32 + 64 + 32 * 64 + 128 == 272_474
    three_by_three = [
        module
        for module in model.modules()
        if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3)
    ]
    assert len(three_by_three) + 1 == 20  # and the last layer


def test_maps_are_halved_down_to_four_pixels_and_no_further() -> None:
    for size, sides in {8: [4, 4, 4], 16: [8, 8, 4], 28: [14, 14, 7], 64: [32, 16, 8]}.items():
        shape = (1, size, size)
        assert map_sides(small_cnn(num_classes=2, in_shape=shape, width=4), shape) == sides
    for size, last in {4: 4, 7: 7, 8: 4, 15: 8, 16: 4, 32: 8}.items():
        shape = (1, size, size)
        assert map_sides(small_resnet(num_classes=2, in_shape=shape, width=4), shape)[-1] == last


def test_a_deep_cnn_divides_its_convolutions_evenly_among_the_halvings() -> None:
    model = small_cnn(num_classes=2, in_shape=(3, 32, 32), width=4, depth=6)
    assert map_sides(model, (3, 32, 32)) == [16, 16, 8, 8, 4, 4]
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    assert [module.out_channels for module in convolutions] == [4, 4, 8, 8, 16, 16]


@pytest.mark.parametrize("builder", SMALL)
def test_group_norm_accepts_widths_that_eight_does_not_divide(
    builder: Callable[..., nn.Module],
) -> None:
    model = builder(num_classes=2, in_shape=(1, 8, 8), width=6, norm="group")
    groups = {module.num_groups for module in model.modules() if isinstance(module, nn.GroupNorm)}
    assert groups == ({2} if builder is small_cnn else {2, 4, 8})  # of 6, or of 6, 12, 24 channels


@pytest.mark.parametrize("builder", SMALL)
def test_dropout_acts_only_in_training(builder: Callable[..., nn.Module]) -> None:
    model = builder(num_classes=2, in_shape=(1, 8, 8), width=8, dropout=0.5, norm="layer")
    images, _ = batch(4, (1, 8, 8))
    assert not torch.equal(model(images), model(images))
    model.eval()
    assert torch.equal(model(images), model(images))


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_activations_of_a_deep_resnet_neither_vanish_nor_explode(norm: Norm) -> None:
    model = fresh(small_resnet, num_classes=10, in_shape=(3, 8, 8), width=16, depth=15, norm=norm)
    images, _ = batch(16, (3, 8, 8))
    features = nn.Sequential(*list(model.children())[:-1])(images)
    # Rectified unit variance has an RMS of sqrt(1/2) after the stem. 45 branches scaled by 45^-1/2
    # raise it to about sqrt(e / 2) = 1.2; unscaled, to 3.5 with batch norm, 177,000 without.
    assert 0.5 < features.square().mean().sqrt() < 2


def test_an_unknown_name_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        models.builder("resnet19")
    assert {"small-cnn", "small-resnet", "resnet18", "vgg16"} <= set(models.names())


def test_the_recipe_keys_of_a_model_are_the_arguments_of_its_builder() -> None:
    given = ["num_classes", "in_shape"]
    keys = ["width", "depth", "dropout", "norm", "activation"]
    assert list(inspect.signature(models.builder("small-cnn")).parameters) == given + keys
    assert list(inspect.signature(models.builder("small-resnet")).parameters) == given + keys
    assert list(inspect.signature(models.builder("resnet18")).parameters) == [*given, "stem"]
    vgg = inspect.signature(models.builder("vgg16")).parameters
    assert list(vgg) == [*given, "stem", "dropout"]


@pytest.mark.parametrize(
    ("name", "count"),
    # torchvision's documentation, "Table of all available classification weights"
    [("resnet18", 11_689_512), ("mobilenet_v2", 3_504_872), ("vgg16", 138_357_544)],
)
def test_on_imagenet_shapes_models_have_their_published_size(name: str, count: int) -> None:
    with torch.device("meta"):
        model = models.builder(name)(num_classes=1000, in_shape=(3, 224, 224))
    assert parameters(model) == count


def test_resnet18_for_small_images_has_the_stem_of_he_et_al() -> None:
    model = models.builder("resnet18")(num_classes=10, in_shape=(3, 32, 32))
    assert isinstance(model.conv1, nn.Conv2d)
    assert (model.conv1.kernel_size, model.conv1.stride) == ((3, 3), (1, 1))
    assert isinstance(model.maxpool, nn.Identity)
    # 11,689,512, a 3x3 kernel for the 7x7 one, and 10 classes for 1000
    assert 11_689_512 - 3 * 64 * (49 - 9) - 513 * 990 == 11_173_962
    assert parameters(model) == 11_173_962


def test_a_stem_can_be_kept_and_still_accepts_grey_images() -> None:
    model = models.builder("resnet18")(num_classes=10, in_shape=(1, 64, 64), stem="imagenet")
    assert isinstance(model.conv1, nn.Conv2d)
    assert (model.conv1.in_channels, model.conv1.kernel_size) == (1, (7, 7))
    assert isinstance(model.maxpool, nn.MaxPool2d)
    # He initialisation by fan-out gives sqrt(2 / (64 * 49)); one channel for three, sqrt(3) of that
    assert model.conv1.weight.std().item() == pytest.approx(math.sqrt(6 / (64 * 49)), rel=0.1)


def test_the_stem_changes_at_64_pixels() -> None:
    build: Callable[..., Any] = models.builder("resnet18")
    with torch.device("meta"):
        at_64 = build(num_classes=10, in_shape=(3, 64, 64))
        at_65 = build(num_classes=10, in_shape=(3, 65, 65))
    assert (at_64.conv1.stride, at_65.conv1.stride) == ((1, 1), (2, 2))


def test_a_model_in_train_mode_gives_one_tensor() -> None:
    for name in ("googlenet", "inception_v3"):
        model = models.builder(name)(num_classes=5, in_shape=(3, 32, 32))
        assert model.training
        assert model(batch(2, (3, 32, 32))[0]).shape == (2, 5)


def test_a_vision_transformer_splits_small_images_into_patches_of_four() -> None:
    build: Callable[..., Any] = models.builder("vit_b_16")
    with torch.device("meta"):
        model = build(num_classes=10, in_shape=(1, 28, 28))
    # 7x7 patches and the class token
    assert model.encoder.pos_embedding.shape == (1, 50, 768)
    assert model.conv_proj.weight.shape == (768, 1, 4, 4)
    assert model(torch.empty(2, 1, 28, 28, device="meta")).shape == (2, 10)


def test_a_head_for_few_classes_starts_as_small_as_the_published_one() -> None:
    # Uniform within 1000^-1/2 for 1000 classes; within 10^-1/2 as torchvision draws it for 10.
    model = fresh(models.builder("efficientnet_b0"), num_classes=10, in_shape=(3, 32, 32))
    last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    assert last.weight.abs().max().item() == pytest.approx(1000**-0.5, rel=0.01)


def test_dropout_is_passed_to_the_model() -> None:
    with torch.device("meta"):
        model = models.builder("vgg11")(num_classes=10, in_shape=(3, 32, 32), dropout=0.3)
    assert [m.p for m in model.modules() if isinstance(m, nn.Dropout)] == [0.3, 0.3]


@pytest.mark.parametrize(
    ("name", "shape", "line"),
    [
        (
            # Two unpadded 3x3 convolutions, then a pooling that rounds up and two steps of 3x3 with
            # stride 2 that round down: 1 <- 3 <- 7 <- 14 (13 and a bit) <- 18.
            "inception_v3",
            (3, 8, 8),
            "model inception_v3: needs images of at least 18x18 pixels (got 8x8)",
        ),
        (
            "vit_b_16",
            (3, 32, 30),
            "model vit_b_16: needs square images with sides a multiple of 4 pixels (got 32x30)",
        ),
        (
            "maxvit_t",
            (3, 32, 32),
            "model maxvit_t: needs square images with sides a multiple of 224 pixels (got 32x32)",
        ),
    ],
)
def test_an_image_that_does_not_fit_is_one_clear_line(name: str, shape: Shape, line: str) -> None:
    with torch.device("meta"), pytest.raises(RecipeError) as caught:
        models.builder(name)(num_classes=10, in_shape=shape)
    assert caught.value.lines == [line]


def test_an_imagenet_stem_that_is_too_much_for_a_small_image_names_the_fix() -> None:
    # Five halvings that round down: 32 pixels are the first to leave one.
    with torch.device("meta"), pytest.raises(RecipeError) as caught:
        models.builder("vgg11")(num_classes=10, in_shape=(3, 28, 28), stem="imagenet")
    line = 'model vgg11: needs images of at least 32x32 pixels or stem = "auto" (got 28x28)'
    assert caught.value.lines == [line]


def test_checking_the_image_size_draws_no_random_number_and_does_not_change_the_model() -> None:
    torchvision = import_torchvision()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        expected = torchvision.models.shufflenet_v2_x0_5(num_classes=10).state_dict()
        drawn = torch.get_rng_state()
        torch.manual_seed(0)
        build = models.builder("shufflenet_v2_x0_5")
        model = build(num_classes=10, in_shape=(3, 64, 64), stem="imagenet")
        assert torch.equal(torch.get_rng_state(), drawn)
    assert model.training
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, expected[name]), name


# A small member of each family: all 80 together take half an hour.
FAMILIES = (
    *("alexnet", "vgg11", "vgg11_bn", "squeezenet1_1", "googlenet", "inception_v3", "resnet18"),
    *("resnext50_32x4d", "densenet121", "shufflenet_v2_x0_5", "mobilenet_v2", "mnasnet0_5"),
    *("mobilenet_v3_small", "efficientnet_b0", "regnet_y_400mf", "convnext_tiny", "swin_t"),
    *("vit_b_16", "maxvit_t"),
)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(3, 32, 32), (3, 64, 64), (1, 28, 28)])
def test_a_classifier_of_each_family_starts_at_log_c_or_says_why_not(shape: Shape) -> None:
    images, _ = batch(4, shape)
    # With soft labels equal for all classes, chance cannot bring the loss below log C.
    every_class = torch.full((4, 10), 0.1)
    wrong = []
    for name in FAMILIES:
        try:
            model = fresh(models.builder(name), num_classes=10, in_shape=shape)
        except RecipeError as error:
            print(error)
            if name != "maxvit_t":
                wrong.append(str(error))
            continue
        logits = model(images)
        loss = cross_entropy(logits, every_class)
        torch.autograd.backward(with_auxiliary(cross_entropy)(logits, every_class))
        print(f"{name} {shape}: {parameters(model):,} parameters, loss {loss.item():.3f}")
        gradients = [parameter.grad for parameter in model.parameters()]
        finite = all(gradient is not None and gradient.isfinite().all() for gradient in gradients)
        if logits.shape != (4, 10) or not finite or not 2.302 < loss.item() < 3:
            wrong.append(f"{name}: {tuple(logits.shape)}, loss {loss.item()}, finite {finite}")
    assert wrong == []
