"""Faults that a network trains with, and sound code that looks like them."""

import multiprocessing
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from commands import call
from own_set_up import MODEL, OwnSetUp

from cnntune.data import stream
from cnntune.findings import Finding

CPU = torch.device("cpu")
RECORDED = "    x, y, val_x, val_y = some_digits()\n"
DATA = "\n\ndef data(*, seed):\n" + RECORDED
RETURN = "    return TensorDataset(x, y), TensorDataset(val_x, val_y)\n"


def changed(forward: str) -> str:
    """A linear network whose `layers(x)` is changed into `forward`."""
    return MODEL + f"return Changed(linear(in_shape, num_classes), lambda layers, x: {forward})\n"


def hidden(forward: str, *, held: str = "") -> str:
    """Two layers, `first` and `head`, and `held`, in `forward` of images `[N, 64]`."""
    return MODEL + (
        "class Net(nn.Module):\n"
        "        def __init__(self):\n"
        "            super().__init__()\n"
        "            self.first, self.head = nn.Linear(64, 64), nn.Linear(64, num_classes)\n"
        f"            {held or 'pass'}\n"
        "        def forward(self, x):\n"
        "            x = F.relu(self.first(x.flatten(1)))\n"
        f"            return {forward}\n"
        "    return Net()\n"
    )


FIXED_BUFFER = "self.register_buffer('kernel', torch.ones(64, 64) / 64)"
LEAPING = MODEL + (
    "sizes = [64, 64, 64, 64, num_classes]\n"
    "    layers = [nn.Flatten()]\n"
    "    for i in range(4):\n"
    "        layers += [nn.Linear(sizes[i], sizes[i + 1]), nn.ReLU()]\n"
    "    nn.init.normal_(layers[5].weight, std=20.0)\n"
    "    return nn.Sequential(*layers[:-1])\n"
)
NORM_LAST = MODEL + (
    "return nn.Sequential(*linear(in_shape, num_classes), nn.BatchNorm1d(num_classes))\n"
)

FAULTS: dict[str, tuple[str, str, str, str, str]] = {
    "a skip detached": (
        hidden("self.head(x.detach() + torch.tanh(x))"),
        "",
        "gradient-flow",
        "warn",
        "from the slope",
    ),
    "a norm behind the logits": (NORM_LAST, "", "outputs", "info", "stay within"),
    "a GELU behind the logits": (
        changed("F.gelu(layers(x))"),
        "",
        "outputs",
        "fail",
        "never below 0",
    ),
    "a tanh times 2": (
        changed("torch.tanh(layers(x)) * 2"),
        "",
        "outputs",
        "fail",
        "within ±2",
    ),
    "half of a gradient": (
        MODEL
        + (
            "class Square(torch.autograd.Function):\n"
            "        @staticmethod\n"
            "        def forward(ctx, x):\n"
            "            ctx.save_for_backward(x)\n"
            "            return x * x\n"
            "        @staticmethod\n"
            "        def backward(ctx, gradient):\n"
            "            return ctx.saved_tensors[0] * gradient\n"
            "    net = linear(in_shape, 32)\n"
            "    head = nn.Linear(32, num_classes)\n"
            "    return Changed(nn.Sequential(net, head),\n"
            "                   lambda layers, x: head(Square.apply(net(x))))\n"
        ),
        "",
        "gradient-flow",
        "warn",
        "differs by 50%",
    ),
    "a weight used as a number": (
        hidden("self.head(x) * self.gain.item()", held="self.gain = nn.Parameter(torch.ones(1))"),
        "",
        "gradient-flow",
        "fail",
        "although the logits depend on gain",
    ),
    "one norm for two places": (
        hidden(
            "self.head(self.norm(F.relu(self.second(self.norm(9 + 9 * x)))))",
            held="self.norm, self.second = nn.BatchNorm1d(64), nn.Linear(64, 64)",
        ),
        "",
        "train-eval",
        "fail",
        "with the statistics of each batch",
    ),
    "a layer that leaps": (LEAPING, "", "activations", "fail", "explode, from"),
    "half of the image": (
        changed("layers(x * (torch.arange(8) < 4))"),
        "",
        "input-used",
        "warn",
        "50%",
    ),
}
SOUND: dict[str, str] = {
    "logits capped at 30": changed("30 * torch.tanh(layers(x) / 30)"),
    "logits clamped at 30": changed("layers(x).clamp(-30, 30)"),
    "a tanh with a learned scale": hidden(
        "self.head(x).tanh() * self.scale", held="self.scale = nn.Parameter(torch.tensor(8.0))"
    ),
    "logits times a gate": hidden(
        "self.gate(x).sigmoid() * self.head(x)", held="self.gate = nn.Linear(64, num_classes)"
    ),
    "a cosine times 16": hidden("16 * F.linear(F.normalize(x), F.normalize(self.head.weight))"),
    "distances to a learned point per class": hidden("-torch.cdist(x, self.head.weight) ** 2"),
    "two views through one norm": hidden(
        "self.head(self.norm(x)) + self.head(self.norm(x.clone()))",
        held="self.norm = nn.BatchNorm1d(64)",
    ),
    "an own function that is right": MODEL
    + (
        "class Square(torch.autograd.Function):\n"
        "        @staticmethod\n"
        "        def forward(ctx, x):\n"
        "            ctx.save_for_backward(x)\n"
        "            return x * x\n"
        "        @staticmethod\n"
        "        def backward(ctx, gradient):\n"
        "            return 2 * ctx.saved_tensors[0] * gradient\n"
        "    return Changed(linear(in_shape, num_classes),\n"
        "                   lambda layers, x: layers(x + Square.apply(x) / 10))\n"
    ),
    "a buffer that is no drawing": hidden("self.head(x - x @ self.kernel)", held=FIXED_BUFFER),
    "random projections of the images": MODEL
    + (
        "net = nn.Sequential(nn.Linear(64, num_classes))\n"
        "    net.register_buffer('kernel', torch.randn(64, 64) / 8)\n"
        "    return Changed(net, lambda layers, x: layers(torch.cos(x.flatten(1) @ net.kernel)))\n"
    ),
    "layers that learn their size": MODEL
    + "return nn.Sequential(nn.Flatten(), nn.LazyLinear(32), nn.ReLU(),\n"
    "                         nn.LazyLinear(num_classes))\n",
    "complex weights": hidden(
        "self.head(x + torch.fft.irfft(torch.fft.rfft(x) * self.waves, n=64))",
        held="self.waves = nn.Parameter(torch.randn(33, dtype=torch.cfloat) / 8)",
    ),
    "pixels looked up in a table": hidden("self.head(x)")
    .replace(
        "x = F.relu(self.first(x.flatten(1)))",
        "x = F.relu(self.first(self.table((x.flatten(1) > 0).long()).squeeze(2)))",
    )
    .replace("            pass\n", "            self.table = nn.Embedding(2, 1)\n"),
    "factors detached": hidden("self.head(x / x.norm(dim=1, keepdim=True).detach() * 4)"),
    "a maximum that is taken off detached": hidden(
        "self.head(x - (x.amax(1, keepdim=True) - x.amax(1, keepdim=True)).detach())"
    ),
    "features rounded straight through": hidden("self.head(x + (x.round() - x).detach())"),
    "kernels of five axes": MODEL
    + (
        "net = linear(in_shape, num_classes)\n"
        "    net.kernels = nn.Parameter(torch.ones(2, 1, 1, 1, 1))\n"
        "    scaled = lambda layers, x: layers(x * layers.kernels.mean(0))\n"
        "    return Changed(net, lambda layers, x: 30 * torch.tanh(scaled(layers, x) / 30))\n"
    ),
}


@pytest.fixture
def own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> OwnSetUp:
    return OwnSetUp(tmp_path, re.sub(r"\W", "_", request.node.name), monkeypatch)


def alarms(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(f.rule, f.evidence) for f in findings if f.severity in ("fail", "warn")]


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_trains_is_named(own: OwnSetUp, fault: str) -> None:
    model, spoilt, rule, severity, word = FAULTS[fault]
    found = own.findings(model, data=DATA + spoilt + RETURN if spoilt else "")
    said = [f.evidence for f in found if f.rule == rule and f.severity == severity]
    assert any(word in text for text in said), alarms(found)


@pytest.mark.parametrize("name", SOUND)
def test_sound_code_that_looks_like_a_fault_is_left_alone(own: OwnSetUp, name: str) -> None:
    assert alarms(own.findings(SOUND[name])) == []


def test_one_pair_alike_among_sixteen_images_is_chance(own: OwnSetUp) -> None:
    twin = "    x, y, val_x, val_y = x[:40], y[:40], val_x[:16].clone(), val_y[:16].clone()\n"
    twin += "    val_x[0], val_y[0] = x[0] + 1e-3 * torch.randn(1, 8, 8), y[0]\n"
    found = own.findings(data=DATA + twin + RETURN)
    assert "near copies" not in str(alarms(found))


@pytest.mark.parametrize(("part", "severity"), [("x, y", "fail"), ("val_x, val_y", "warn")])
def test_test_images_that_were_seen_before_are_named(
    own: OwnSetUp, part: str, severity: str
) -> None:
    three = RETURN.replace("val_y)\n", f"val_y), TensorDataset({part})\n")
    said = [f for f in own.findings(data=DATA + three) if f.rule == "split"]
    assert [(f.severity, "100.0% of the test images are" in f.evidence) for f in said] == [
        (severity, True)
    ]


def test_a_head_that_starts_at_zero_and_is_too_slow_to_train_reads_its_images(
    own: OwnSetUp,
) -> None:
    from cnntune.steps.sanity.input_use import input_used
    from cnntune.steps.sanity.tiny import TinyOverfit

    zero = "net = linear(in_shape, num_classes)\n    nn.init.zeros_(net[1].weight)\n"
    subject = own.subject(MODEL + zero + "    return net\n")
    (finding,) = input_used(subject, TinyOverfit(4, (), subject.untrained))
    assert finding.severity == "ok"


@pytest.fixture
def _processes_are_no_forks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As on macOS and Windows."""
    usual = multiprocessing.get_start_method()
    multiprocessing.set_start_method("spawn", force=True)
    monkeypatch.setattr(stream, "FORKS", False)
    yield
    multiprocessing.set_start_method(usual, force=True)


@pytest.mark.usefixtures("_processes_are_no_forks")
def test_a_data_set_that_cannot_be_sent_is_one_line_and_exit_2(
    own: OwnSetUp,
) -> None:
    local = "    class Mine(TensorDataset): pass\n    return Mine(x, y), Mine(val_x, val_y)\n"
    recipe = own.write(data=DATA + local)
    outcome = call("sanity", str(recipe), "--set", "data.stream=true", cwd=own.folder)
    assert outcome.code == 2
    (line,) = [line for line in outcome.err.splitlines() if "cannot be pickled" in line]
    assert "define its class at the top level of a module" in line
