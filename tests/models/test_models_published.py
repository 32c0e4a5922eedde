"""Published networks: parameters at full size, one step and memorising a sample at a small size."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from cnntune import models
from cnntune.errors import RecipeError
from cnntune.models import table
from cnntune.models.auxiliary import ATTRIBUTE, with_auxiliary
from cnntune.training.build import build_loss
from cnntune.training.open_recipe import load_recipe

Shape = tuple[int, int, int]
IMAGENET = (3, 224, 224)


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def on_meta(name: str, classes: int = 1000, shape: Shape = IMAGENET, **arguments: Any) -> Any:
    with torch.device("meta"):
        return models.builder(name)(num_classes=classes, in_shape=shape, **arguments)


def fresh(name: str, shape: Shape, classes: int = 10, **arguments: Any) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return models.builder(name)(num_classes=classes, in_shape=shape, **arguments)


def batch(n: int, shape: Shape) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, *shape, generator=generator), torch.arange(n) % 10


# The table that torchvision documents, "Table of all available classification weights".
TORCHVISION = {
    "alexnet": 61_100_840,
    "vgg16": 138_357_544,
    "vgg16_bn": 138_365_992,
    "vgg19": 143_667_240,
    "vgg19_bn": 143_678_248,
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "resnext50_32x4d": 25_028_904,
    "densenet121": 7_978_856,
    "mobilenet_v2": 3_504_872,
    "efficientnet_b0": 5_288_548,
    "efficientnet_b1": 7_794_184,
    "efficientnet_b2": 9_109_994,
    "efficientnet_b3": 12_233_232,
    "efficientnet_b4": 19_341_616,
    "efficientnet_b5": 30_389_784,
    "efficientnet_b6": 43_040_704,
    "efficientnet_b7": 66_347_960,
    "convnext_tiny": 28_589_128,
    "convnext_small": 50_223_688,
    "convnext_base": 88_591_464,
    "convnext_large": 197_767_336,
    "googlenet": 6_624_904,
    "inception_v3": 27_161_264,
}


# The sizes between the smallest and the largest are built in the same way.
BETWEEN = [f"efficientnet_b{size}" for size in range(1, 7)]


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name in BETWEEN)) for name in TORCHVISION],
)
def test_at_224_pixels_a_network_has_its_published_size(name: str) -> None:
    # torchvision counts Inception v3 with its auxiliary head, and GoogLeNet without its two.
    arguments = {"auxiliary": False} if name == "googlenet" else {}
    shape = (3, 299, 299) if name == "inception_v3" else IMAGENET
    assert parameters(on_meta(name, shape=shape, **arguments)) == TORCHVISION[name]


def test_inception_v3_has_23_8_million_parameters_without_its_auxiliary_head() -> None:
    # Keras's documentation of its applications: 23.9 M, the 34,432 of moving averages counted.
    assert parameters(on_meta("inception_v3", shape=(3, 299, 299), auxiliary=False)) == 23_834_568


def test_lenet_has_the_parameters_counted_by_hand() -> None:
    convolutions = 6 * (25 + 1) + 16 * (6 * 25 + 1)
    linear = 120 * (400 + 1) + 84 * (120 + 1) + 10 * (84 + 1)
    assert parameters(on_meta("lenet5", 10, (1, 32, 32))) == convolutions + linear == 61_706


def test_zfnet_has_the_parameters_counted_by_hand() -> None:
    convolutions = 96 * (3 * 49 + 1) + 256 * (96 * 25 + 1)
    convolutions += 512 * (256 * 9 + 1) + 1024 * (512 * 9 + 1) + 512 * (1024 * 9 + 1)
    linear = 4096 * (512 * 36 + 1) + 4096 * (4096 + 1) + 1000 * (4096 + 1)
    assert parameters(on_meta("zfnet")) == convolutions + linear == 107_627_624


def test_zfnet_has_the_maps_of_the_paper() -> None:
    model = on_meta("zfnet")
    sides, x = [], torch.empty(1, *IMAGENET, device="meta")
    for layer in model.features:
        x = layer(x)
        sides.append(x.shape[-1])
    # Zeiler and Fergus 2014, figure 3: 110, 55, 26, 13, 13, 13, 13, 6
    assert [side for side, before in zip(sides, [0, *sides], strict=False) if side != before] == [
        *(110, 55, 26, 13, 6)
    ]


@pytest.mark.parametrize(
    ("name", "published", "exact"),
    [
        # He et al. 2015, table 6: 0.27 M and 0.85 M; shortcuts of option A have no weights.
        ("resnet20", 0.27, 269_722),
        ("resnet56", 0.85, 853_018),
        ("plain20", 0.27, 269_722),
        ("plain56", 0.85, 853_018),
    ],
)
def test_cifar_networks_have_their_published_size(name: str, published: float, exact: int) -> None:
    count = parameters(on_meta(name, 10, (3, 32, 32)))
    assert count == exact
    assert round(count / 1e6, 2) == published


@pytest.mark.parametrize("name", ["plain20", "resnet20"])
def test_cifar_networks_have_maps_of_32_16_and_8_pixels(name: str) -> None:
    # He et al. 2015, section 4.2: 1 + 2n, 2n and 2n layers, here in n = 3 pairs per stage
    body = on_meta(name, 10, (3, 32, 32))[:-1]
    sides, x = [], torch.empty(1, 3, 32, 32, device="meta")
    for layer in body:
        x = layer(x)
        sides.append((x.shape[1], x.shape[2]))
    assert sides == [(16, 32)] * 4 + [(32, 16)] * 3 + [(64, 8)] * 3


def test_resnet20_by_hand() -> None:
    convolutions = 3 * 16 * 9 + 6 * 16 * 16 * 9
    convolutions += 16 * 32 * 9 + 5 * 32 * 32 * 9 + 32 * 64 * 9 + 5 * 64 * 64 * 9
    norms = 2 * (7 * 16 + 6 * 32 + 6 * 64)
    assert convolutions + norms + 64 * 10 + 10 == 269_722


def test_se_resnet50_has_its_published_size() -> None:
    # Hu et al. 2018, table 1, and Cadena's pretrained-models: 28.1 M. Each block has two more
    # layers, to a sixteenth of its channels and back.
    blocks = {256: 3, 512: 4, 1024: 6, 2048: 3}
    more = sum(n * (2 * c * (c // 16) + c // 16 + c) for c, n in blocks.items())
    assert parameters(on_meta("se_resnet50")) == 25_557_032 + more == 28_088_024


def test_mobilenet_has_its_published_size() -> None:
    # Howard et al. 2017, table 8: 4.2 M
    assert parameters(on_meta("mobilenet_v1")) == 4_231_976


def stage_shapes(model: Any, side: int) -> list[tuple[int, int]]:
    x = torch.empty(1, 3, side, side, device="meta")
    x = model.maxpool(model.relu(model.bn1(model.conv1(x))))
    shapes = []
    for stage in (model.layer1, model.layer2, model.layer3, model.layer4):
        x = stage(x)
        shapes.append((x.shape[1], x.shape[2]))
    return shapes


def test_resnet34_has_the_stages_of_the_paper() -> None:
    # He et al. 2015, table 1
    assert stage_shapes(on_meta("resnet34"), 224) == [(64, 56), (128, 28), (256, 14), (512, 7)]


# ---- small images: one step, and a sample by heart

SMALL: dict[str, Shape] = {
    "lenet5": (1, 28, 28),
    "alexnet": (3, 32, 32),
    "zfnet": (3, 32, 32),
    "vgg16_bn": (3, 32, 32),
    "vgg19_bn": (3, 32, 32),
    "googlenet": (3, 32, 32),
    "inception_v3": (3, 32, 32),
    "plain20": (1, 8, 8),
    "plain56": (1, 8, 8),
    "resnet20": (1, 8, 8),
    "resnet56": (1, 8, 8),
    "resnet18": (3, 32, 32),
    "resnet50": (3, 16, 16),
    "resnext50_32x4d": (3, 16, 16),
    "densenet121": (3, 32, 32),
    "se_resnet50": (3, 16, 16),
    "mobilenet_v1": (3, 32, 32),
    "mobilenet_v2": (3, 32, 32),
    "efficientnet_b0": (3, 32, 32),
    "convnext_tiny": (3, 32, 32),
}
# Adam's, where 1e-3 is too much for layers of 4096 units, or too little for 56 without a shortcut.
RATES = {"alexnet": 3e-4, "zfnet": 1e-4, "vgg16_bn": 1e-4, "vgg19_bn": 1e-4, "plain56": 3e-3}
QUICK = ("lenet5", "plain20", "resnet20", "mobilenet_v1")


def step(name: str) -> None:
    model = fresh(name, SMALL[name])
    images, labels = batch(4, SMALL[name])
    before = [p.detach().clone() for p in model.parameters()]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loss = with_auxiliary(nn.CrossEntropyLoss())(model(images), labels)
    torch.autograd.backward(loss)
    optimizer.step()
    assert math.isfinite(loss.item())
    moved = [not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True)]
    assert sum(moved) > 0.9 * len(moved)  # a unit that is dead for four images keeps its weights


def by_heart(name: str) -> None:
    # Dropout is off, as in `cnntune sanity`: it exists to prevent just this.
    takes_dropout = name.startswith(("alexnet", "zfnet", "vgg", "googlenet", "inception", "mobile"))
    takes_dropout |= name.startswith("efficientnet")
    rates: dict[str, Any] = {"dropout": 0.0} if takes_dropout else {}
    model = fresh(name, SMALL[name], **rates)
    for module in model.modules():
        if isinstance(module, nn.Dropout) or type(module).__name__ == "StochasticDepth":
            setattr(module, "p", 0.0)  # noqa: B010  # unknown to the type checker
    images, labels = batch(8, SMALL[name])
    loss_of = with_auxiliary(nn.CrossEntropyLoss())
    optimizer = torch.optim.Adam(model.parameters(), lr=RATES.get(name, 1e-3))
    for _ in range(800):
        loss = loss_of(model(images), labels)
        if loss.item() < 0.1:
            return
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    pytest.fail(f"{name}: loss {loss.item()}")


@pytest.mark.parametrize("name", QUICK)
def test_a_small_published_network_trains_a_step(name: str) -> None:
    step(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_a_published_network_trains_a_step_and_memorises_eight_images(name: str) -> None:
    step(name)
    by_heart(name)


@pytest.mark.parametrize("name", ["plain20", "resnet20", "mobilenet_v1", "lenet5"])
def test_published_networks_of_cnntune_start_at_the_loss_of_guessing(name: str) -> None:
    for shape in ((1, 8, 8), (3, 32, 32), (3, 40, 36)):
        logits = fresh(name, shape)(batch(32, shape)[0])
        loss = cross_entropy(logits, torch.full((32, 10), 0.1)).item()
        # Logits of standard deviation 0.7, as LeNet's tanh layers give, add 0.25.
        assert math.log(10) <= loss < math.log(10) + 0.3, shape


@pytest.mark.slow
def test_the_page_of_models_is_up_to_date() -> None:
    page = Path(__file__).parents[2] / "docs" / "models.md"
    assert page.read_text(encoding="utf-8") == table.page(), "run: python docs/write_models.py"


# ---- auxiliary heads


@pytest.mark.parametrize(("name", "heads"), [("googlenet", 2), ("inception_v3", 1)])
def test_auxiliary_logits_are_attached_only_in_train_mode(name: str, heads: int) -> None:
    model = fresh(name, (3, 32, 32))
    logits = model(batch(2, (3, 32, 32))[0])
    assert [head.shape for head in getattr(logits, ATTRIBUTE)] == [(2, 10)] * heads
    model.eval()
    assert not hasattr(model(batch(2, (3, 32, 32))[0]), ATTRIBUTE)


def test_the_auxiliary_loss_is_weighted_by_three_tenths() -> None:
    targets = torch.tensor([0, 1])
    logits = torch.zeros(2, 4)
    # A confident right head has a loss of 0, an undecided one log 4, a confident wrong one 40.
    right = 40 * torch.eye(4)[:2]
    setattr(logits, ATTRIBUTE, (right, right.flip(0), torch.zeros(2, 4)))
    loss = with_auxiliary(nn.CrossEntropyLoss())(logits, targets)
    assert loss.item() == pytest.approx(math.log(4) + 0.3 * (0 + 40 + math.log(4)))


def test_a_loss_of_logits_without_heads_is_unchanged() -> None:
    logits, targets = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    loss = with_auxiliary(nn.CrossEntropyLoss())(logits, targets)
    assert torch.equal(loss, cross_entropy(logits, targets))


def test_the_loss_of_a_recipe_trains_the_auxiliary_heads() -> None:
    model = fresh("googlenet", (3, 32, 32))
    images, labels = batch(4, (3, 32, 32))
    torch.autograd.backward(build_loss(load_recipe("digits"))(model(images), labels))
    heads = [p for name, p in model.named_parameters() if name.startswith("aux")]
    assert len(heads) > 10
    assert all(p.grad is not None for p in heads)


def test_auxiliary_heads_can_be_turned_off() -> None:
    names = [n for n, _ in on_meta("googlenet", auxiliary=False).named_parameters()]
    assert not [name for name in names if "aux" in name]


def test_the_auxiliary_head_of_inception_is_as_published_for_an_image_of_299() -> None:
    model = on_meta("inception_v3", shape=(3, 299, 299))
    seen: list[tuple[int, ...]] = []
    model.AuxLogits.conv0.register_forward_pre_hook(
        lambda _, inputs: seen.append(tuple(inputs[0].shape))
    )
    model(torch.empty(2, 3, 299, 299, device="meta"))
    assert seen == [(2, 768, 5, 5)]  # 17x17, averaged over 5x5 with stride 3


# ---- timm, an optional extra

FAKE_TIMM = """
from torch import nn

def list_models():
    return ["tinynet"]

def create_model(name, pretrained, num_classes, in_chans, drop_rate, **options):
    if options.pop("kernel", 3) == 5:
        raise TypeError("unexpected keyword argument 'kernel'")
    assert not pretrained and not options
    return nn.Sequential(nn.Conv2d(in_chans, 4, 3), nn.Dropout(drop_rate), nn.AdaptiveAvgPool2d(1),
                         nn.Flatten(), nn.Linear(4, num_classes))
"""


@pytest.fixture
def fake_timm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "timm.py").write_text(FAKE_TIMM)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "timm", raising=False)


def lines_of(call: Callable[[], Any]) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        call()
    return caught.value.lines


@pytest.mark.usefixtures("fake_timm")
def test_timm_models_are_found_by_their_prefix() -> None:
    recipe = load_recipe(None, ['model={name="timm:tinynet", drop_rate=0.25}'])
    model = models.builder(recipe.model.name)(
        num_classes=3, in_shape=(1, 8, 8), **recipe.model.arguments
    )
    assert model(torch.zeros(2, 1, 8, 8)).shape == (2, 3)
    assert [m.p for m in model.modules() if isinstance(m, nn.Dropout)] == [0.25]


@pytest.mark.usefixtures("fake_timm")
def test_what_timm_rejects_is_one_line() -> None:
    build = models.builder("timm:tinynet")
    too_small = lines_of(lambda: build(num_classes=3, in_shape=(1, 2, 2)))
    assert too_small == [
        "model timm:tinynet: needs images of at least 3x3 pixels or, where it takes one,"
        " another img_size (got 2x2)"
    ]
    refused = lines_of(lambda: build(num_classes=3, in_shape=(1, 8, 8), kernel=5))
    assert refused == ["model timm:tinynet: unexpected keyword argument 'kernel'"]


@pytest.mark.usefixtures("fake_timm")
def test_an_unknown_timm_name_suggests_a_similar_one() -> None:
    (line,) = lines_of(lambda: load_recipe(None, ['model={name="timm:tinynets"}']))
    assert "did you mean 'timm:tinynet'" in line


def test_without_timm_the_recipe_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = "raise ModuleNotFoundError(\"No module named 'timm'\", name='timm')"
    (tmp_path / "timm.py").write_text(missing)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "timm", raising=False)
    lines = lines_of(lambda: load_recipe(None, ['model={name="timm:tinynet"}']))
    assert lines == ["--set: model.name: needs timm: pip install 'cnntune[timm]'"]
