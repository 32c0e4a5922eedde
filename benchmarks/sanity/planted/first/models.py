"""Networks with one bug each, as they turn up in users' code; the docstring names the bug."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from planted.parts import Shape, Small, mlp, plain_cnn

# What the network gives.


def softmax_output(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """A softmax before the cross-entropy, which has its own."""

    class Net(Small):
        def forward(self, x: Tensor) -> Tensor:
            return F.softmax(super().forward(x), dim=1)

    return Net(num_classes, in_shape)


def softmax_module(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """The same as a module at the end of a plain stack."""
    return nn.Sequential(mlp(num_classes, in_shape), nn.Softmax(dim=-1))


def sigmoid_output(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """A sigmoid at the end, as in two-class code."""
    return nn.Sequential(plain_cnn(num_classes, in_shape), nn.Sigmoid())


def tanh_output(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """A tanh at the end: logits within -1 and 1."""

    class Net(Small):
        def forward(self, x: Tensor) -> Tensor:
            return torch.tanh(super().forward(x))

    return Net(num_classes, in_shape)


def relu_output(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """A ReLU after the last layer, out of habit."""

    class Net(Small):
        def forward(self, x: Tensor) -> Tensor:
            return F.relu(self.head(self.features(x)))

    return Net(num_classes, in_shape)


def clamped_output(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Logits clamped to 0..1."""

    class Net(Small):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).clamp(0, 1)

    return Net(num_classes, in_shape)


def cosine_without_temperature(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Cosine similarities as logits, without a scale: within -1 and 1."""

    class Net(Small):
        def forward(self, x: Tensor) -> Tensor:
            return F.normalize(self.features(x), dim=1) @ F.normalize(self.head.weight, dim=1).T

    return Net(num_classes, in_shape)


def imagenet_head(*, num_classes: int, in_shape: Shape) -> nn.Module:  # noqa: ARG001
    """A head for 1000 classes, left from another data set."""
    return Small(1000, in_shape)


def one_output_short(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """A head with one output too few."""
    return Small(num_classes - 1, in_shape)


def spatial_output(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Logits [N, C, 1, 1]: a 1x1 convolution as head, and no flatten."""
    return nn.Sequential(
        nn.Conv2d(in_shape[0], 32, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Conv2d(32, num_classes, 1),
    )


def log_of_inputs(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """The logarithm of normalised inputs, which may be negative: NaN."""

    class Net(Small):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(torch.log(x + 0.01))

    return Net(num_classes, in_shape)


def hot_logits(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Logits multiplied by 100."""

    class Net(Small):
        def forward(self, x: Tensor) -> Tensor:
            return 100 * super().forward(x)

    return Net(num_classes, in_shape)


def low_temperature(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Cosine logits over a temperature of 0.001."""

    class Net(Small):
        def forward(self, x: Tensor) -> Tensor:
            features, centres = F.normalize(self.features(x)), F.normalize(self.head.weight)
            return features @ centres.T / 1e-3

    return Net(num_classes, in_shape)


def argmax_output(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """The predicted class, one-hot, in place of logits."""

    class Net(Small):
        def forward(self, x: Tensor) -> Tensor:
            return F.one_hot(super().forward(x).argmax(1), num_classes).float()

    return Net(num_classes, in_shape)


def detached_output(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """A detach on what forward returns."""

    class Net(Small):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).detach()

    return Net(num_classes, in_shape)


def constant_output(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Features multiplied by a mask that is all zeros."""

    class Net(Small):
        mask: Tensor

        def __init__(self) -> None:
            super().__init__(num_classes, in_shape)
            self.register_buffer("mask", torch.zeros(64))

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.head(self.features(x) * self.mask)
            return logits

    return Net()


def biased_head(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """A head that starts with a bias of 30 for one class."""
    net = Small(num_classes, in_shape)
    with torch.no_grad():
        net.head.bias[0] = 30.0
    return net


# What is wired to what.


def frozen_backbone(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """All but the head frozen, although nothing is pretrained."""
    net = Small(num_classes, in_shape)
    for name, parameter in net.named_parameters():
        parameter.requires_grad = name.startswith("head")
    return net


def frozen_head(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """All but the first layer frozen: the loop freezes what it should train."""
    net = Small(num_classes, in_shape)
    for name, parameter in net.named_parameters():
        parameter.requires_grad = name.startswith("conv1")
    return net


def everything_frozen(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """No parameter asks for a gradient."""
    return Small(num_classes, in_shape).requires_grad_(False)


def layers_in_a_list(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Layers in a Python list, which the optimizer never sees."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = [nn.Conv2d(in_shape[0], 16, 3, padding=1)]
            self.layers += [nn.Conv2d(16, 16, 3, padding=1) for _ in range(3)]
            self.head = nn.Linear(16 * 2 * 2, num_classes)

        def forward(self, x: Tensor) -> Tensor:
            for layer in self.layers:
                x = F.relu(layer(x))
            logits: Tensor = self.head(F.adaptive_avg_pool2d(x, 2).flatten(1))
            return logits

    return Net()


def layers_in_a_dict(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Layers in a plain dictionary, which the optimizer never sees."""

    class Net(Small):
        def __init__(self) -> None:
            super().__init__(num_classes, in_shape)
            self.extra = {"a": nn.Linear(64, 64), "b": nn.Linear(64, 64)}

        def forward(self, x: Tensor) -> Tensor:
            x = self.features(x)
            for layer in self.extra.values():
                x = F.relu(layer(x))
            logits: Tensor = self.head(x)
            return logits

    return Net()


def weights_without_parameter(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """A projection kept as a plain tensor in place of an nn.Parameter."""

    class Net(Small):
        def __init__(self) -> None:
            super().__init__(num_classes, in_shape)
            self.projection = torch.randn(64, 64) / 8
            self.projection.requires_grad = True

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.head(F.relu(self.features(x) @ self.projection))
            return logits

    return Net()


def detach_in_the_middle(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Features detached before the head."""

    class Net(Small):
        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.head(self.features(x).detach())
            return logits

    return Net(num_classes, in_shape)


def data_in_the_middle(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Maps taken through .data, which drops the graph."""

    class Net(Small):
        def features(self, x: Tensor) -> Tensor:
            return F.relu(self.fc(self.maps(x).data.flatten(1)))

    return Net(num_classes, in_shape)


def no_grad_backbone(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """The convolutions run under no_grad, left from feature extraction."""

    class Net(Small):
        def maps(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                return super().maps(x)

    return Net(num_classes, in_shape)


def through_numpy(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """A detour through NumPy, which drops the graph."""

    class Net(Small):
        def maps(self, x: Tensor) -> Tensor:
            maps = super().maps(x).detach().cpu().numpy()
            return torch.from_numpy(maps / (1e-5 + maps.max())).to(x.device)

    return Net(num_classes, in_shape)


def rebuilt_tensor(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Features written into a new tensor element by element, through .item()."""

    class Net(Small):
        def features(self, x: Tensor) -> Tensor:
            return torch.tensor(super().features(x).tolist(), device=x.device)

    return Net(num_classes, in_shape)


def step_activation(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """A comparison as activation, which has no gradient."""

    class Net(Small):
        def features(self, x: Tensor) -> Tensor:
            hidden: Tensor = self.fc(self.maps(x).flatten(1))
            return (hidden > 0).float()

    return Net(num_classes, in_shape)


def rounded_features(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Features rounded, which has the gradient zero."""

    class Net(Small):
        def features(self, x: Tensor) -> Tensor:
            return super().features(x).mul(4).round().div(4)

    return Net(num_classes, in_shape)


def unused_branch(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """A second branch that is built and never called."""

    class Net(Small):
        def __init__(self) -> None:
            super().__init__(num_classes, in_shape)
            self.context = nn.Sequential(nn.Conv2d(32, 32, 3, padding=1), nn.ReLU())

    return Net()


def branch_result_dropped(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """A branch whose result is overwritten by the next line."""

    class Net(Small):
        def __init__(self) -> None:
            super().__init__(num_classes, in_shape)
            self.extra = nn.Linear(64, 64)

        def forward(self, x: Tensor) -> Tensor:
            features = self.features(x)
            x = F.relu(self.extra(features))
            x = self.head(features)
            return x  # noqa: RET504  # the bug: the line before last has no effect

    return Net()


def zeroed_input(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """A buffer of zeros goes through the network in place of the images."""

    class Net(Small):
        def forward(self, x: Tensor) -> Tensor:
            batch = torch.zeros_like(x)
            return super().forward(batch)

    return Net(num_classes, in_shape)


def mean_input(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Every pixel replaced by the mean of its image."""

    class Net(Small):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.mean((1, 2, 3), keepdim=True).expand_as(x))

    return Net(num_classes, in_shape)


def clamped_input(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Inputs multiplied down and cast to whole numbers: all of them 0."""

    class Net(Small):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward((x / 255).int().float())

    return Net(num_classes, in_shape)


def one_channel(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Only the first of three channels is read."""

    class Net(Small):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x[:, :1])

    return Net(num_classes, (1, *in_shape[1:]))


def corner_only(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Only the top left quarter of the image is read, a slice with a fixed size."""

    class Net(Small):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x[:, :, :4, :4])

    return Net(num_classes, in_shape)


def strided_past(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """A 1x1 convolution of stride 4 sees one pixel in 16."""
    return nn.Sequential(
        nn.Conv2d(in_shape[0], 32, 1, stride=4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * (in_shape[1] // 4) * (in_shape[2] // 4), num_classes),
    )


# Images of a batch mixed with each other, and state kept between calls.


def batch_last_view(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """A permute that puts the batch last, then a reshape as if it came first."""

    class Net(Small):
        def features(self, x: Tensor) -> Tensor:
            maps = self.maps(x).permute(1, 2, 3, 0)
            return F.relu(self.fc(maps.reshape(len(x), -1)))

    return Net(num_classes, in_shape)


def transposed_reshape(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Channels and batch swapped before a reshape to [N, features]."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = mlp(num_classes, in_shape)

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.net(x.flatten(2).transpose(0, 2).reshape(len(x), -1))
            return logits

    return Net()


def softmax_over_batch(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """A softmax over axis 0, the batch."""

    class Net(Small):
        def forward(self, x: Tensor) -> Tensor:
            return F.log_softmax(super().forward(x), dim=0)

    return Net(num_classes, in_shape)


def batch_mean_by_hand(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Features minus the mean of the batch, in eval mode too."""

    class Net(Small):
        def features(self, x: Tensor) -> Tensor:
            features = super().features(x)
            return features - features.mean(0)

    return Net(num_classes, in_shape)


def standardised_by_batch(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Inputs standardised by the statistics of their batch."""

    class Net(Small):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward((x - x.mean()) / (x.std() + 1e-6))

    return Net(num_classes, in_shape)


def normalised_over_batch(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """F.normalize over axis 0 in place of axis 1."""

    class Net(Small):
        def features(self, x: Tensor) -> Tensor:
            return F.normalize(super().features(x), dim=0) * 8

    return Net(num_classes, in_shape)


def attention_over_batch(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Attention without batch_first: images attend to each other."""

    class Net(Small):
        def __init__(self) -> None:
            super().__init__(num_classes, in_shape)
            self.attention = nn.MultiheadAttention(32, 4)

        def features(self, x: Tensor) -> Tensor:
            tokens = self.maps(x).flatten(2).transpose(1, 2)  # [N, 4, 32]
            mixed, _ = self.attention(tokens, tokens, tokens, need_weights=False)
            return F.relu(self.fc((tokens + mixed).flatten(1)))

    return Net()


def rnn_over_batch(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """An LSTM over the rows of an image, without batch_first."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(in_shape[0] * in_shape[2], 64)
            self.head = nn.Linear(64, num_classes)

        def forward(self, x: Tensor) -> Tensor:
            rows, _ = self.lstm(x.transpose(1, 2).flatten(2))  # [N, H, C * W]
            logits: Tensor = self.head(rows[:, -1])
            return logits

    return Net()


def batch_norm_always_training(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """F.batch_norm with training=True in eval mode too."""

    class Net(Small):
        def maps(self, x: Tensor) -> Tensor:
            x = F.batch_norm(self.conv1(x), None, None, training=True)
            x = F.max_pool2d(F.relu(x), 2)
            x = F.batch_norm(self.conv2(x), None, None, training=True)
            return F.adaptive_avg_pool2d(F.relu(x), 2)

    net = Net(num_classes, in_shape)
    del net.bn1, net.bn2
    return net


def dropout_always_on(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """F.dropout without training=self.training: on in eval mode."""

    class Net(Small):
        def features(self, x: Tensor) -> Tensor:
            return F.dropout(super().features(x), 0.5)

    return Net(num_classes, in_shape)


def noise_always_on(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Noise for augmentation that is added in eval mode too."""

    class Net(Small):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x + torch.randn_like(x))

    return Net(num_classes, in_shape)


def eval_in_forward(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Forward calls self.eval(), so that batch norms never learn their statistics."""

    class Net(Small):
        def forward(self, x: Tensor) -> Tensor:
            self.eval()
            return super().forward(x)

    return Net(num_classes, in_shape)


def train_in_forward(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Forward calls self.train(): validation has dropout and batch statistics."""

    class Net(Small):
        def features(self, x: Tensor) -> Tensor:
            self.train()
            return F.dropout(super().features(x), 0.5, training=self.training)

    return Net(num_classes, in_shape)


def batch_norm_momentum_zero(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Batch norms of momentum 0: their running statistics stay at 0 and 1."""
    net = Small(num_classes, in_shape)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.0
    return net


def dropout_of_99_percent(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """A dropout of 0.99 where a keep probability was meant."""

    class Net(Small):
        def features(self, x: Tensor) -> Tensor:
            return F.dropout(super().features(x), 0.99, training=self.training)

    return Net(num_classes, in_shape)


def dropout_on_logits(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Dropout after the last layer, on the logits."""
    return nn.Sequential(Small(num_classes, in_shape), nn.Dropout(0.7))


def state_between_calls(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """A memory of the last batch is added to the features of this one."""

    class Net(Small):
        def __init__(self) -> None:
            super().__init__(num_classes, in_shape)
            self.memory = torch.zeros(64)

        def features(self, x: Tensor) -> Tensor:
            features = super().features(x)
            self.memory = 0.9 * self.memory.to(x.device) + features.detach().mean(0)
            return features + self.memory

    return Net()


def norm_of_one_value(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """A group norm over single values, after the global pooling: all of them 0."""
    return nn.Sequential(
        nn.Conv2d(in_shape[0], 32, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.GroupNorm(32, 32),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32, num_classes),
    )


# How the weights start.


def _weights(net: nn.Module, fill: Callable[[Tensor], object], bias: float = 0.0) -> nn.Module:
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            fill(module.weight)
            if module.bias is not None:
                nn.init.constant_(module.bias, bias)
    return net


def zero_weights(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """All weights zero."""
    return _weights(plain_cnn(num_classes, in_shape), nn.init.zeros_)


def zero_weights_with_norms(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """All weights zero, in a network with batch norms."""
    return _weights(Small(num_classes, in_shape), nn.init.zeros_)


def constant_weights(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """All weights the same number: units that never become different."""
    return _weights(mlp(num_classes, in_shape, hidden=2), lambda w: nn.init.constant_(w, 0.02))


def unit_normal_weights(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """torch.randn for weights in a deep network without norms."""
    return _weights(mlp(num_classes, in_shape, hidden=8), nn.init.normal_)


def unit_normal_convolutions(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """torch.randn for weights in a convolutional network without norms."""
    return _weights(plain_cnn(num_classes, in_shape, width=32), nn.init.normal_)


def small_random_weights(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """0.01 * torch.randn in a deep network without norms (the lecture's first try)."""
    net = mlp(num_classes, in_shape, hidden=8, activation=nn.Tanh)
    return _weights(net, lambda w: nn.init.normal_(w, std=0.01))


def small_random_convolutions(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Weights of 0.01 in six convolutions without norms."""
    layers: list[nn.Module] = []
    for channels in (in_shape[0], *[16] * 5):
        layers += [nn.Conv2d(channels, 16, 3, padding=1), nn.ReLU()]
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64, num_classes))
    return _weights(net, lambda w: nn.init.normal_(w, std=0.01))


def saturated_tanh(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Weights so large that every tanh is at -1 or 1."""
    net = mlp(num_classes, in_shape, hidden=6, width=256, activation=nn.Tanh)
    return _weights(net, lambda w: nn.init.normal_(w, std=0.5))


def wide_tanh(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """The lecture's second try: 0.08 * torch.randn with layers of 1024 tanh units."""
    net = mlp(num_classes, in_shape, hidden=5, width=1024, activation=nn.Tanh)
    return _weights(net, lambda w: nn.init.normal_(w, std=0.08))


def ten_sigmoids(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Ten layers of sigmoids: the gradient is gone before it reaches the first."""
    return mlp(num_classes, in_shape, hidden=10, width=64, activation=nn.Sigmoid)


def dead_relus(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Biases of -10: every ReLU gives zero for every image."""
    net = plain_cnn(num_classes, in_shape)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.constant_(module.bias, -10.0)  # type: ignore[arg-type]
    return net


def dead_layer(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """One hidden layer with biases of -20, the others sound."""
    net = Small(num_classes, in_shape)
    nn.init.constant_(net.fc.bias, -20.0)
    return net


def deep_plain_defaults(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Thirty layers without norms at PyTorch's default weights, which shrink what passes."""
    return mlp(num_classes, in_shape, hidden=30, width=64)
