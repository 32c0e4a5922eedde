"""Sound set-ups, odd but right, written with the bugs that people post about."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations
from torch.utils.data import Dataset, TensorDataset

from planted.parts import (
    Case,
    Pair,
    Shape,
    Small,
    cut,
    digits,
    import_name,
    name_of,
    pair,
    patterns,
    plain_cnn,
    sound_patterns,
)


def tanh_with_layer_norm(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Tanh after layer norms over maps, mean pooling."""
    channels, height, width = in_shape
    return nn.Sequential(
        nn.Conv2d(channels, 16, 3, padding=1),
        nn.LayerNorm([16, height, width]),
        nn.Tanh(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.LayerNorm([32, height, width]),
        nn.Tanh(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(128, num_classes),
    )


def gated_linear_units(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Half of the channels gate the other half by a sigmoid (Dauphin et al. 2017)."""
    return nn.Sequential(
        nn.Conv2d(in_shape[0], 32, 3, padding=1),
        nn.GLU(dim=1),
        nn.Conv2d(16, 64, 3, padding=1),
        nn.GLU(dim=1),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(128, num_classes),
    )


class _Mixing(nn.Module):
    """A layer of an MLP-Mixer: over places, then over channels."""

    def __init__(self, places: int, channels: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(channels), nn.LayerNorm(channels)])
        self.places = nn.Sequential(nn.Linear(places, 32), nn.GELU(), nn.Linear(32, places))
        self.channels = nn.Sequential(nn.Linear(channels, 64), nn.GELU(), nn.Linear(64, channels))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.places(self.norms[0](x).transpose(1, 2)).transpose(1, 2)
        out: Tensor = x + self.channels(self.norms[1](x))
        return out


def mlp_mixer(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Two layers of an MLP-Mixer on patches of 4x4 (Tolstikhin et al. 2021)."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches = nn.Conv2d(in_shape[0], 48, 4, stride=4)
            places = (in_shape[1] // 4) * (in_shape[2] // 4)
            self.mixing = nn.Sequential(_Mixing(places, 48), _Mixing(places, 48), nn.LayerNorm(48))
            self.head = nn.Linear(48, num_classes)

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.head(
                self.mixing(self.patches(x).flatten(2).transpose(1, 2)).mean(1)
            )
            return logits

    return Net()


def inverted_residuals(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Depthwise convolutions between narrow linear bottlenecks, ReLU6 (MobileNet v2)."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(
                nn.Conv2d(16, 64, 1, bias=False),
                nn.BatchNorm2d(64),
                nn.ReLU6(),
                nn.Conv2d(64, 64, 3, padding=1, groups=64, bias=False),
                nn.BatchNorm2d(64),
                nn.ReLU6(),
                nn.Conv2d(64, 16, 1, bias=False),
                nn.BatchNorm2d(16),
            )

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = x + self.layers(x)
            return out

    return nn.Sequential(
        nn.Conv2d(in_shape[0], 16, 3, padding=1),
        Block(),
        Block(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(64, num_classes),
    )


class _StandardisedConv(nn.Conv2d):
    """A convolution whose weights are standardised in each call (Qiao et al. 2019)."""

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        weight = weight / (weight.std((1, 2, 3), keepdim=True) + 1e-5)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


def weight_standardised(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Standardised weights with group norms."""
    return nn.Sequential(
        _StandardisedConv(in_shape[0], 16, 3, padding=1),
        nn.GroupNorm(4, 16),
        nn.ReLU(),
        _StandardisedConv(16, 32, 3, padding=1),
        nn.GroupNorm(4, 32),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(128, num_classes),
    )


class _PreNorm(nn.Module):
    """x + a branch whose last layer starts at zero."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )
        last = self.branch[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.branch(x)
        return out


def zero_branches_and_head(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Four residual branches and the head all start at zero."""
    head = nn.Linear(96, num_classes)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    size = in_shape[0] * in_shape[1] * in_shape[2]
    return nn.Sequential(
        nn.Flatten(), nn.Linear(size, 96), *[_PreNorm(96) for _ in range(4)], nn.LayerNorm(96), head
    )


def dropout_of_60_percent(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Dropout of 0.6 before the head, 0.2 on maps."""
    return nn.Sequential(
        nn.Conv2d(in_shape[0], 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Dropout2d(0.2),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(512, 128),
        nn.ReLU(),
        nn.Dropout(0.6),
        nn.Linear(128, num_classes),
    )


def cosine_times_16(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Cosine similarities times a fixed 16."""

    class Net(Small):
        def forward(self, x: Tensor) -> Tensor:
            directions = F.normalize(self.features(x), dim=1)
            return 16 * directions @ F.normalize(self.head.weight, dim=1).T

    return Net(num_classes, in_shape)


def convolutions_then_transformer(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """A convolution with stride, two pre-norm transformer layers, the mean over places."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(in_shape[0], 48, 3, stride=2, padding=1)
            self.positions = nn.Parameter(0.02 * torch.randn(in_shape[1] * in_shape[2] // 4, 48))
            layer = nn.TransformerEncoderLayer(
                48, 4, 96, dropout=0.1, activation="gelu", batch_first=True, norm_first=True
            )
            self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
            self.head = nn.Linear(48, num_classes)

        def forward(self, x: Tensor) -> Tensor:
            tokens = self.stem(x).flatten(2).transpose(1, 2) + self.positions
            logits: Tensor = self.head(self.layers(tokens).mean(1))
            return logits

    return Net()


def densely_connected(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Each layer gets the maps of all before it (Huang et al. 2017)."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            widths = [in_shape[0] + 12 * i for i in range(4)]
            self.layers = nn.ModuleList(nn.Conv2d(width, 12, 3, padding=1) for width in widths)
            self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in widths)
            self.head = nn.Linear(4 * (in_shape[0] + 48), num_classes)

        def forward(self, x: Tensor) -> Tensor:
            for layer, norm in zip(self.layers, self.norms, strict=True):
                x = torch.cat([x, layer(F.relu(norm(x)))], dim=1)
            logits: Tensor = self.head(F.adaptive_avg_pool2d(x, 2).flatten(1))
            return logits

    return Net()


def mean_of_three(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """An ensemble: the log of the mean of three networks' probabilities."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.members = nn.ModuleList(plain_cnn(num_classes, in_shape) for _ in range(3))

        def forward(self, x: Tensor) -> Tensor:
            each = torch.stack([F.log_softmax(member(x), dim=1) for member in self.members])
            return each.logsumexp(0) - torch.tensor(3.0).log()

    return Net()


def noise_in_training(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Gaussian noise on images and features, in train mode alone."""

    class Net(Small):
        def features(self, x: Tensor) -> Tensor:
            if not self.training:
                return super().features(x)
            features = super().features(x + 0.2 * torch.randn_like(x))
            return features * (1 + 0.3 * torch.randn_like(features))

    return Net(num_classes, in_shape)


def spectral_norm(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Weights divided by their largest singular value (Miyato et al. 2018)."""
    net = Small(num_classes, in_shape)
    parametrizations.spectral_norm(net.conv2)
    parametrizations.spectral_norm(net.fc)
    return net


def norm_first(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """A batch norm on the images themselves, ELU, largest and mean value side by side."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(
                nn.BatchNorm2d(in_shape[0]), nn.Conv2d(in_shape[0], 64, 5, padding=2), nn.ELU()
            )
            self.head = nn.Linear(8 * 64, num_classes)

        def forward(self, x: Tensor) -> Tensor:
            maps = self.body(x)
            pooled = [F.adaptive_max_pool2d(maps, 2), F.adaptive_avg_pool2d(maps, 2)]
            logits: Tensor = self.head(torch.cat(pooled, dim=1).flatten(1))
            return logits

    return Net()


def sine_activations(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Sines for activations."""

    class Net(Small):
        def maps(self, x: Tensor) -> Tensor:
            x = torch.sin(self.conv2(torch.sin(2 * self.conv1(x))))
            return F.adaptive_avg_pool2d(x, 2)

    net = Net(num_classes, in_shape)
    del net.bn1, net.bn2
    return net


def frozen_body(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """A random body that is frozen on purpose, under a trained head."""
    net = Small(num_classes, in_shape)
    for layer in (net.conv1, net.bn1, net.conv2, net.bn2):
        layer.requires_grad_(False)
    return net


def own_log_probabilities(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """A network that ends in log_softmax, for nll_loss."""

    class Net(Small):
        def forward(self, x: Tensor) -> Tensor:
            return F.log_softmax(super().forward(x), dim=-1)

    return Net(num_classes, in_shape)


def nll(logits: Tensor, targets: Tensor) -> Tensor:
    """nll_loss of log-probabilities, after a second log_softmax that changes nothing."""
    return F.nll_loss(logits.log_softmax(1), targets)


def squared_hinge(logits: Tensor, targets: Tensor) -> Tensor:
    """One against all, hinges squared (Tang 2013)."""
    signs = 2 * F.one_hot(targets, logits.shape[1]) - 1
    return F.relu(1 - signs * logits).square().mean()


def brier(logits: Tensor, targets: Tensor) -> Tensor:
    """Squared error of probabilities (Brier 1950)."""
    wanted = F.one_hot(targets, logits.shape[1])
    return (F.softmax(logits, dim=1) - wanted).square().sum(1).mean()


def binary_summed_over_classes(logits: Tensor, targets: Tensor) -> Tensor:
    """A binary cross-entropy for each class, summed over classes, averaged over images."""
    wanted = F.one_hot(targets, logits.shape[1]).float()
    return F.binary_cross_entropy_with_logits(logits, wanted, reduction="none").sum(1).mean()


def weighted_focal(logits: Tensor, targets: Tensor) -> Tensor:
    """Focal loss with alpha 0.25 and gamma 2, as for detection."""
    losses = F.cross_entropy(logits, targets, reduction="none")
    return (0.25 * (1 - torch.exp(-losses)).square() * losses).mean()


def hundred_classes_of_three(*, seed: int) -> Pair:
    """A hundred classes, three training images and one validation image of each."""
    images, labels = patterns(seed, 400, classes=100)
    order = labels.sort(stable=True).indices.view(100, 4)
    train, val = order[:, :3].flatten(), order[:, 3]
    return pair((images[train], labels[train]), (images[val], labels[val]))


def twenty_to_one(*, seed: int) -> Pair:
    """Two classes, twenty to one, in both parts."""
    images, labels = patterns(seed, 2100, classes=2)
    kept = (labels == 0) | (labels.cumsum(0) % 20 == 0)
    train_x, train_y, val_x, val_y = cut(images[kept], labels[kept])
    return pair((train_x, train_y), (val_x, val_y))


def balanced_val(*, seed: int) -> Pair:
    """Training classes from 10 to 1, validation classes equal."""
    train_x, train_y, val_x, val_y = cut(*patterns(seed, 1200))
    chance = torch.rand(len(train_y), generator=torch.Generator().manual_seed(seed))
    kept = chance < 10.0 ** (-train_y / 5)
    return pair((train_x[kept], train_y[kept]), (val_x, val_y))


def kelvin(*, seed: int) -> Pair:
    """Thermal images, 290 to 300 K."""
    train_x, train_y, val_x, val_y = cut(*patterns(seed, channels=1))
    return pair((290 + 10 * train_x, train_y), (290 + 10 * val_x, val_y))


def decibels(*, seed: int) -> Pair:
    """Spectrograms in decibels, -80 to 0."""
    train_x, train_y, val_x, val_y = cut(*patterns(seed, channels=1))
    return pair((80 * train_x - 80, train_y), (80 * val_x - 80, val_y))


class _Jittered(Dataset[Any]):
    """Images lit, shifted and made noisy on access."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.numbers = images, labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = self.images[index] * float(0.6 + 0.8 * torch.rand(()))
        image = image.roll(int(torch.randint(-2, 3, ())), dims=2)
        return (image + 0.05 * torch.randn(image.shape)).clamp(0, 1), int(self.numbers[index])


def jittered_on_access(*, seed: int) -> Pair:
    """Training images lit, shifted and made noisy by their own data set; validation images not."""
    train_x, train_y, val_x, val_y = cut(*patterns(seed))
    return _Jittered(train_x, train_y), TensorDataset(val_x, val_y)


def minus_one_to_one(*, seed: int) -> Pair:
    """Digits scaled to -1..1 by their owner; the recipe's normalisation is off."""
    train_x, train_y, val_x, val_y = cut(*digits(seed))
    return pair((2 * train_x - 1, train_y), (2 * val_x - 1, val_y))


def forty_images(*, seed: int) -> Pair:
    """Forty training images of four classes, twenty for validation."""
    images, labels = patterns(seed, 60, classes=4)
    return pair((images[:40], labels[:40]), (images[40:], labels[40:]))


NETWORKS = (
    tanh_with_layer_norm,
    gated_linear_units,
    inverted_residuals,
    weight_standardised,
    dropout_of_60_percent,
    cosine_times_16,
    densely_connected,
    mean_of_three,
    noise_in_training,
    spectral_norm,
    norm_first,
    sine_activations,
)
WITH_ADAM = (mlp_mixer, zero_branches_and_head, convolutions_then_transformer)
LOSSES = {squared_hinge: 0.3, brier: 0.1, binary_summed_over_classes: 5e-2, weighted_focal: 0.2}
DATA = (hundred_classes_of_three, twenty_to_one, balanced_val, kelvin, decibels, jittered_on_access)
PATTERNS = f"data.name={import_name(sound_patterns)}"
ADAM = ("train.optimizer=adamw", "train.lr=2e-3")

HEALTHY = (
    *[Case(name_of(model), (f"model.name={import_name(model)}",)) for model in NETWORKS],
    *[Case(name_of(model), (f"model.name={import_name(model)}", *ADAM)) for model in WITH_ADAM],
    Case("frozen-body", (f"model.name={import_name(frozen_body)}",), legal=True),
    Case(
        "own-log-probabilities",
        (f"model.name={import_name(own_log_probabilities)}", f"train.loss={import_name(nll)}"),
    ),
    *[
        Case(f"loss-{name_of(loss)}", (f"train.loss={import_name(loss)}", f"train.lr={lr}"))
        for loss, lr in LOSSES.items()
    ],
    *[Case(f"data-{name_of(data)}", (f"data.name={import_name(data)}",)) for data in DATA],
    Case(
        "data-minus-one-to-one",
        (f"data.name={import_name(minus_one_to_one)}", "data.normalize=false"),
    ),
    Case("data-forty-images", (f"data.name={import_name(forty_images)}", "train.batch_size=8")),
    Case(
        "data-grey-64-pixels",
        (PATTERNS, "data.side=64", "data.channels=1", "data.count=300", "model.name=small-cnn"),
    ),
    Case("set-mixup", ("augment.mixup=0.4", PATTERNS)),
    Case("set-ema-0.95", ("train.ema=0.95",)),
    Case(
        "set-adamw-decay-0.5", ("train.optimizer=adamw", "train.lr=3e-3", "train.weight_decay=0.5")
    ),
    Case("set-momentum-0.98", ("train.momentum=0.98", "train.lr=1e-2")),
    Case("set-one-epoch", ("train.epochs=1",)),
    Case(
        "set-strong-augment",
        (
            PATTERNS,
            "augment.rotate=15.0",
            "augment.zoom=0.2",
            "augment.brightness=0.4",
            "augment.erase=0.25",
            "augment.flip=true",
        ),
    ),
)
