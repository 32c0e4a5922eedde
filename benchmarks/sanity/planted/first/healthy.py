"""Set-ups without a bug: unusual, legal, and none of them may be warned about."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from planted.parts import (
    Case,
    Pair,
    Shape,
    Small,
    cut,
    digits,
    import_name,
    mlp,
    name_of,
    pair,
    patterns,
    small,
    sound_digits,
    sound_patterns,
)

# Networks.


def zero_head(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """A head that starts at zero: the initial loss is log C exactly."""
    net = Small(num_classes, in_shape)
    nn.init.zeros_(net.head.weight)
    nn.init.zeros_(net.head.bias)
    return net


class Residual(nn.Module):
    """x + branch(x), the last batch norm of the branch starting at zero."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        last = nn.BatchNorm2d(channels)
        nn.init.zeros_(last.weight)
        self.branch = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            last,
        )

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return F.relu(x + self.branch(x))


def zero_residual_gains(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Residual branches that start at zero (Goyal et al. 2017)."""
    return nn.Sequential(
        nn.Conv2d(in_shape[0], 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        *[Residual(16) for _ in range(4)],
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(64, num_classes),
    )


def tanh_with_xavier(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Four tanh layers with Xavier weights."""
    net = mlp(num_classes, in_shape, hidden=4, activation=nn.Tanh)
    for module in net.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_normal_(module.weight)
            nn.init.zeros_(module.bias)
    return net


def deep_plain_with_kaiming(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Ten ReLU layers without norms, with He weights."""
    net = mlp(num_classes, in_shape, hidden=10)
    linears = [module for module in net.modules() if isinstance(module, nn.Linear)]
    for module in linears:
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        nn.init.zeros_(module.bias)
    nn.init.normal_(linears[-1].weight, std=0.3 / math.sqrt(linears[-1].in_features))
    return net


def linear_classifier(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """No hidden layer: the lecture's softmax classifier."""
    return mlp(num_classes, in_shape, hidden=0)


def two_sigmoid_layers(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """A hidden layer of sigmoids, as in 1990, which trains."""
    return mlp(num_classes, in_shape, hidden=1, activation=nn.Sigmoid)


def residual_mlp(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Six residual layers with layer norm and GELU."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(
                nn.LayerNorm(64), nn.Linear(64, 128), nn.GELU(), nn.Linear(128, 64)
            )

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = x + self.net(x)
            return out

    pixels = math.prod(in_shape)
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(pixels, 64),
        *[Block() for _ in range(6)],
        nn.LayerNorm(64),
        nn.Linear(64, num_classes),
    )


class PatchNet(nn.Module):
    """Patches of 4x4, a class token, two transformer layers."""

    def __init__(self, num_classes: int, in_shape: Shape) -> None:
        super().__init__()
        self.patches = nn.Conv2d(in_shape[0], 48, 4, stride=4)
        tokens = (in_shape[1] // 4) * (in_shape[2] // 4) + 1
        self.token = nn.Parameter(torch.zeros(1, 1, 48))
        self.places = nn.Parameter(0.02 * torch.randn(1, tokens, 48))
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(48, 4, 96, 0.0, batch_first=True, norm_first=True)
            for _ in range(2)
        )
        self.norm = nn.LayerNorm(48)
        self.head = nn.Linear(48, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images to logits."""
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(x), -1, -1), tokens], dim=1) + self.places
        for block in self.blocks:
            tokens = block(tokens)
        logits: Tensor = self.head(self.norm(tokens[:, 0]))
        return logits


def patch_net(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """A small vision transformer."""
    return PatchNet(num_classes, in_shape)


def rnn_over_rows(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """An LSTM over the rows of each image, batch first."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(in_shape[0] * in_shape[2], 64, batch_first=True)
            self.head = nn.Linear(64, num_classes)

        def forward(self, x: Tensor) -> Tensor:
            rows, _ = self.lstm(x.transpose(1, 2).flatten(2))
            logits: Tensor = self.head(rows[:, -1])
            return logits

    return Net()


def normalises_inside(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """A model with its own normalisation of the inputs, from fixed buffers."""

    class Net(Small):
        mean: Tensor
        std: Tensor

        def __init__(self) -> None:
            super().__init__(num_classes, in_shape)
            self.register_buffer("mean", torch.tensor(0.3))
            self.register_buffer("std", torch.tensor(0.37))

        def forward(self, x: Tensor) -> Tensor:
            return super().forward((x - self.mean) / self.std)

    return Net()


def normalises_each_image(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Each image standardised by itself, with its own mean and deviation."""

    class Net(Small):
        def forward(self, x: Tensor) -> Tensor:
            mean, std = x.mean((1, 2, 3), keepdim=True), x.std((1, 2, 3), keepdim=True)
            return super().forward((x - mean) / (std + 1e-5))

    return Net(num_classes, in_shape)


def slow_batch_norm(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Batch norms of momentum 0.01, as in EfficientNet for TensorFlow."""
    net = Small(num_classes, in_shape)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.01
    return net


def averaging_batch_norm(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Batch norms of momentum None: the plain average of all batches."""
    net = Small(num_classes, in_shape)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    return net


def averaged_features(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """A buffer that follows the mean feature in training and is subtracted in both modes."""

    class Net(Small):
        centre: Tensor

        def __init__(self) -> None:
            super().__init__(num_classes, in_shape)
            self.register_buffer("centre", torch.zeros(64))

        def features(self, x: Tensor) -> Tensor:
            features = super().features(x)
            if self.training:
                self.centre.lerp_(features.detach().mean(0), 0.1)
            return features - self.centre

    return Net()


def shared_weights(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """One convolution used three times."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(in_shape[0], 16, 3, padding=1)
            self.shared = nn.Conv2d(16, 16, 3, padding=1)
            self.norms = nn.ModuleList(nn.GroupNorm(4, 16) for _ in range(3))
            self.head = nn.Linear(64, num_classes)

        def forward(self, x: Tensor) -> Tensor:
            x = F.relu(self.stem(x))
            for norm in self.norms:
                x = x + F.relu(norm(self.shared(x)))
            logits: Tensor = self.head(F.adaptive_avg_pool2d(x, 2).flatten(1))
            return logits

    return Net()


def log_softmax_output(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Log-probabilities at the end: cross-entropy of them is the same as of logits."""
    return nn.Sequential(Small(num_classes, in_shape), nn.LogSoftmax(dim=1))


def scaled_cosine(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Cosine similarities times a learned scale that starts at 10."""

    class Net(Small):
        def __init__(self) -> None:
            super().__init__(num_classes, in_shape)
            self.scale = nn.Parameter(torch.tensor(10.0))

        def forward(self, x: Tensor) -> Tensor:
            features, centres = F.normalize(self.features(x)), F.normalize(self.head.weight)
            return self.scale * (features @ centres.T)

    return Net()


def dropout_of_70_percent(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Dropout of 0.7 on the features, called as a function with self.training."""

    class Net(Small):
        def features(self, x: Tensor) -> Tensor:
            return F.dropout(super().features(x), 0.7, self.training)

    return Net(num_classes, in_shape)


def stochastic_depth(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Residual branches left out at random in training."""

    class Net(Small):
        def features(self, x: Tensor) -> Tensor:
            features = super().features(x)
            branch = torch.tanh(features)
            if self.training:
                branch = branch * (torch.rand(len(x), 1, device=x.device) < 0.8) / 0.8
            return features + branch

    return Net(num_classes, in_shape)


def squeeze_excite(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Maps weighted by a sigmoid of their own means."""

    class Net(Small):
        def __init__(self) -> None:
            super().__init__(num_classes, in_shape)
            self.gate = nn.Linear(32, 32)

        def maps(self, x: Tensor) -> Tensor:
            maps = super().maps(x)
            return maps * torch.sigmoid(self.gate(maps.mean((2, 3))))[:, :, None, None]

    return Net()


def frozen_features_beside(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Fixed random features beside trained ones, on purpose."""

    class Net(Small):
        def __init__(self) -> None:
            super().__init__(num_classes, in_shape)
            self.fixed = nn.Conv2d(in_shape[0], 32, 5, padding=2).requires_grad_(False)
            self.join = nn.Linear(64 + 32, 64)

        def features(self, x: Tensor) -> Tensor:
            fixed = F.relu(self.fixed(x)).mean((2, 3))
            return F.relu(self.join(torch.cat([super().features(x), fixed], dim=1)))

    return Net()


# Losses.


def focal(logits: Tensor, targets: Tensor) -> Tensor:
    """Focal loss, gamma 2 (Lin et al. 2017): it starts below log C."""
    losses = F.cross_entropy(logits, targets, reduction="none")
    return ((1 - torch.exp(-losses)).square() * losses).mean()


def one_against_all(logits: Tensor, targets: Tensor) -> Tensor:
    """A binary cross-entropy for each class (Wightman et al. 2021)."""
    wanted = F.one_hot(targets, logits.shape[1]).float()
    return F.binary_cross_entropy_with_logits(logits, wanted)


def smoothed(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy with label smoothing of 0.1, as own code."""
    return F.cross_entropy(logits, targets, label_smoothing=0.1)


def class_weights(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy with class weights between 0.5 and 2."""
    weight = torch.linspace(0.5, 2.0, logits.shape[1], device=logits.device)
    return F.cross_entropy(logits, targets, weight=weight)


# Data.


def imbalanced(*, seed: int) -> Pair:
    """A class with 20 times the images of the others, in both parts."""
    images, labels = patterns(seed, 2400, classes=4)
    rare = (labels != 0) & (torch.rand(2400, generator=torch.Generator().manual_seed(1)) > 0.05)
    train_x, train_y, val_x, val_y = cut(images[~rare], labels[~rare])
    return pair((train_x, train_y), (val_x, val_y))


def normalised_floats(*, seed: int) -> Pair:
    """Images that their owner has standardised already; the recipe's normalisation is off."""
    images, labels = patterns(seed)
    train_x, train_y, val_x, val_y = cut((images - images.mean()) / images.std(), labels)
    return pair((train_x, train_y), (val_x, val_y))


def noisy_labels(*, seed: int) -> Pair:
    """One training label in twelve is wrong."""
    train_x, train_y, val_x, val_y = cut(*digits(seed))
    train_y = train_y.clone()
    train_y[::12] = (train_y[::12] + 1) % 10
    return pair((train_x, train_y), (val_x, val_y))


def a_few_duplicates(*, seed: int) -> Pair:
    """Five training images are there twice, with the same label."""
    train_x, train_y, val_x, val_y = cut(*digits(seed))
    return pair(
        (torch.cat([train_x, train_x[:5]]), torch.cat([train_y, train_y[:5]])), (val_x, val_y)
    )


def _model(
    builder: Callable[..., Any], *others: str, legal: bool = False, fast: bool = False
) -> Case:
    return Case(
        name_of(builder), (f"model.name={import_name(builder)}", *others), legal=legal, fast=fast
    )


def _data(name: str, builder: Callable[..., Any], *others: str) -> Case:
    return Case(f"data-{name}", (f"data.name={import_name(builder)}", *others))


PATTERNS = f"data.name={import_name(sound_patterns)}"
ADAM = ("train.optimizer=adamw", "train.lr=1e-3")

NETWORKS = (
    _model(small, fast=True),
    _model(zero_head, fast=True),
    _model(zero_residual_gains, fast=True),
    _model(tanh_with_xavier, fast=True),
    _model(deep_plain_with_kaiming, "train.lr=1e-2"),
    _model(linear_classifier),
    _model(two_sigmoid_layers),
    _model(residual_mlp, *ADAM),
    _model(patch_net, *ADAM, fast=True),
    _model(rnn_over_rows, "train.optimizer=adamw", "train.lr=5e-3"),
    _model(normalises_inside, "data.normalize=false"),
    _model(normalises_each_image),
    _model(slow_batch_norm),
    _model(averaging_batch_norm),
    _model(averaged_features),
    _model(shared_weights),
    _model(log_softmax_output, fast=True),
    _model(scaled_cosine),
    _model(dropout_of_70_percent, fast=True),
    _model(stochastic_depth),
    _model(squeeze_excite),
    _model(frozen_features_beside, legal=True),
)


def _builtin(name: str, lr: str = "5e-2", **arguments: object) -> Case:
    given = [f"model.{key}={value}" for key, value in arguments.items()]
    label = "-".join([name, *(str(value) for value in arguments.values())])
    rate = f"train.lr={lr}"
    return Case(label, (f"model.name={name}", "model.width=16", *given, PATTERNS, rate))


BUILT_IN = (
    *[_builtin("small-cnn", norm=norm) for norm in ("batch", "layer", "group", "none")],
    *[
        _builtin("small-cnn", activation=activation)
        for activation in ("leaky-relu", "elu", "gelu", "silu", "tanh")
    ],
    _builtin("small-cnn", dropout=0.5),
    _builtin("small-cnn", dropout=0.7),
    *[_builtin("small-resnet", depth=1, norm=norm) for norm in ("batch", "group")],
    _builtin("small-resnet", lr="1e-2", depth=1, norm="none"),
    _builtin("small-resnet", depth=1, activation="gelu"),
    _builtin("small-resnet", depth=3),
)


def _torchvision(name: str, side: int = 32, lr: str = "1e-3") -> Case:
    data = (PATTERNS, f"data.side={side}", "data.count=200")
    settings = (f"train.lr={lr}", "train.optimizer=adamw", "train.batch_size=16")
    return Case(f"torchvision-{name}", (f"model.name={name}", *data, *settings))


# The smallest member of each family; Inception and MaxViT were made for larger images.
TORCHVISION = (
    _torchvision("alexnet", lr="1e-4"),
    _torchvision("convnext_tiny", lr="1e-4"),
    _torchvision("densenet121"),
    _torchvision("efficientnet_b0"),
    _torchvision("efficientnet_v2_s"),
    _torchvision("googlenet"),
    _torchvision("inception_v3", side=96),
    _torchvision("maxvit_t", side=224, lr="1e-4"),
    _torchvision("mnasnet0_5"),
    _torchvision("mobilenet_v2"),
    _torchvision("mobilenet_v3_small"),
    _torchvision("regnet_x_400mf"),
    _torchvision("regnet_y_400mf"),
    _torchvision("resnet18"),
    _torchvision("resnext50_32x4d"),
    _torchvision("shufflenet_v2_x0_5"),
    _torchvision("squeezenet1_1", lr="3e-4"),
    _torchvision("swin_t", lr="1e-4"),
    _torchvision("swin_v2_t", lr="1e-4"),
    _torchvision("vgg11", lr="1e-4"),
    _torchvision("vgg11_bn", lr="1e-4"),
    _torchvision("vit_b_16", lr="1e-4"),
    _torchvision("wide_resnet50_2"),
)

LOSSES = tuple(
    Case(f"loss-{name_of(loss)}", (f"train.loss={import_name(loss)}", f"train.lr={lr}"))
    for loss, lr in ((focal, 5e-2), (one_against_all, 0.3), (smoothed, 5e-2), (class_weights, 5e-2))
)

DATA = (
    _data("digits", sound_digits),
    Case("data-built-in-digits", ("data.name=digits", "augment.crop=1")),
    Case("data-built-in-shapes", ("data.name=shapes", "data.size=2000", "model.name=small-cnn")),
    _data("two-classes", sound_patterns, "data.classes=2"),
    _data("100-classes", sound_patterns, "data.classes=100", "data.count=2000"),
    _data("tiny", sound_patterns, "data.count=60", "data.classes=3", "train.batch_size=8"),
    _data("grey", sound_patterns, "data.channels=1"),
    _data("five-channels", sound_patterns, "data.channels=5"),
    _data("imbalanced", imbalanced),
    _data("normalised-floats", normalised_floats, "data.normalize=false"),
    _data("noisy-labels", noisy_labels),
    _data("a-few-duplicates", a_few_duplicates),
)

SETTINGS = (
    Case("set-label-smoothing-0.1", ("train.label_smoothing=0.1",)),
    Case("set-label-smoothing-0.2", ("train.label_smoothing=0.2",)),
    Case("set-adam", ("train.optimizer=adam", "train.lr=1e-3")),
    Case("set-sgd-without-momentum", ("train.momentum=0.0", "train.lr=0.1")),
    Case("set-grad-clip-1", ("train.grad_clip=1.0",)),
    Case("set-large-batches", ("train.batch_size=128", "train.lr=0.1")),
    Case("set-augment", (PATTERNS, "augment.crop=2", "augment.flip=true")),
    Case("set-weight-decay-5e-4", ("train.weight_decay=5e-4",)),
    Case("set-one-cycle", ("train.schedule=one-cycle", "train.lr=0.1")),
)

HEALTHY: tuple[Case, ...] = (
    *NETWORKS,
    *BUILT_IN,
    *LOSSES,
    *DATA,
    *SETTINGS,
    *TORCHVISION,
)
