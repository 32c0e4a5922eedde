"""Networks with one bug each, as a tester would plant them; no rule was written for them."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from planted.parts import Shape, Small, mlp, plain_cnn


def skip_detached(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Residual blocks that add their input detached: the short way back is cut."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(16, 16, 3, padding=1)
            self.norm = nn.BatchNorm2d(16)

        def forward(self, x: Tensor) -> Tensor:
            return x.detach() + F.relu(self.norm(self.conv(x)))

    return nn.Sequential(
        nn.Conv2d(in_shape[0], 16, 3, padding=1),
        *[Block() for _ in range(4)],
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(64, num_classes),
    )


def norm_after_logits(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """A batch norm behind the classifier, as behind every other layer."""
    return nn.Sequential(Small(num_classes, in_shape), nn.BatchNorm1d(num_classes))


def dead_branch(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Two branches, one of them dead: biases of -100 before its ReLU."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left = nn.Conv2d(in_shape[0], 32, 3, padding=1)
            self.right = nn.Conv2d(in_shape[0], 32, 5, padding=2)
            assert self.right.bias is not None
            nn.init.constant_(self.right.bias, -100.0)
            self.head = nn.Linear(256, num_classes)

        def forward(self, x: Tensor) -> Tensor:
            maps = torch.cat([F.relu(self.left(x)), F.relu(self.right(x))], dim=1)
            logits: Tensor = self.head(F.adaptive_avg_pool2d(maps, 2).flatten(1))
            return logits

    return Net()


def pixel_for_pooling(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """The value at place [0, 0] of each map where its mean was meant."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(
                nn.Conv2d(in_shape[0], 32, 3, padding=1),
                nn.BatchNorm2d(32),
                nn.ReLU(),
                nn.Conv2d(32, 64, 3, padding=1),
                nn.BatchNorm2d(64),
                nn.ReLU(),
            )
            self.head = nn.Linear(64, num_classes)

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.head(self.body(x)[:, :, 0, 0])
            return logits

    return Net()


def one_place_left(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """A stride of 8 where 2 was meant: one place is left after the second layer."""
    return nn.Sequential(
        nn.Conv2d(in_shape[0], 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, stride=8, padding=1),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.Conv2d(64, 64, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, num_classes),
    )


def zero_weight_norm(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Two convolutions under weight norm whose lengths are all set to 0."""

    def convolution(channels: int, width: int) -> nn.Module:
        layer = parametrizations.weight_norm(
            nn.Conv2d(channels, width, 3, padding=1, bias=False), dim=0
        )
        nn.init.zeros_(layer.parametrizations.weight.original0)
        result: nn.Module = layer
        return result

    return nn.Sequential(
        convolution(in_shape[0], 16),
        nn.ReLU(),
        convolution(16, 32),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(128, num_classes),
    )


def layer_norm_with_the_batch(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """layer_norm over all axes of the features, that of the batch among them."""

    class Net(Small):
        def features(self, x: Tensor) -> Tensor:
            features = super().features(x)
            return F.layer_norm(features, features.shape)

    return Net(num_classes, in_shape)


def attention_softmax_over_images(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Attention between places whose weights sum to 1 over the images of the batch."""

    class Net(Small):
        def __init__(self) -> None:
            super().__init__(num_classes, in_shape)
            self.keys = nn.Linear(32, 32)
            self.queries = nn.Linear(32, 32)

        def maps(self, x: Tensor) -> Tensor:
            tokens = super().maps(x).flatten(2).transpose(1, 2)  # [N, 4, 32]
            scores = self.queries(tokens) @ self.keys(tokens).transpose(1, 2) / 32**0.5
            result: Tensor = tokens + scores.softmax(0) @ tokens
            return result

    return Net()


def features_shuffled_each_call(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Features in a new random order in each call."""

    class Net(Small):
        def features(self, x: Tensor) -> Tensor:
            return super().features(x)[:, torch.randperm(64)]

    return Net(num_classes, in_shape)


def outputs_permuted_each_call(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Classes in a new random order in each call."""

    class Net(Small):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x)[:, torch.randperm(num_classes)]

    return Net(num_classes, in_shape)


def never_in_eval_mode(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """An own train() that forgets its argument: eval mode never comes."""

    class Net(Small):
        def train(self, _mode: bool = True) -> "Net":
            super().train(True)
            return self

        def features(self, x: Tensor) -> Tensor:
            return F.dropout(super().features(x), 0.5, self.training)

    return Net(num_classes, in_shape)


def gelu_output(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """A GELU behind the last layer: no logit below -0.17."""
    return nn.Sequential(Small(num_classes, in_shape), nn.GELU())


def normalised_output(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Logits divided by their length, as embeddings are."""

    class Net(Small):
        def forward(self, x: Tensor) -> Tensor:
            return F.normalize(super().forward(x), dim=1)

    return Net(num_classes, in_shape)


def weights_in_buffers(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """A layer's weights registered as a buffer."""

    class Net(Small):
        def __init__(self) -> None:
            super().__init__(num_classes, in_shape)
            self.register_buffer("kernel", torch.randn(64, 64) / 8)

        def features(self, x: Tensor) -> Tensor:
            return F.relu(super().features(x) @ self.get_buffer("kernel"))

    return Net()


def weights_zeroed_each_call(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """A layer's weights multiplied by a mask of zeros in each call."""

    class Net(Small):
        def forward(self, x: Tensor) -> Tensor:
            self.fc.weight.data.mul_(torch.zeros_like(self.fc.weight))
            return super().forward(x)

    return Net(num_classes, in_shape)


def deviation_of_ten_in_one_layer(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """The weights of one of five hidden layers drawn with a deviation of 10."""
    net = mlp(num_classes, in_shape, hidden=5)
    layer = net[5]
    assert isinstance(layer, nn.Linear)
    nn.init.normal_(layer.weight, std=10.0)
    return net


def hidden_biases_of_100(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Biases of 100 in two hidden layers: no ReLU ever cuts."""
    net = mlp(num_classes, in_shape, hidden=2)
    for layer in (net[1], net[3]):
        assert isinstance(layer, nn.Linear)
        nn.init.constant_(layer.bias, 100.0)
    return net


def one_stage_frozen(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """The second convolution and its norm frozen, by a name that was meant for another network."""
    net = Small(num_classes, in_shape)
    for name, parameter in net.named_parameters():
        parameter.requires_grad_("2" not in name)
    return net


def relu_of_negated_relu(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """The features negated between two ReLUs: nothing is left."""

    class Net(Small):
        def features(self, x: Tensor) -> Tensor:
            return F.relu(-super().features(x))

    return Net(num_classes, in_shape)


def bytes_into_tanh(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Images multiplied by 255 again, before layers of tanh."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = mlp(num_classes, in_shape, hidden=3, activation=nn.Tanh)

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.layers(255 * x)
            return logits

    return Net()


def attention_masked_out(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """A padding mask the wrong way round: every place is masked."""

    class Net(Small):
        def __init__(self) -> None:
            super().__init__(num_classes, in_shape)
            self.attention = nn.MultiheadAttention(32, 4, batch_first=True)

        def maps(self, x: Tensor) -> Tensor:
            tokens = super().maps(x).flatten(2).transpose(1, 2)  # [N, 4, 32]
            valid = torch.ones(tokens.shape[:2], dtype=torch.bool, device=x.device)
            out: Tensor = self.attention(tokens, tokens, tokens, key_padding_mask=valid)[0]
            return out

    return Net()


def softmax_over_one(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Attention weights from a softmax over an axis of length 1: each of them is 1."""

    class Net(Small):
        def __init__(self) -> None:
            super().__init__(num_classes, in_shape)
            self.score = nn.Linear(32, 1)

        def maps(self, x: Tensor) -> Tensor:
            tokens = super().maps(x).flatten(2).transpose(1, 2)  # [N, 4, 32]
            result: Tensor = tokens * self.score(tokens).softmax(-1)
            return result

    return Net()


def divides_by_255_inside(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Images that are standardised already divided by 255 in forward; no norm mends it."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = plain_cnn(num_classes, in_shape)

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.layers(x / 255)
            return logits

    return Net()


def channel_mean_subtracted(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """The mean over channels subtracted, of images with one channel: zeros."""

    class Net(Small):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x - x.mean(1, keepdim=True))

    return Net(num_classes, in_shape)
