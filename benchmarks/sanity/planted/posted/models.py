"""Networks with one bug each, of the kind that people post about; no rule was written for them."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from planted.parts import Shape, Small, mlp, plain_cnn


def softplus_output(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """A softplus at the end: no logit below zero."""
    return nn.Sequential(Small(num_classes, in_shape), nn.Softplus())


def relu6_output(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """The head built from the block of the body, activation included."""
    return nn.Sequential(Small(num_classes, in_shape), nn.BatchNorm1d(num_classes), nn.ReLU6())


def log_softmax_over_batch(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """log_softmax over axis 0 at the end."""

    class Net(Small):
        def forward(self, x: Tensor) -> Tensor:
            return F.log_softmax(super().forward(x), dim=0)

    return Net(num_classes, in_shape)


def dropout_of_95_percent(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Keep probability taken for drop probability: 0.95 after each stage."""

    class Net(Small):
        def maps(self, x: Tensor) -> Tensor:
            return F.dropout(super().maps(x), 0.95, self.training)

        def features(self, x: Tensor) -> Tensor:
            return F.dropout(super().features(x), 0.95, self.training)

    return Net(num_classes, in_shape)


def tensorflow_momentum(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Batch norms of momentum 0.99, which means 0.01 elsewhere: the last batch is all they know."""
    net = Small(num_classes, in_shape)
    for norm in (net.bn1, net.bn2):
        norm.momentum = 0.99
    return net


def scaled_parameter(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """nn.Parameter(...) * 0.1, which is no parameter any more."""

    class Net(Small):
        def __init__(self) -> None:
            super().__init__(num_classes, in_shape)
            self.kernel = nn.Parameter(torch.randn(64, 64)) * 0.1

        def features(self, x: Tensor) -> Tensor:
            return F.relu(super().features(x) @ self.kernel)

    return Net()


def transformer_over_batch(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """A transformer layer without batch_first, given [N, L, D]: images attend to images."""

    class Net(Small):
        def __init__(self) -> None:
            super().__init__(num_classes, in_shape)
            self.attention = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0)

        def maps(self, x: Tensor) -> Tensor:
            tokens = super().maps(x).flatten(2).transpose(1, 2)  # [N, 4, 32]
            out: Tensor = self.attention(tokens).transpose(1, 2)
            return out

    return Net()


def divided_by_batch_maximum(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Images divided by x.max(), the largest pixel of the batch."""

    class Net(Small):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x / x.max())

    return Net(num_classes, in_shape)


def summed_pooling(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Maps summed over all places where their mean was meant."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(in_shape[0], 64, 3, padding=1)
            self.norm = nn.BatchNorm2d(64)
            self.head = nn.Linear(64, num_classes)

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.head(F.relu(self.norm(self.conv(x))).sum((2, 3)))
            return logits

    return Net()


def gate_as_a_number(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """A learned gate read with .item(): it never gets a gradient."""

    class Net(Small):
        def __init__(self) -> None:
            super().__init__(num_classes, in_shape)
            self.gate = nn.Parameter(torch.ones(()))

        def features(self, x: Tensor) -> Tensor:
            return self.gate.item() * super().features(x)

    return Net()


def place_of_highest_score(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Attention by argmax: what scores the places gets no gradient."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(
                nn.Conv2d(in_shape[0], 64, 5, padding=2), nn.BatchNorm2d(64), nn.ReLU()
            )
            self.score = nn.Conv2d(64, 1, 1)
            self.head = nn.Linear(128, num_classes)

        def forward(self, x: Tensor) -> Tensor:
            maps = self.body(x)
            best = self.score(maps).flatten(1).argmax(1)
            places = maps.flatten(2)
            looked_at = places[torch.arange(len(x)), :, best]
            logits: Tensor = self.head(torch.cat([looked_at, places.mean(2)], dim=1))
            return logits

    return Net()


def inference_mode_features(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Features under torch.inference_mode, left from the evaluation script."""

    class Net(Small):
        def features(self, x: Tensor) -> Tensor:
            with torch.inference_mode():
                return super().features(x)

    return Net(num_classes, in_shape)


def only_biases_trained(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Frozen by name, and the test on the name is the wrong way round."""
    net = plain_cnn(num_classes, in_shape)
    for name, parameter in net.named_parameters():
        parameter.requires_grad_("bias" in name)
    return net


def zero_gains(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Every batch norm's gain at zero, not only the last of each residual branch."""
    net = Small(num_classes, in_shape)
    nn.init.zeros_(net.bn1.weight)
    nn.init.zeros_(net.bn2.weight)
    return net


def slope_of_one(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Leaky ReLUs of slope 1: no bend at all."""
    return nn.Sequential(
        nn.Conv2d(in_shape[0], 16, 3, padding=1),
        nn.LeakyReLU(1.0),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.LeakyReLU(1.0),
        nn.Flatten(),
        nn.Linear(8 * in_shape[1] * in_shape[2], num_classes),
    )


def slope_of_ten(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Leaky ReLUs of slope 10 for 0.1, eight layers of them."""
    return mlp(num_classes, in_shape, hidden=8, activation=lambda: nn.LeakyReLU(10.0))


def head_forgotten(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Features returned where logits belong."""

    class Net(Small):
        def forward(self, x: Tensor) -> Tensor:
            return self.features(x)

    return Net(num_classes, in_shape)


def positions_along_batch(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Position embeddings added along the batch: an image's place in it counts."""

    class Net(Small):
        def __init__(self) -> None:
            super().__init__(num_classes, in_shape)
            self.positions = nn.Parameter(torch.randn(1024, 64))

        def features(self, x: Tensor) -> Tensor:
            return super().features(x) + self.positions[: len(x)]

    return Net()


def features_cached(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Features kept from the last batch of the same size, to save time."""

    class Net(Small):
        def __init__(self) -> None:
            super().__init__(num_classes, in_shape)
            self.cache: dict[int, Tensor] = {}

        def features(self, x: Tensor) -> Tensor:
            if len(x) not in self.cache:
                self.cache[len(x)] = self.maps(x).flatten(1).detach()
            return F.relu(self.fc(self.cache[len(x)]))

    return Net()


def random_input(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """The random tensor of a first test, still in forward."""

    class Net(Small):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(torch.randn_like(x))

    return Net(num_classes, in_shape)


def first_image_for_all(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """x[:1] from a debugging session, expanded so that shapes fit."""

    class Net(Small):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x[:1].expand_as(x))

    return Net(num_classes, in_shape)


def signed_square_root(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """sign(x) * sqrt(|x|) of what dropout left, without an epsilon: NaN backward at 0."""

    class Net(Small):
        def features(self, x: Tensor) -> Tensor:
            features = F.dropout(super().features(x), 0.5, self.training)
            return features.sign() * features.abs().sqrt()

    return Net(num_classes, in_shape)


def softmax_as_activation(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """A softmax after each of four hidden layers."""
    return mlp(num_classes, in_shape, hidden=4, activation=lambda: nn.Softmax(dim=1))


def logits_divided_by_1000(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Logits over 1000, as a temperature of the wrong unit."""

    class Net(Small):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) / 1000

    return Net(num_classes, in_shape)


def weights_clamped_in_forward(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Weights clamped to +-0.01 in every call, copied from a GAN."""

    class Net(Small):
        def forward(self, x: Tensor) -> Tensor:
            for parameter in self.parameters():
                parameter.data.clamp_(-0.01, 0.01)
            return super().forward(x)

    return Net(num_classes, in_shape)


def initialised_in_forward(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """The initialisation of the head called in forward: what it learned is gone."""

    class Net(Small):
        def forward(self, x: Tensor) -> Tensor:
            nn.init.xavier_normal_(self.head.weight)
            return super().forward(x)

    return Net(num_classes, in_shape)


def gain_of_ten(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Orthogonal weights with a gain of 10, six layers without norms."""
    net = mlp(num_classes, in_shape, hidden=6)
    for module in net.modules():
        if isinstance(module, nn.Linear):
            nn.init.orthogonal_(module.weight, gain=10.0)
    return net


def product_for_sum(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Eight residual blocks that multiply where a sum belongs."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(32, 32, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return x * F.relu(self.conv(x))

    return nn.Sequential(
        nn.Conv2d(in_shape[0], 32, 3, padding=1),
        *[Block() for _ in range(8)],
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(128, num_classes),
    )
