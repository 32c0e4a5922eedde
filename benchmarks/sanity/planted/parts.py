"""What the cases are made of: a case, a sound network, and sound images to spoil."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset, TensorDataset

from cnntune.data.digits import digits as digits_source
from cnntune.data.source import Images

Shape = tuple[int, int, int]
Pair = tuple[Dataset[Any], Dataset[Any]]

IMAGES = 600  # of a data set, train and validation together
VAL_FRACTION = 0.3
OF_CLASS = 0.5  # share of the class in a pattern; the rest is of the image alone
RAISED = "raised"  # stands for a rule where the set-up is refused with a line that names the cause


@dataclass(frozen=True)
class Case:
    """A recipe: `planted_bugs.toml` with `overrides` (as after `--set`).

    `rules` are those that describe the bug's cause; none, if there is no bug. `legal` code may be
    meant, so that a warning about it is right. `fast` cases stand for their kind in the tests.
    """

    name: str
    overrides: tuple[str, ...]
    rules: frozenset[str] = frozenset()
    legal: bool = False
    fast: bool = False


def name_of(function: Callable[..., Any]) -> str:
    """`softmax_output` -> `softmax-output`."""
    return function.__name__.replace("_", "-")


def import_name(function: Callable[..., Any]) -> str:
    """What a recipe calls `function`."""
    return f"{function.__module__}:{function.__name__}"


def _case(
    key: str, builder: Callable[..., Any], rules: str, others: tuple[str, ...], **marks: bool
) -> Case:
    prefix = {"model.name": "", "train.loss": "loss-", "data.name": "data-"}[key]
    overrides = (f"{key}={import_name(builder)}", *others)
    return Case(prefix + name_of(builder), overrides, frozenset(rules.split()), **marks)


def model_case(builder: Callable[..., Any], rules: str, *others: str, **marks: bool) -> Case:
    """A case named after the builder of its network; `marks` are those of `Case`."""
    return _case("model.name", builder, rules, others, **marks)


def loss_case(function: Callable[..., Any], rules: str = "loss", **marks: bool) -> Case:
    """A case named after its loss."""
    return _case("train.loss", function, rules, (), **marks)


def data_case(builder: Callable[..., Any], rules: str, *others: str, **marks: bool) -> Case:
    """A case named after the builder of its images."""
    return _case("data.name", builder, rules, others, **marks)


def settings_case(name: str, rules: str, *overrides: str, **marks: bool) -> Case:
    """A case in which nothing but values of the recipe is wrong."""
    return Case(f"set-{name}", overrides, frozenset(rules.split()), **marks)


class Small(nn.Module):
    """A sound network: two convolutions with batch norm, a hidden layer and a head."""

    def __init__(self, num_classes: int, in_shape: Shape) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_shape[0], 16, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(32)
        self.fc = nn.Linear(32 * 2 * 2, 64)
        self.head = nn.Linear(64, num_classes)

    def maps(self, x: Tensor) -> Tensor:
        """Images to maps, `[N, 32, 2, 2]`."""
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 2)
        return F.adaptive_avg_pool2d(F.relu(self.bn2(self.conv2(x))), 2)

    def features(self, x: Tensor) -> Tensor:
        """Images to features, `[N, 64]`."""
        return F.relu(self.fc(self.maps(x).flatten(1)))

    def forward(self, x: Tensor) -> Tensor:
        """Images to logits, `[N, classes]`."""
        logits: Tensor = self.head(self.features(x))
        return logits


def small(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """The sound network."""
    return Small(num_classes, in_shape)


def plain_cnn(num_classes: int, in_shape: Shape, *, width: int = 16) -> nn.Sequential:
    """A sound network without norms."""
    return nn.Sequential(
        nn.Conv2d(in_shape[0], width, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(8 * width, num_classes),
    )


def plain(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """The sound network without norms."""
    return plain_cnn(num_classes, in_shape)


def mlp(
    num_classes: int,
    in_shape: Shape,
    *,
    hidden: int = 1,
    width: int = 128,
    activation: Callable[[], nn.Module] = nn.ReLU,
) -> nn.Sequential:
    """Fully connected layers, `hidden` of them before the head."""
    sizes = [in_shape[0] * in_shape[1] * in_shape[2]] + [width] * hidden
    layers: list[nn.Module] = [nn.Flatten()]
    for i in range(hidden):
        layers += [nn.Linear(sizes[i], sizes[i + 1]), activation()]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], num_classes))


def digits(seed: int, count: int = IMAGES) -> tuple[Tensor, Tensor]:
    """Real digits in random order: float `[count, 1, 8, 8]` in 0..1, and labels."""
    source = digits_source(seed=seed, size=count, val_fraction=0.0, test_fraction=0.0)
    assert isinstance(source.train, Images)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return source.train.pixels[order].float() / 255, source.train.labels[order]


def patterns(
    seed: int,
    count: int = IMAGES,
    *,
    classes: int = 6,
    channels: int = 3,
    side: int = 16,
    noise: float = 0.05,
) -> tuple[Tensor, Tensor]:
    """A smooth pattern for each class behind another for each image: `[count, C, S, S]` in 0..1.

    Patterns of classes are symmetric and moved by up to a sixteenth of the image; all is dimmed by
    up to a third, and noisy. A mirrored image keeps its class.
    """
    generator = torch.Generator().manual_seed(seed)
    of_classes = _smooth(classes, channels, side, generator)
    of_classes = (of_classes + of_classes.flip(3)) / 2
    labels = torch.randperm(count, generator=generator) % classes
    moves = torch.randint(-side // 16, side // 16 + 1, (count, 2), generator=generator).tolist()
    moved = [
        of_classes[label].roll(move, dims=(1, 2))
        for label, move in zip(labels.tolist(), moves, strict=True)
    ]
    images = OF_CLASS * torch.stack(moved)
    images += (1 - OF_CLASS) * _smooth(count, channels, side, generator)
    images *= 1 - torch.rand(count, 1, 1, 1, generator=generator) / 3
    images += noise * torch.randn(images.shape, generator=generator)
    return images.clamp(0, 1), labels


def _smooth(count: int, channels: int, side: int, generator: torch.Generator) -> Tensor:
    coarse = torch.rand(count, channels, 4, 4, generator=generator)
    return F.interpolate(coarse, size=side, mode="bicubic").clamp(0, 1)


def hues(seed: int) -> tuple[Tensor, Tensor]:
    """Patterns whose first channel is another image's: only the other two tell the class."""
    images, labels = patterns(seed)
    return torch.cat([images[:, :1].roll(1, dims=0), images[:, 1:]], dim=1), labels


def cut(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training images and labels, then validation images and labels; the order stays."""
    stop = round(len(images) * (1 - VAL_FRACTION))
    return images[:stop], labels[:stop], images[stop:], labels[stop:]


def pair(train: tuple[Tensor, Tensor], val: tuple[Tensor, Tensor]) -> Pair:
    """Two data sets of (image, label)."""
    return TensorDataset(*train), TensorDataset(*val)


def sound_digits(*, seed: int, count: int = IMAGES) -> Pair:
    """Digits without a bug."""
    train_x, train_y, val_x, val_y = cut(*digits(seed, count))
    return pair((train_x, train_y), (val_x, val_y))


def sound_patterns(
    *,
    seed: int,
    count: int = IMAGES,
    classes: int = 6,
    channels: int = 3,
    side: int = 16,
    noise: float = 0.05,
) -> Pair:
    """Patterns without a bug."""
    images, labels = patterns(
        seed, count, classes=classes, channels=channels, side=side, noise=noise
    )
    train_x, train_y, val_x, val_y = cut(images, labels)
    return pair((train_x, train_y), (val_x, val_y))


def sound_hues(*, seed: int) -> Pair:
    """Hues without a bug."""
    train_x, train_y, val_x, val_y = cut(*hues(seed))
    return pair((train_x, train_y), (val_x, val_y))
