"""`sanity`, `lr_sweep` and `observe` from Python: what they find, and that they change nothing."""

import copy
import doctest
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import cnntune
from cnntune.api import words
from cnntune.errors import DataError, UserCodeError
from cnntune.script import observer

ROOT = Path(__file__).parents[1]


def bars(count: int, seed: int) -> TensorDataset:
    """Noisy 8x8 images with a bright row or column; the class is which of four."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 4, (count,), generator=generator)
    images = 0.5 * torch.randn(count, 1, 8, 8, generator=generator)
    for image, label in zip(images, labels.tolist(), strict=True):
        line = image[0, 2 + 3 * (label % 2)] if label < 2 else image[0, :, 2 + 3 * (label % 2)]
        line += 2.0
    return TensorDataset(images, labels)


def loaders(**keywords: Any) -> tuple[DataLoader[Any], DataLoader[Any]]:
    train: DataLoader[Any] = DataLoader(bars(480, 0), 32, shuffle=True, **keywords)
    return train, DataLoader(bars(160, 1), 32)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4)
    )


def alarms(found: Any) -> set[str]:
    return {one.rule for one in found.findings if one.severity in ("warn", "fail")}


def everything(model: nn.Module, optimizer: torch.optim.Optimizer, loader: Any) -> list[Any]:
    """All that a function may not change, as values that compare bit for bit."""
    weights = [tensor.detach().clone() for tensor in model.state_dict().values()]
    gradients = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    modes = [module.training for module in model.modules()]
    hooks = [list(module._forward_hooks) for module in model.modules()]
    states = [torch.get_rng_state(), loader.generator.get_state()]
    python = [random.getstate(), np.random.get_state()[1].tolist()]  # type: ignore[index]
    state = str(optimizer.state_dict())
    return [weights, gradients, modes, hooks, states, python, state, torch.get_num_threads()]


def same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


@pytest.fixture
def prepared() -> tuple[nn.Module, torch.optim.Optimizer, Any, Any]:
    """A model in the middle of a training: odd modes, a gradient, momentum, a hook, a position."""
    train, val = loaders(generator=torch.Generator().manual_seed(3))
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    images, labels = next(iter(train))
    F.cross_entropy(model(images), labels).backward()
    optimizer.step()
    model[1].eval()
    return model, optimizer, train, val


@pytest.mark.slow
def test_sanity_and_the_sweep_change_nothing_bit_for_bit(prepared: Any) -> None:
    model, optimizer, train, val = prepared
    calls: list[int] = []
    model.register_forward_hook(lambda *_: calls.append(1))
    position = iter(train)
    next(position)
    twin = copy.deepcopy(train.generator)
    before = everything(model, optimizer, train)
    cnntune.sanity(model, train, val, loss=F.cross_entropy, optimizer=optimizer)
    cnntune.lr_sweep(
        model, train, loss=F.cross_entropy, optimizer=lambda p, lr: torch.optim.SGD(p, lr=lr)
    )
    assert same(before, everything(model, optimizer, train))
    assert calls == []
    assert torch.equal(train.generator.get_state(), twin.get_state())
    assert len(list(position)) == len(train) - 1
    assert not observer.UNDO


@pytest.mark.slow
def test_a_sound_set_up_has_no_alarm_and_the_experiments_of_the_command() -> None:
    train, val = loaders()
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    found = cnntune.sanity(model, train, val, loss=F.cross_entropy, optimizer=optimizer)
    assert alarms(found) == set(), str(found)
    assert found.ok
    found.raise_if_failed()
    rules = {one.rule for one in found.findings}
    assert {"inputs", "loss", "overfit-tiny", "learns", "split"} <= rules
    skipped = [one for one in found.findings if one.evidence.startswith("skipped")]
    assert "augmentation" in {one.rule for one in skipped}
    assert found.document["command"] == "sanity"
    assert found.document["samples"] == {"train": 480, "val": 160}


class Softmaxed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = network()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x).softmax(1)  # type: ignore[no-any-return]


class Cut(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = network()

    def forward(self, x: Tensor) -> Tensor:
        return self.net[4](self.net[:4](x).detach())  # type: ignore[no-any-return]


@pytest.mark.slow
@pytest.mark.parametrize(("model", "rule"), [(Softmaxed, "outputs"), (Cut, "trainable-parameters")])
def test_what_is_wrong_in_a_network_is_a_failure(model: type[nn.Module], rule: str) -> None:
    train, val = loaders()
    found = cnntune.sanity(model(), train, val, loss=F.cross_entropy)
    assert not found.ok
    assert rule in alarms(found) or "gradient-flow" in alarms(found), str(found)
    with pytest.raises(cnntune.FailedError):
        found.raise_if_failed()


class FromOne(TensorDataset):
    """Labels from 1 to C."""

    def __getitem__(self, index: int) -> Any:
        image, label = super().__getitem__(index)
        return image, label + 1


@pytest.mark.slow
def test_labels_from_one_are_said_to_be_so_before_a_loss_meets_them() -> None:
    train, val = (
        DataLoader(FromOne(*bars(count, seed).tensors), 32) for count, seed in ((160, 0), (64, 1))
    )
    found = cnntune.sanity(network(), train, val, loss=F.cross_entropy)
    faults = [one for one in found.findings if one.severity == "fail"]
    assert {one.rule for one in faults} == {"labels"}
    assert all("labels run from 1 to 4" in one.evidence for one in faults)
    assert all("subtract 1" in one.advice for one in faults)
    with pytest.raises(UserCodeError, match="if they run from 1, subtract 1"):
        cnntune.lr_sweep(network(), train, loss=F.cross_entropy, optimizer=torch.optim.SGD)


@pytest.mark.slow
def test_log_likelihood_of_logits_is_the_cause_and_not_the_network() -> None:
    train, val = loaders()
    found = cnntune.sanity(network(), train, val, loss=F.nll_loss)
    assert "log-probabilities" in next(
        one.advice for one in found.findings if one.rule == "loss" and one.severity == "fail"
    )
    assert not alarms(found) & {"signal", "activations", "train-eval", "augmentation"}
    for one in found.findings:
        assert "regularise" not in one.advice, one
        assert not one.advice.startswith("check the network"), one


@pytest.mark.slow
def test_an_optimizer_of_another_model_is_a_failure() -> None:
    train, val = loaders()
    other = torch.optim.SGD(network().parameters(), 0.1)
    found = cnntune.sanity(network(), train, val, loss=F.cross_entropy, optimizer=other)
    (fault,) = [one for one in found.findings if one.severity == "fail"]
    assert fault.rule == "optimizer-parameters"


@pytest.mark.slow
def test_a_regression_is_judged_by_its_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(320, 5, generator=generator)
    targets = inputs @ torch.arange(5.0)
    loader = DataLoader(TensorDataset(inputs, targets), 32)

    def flat(outputs: Tensor, targets: Tensor) -> Tensor:
        return F.mse_loss(outputs.squeeze(1), targets)

    sound = cnntune.sanity(nn.Linear(5, 1), loader, loss=flat)
    assert alarms(sound) == set(), str(sound)
    with pytest.warns(UserWarning, match="target size"):
        broken = cnntune.sanity(nn.Linear(5, 1), loader, loss=F.mse_loss)
    assert "loss-shapes" in alarms(broken)


def test_batches_that_are_dicts_go_to_the_model_by_keyword() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Linear(4, 3)

        def forward(self, features: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
            logits = self.net(features)
            return {"loss": F.cross_entropy(logits, labels)} if labels is not None else {}

    generator = torch.Generator().manual_seed(0)
    batches = [
        {"features": torch.randn(32, 4, generator=generator), "labels": torch.arange(32) % 3}
        for _ in range(4)
    ]
    found = cnntune.sanity(Named(), batches, loss=None)
    assert found.ok, str(found)
    assert found.document["samples"]["train"] == 96


@pytest.mark.slow
def test_a_sweep_picks_a_rate_that_lowers_the_loss() -> None:
    train, _ = loaders()
    found = cnntune.lr_sweep(
        network(), train, loss=F.cross_entropy, optimizer=lambda p, lr: torch.optim.SGD(p, lr=lr)
    )
    assert found.ok
    assert found.lr is not None
    losses = found.losses
    firsts = {curve[0] for curve in losses.values()}
    assert len(firsts) == 1  # the same weights and the same batch
    assert losses[found.lr][-1] < 0.5 * losses[found.lr][0]
    assert found.lrs == sorted(found.lrs, reverse=True)
    assert found.range is not None
    assert found.range[0] < found.lr <= found.range[1]
    assert found.document["command"] == "lr-sweep"


@pytest.mark.slow
def test_a_sweep_of_a_network_that_cannot_learn_fails() -> None:
    train, _ = loaders()

    def still(outputs: Tensor, _targets: Tensor) -> Tensor:
        return 0 * outputs.sum() + 1

    found = cnntune.lr_sweep(
        network(), train, loss=still, optimizer=lambda p, lr: torch.optim.SGD(p, lr=lr)
    )
    assert (found.lr, found.ok) == (None, False)


def loop(*, clear: bool = True, count: int = 30) -> list[float]:
    """A training loop of a user's; the losses that it would print."""
    train, _ = loaders(generator=torch.Generator().manual_seed(1))
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.02)
    losses = []
    for _ in range(2):
        for images, labels in train:
            if clear:
                optimizer.zero_grad()
            loss = F.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return losses[:count]


def test_an_observed_loop_has_the_same_numbers_and_leaves_no_hook() -> None:
    originals = [nn.Module.__call__, Tensor.backward, F.cross_entropy, torch.argmax]
    alone = loop()
    with cnntune.observe() as seen:
        observed = loop()
    assert observed == alone
    assert [nn.Module.__call__, Tensor.backward, F.cross_entropy, torch.argmax] == originals
    assert "argmax" not in vars(Tensor)  # it is inherited
    assert alarms(seen) == set(), str(seen)
    assert seen.document["script"]["steps"] == 30


def test_a_loop_without_zero_grad_is_named_with_its_line() -> None:
    with cnntune.observe() as seen:
        loop(clear=False)
    fault = next(one for one in seen.findings if one.rule == "missing-zero-grad")
    assert fault.severity == "fail"
    assert re.search(r"test_python_api\.py:\d+$", fault.where)
    with pytest.raises(cnntune.FailedError, match="missing-zero-grad"):
        seen.raise_if_failed()


def test_an_optimizer_made_before_the_block_is_known_in_it() -> None:
    train, _ = loaders()
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.02)
    with cnntune.observe() as seen:
        for images, labels in train:
            optimizer.zero_grad()
            F.cross_entropy(model(images), labels).backward()
            optimizer.step()
    assert alarms(seen) == set(), str(seen)


def test_what_the_loop_raises_passes_and_the_hooks_are_gone() -> None:
    seen = cnntune.observe()
    with pytest.raises(ZeroDivisionError), seen:
        loop(count=1 // 0)
    assert seen.document["script"]["stopped"] == "raised"
    assert not observer.UNDO


def test_a_block_within_a_block_is_an_error() -> None:
    with cnntune.observe() as seen:
        with pytest.raises(DataError, match="observed already"), cnntune.observe():
            pass
        with pytest.raises(DataError, match="once the with block has ended"):
            _ = seen.findings
    assert "put the training loop into the block" in str(seen)


def wrong(*_arguments: Any) -> Any:
    """Makes no module and no optimizer."""
    return 3


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda n, t: cnntune.sanity(n, iter(t), loss=F.cross_entropy), DataError, "an iterator"),
        (lambda n, _t: cnntune.sanity(n, [], loss=F.cross_entropy), DataError, "yields no batch"),
        (lambda n, _t: cnntune.sanity(n, [1], loss=F.cross_entropy), DataError, "inputs, targets"),
        (lambda n, t: cnntune.sanity(n, t, loss=lambda o, _y: o), UserCodeError, "one number"),
        (lambda _n, t: cnntune.sanity(wrong, t, loss=None), UserCodeError, "nn.Module"),
        (
            lambda n, t: cnntune.lr_sweep(n, t, loss=F.cross_entropy, optimizer=wrong),
            UserCodeError,
            "torch.optim.Optimizer",
        ),
    ],
)
def test_what_cannot_be_used_is_one_line(
    call: Callable[..., Any], kind: type[Exception], message: str
) -> None:
    train, _ = loaders()
    with pytest.raises(kind, match=message) as error:
        call(network(), train)
    assert "given:" not in str(error.value)
    assert not observer.UNDO


@pytest.mark.slow
def test_results_are_well_formed_html_with_escaped_text() -> None:
    train, _ = loaders()
    swept = cnntune.lr_sweep(
        network(), train, loss=F.cross_entropy, optimizer=lambda p, lr: torch.optim.SGD(p, lr=lr)
    )
    with cnntune.observe() as seen:
        loop(clear=False)
    for found in (swept, seen):
        assert ElementTree.fromstring(found._repr_html_()).tag == "div"
        assert found.to_json().startswith("{")
    assert swept._repr_html_().count("<svg") == len(swept.lrs)


# What a rule may say of the command line, in code: a quoted command, an option, a recipe's key.
TYPED = re.compile(r"`cnntune [a-z-]+`|--(?:set|map|fail-on)\b|\btrain\.(?:lr|batch_size)\b")


def test_no_sentence_of_a_rule_has_words_of_the_command_line_in_python() -> None:
    sources = [
        *(ROOT / "cnntune/steps/sanity").glob("*.py"),
        ROOT / "cnntune/steps/lr_sweep.py",
        *(ROOT / "cnntune/diagnosis").glob("*.py"),
        *(ROOT / "cnntune/script/rules").glob("*.py"),
    ]
    typed = [
        line.strip()
        for path in sources
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.search(r"(?:advice|text|evidence) \+?= f?\"", line) and TYPED.search(line)
    ]
    assert len(typed) >= 5
    for line in typed:
        assert not TYPED.search(words.in_python(line)), line


@pytest.mark.slow
def test_the_examples_of_the_page_are_true() -> None:
    found = doctest.testfile(
        str(ROOT / "docs/python-api.md"), module_relative=False, optionflags=doctest.ELLIPSIS
    )
    assert found.failed == 0
    assert found.attempted >= 10


@pytest.mark.slow
def test_the_notebook_runs_and_shows_what_is_checked_in() -> None:
    pytest.importorskip("nbclient", reason="nbclient is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
    import write_notebook

    book, kept = write_notebook.executed(), nbformat.read(write_notebook.NOTEBOOK, 4)
    assert [cell.source for cell in book.cells] == [cell.source for cell in kept.cells]
    shown = [
        [output["data"] for output in cell.get("outputs", []) if "data" in output]
        for cell in book.cells
    ]
    pages = [data["text/html"] for outputs in shown for data in outputs if "text/html" in data]
    assert len(pages) == 5
    assert "missing-zero-grad" in pages[2]
    assert "nothing wrong was found" in pages[3]
    assert pages[1].count("<svg") >= 5
    of_kept = [cell for cell in kept.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in of_kept)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"loss": nn.CrossEntropyLoss}, "loss: must be an instance, CrossEntropyLoss(), not the"),
        ({"loss": "nll"}, "loss: must be a function of (outputs, targets) (got 'nll')"),
        ({"model": [1]}, "model: must be an nn.Module, or a function that makes one (got list)"),
        ({"optimizer": "adam"}, "optimizer: must be "),
    ],
)
@pytest.mark.parametrize("function", [cnntune.sanity, cnntune.lr_sweep])
def test_an_argument_of_another_kind_is_named(
    function: Any, arguments: dict[str, Any], said: str
) -> None:
    batches = [(torch.zeros(4, 2), torch.zeros(4).long())]
    given = {"model": nn.Linear(2, 2), "loss": F.cross_entropy, "optimizer": torch.optim.SGD}
    with pytest.raises(DataError) as error:
        function(train_loader=batches, **{**given, **arguments})
    assert str(error.value).startswith(said)
