"""inspect: hand-counted layers, published figures, receptive fields against gradients, findings."""

import json
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnntune import models
from cnntune.config import recipe
from cnntune.config.recipe import TrainSection
from cnntune.models.blocks import Style, separable
from cnntune.steps.inspect import Inspection, cost, inspect_model, inspect_recipe
from cnntune.steps.inspect.cost import estimate_memory
from cnntune.steps.inspect.layers import ITSELF, Layer, layer_table
from cnntune.steps.inspect.statistics import faults
from cnntune.training import precision
from cnntune.training.build import load_data
from cnntune.training.loop import Learner
from cnntune.training.open_recipe import load_recipe

CPU = torch.device("cpu")
IMAGENET = (3, 224, 224)


def on_meta(name: str, in_shape: tuple[int, int, int] = IMAGENET, **arguments: Any) -> nn.Module:
    with torch.device("meta"):
        return models.builder(name)(num_classes=1000, in_shape=in_shape, **arguments)


def table(name: str, in_shape: tuple[int, int, int] = IMAGENET) -> dict[str, Layer]:
    return {layer.name: layer for layer in layer_table(on_meta(name, in_shape), in_shape)}


# ---- shapes, parameters, multiply-adds


def test_vgg16_has_the_figures_of_the_lecture() -> None:
    rows = table("vgg16")
    assert sum(row.parameters for row in rows.values()) == 138_357_544
    assert round(sum(row.multiply_adds for row in rows.values()) / 1e9, 1) == 15.5
    first_linear = rows["classifier.0"]
    assert first_linear.parameters == 7 * 7 * 512 * 4096 + 4096 == 102_764_544
    assert first_linear.multiply_adds == 7 * 7 * 512 * 4096
    # The first convolution: 27 multiply-adds for each of 64 x 224 x 224 outputs.
    assert rows["features.0"].multiply_adds == 27 * 64 * 224 * 224
    assert rows["features.30"].output == (512, 7, 7)


@pytest.mark.parametrize(
    ("name", "giga"),
    # "GFLOPS" in torchvision's table of classification weights, which are multiply-adds
    [
        ("alexnet", 0.71),
        ("resnet18", 1.81),
        ("resnet34", 3.66),
        ("resnet50", 4.09),
        ("googlenet", 1.50),
        ("vit_b_16", 17.56),
        pytest.param("densenet121", 2.83, marks=pytest.mark.slow),
        pytest.param("mobilenet_v2", 0.30, marks=pytest.mark.slow),
        pytest.param("efficientnet_b0", 0.39, marks=pytest.mark.slow),
        pytest.param("convnext_tiny", 4.46, marks=pytest.mark.slow),
        pytest.param("swin_t", 4.49, marks=pytest.mark.slow),
    ],
)
def test_multiply_adds_are_those_that_torchvision_documents(name: str, giga: float) -> None:
    rows = table(name).values()
    assert round(sum(row.multiply_adds for row in rows) / 1e9, 2) == giga


@pytest.mark.parametrize(
    "name", ["vit_b_16", "resnet18", pytest.param("maxvit_t", marks=pytest.mark.slow)]
)
def test_no_parameter_is_missing_from_the_rows_or_counted_twice(name: str) -> None:
    model = on_meta(name)
    rows = layer_table(model, IMAGENET)
    assert sum(row.parameters for row in rows) == sum(p.numel() for p in model.parameters())


def test_resnet34_has_the_stages_of_the_paper() -> None:
    rows = table("resnet34")
    # He et al. 2015, table 1
    stages = {1: (64, 56, 56), 2: (128, 28, 28), 3: (256, 14, 14), 4: (512, 7, 7)}
    for stage, shape in stages.items():
        assert rows[f"layer{stage}.0.conv2"].output == shape
    assert rows["conv1"].output == (64, 112, 112)


def test_a_depthwise_separable_convolution_saves_a_factor_of_8_7_at_256_channels() -> None:
    shape = (256, 14, 14)
    plain = layer_table(nn.Conv2d(256, 256, 3, padding=1, bias=False), shape)
    apart = layer_table(separable(256, 256, Style()), shape)
    full = sum(row.multiply_adds for row in plain)
    assert full == 256 * 256 * 9 * 14 * 14
    # 1 / (1 / 256 + 1 / 9)
    assert full / sum(row.multiply_adds for row in apart) == pytest.approx(8.69, abs=0.005)


class Functional(nn.Module):
    """Computes with functions, and with weights of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(4, 1, 3, 3))
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(F.conv2d(x, self.kernel, padding=1))
        result: Tensor = self.head(F.max_pool2d(x, 2).mean((2, 3)))
        return result


def test_functions_of_the_model_itself_are_counted() -> None:
    head, itself = layer_table(Functional(), (1, 8, 8))
    assert (itself.name, itself.parameters, itself.multiply_adds) == (ITSELF, 36, 36 * 64)
    assert (head.name, head.receptive_field, head.multiply_adds) == ("head", 8, 8)


class NeedsNumbers(nn.Module):
    """Looks at its input, which no meta tensor allows."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.head(x.flatten(1) if float(x.sum()) == 0 else -x.flatten(1))
        return result


def test_a_model_that_needs_real_numbers_gets_them() -> None:
    (row,) = layer_table(NeedsNumbers(), (1, 2, 2))
    assert (row.output, row.multiply_adds) == ((2,), 8)
    assert estimate_memory(NeedsNumbers(), (1, 2, 2), TrainSection()) is None


def test_the_table_leaves_the_model_as_it_was() -> None:
    model = models.builder("small-cnn")(num_classes=3, in_shape=(1, 8, 8))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    drawn = torch.get_rng_state()
    layer_table(model, (1, 8, 8))
    assert model.training
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not [module for module in model.modules() if module._forward_hooks]


# ---- receptive fields


def fields(model: nn.Module, in_shape: tuple[int, int, int]) -> list[tuple[int | None, int | None]]:
    return [(row.receptive_field, row.stride) for row in layer_table(model, in_shape)]


def test_three_3x3_convolutions_see_seven_pixels() -> None:
    stack = nn.Sequential(*(nn.Conv2d(1, 1, 3) for _ in range(3)))
    assert fields(stack, (1, 32, 32)) == [(3, 1), (5, 1), (7, 1)]


def test_strides_and_dilation_widen_what_comes_after() -> None:
    stack = nn.Sequential(
        nn.Conv2d(1, 1, 7, 2), nn.MaxPool2d(3, 2), nn.Conv2d(1, 1, 3, dilation=2), nn.AvgPool2d(2)
    )
    # 7; 7 + 2*2; 11 + 4*4; 27 + 1*4
    assert fields(stack, (1, 64, 64)) == [(7, 2), (11, 4), (27, 4), (31, 8)]


def test_a_transposed_convolution_makes_the_stride_finer() -> None:
    stack = nn.Sequential(nn.Conv2d(1, 1, 3, 2, 1), nn.ConvTranspose2d(1, 1, 4, 2, 1))
    # Each output pixel lies under two inputs a side, whose fields of 3 are 2 pixels apart.
    assert fields(stack, (1, 16, 16)) == [(3, 2), (5, 1)]


@pytest.mark.parametrize(
    ("name", "row", "field"),
    [
        # Araujo, Norris and Sim 2019, "Computing Receptive Fields", table 1
        ("alexnet", "features.12", 195),
        ("vgg16", "features.30", 212),
        ("mobilenet_v1", "block13.pointwise.2", 315),
        # By hand: 11 behind the pooling of stride 4, then two for each 3x3 at the stride before it:
        # 2 * (6*4 + 4 + 7*8 + 8 + 11*16 + 16 + 5*32)
        ("resnet34", "layer4.2.conv2", 11 + 2 * (6 * 4 + 4 + 7 * 8 + 8 + 11 * 16 + 16 + 5 * 32)),
    ],
)
def test_receptive_fields_are_the_published_ones(name: str, row: str, field: int) -> None:
    assert table(name)[row].receptive_field == field


def test_inception_v3_sees_1311_pixels() -> None:
    rows = table("inception_v3", (3, 299, 299))
    # Araujo, Norris and Sim 2019
    assert rows["Mixed_7c.branch3x3dbl_3b.conv"].receptive_field == 1311


class OnesOnly(nn.Module):
    """Convolutions of ones without anything that stops a gradient, in branches and a shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 2, 3, 2, 1)
        self.wide = nn.Conv2d(2, 2, 5, 1, 2)
        self.narrow = nn.Conv2d(2, 2, 1)
        self.last = nn.Conv2d(4, 1, 3, 1, 1, dilation=1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.avg_pool2d(self.stem(x), 3, 2, 1)
        x = x + self.wide(x)
        result: Tensor = self.last(torch.cat([x, self.narrow(x)], 1))
        return result


def test_a_receptive_field_is_where_the_gradient_comes_from() -> None:
    model = OnesOnly()
    for parameter in model.parameters():
        nn.init.ones_(parameter)
    image = torch.zeros(1, 1, 101, 101, requires_grad=True)
    output = model(image)
    middle = output[0, 0, output.shape[2] // 2, output.shape[3] // 2]
    (gradient,) = torch.autograd.grad(middle, image)
    rows = (gradient[0, 0].abs().sum(1) > 0).nonzero()
    seen = int(rows.max() - rows.min()) + 1
    assert layer_table(model, (1, 101, 101))[-1].receptive_field == seen


@pytest.mark.parametrize(
    "mix",
    [
        nn.AdaptiveAvgPool2d(1),
        nn.Sequential(nn.Flatten(), nn.Linear(400, 3)),
        nn.Sequential(nn.Flatten(2), nn.MultiheadAttention(400, 1, batch_first=True)),
    ],
)
def test_what_mixes_all_positions_sees_the_whole_image(mix: nn.Module) -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mix = mix

        def forward(self, x: Tensor) -> Any:
            if isinstance(mix, nn.Sequential) and isinstance(mix[-1], nn.MultiheadAttention):
                tokens = mix[0](x)
                return mix[-1](tokens, tokens, tokens, need_weights=False)[0]
            return mix(x)

    assert max(row.receptive_field or 0 for row in layer_table(Mixed(), (1, 20, 20))) == 20


def test_a_linear_layer_on_the_channels_of_a_map_sees_no_more() -> None:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.mix = nn.Conv2d(1, 8, 3), nn.Linear(8, 4)

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.mix(self.conv(x).permute(0, 2, 3, 1))
            return result

    assert fields(Last(), (1, 20, 20)) == [(3, 1), (3, 1)]


def test_every_second_pixel_has_stride_two() -> None:
    class Skip(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 3)

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.conv(x[:, :, ::2, ::2])
            return result

    assert fields(Skip(), (1, 20, 20)) == [(5, 2)]


# ---- memory


def settings(**values: Any) -> TrainSection:
    return TrainSection(**{"precision": "float32", **values})


def test_memory_of_a_step_by_hand() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
    weights = 4 * (4 * 9 + 4 + 144 * 10 + 10)
    # Kept for 32 images of 4 bytes a number: the image, the map behind the ReLU (which the ReLU
    # and the linear layer share). The convolution's own output is nobody's business afterwards.
    kept = 4 * 32 * (64 + 4 * 6 * 6)
    for arguments, copies in (
        ({"optimizer": "sgd", "momentum": 0.9}, 1),
        ({"optimizer": "sgd", "momentum": 0.0}, 0),
        ({"optimizer": "adamw"}, 2),
    ):
        memory = estimate_memory(model, (1, 8, 8), settings(batch_size=32, **arguments))
        assert memory is not None
        assert (memory.weights, memory.gradients) == (weights, weights)
        assert memory.optimizer == copies * weights
        assert memory.activations == kept
        assert memory.total == weights * (2 + copies) + kept


def test_activations_grow_with_the_batch_and_halve_in_bfloat16() -> None:
    model = on_meta("resnet18")
    one, two, half = (
        estimate_memory(model, IMAGENET, settings(**values))
        for values in (
            {"batch_size": 16},
            {"batch_size": 32},
            {"batch_size": 32, "precision": "bfloat16"},
        )
    )
    assert one is not None
    assert two is not None
    assert half is not None
    assert two.activations == pytest.approx(2 * one.activations, rel=0.001)
    assert half.activations == two.activations // 2


# ---- the whole room


@pytest.fixture(scope="module")
def digits() -> Inspection:
    wanted = load_recipe("digits")
    return inspect_recipe(wanted, load_data(wanted, CPU), CPU)


def test_a_sane_recipe_has_no_finding(digits: Inspection) -> None:
    assert {finding.rule: finding.severity for finding in digits.findings} == {
        "activations": "ok",
        "gradient-flow": "ok",
    }
    assert digits.parameters == 19_242
    assert digits.head_share == pytest.approx(330 / 19_242)
    assert 0 < digits.step_seconds < 10


def test_a_step_is_timed_in_the_precision_and_with_the_threads_that_train_would_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(precision, "_cpu_has_bfloat16", lambda: True)
    monkeypatch.setattr(precision, "cores", lambda: 3)
    timed = []

    def seconds(learner: Learner, *_: object) -> tuple[float, None]:
        timed.append((learner.settings.precision, torch.get_num_threads()))
        return 1.0, None

    monkeypatch.setattr("cnntune.steps.inspect.cost.time_step", seconds)
    before = torch.get_num_threads()
    for size, batch in ((16, 256), (16, 8), (8, 8)):
        # Of 16x16 pixels on bfloat16 gains; 2 to the 15 pixels in a batch are 128 images of 16x16.
        values = {"model": {"width": 2}, "train": {"batch_size": batch}}
        inspect_model(recipe.parse(values, file="test"), (1, size, size), 10, CPU)
    pinned = {"data": {"size": 100}, "model": {"width": 2}, "train": {"precision": "bfloat16"}}
    wanted = recipe.parse(pinned, file="test")
    inspect_recipe(wanted, load_data(wanted, CPU), CPU)
    # 128 images of 8x8 are 8192 pixels.
    assert timed == [("bfloat16", 3), ("bfloat16", 1), ("float32", 1), ("bfloat16", 1)]
    assert torch.get_num_threads() == before


def test_the_clock_starts_when_the_device_has_done_what_came_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    happened: list[str] = []

    class Told:
        device = CPU

        def step(self, *_: object) -> None:
            happened.append("step")

    def clock() -> float:
        happened.append("clock")
        return 0.0

    monkeypatch.setattr("cnntune.steps.inspect.cost._wait", lambda _: happened.append("wait"))
    monkeypatch.setattr("cnntune.steps.inspect.cost.time.perf_counter", clock)
    cost._seconds(Told(), torch.zeros(1), torch.zeros(1))  # type: ignore[arg-type]
    assert happened == ["wait", "clock", "step", "wait", "clock"]


def test_the_document_is_strict_json_with_the_keys_of_the_contract(digits: Inspection) -> None:
    document = json.loads(json.dumps(digits.as_json(), allow_nan=False))
    assert {"parameters", "multiply_adds", "receptive_field", "layers"} <= document.keys()
    keys = ["name", "type", "output", "parameters", "multiply_adds", "receptive_field"]
    assert {*keys, "activation_std", "gradient_std"} <= document["layers"][0].keys()


def without_data(shape: tuple[int, int, int] = (1, 16, 16), **model: Any) -> Inspection:
    values = {"model": model, "train": {"batch_size": 16}}
    return inspect_model(recipe.parse(values, file="test"), shape, 10, CPU)


def plain_net(std: float | str, **arguments: Any) -> Inspection:
    init = std if isinstance(std, str) else f"normal:{std}"
    model: dict[str, Any] = {"block": "plain", "widths": [64], "depths": 5, "norm": "none"}
    return without_data((1, 8, 8), name="block-net", init=init, **(model | arguments))


def test_activations_are_those_of_the_lecture() -> None:
    # Ten 3x3 convolutions of 64 channels: each multiplies the size by about std * sqrt(576 / 2).
    for std, word in ((0.01, "collapse"), (0.2, "explode")):
        finding = plain_net(std).findings[0]
        assert (finding.rule, finding.severity) == ("activations", "fail")
        assert finding.evidence.startswith(f"activations {word}")
    kaiming = plain_net("kaiming")
    assert [finding.severity for finding in kaiming.findings] == ["ok", "ok"]


def test_the_first_layer_that_goes_wrong_is_named() -> None:
    sizes = [1.0, 0.5, 0.2, 0.1, 0.01, 1e-4, 1.0]
    rows = [row(str(i), size, 1.0) for i, size in enumerate(sizes)]
    finding = faults(rows)[0]
    # 0.1 is the first below an eighth of the first; the last one may be as small as it likes.
    assert (finding.where, finding.severity) == ("3", "fail")
    assert (finding.measured, finding.expected) == (0.1, 1.0)


def test_norms_undo_the_size_of_the_weights() -> None:
    assert plain_net(0.01, norm="batch").findings[0].severity == "ok"


def test_activation_std_is_the_standard_deviation_of_the_output() -> None:
    inspection = without_data(name="lenet5")
    rows = {row.name: row for row in inspection.layers}
    # LeCun weights keep the size of unit-normal inputs, of which three quarters are padding here.
    assert rows["conv1"].activation_std == pytest.approx(math.sqrt(400 / 784), rel=0.25)
    # With softmax near 1/10 the gradient of a logit is (p - y) / 16: variance 0.09 / 16^2.
    assert rows["linear3"].gradient_std == pytest.approx(0.3 / 16, rel=0.1)


def row(name: str, activation: float, gradient: float) -> Layer:
    return Layer(name, "Conv2d", (1,), 1, 1, 3, 1, activation, gradient)


def test_infinity_is_the_first_thing_said() -> None:
    rows = [row("a", 1.0, math.nan), row("b", math.inf, math.nan), row("c", math.nan, math.nan)]
    (finding,) = faults(rows)
    assert (finding.severity, finding.where) == ("fail", "b")


def test_vanishing_gradients_are_a_warning() -> None:
    finding = faults([row(str(i), 1.0, 10.0 ** (2 * i - 12)) for i in range(6)])[1]
    assert (finding.rule, finding.severity, finding.where) == ("gradient-flow", "warn", "0")


def test_a_head_that_starts_at_zero_is_no_fault() -> None:
    finding = faults([row("body", 1.0, 0.0), row("head", 0.0, 0.1)])[-1]
    assert (finding.severity, finding.where) == ("info", "head")


@pytest.mark.slow
def test_vgg16_is_inspected_without_data() -> None:
    values = {"model": {"name": "vgg16"}, "train": {"batch_size": 4}}
    found = inspect_model(recipe.parse(values, file="test"), IMAGENET, 1000, CPU)
    assert found.parameters == 138_357_544
    assert found.head_share == pytest.approx(123_642_856 / 138_357_544)
    assert [finding.severity for finding in found.findings] == ["ok", "ok"]
