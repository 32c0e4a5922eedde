"""Causes that `sanity` names: each fault as a user would write it, and what is said about it."""

import re
from pathlib import Path

import pytest
import torch
from own_set_up import HEALTHY, LOSS, MODEL, OwnSetUp

from cnntune.errors import UserCodeError
from cnntune.findings import failed

TWO_LINEAR_LAYERS = MODEL + (
    "net = linear(in_shape, 32)\n"
    "    return Changed(nn.Sequential(net, nn.Linear(32, num_classes)),\n"
    "                   lambda layers, x: layers(x))\n"
)
IN_PLACE_INPUT = MODEL + (
    "return Changed(linear(in_shape, num_classes), lambda layers, x: layers(x.mul_(0.5)))\n"
)
CHANGED_FOR_BACKWARD = MODEL + (
    "return Changed(nn.Sequential(linear(in_shape, num_classes), nn.Softplus()),\n"
    "               lambda layers, x: torch.tanh(layers(x)).add_(1))\n"
)
TIED_CLASSES = MODEL + (
    "return Changed(linear(in_shape, 5), lambda layers, x: layers(x).repeat(1, 2))\n"
)
UPHILL = MODEL + (
    "class Flip(torch.autograd.Function):\n"
    "        @staticmethod\n"
    "        def forward(ctx, x):\n"
    "            return x.clone()\n"
    "        @staticmethod\n"
    "        def backward(ctx, gradient):\n"
    "            return -gradient\n"
    "    return Changed(linear(in_shape, num_classes), lambda layers, x: Flip.apply(layers(x)))\n"
)
SUMS_ALONG_THE_BATCH = MODEL + (
    "return Changed(linear(in_shape, num_classes), lambda layers, x: layers(x).cumsum(0))\n"
)
PAIR = MODEL + "return Changed(linear(in_shape, num_classes), lambda layers, x: (layers(x), x))\n"
NUMBER = LOSS + "return F.cross_entropy(logits, targets).item()\n"
TEMPERATURE = LOSS + "return F.cross_entropy(logits / 1000, targets)\n"
RUNNING_TOTAL = (
    "\n\nTOTAL = []\n"
    + LOSS
    + ("TOTAL.append(F.cross_entropy(logits, targets))\n    return torch.stack(TOTAL).sum()\n")
)

PLACED = MODEL + (
    "net = Changed(linear(in_shape, num_classes),\n"
    "                  lambda layers, x: layers(x) + net.places[:len(x)])\n"
    "    net.places = nn.Parameter(torch.randn(512, num_classes))\n"
    "    return net\n"
)
BATCH_MAXIMUM = MODEL + (
    "return Changed(linear(in_shape, num_classes), lambda layers, x: layers(x / x.max()))\n"
)
CLAMPED_WEIGHTS = MODEL + (
    "def forward(layers, x):\n"
    "        layers[1].weight.data.clamp_(-1e-3, 1e-3)\n"
    "        return layers(x)\n"
    "    return Changed(linear(in_shape, num_classes), forward)\n"
)
OVER_A_MILLION = MODEL + (
    "return Changed(linear(in_shape, num_classes), lambda layers, x: layers(x) / 1e6)\n"
)
ONLY_BIASES = MODEL + (
    "net = linear(in_shape, num_classes)\n    net[1].weight.requires_grad_(False)\n    return net\n"
)
RIGHT_CLASS_ALONE = LOSS + "return F.nll_loss(F.logsigmoid(logits), targets)\n"
CLASS_IGNORED = LOSS + "return F.cross_entropy(logits, targets, ignore_index=3)\n"
SQUASHED_LOSS = LOSS + (
    "return F.binary_cross_entropy_with_logits(\n"
    "        logits.softmax(1), F.one_hot(targets, logits.shape[1]).float())\n"
)

# What is written, the rule that names it, how badly, and a word that the rule has to say.
CAUSES: dict[str, tuple[str, str, str, str, str]] = {
    "two layers and no bend": (TWO_LINEAR_LAYERS, "", "activations", "warn", "single linear map"),
    "images changed in place": (IN_PLACE_INPUT, "", "outputs", "warn", "changes the images"),
    "changed for backward": (CHANGED_FOR_BACKWARD, "", "gradient-flow", "fail", "inplace"),
    "tied classes": (TIED_CLASSES, "", "overfit-tiny", "fail", "32 images"),
    "uphill": (UPHILL, "", "gradient-flow", "fail", "wrong way"),
    "sums along the batch": (
        SUMS_ALONG_THE_BATCH,
        "",
        "batch-independence",
        "fail",
        "other images",
    ),
    "a pair": (PAIR, "", "outputs", "fail", "tuple"),
    "a number for a loss": (HEALTHY, NUMBER, "loss", "fail", "float"),
    "a temperature": (HEALTHY, TEMPERATURE, "loss", "fail", "cross-entropy"),
    "a running total": (HEALTHY, RUNNING_TOTAL, "loss", "fail", "batch to batch"),
    "the right class alone": (HEALTHY, RIGHT_CLASS_ALONE, "loss", "fail", "cross-entropy"),
    "a class ignored": (HEALTHY, CLASS_IGNORED, "loss", "fail", "class number 3"),
    "a squashed loss": (HEALTHY, SQUASHED_LOSS, "loss", "fail", "squashes"),
    "weights by place": (PLACED, "", "batch-independence", "fail", "its position in the batch"),
    "the batch's maximum": (BATCH_MAXIMUM, "", "batch-independence", "fail", "other images"),
    "clamped weights": (CLAMPED_WEIGHTS, "", "overfit-tiny", "fail", "32 images"),
    "logits over a million": (OVER_A_MILLION, "", "outputs", "fail", "follows your last layer"),
    "biases alone": (ONLY_BIASES, "", "trainable-parameters", "info", "frozen"),
}


@pytest.fixture
def own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> OwnSetUp:
    return OwnSetUp(tmp_path, re.sub(r"\W", "_", request.node.name), monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("cause", CAUSES)
def test_a_cause_is_named(own: OwnSetUp, cause: str) -> None:
    model, loss, rule, severity, word = CAUSES[cause]
    said = [f for f in own.findings(model, loss) if f.rule == rule and f.severity == severity]
    assert any(word in finding.evidence + finding.advice for finding in said), said


def test_layers_of_torch_that_do_not_fit_are_the_users_error(own: OwnSetUp) -> None:
    # No line of the user's is on the way to the exception: the stack is torch's alone.
    model = MODEL + "return nn.Sequential(nn.Flatten(), nn.Linear(7, num_classes))\n"
    with pytest.raises(UserCodeError, match=r"forward pass, layer 1 .*: RuntimeError.*64"):
        own.findings(model)


RAISING = {
    "import": ("raise KeyError('here')\n", "", ""),
    "build": (MODEL + "raise KeyError('here')\n", "", ""),
    "forward in train mode": (
        MODEL
        + "class Net(nn.Module):\n"
        + "        def __init__(self):\n"
        + "            super().__init__()\n"
        + "            self.net = linear(in_shape, num_classes)\n"
        + "        def forward(self, x):\n"
        + "            if self.training:\n"
        + "                raise KeyError('here')\n"
        + "            return self.net(x)\n"
        + "    return Net()\n",
        "",
        "",
    ),
    "loss": (HEALTHY, LOSS + "raise KeyError('here')\n", ""),
    "data set": (
        HEALTHY,
        "",
        "\n\nclass Own(Dataset):\n"
        "    def __len__(self):\n        return 50\n"
        "    def __getitem__(self, index):\n"
        "        if index == 40:\n            raise KeyError('here')\n"
        "        return torch.rand(1, 8, 8), index % 10\n"
        "\n\ndef data(*, seed):\n    return Own(), Own()\n",
    ),
}


@pytest.mark.parametrize("place", RAISING)
def test_an_exception_of_the_users_is_their_lines_and_no_others(own: OwnSetUp, place: str) -> None:
    with pytest.raises(UserCodeError) as caught:
        own.findings(*RAISING[place])
    assert "KeyError: 'here'" in caught.value.lines[0]
    assert len(caught.value.lines) > 1
    assert all("own_" in line for line in caught.value.lines[1:])


def test_an_exception_in_a_reading_process_is_the_users_line(own: OwnSetUp) -> None:
    # Images that change on access are read by worker processes, and the third reading raises.
    data = (
        "\n\nimport os\n\nMAIN = os.getpid()\n\n\nclass Own(Dataset):\n"
        "    labels = [index % 10 for index in range(50)]\n"
        "    def __len__(self):\n        return 50\n"
        "    def __getitem__(self, index):\n"
        "        if os.getpid() != MAIN:\n            raise KeyError('here')\n"
        "        return torch.rand(1, 8, 8), index % 10\n"
        "\n\ndef data(*, seed):\n    return Own(), Own()\n"
    )
    with pytest.raises(UserCodeError) as caught:
        own.findings(data=data)
    assert "here" in caught.value.lines[0]
    assert all("own_" in line for line in caught.value.lines[1:])


@pytest.mark.slow
def test_the_users_random_state_is_left_alone(own: OwnSetUp) -> None:
    torch.manual_seed(7)
    state = torch.get_rng_state()
    assert not failed(own.findings())
    assert torch.equal(torch.get_rng_state(), state)
