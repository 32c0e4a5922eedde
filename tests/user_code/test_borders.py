"""Own code that is wrong: one line that names it, in every command, and never a bug of ours."""

import copy
import errno
import pickle
import shutil
import sys
import weakref
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import Outcome, call
from own_set_up import DATA, HEALTHY, LOSS, MODEL, OwnSetUp
from torch import nn

from cnntune.errors import CnntuneError, UserCodeError
from cnntune.training.contracts import guard_forward
from cnntune.training.open_recipe import argument_problems
from cnntune.user_code.borders import explained, user_code
from cnntune.user_code.failures import full_disk, out_of_memory
from cnntune.user_code.imports import import_string

NET = """
class Net(nn.Module):
    def __init__(self, {takes}):
        super().__init__()
        self.layers = linear((1, 8, 8), 10)

    def forward(self, {inputs}):
        return self.layers(x)


"""
GIVES = "    return TensorDataset(x, y), TensorDataset(val_x, val_y)\n"
SIZES = (
    "\n\nclass Odd(Dataset):\n    labels = [index % 2 for index in range(40)]\n"
    "    def __len__(self):\n        return 40\n"
    "    def __getitem__(self, index):\n        return torch.rand(1, 8, 8 + index % 3), index % 2\n"
    "\n\ndef data(*, seed):\n    return Odd(), Odd()\n"
)
# What is written, and the words of the line: what is wrong, what would do, what was found.
FAULTS: dict[str, tuple[tuple[str, str, str], list[str]]] = {
    "a model builder without arguments": (
        ("def build():\n    return linear((1, 8, 8), 10)\n", "", ""),
        ["model.name: {own}:build: must take the keyword num_classes and in_shape", "got build()"],
    ),
    "a class that wants less": (
        (NET.format(takes="num_classes", inputs="x") + "build = Net\n", "", ""),
        ["model.name: {own}:build: must take the keyword in_shape", "got Net(num_classes)"],
    ),
    "an instance": (
        (NET.format(takes="num_classes", inputs="x") + "build = Net(10)\n", "", ""),
        ["model.name: {own}:build: must name a function", "got an instance of Net"],
    ),
    "a forward pass that wants more": (
        (NET.format(takes="*args", inputs="x, extra") + MODEL + "return Net()\n", "", ""),
        ["model {own}:build: its forward pass", "def forward(self, x)", "got forward(x, extra)"],
    ),
    "a model of integers": (
        (
            MODEL + "return Changed(linear(in_shape, num_classes), lambda f, x: f(x).int())\n",
            "",
            "",
        ),
        ["model {own}:build: must give float logits", "got torch.int32"],
    ),
    "an exit": (
        (
            MODEL
            + "return Changed(linear(in_shape, num_classes), lambda f, x: exit_with(0))\n"
            + "\n\ndef exit_with(code):\n    import sys\n    sys.exit(code)\n",
            "",
            "",
        ),
        ["model {own}:build, forward pass: SystemExit: 0"],
    ),
    "an exit between the passes": (
        (
            NET.format(takes="num_classes, in_shape", inputs="x")
            + "    def train(self, mode=True):\n        raise SystemExit(0)\n\n\n"
            + "build = Net\n",
            "",
            "",
        ),
        ["your code: SystemExit: 0"],
    ),
    "an assertion without words": (
        (MODEL + "assert num_classes < 0\n", "", ""),
        ["building model {own}:build: AssertionError"],
    ),
    "weights on the meta device": (
        (MODEL + "return linear(in_shape, num_classes).to('meta')\n", "", ""),
        ["model {own}:build: its weights are on the meta device"],
    ),
    "layers without a graph": (
        (
            MODEL
            + "return Changed(linear(in_shape, num_classes), torch.no_grad()(lambda f, x: f(x)))\n",
            "",
            "",
        ),
        ["model {own}:build: the loss does not depend on the model's weights", "no_grad"],
    ),
    "a pair in train mode": (
        (
            MODEL
            + "return Changed(linear(in_shape, num_classes),"
            + " lambda f, x: (f(x), f(x)) if f.training else f(x))\n",
            "",
            "",
        ),
        ["model {own}:build: must give logits of shape", "in train mode too", "got tuple"],
    ),
    "layers that do not fit": (
        (MODEL + "return nn.Sequential(nn.Flatten(), nn.Linear(7, num_classes))\n", "", ""),
        ["model {own}:build, forward pass, layer 1 (Linear): RuntimeError: mat1 and mat2 shapes"],
    ),
    "a change in place of what backward needs": (
        (
            MODEL
            + "return Changed(linear(in_shape, num_classes), lambda f, x: f(x).exp().mul_(2))\n",
            "",
            "",
        ),
        ["a training step with model {own}:build: RuntimeError: one of the variables"],
    ),
    "a model that no memory holds": (
        (MODEL + "return nn.Linear(10**7, 10**8)\n", "", ""),
        ["out of memory (tried to allocate 4e+06 GB)", "smaller model"],
    ),
    "data without a seed": (
        (HEALTHY, "", DATA.replace("*, seed", "") + GIVES),
        ["data.name: {own}:data: must take the keyword seed", "got data()"],
    ),
    "images of several widths": (
        (HEALTHY, "", SIZES),
        ["data {own}:data: train image", "image 0 is [1, 8, 8]", "resize or crop them"],
    ),
    "a loss for each image": (
        (HEALTHY, LOSS + "return F.cross_entropy(logits, targets, reduction='none')\n", ""),
        ["loss {own}:loss: must return one number", "tensor of shape (128,)"],
    ),
    "a loss as a number": (
        (HEALTHY, LOSS + "return F.cross_entropy(logits, targets).item()\n", ""),
        ["loss {own}:loss: must return a tensor", "without .item()", "got float"],
    ),
    "a loss cut off": (
        (HEALTHY, LOSS + "return F.cross_entropy(logits.detach(), targets)\n", ""),
        ["loss {own}:loss: must return a tensor that gradients flow through", "detach"],
    ),
    "a loss without a return": (
        (HEALTHY, LOSS + "F.cross_entropy(logits, targets)\n", ""),
        ["loss {own}:loss: must return a tensor of one number", "got None; is there a return?"],
    ),
    "a complex loss": (
        (HEALTHY, LOSS + "return F.cross_entropy(logits, targets) * 1j\n", ""),
        ["loss {own}:loss: must return a real number", "got torch.complex64"],
    ),
    "a loss of three": (
        (HEALTHY, LOSS.replace("targets", "targets, weights") + "return logits.mean()\n", ""),
        [
            "train.loss: {own}:loss: must take (logits, targets)",
            "got loss(logits, targets, weights)",
        ],
    ),
    "a loss class": (
        (HEALTHY, "\n\nclass loss(nn.CrossEntropyLoss):\n    pass\n", ""),
        ["train.loss: {own}:loss: must name a function", "instance", "got the class loss"],
    ),
}


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OwnSetUp:
    return OwnSetUp(tmp_path, "mistakes", monkeypatch)


def assert_one_line(outcome: Outcome, words: list[str]) -> None:
    assert outcome.code == 2, outcome.err
    line = outcome.err.splitlines()[-1]
    said = [
        line for line in outcome.err.splitlines() if words[0].format(own="own_mistakes") in line
    ]
    assert said, outcome.err
    for word in words:
        assert word.format(own="own_mistakes") in said[0], line
    assert "Traceback" not in outcome.err
    assert "site-packages" not in outcome.err


@pytest.mark.parametrize("fault", FAULTS)
def test_a_mistake_in_own_code_is_one_line(own: OwnSetUp, tmp_path: Path, fault: str) -> None:
    code, words = FAULTS[fault]
    own.write(*code)
    assert_one_line(call("train", "own.toml", cwd=tmp_path), words)


EVERYWHERE = (
    "a forward pass that wants more",
    "layers that do not fit",
    "images of several widths",
    "an exit",
    "weights on the meta device",
)


@pytest.mark.parametrize("command", ["inspect", "sanity", "lr-sweep", "tune"])
@pytest.mark.parametrize("fault", EVERYWHERE)
def test_the_line_is_the_same_in_every_command(
    own: OwnSetUp, tmp_path: Path, command: str, fault: str
) -> None:
    code, words = FAULTS[fault]
    own.write(*code)
    assert_one_line(call(command, "own.toml", cwd=tmp_path), words)


@pytest.mark.parametrize("fault", ["a pair in train mode", "layers without a graph"])
def test_what_only_a_training_step_shows_is_the_same_line(
    own: OwnSetUp, tmp_path: Path, fault: str
) -> None:
    code, words = FAULTS[fault]
    own.write(*code)
    for command in ("inspect", "lr-sweep"):
        assert_one_line(call(command, "own.toml", cwd=tmp_path), words)
    assert call("search", "own.toml", "--budget", "1", "--json", cwd=tmp_path).code != 0


def test_sanity_says_what_a_model_gives_in_train_mode(own: OwnSetUp, tmp_path: Path) -> None:
    own.write(*FAULTS["a pair in train mode"][0])
    outcome = call("sanity", "own.toml", "--json", cwd=tmp_path)
    said = [f["evidence"] for f in outcome.document["findings"] if f["rule"] == "outputs"]
    assert len(said) == 1
    assert said[0].startswith("a tuple in train mode, expected logits of shape")


def test_an_exit_of_own_code_is_an_error_in_the_document_too(own: OwnSetUp, tmp_path: Path) -> None:
    own.write(*FAULTS["an exit"][0])
    outcome = call("sanity", "own.toml", "--json", cwd=tmp_path)
    assert outcome.code == 2
    assert outcome.document["ok"] is False
    assert outcome.document["errors"][0].endswith("forward pass: SystemExit: 0")


SETTINGS = {
    "the type": "torch.set_default_dtype(torch.float64)",
    "the graph": "torch.set_grad_enabled(False)",
    "the device": "torch.set_default_device('meta')",
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_what_own_data_set_for_all_of_torch_does_not_reach_the_model(
    own: OwnSetUp, tmp_path: Path, setting: str
) -> None:
    own.write(HEALTHY, "", DATA + f"    {SETTINGS[setting]}\n" + GIVES)
    outcome = call("train", "own.toml", "--set", "train.epochs=1", cwd=tmp_path)
    assert outcome.code == 0, outcome.err


def test_images_that_ask_for_a_gradient_are_images(own: OwnSetUp, tmp_path: Path) -> None:
    own.write(HEALTHY, "", DATA + "    x.requires_grad_()\n" + GIVES)
    outcome = call("train", "own.toml", "--set", "train.epochs=1", cwd=tmp_path)
    assert outcome.code == 0, outcome.err


def test_a_model_that_is_nan_before_any_step_is_sent_to_sanity(
    own: OwnSetUp, tmp_path: Path
) -> None:
    nan = "return Changed(linear(in_shape, num_classes), lambda f, x: f(x) * float('nan'))\n"
    own.write(MODEL + nan)
    outcome = call("train", "own.toml", "--json", cwd=tmp_path)
    (finding,) = [f for f in outcome.document["findings"] if f["rule"] == "diverged"]
    assert finding["advice"].startswith("run `cnntune sanity` first")


# Line 1 is the import, so that the layers of `build` are made in lines 5 to 8.
LAYERS_BUILT = """from torch import nn

def build(*, num_classes, in_shape):
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(100, num_classes),
    )
"""


def test_a_layer_that_does_not_fit_is_named_with_the_line_that_makes_it(tmp_path: Path) -> None:
    (tmp_path / "misfit.py").write_text(LAYERS_BUILT)
    recipe = tmp_path / "own.toml"
    recipe.write_text('name = "own"\n[data]\nname = "digits"\n[model]\nname = "misfit:build"\n')
    for command in ("train", "inspect"):
        ended = call(command, str(recipe), "--device", "cpu", cwd=tmp_path)
        # 8 maps of 4x4 pixels are 128 numbers.
        assert ended.code == 2
        assert "model misfit:build, forward pass, layer 3 (Linear): RuntimeError" in ended.err
        assert "128 and 100x10" in ended.err
        made = f"  the layer is made at {tmp_path / 'misfit.py'}:8 in build: nn.Linear(100"
        assert made in ended.err


def test_a_guarded_model_is_freed_at_once_and_its_copies_stand_alone() -> None:
    model = nn.Linear(2, 2)
    guard_forward(model, "own:build", weakref.WeakKeyDictionary())
    copies = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
    for number, other in enumerate(copies, start=1):
        nn.init.constant_(other.weight, number)
        nn.init.zeros_(other.bias)
    seen = weakref.ref(model)
    del model
    assert seen() is None
    assert [other(torch.ones(1, 2)).tolist() for other in copies] == [[[2, 2]], [[4, 4]]]


def test_a_long_message_is_cut() -> None:
    with pytest.raises(UserCodeError) as caught, user_code("building it"):
        raise ValueError("x" * 3000)
    assert caught.value.lines[0] == f"building it: ValueError: {'x' * 300} ..."


@pytest.mark.parametrize("fault", ["a loss for each image", "a loss as a number", "a loss cut off"])
def test_what_sanity_explains_stays_a_finding(own: OwnSetUp, tmp_path: Path, fault: str) -> None:
    own.write(*FAULTS[fault][0])
    outcome = call("sanity", "own.toml", "--json", cwd=tmp_path)
    assert outcome.code == 1, outcome.err
    assert [f for f in outcome.document["findings"] if f["rule"] in ("loss", "gradient-flow")]


def test_a_loss_may_be_an_instance_of_torchs(own: OwnSetUp, tmp_path: Path) -> None:
    own.write(HEALTHY, "\n\nloss = nn.CrossEntropyLoss()\n")
    outcome = call("train", "own.toml", "--set", "train.epochs=1", cwd=tmp_path)
    assert outcome.code == 0, outcome.err


def test_a_library_may_be_named_as_a_builder() -> None:
    named = {"model": {"name": "torch.nn:Flatten"}, "train": {"loss": "torch.nn:MSELoss"}}
    problems = {problem.key: problem.message for problem in argument_problems(named)}
    assert problems.keys() == {"model.name", "train.loss"}


def package(folder: Path, name: str, code: str) -> None:
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").write_text(code)


@pytest.mark.parametrize("installed", ["site-packages", "dist-packages"])
def test_the_package_that_a_recipe_names_is_the_users_wherever_it_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installed: str
) -> None:
    folder = tmp_path / "lib" / installed
    library = f"some_library_in_{installed[:4]}"
    theirs = f"their_package_in_{installed[:4]}"
    package(folder, library, "def use(value):\n    return {}[value]\n")
    package(folder, theirs, f"import {library}\n\ndef build():\n    {library}.use('this')\n")
    monkeypatch.setattr(sys, "path", [*sys.path, str(folder)])
    build = import_string(f"{theirs}:build")
    with pytest.raises(UserCodeError) as caught, user_code("building it"):
        build()
    first, *frames = caught.value.lines
    assert first == "building it: KeyError: 'this'"
    assert any(f"{theirs}/__init__.py:4 in build" in frame for frame in frames)
    assert not any(f"{library}/__init__.py" in frame for frame in frames)


# Memory and disk


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (MemoryError(), "out of memory: lower"),
        (
            RuntimeError(
                "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate"
                " memory: you tried to allocate 720000000000 bytes. Error code 12"
            ),
            "out of memory (tried to allocate 720 GB): lower",
        ),
        (
            type("OutOfMemoryError", (RuntimeError,), {})(
                "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity ..."
            ),
            "out of memory (tried to allocate 2.50 GiB): lower",
        ),
        (
            RuntimeError("Storage size calculation overflowed with sizes=[1]"),
            "out of memory: lower",
        ),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), None),
        (ValueError("can't allocate memory"), None),
    ],
    ids=repr,
)
def test_memory_that_ran_out_is_told_from_other_errors(error: Exception, line: str | None) -> None:
    found = out_of_memory(error)
    assert (found is None) == (line is None)
    if found is not None:
        assert found.lines[0].startswith(str(line))


def test_memory_that_ran_out_inside_own_code_is_still_memory() -> None:
    def build() -> None:
        try:
            raise MemoryError
        except MemoryError as error:
            raise ValueError("no model today") from error

    with pytest.raises(CnntuneError) as caught, user_code("building model mine:build"):
        build()
    assert caught.value.kind == "out-of-memory"


Usage = namedtuple("Usage", "total used free")


def test_only_a_disk_without_space_is_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torchs = RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0")
    nowhere = tmp_path / "trial-0000" / "not made yet"
    others: list[Any] = [
        FileNotFoundError(errno.ENOENT, "No such file or directory", "here.png"),
        PermissionError(errno.EACCES, "Permission denied", "here.png"),
        torchs,
    ]
    assert [full_disk(error, nowhere) for error in others] == [None, None, None]
    for number in (errno.ENOSPC, errno.EDQUOT):
        full = full_disk(OSError(number, "full", "metrics.csv"), nowhere)
        assert full is not None
        assert full.lines[0].startswith(
            "metrics.csv: No space left on device; no results were lost"
        )
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(100, 100, 0))
    assert full_disk(torchs, nowhere) is not None
    assert [full_disk(error, nowhere) for error in others[:2]] == [None, None]
    assert explained(torchs) is None


FLATTENS = """
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes, in_shape):
        super().__init__()
        channels, height, width = in_shape
        self.features = nn.Sequential(nn.Conv2d(channels, 4, 3, padding=1), nn.MaxPool2d(2))
        self.head = nn.Linear(4 * (height // 2) * (width // 2), num_classes)

    def forward(self, x):
        x = self.features(x)
        return self.head(x.view(x.size(0), -1))  # refuses channels-last maps
"""


@pytest.mark.parametrize("data", ["digits", "shapes"])  # one channel, and three
def test_a_network_may_flatten_its_maps_by_a_view(tmp_path: Path, data: str) -> None:
    (tmp_path / "flattens.py").write_text(FLATTENS)
    (tmp_path / "mine.toml").write_text(
        f'data = {{ name = "{data}", size = 200 }}\nmodel.name = "flattens:Net"\n'
        "augment.crop = 1\ntrain.epochs = 1\n"
    )
    outcome = call("train", "mine.toml", cwd=tmp_path)
    assert outcome.code == 0, outcome.err
