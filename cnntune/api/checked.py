"""`cnntune.sanity`: a model, its data, its loss and its optimizer, checked on copies."""

import inspect
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Adam, AdamW, Optimizer

from cnntune.api import html, objects, seen
from cnntune.api.objects import Batch, Loss, Model, Source, named, untouched
from cnntune.api.result import Result, document_of
from cnntune.api.words import findings_in_python, python_errors
from cnntune.config.combinations import CROSS_ENTROPY
from cnntune.config.recipe import Recipe
from cnntune.data.source import Images
from cnntune.data.source import Source as Sets
from cnntune.errors import DataError
from cnntune.findings import Finding
from cnntune.runs.chance import Chance
from cnntune.script import rules
from cnntune.seeds import derive_seed
from cnntune.steps import sanity as step
from cnntune.training.build import load_data
from cnntune.training.device import seeded
from cnntune.user_code.borders import border, explaining
from cnntune.user_code.imports import GIVEN, given

TRAIN_SAMPLES = 4000  # read at most: as many as the rules on images use, and their references
VAL_SAMPLES = 2000  # a standard error of at most 1.1 points
READ_SECONDS = 20.0  # for each loader
HELD_OUT = 0.2  # of the training samples, where there is no validation set
LOOP_STEPS = 60  # of the user's own optimizer on copies
LOOP_SECONDS = 15.0
VAL_BATCHES = 8
USUAL_LR = 1e-3  # of AdamW, where no optimizer was given
OPTIMIZERS = {SGD: "sgd", Adam: "adam", AdamW: "adamw"}

OptimizerLike = Optimizer | Callable[[Iterable[nn.Parameter]], Optimizer]


@dataclass
class _Given:
    """What was passed, read once."""

    source: Source
    loss: Loss
    optimizer: OptimizerLike | None
    train: list[Batch]
    val: list[Batch]
    held_out: bool  # `val` is a part of the training loader's samples
    seed: int

    def copies(self) -> tuple[nn.Module, Optimizer]:
        """The model, and an optimizer of the user's class and settings that holds its weights."""
        if isinstance(self.optimizer, Optimizer):
            return self.source.copied_with(self.optimizer)
        model = self.source.copy()
        if self.optimizer is None:
            weights = [p for p in model.parameters() if p.requires_grad]
            return model, AdamW(weights or list(model.parameters()), lr=USUAL_LR)
        return model, self.optimizer(model.parameters())


def sanity(
    model: Model,
    train_loader: Iterable[Any],
    val_loader: Iterable[Any] | None = None,
    *,
    loss: Callable[..., Tensor] | None,
    optimizer: OptimizerLike | None = None,
    seed: int = 0,
) -> Result:
    """Check a set-up before it is trained: data, loss, network, optimizer, and whether it learns.

    Everything is done on copies: weights, modes, gradients, hooks, random numbers and the position
    of the loaders stay as they are.

    Where batches are `(images [N, C, H, W], labels [N])`, these are the experiments of
    `cnntune sanity`: on the images, the loss on logits made by hand, the layers of the network, a
    tiny sample to overfit, a short training beside references. Whatever the batches are, copies are
    trained for up to 60 steps with the optimizer, and that loop is judged as `cnntune.observe`
    judges one. What cannot be known, such as augmentation inside the loader, is `skipped`.

    Args:
        model: a module with the weights that training begins from, or a function that makes one.
        train_loader: batches `(inputs, targets)`; of more entries the last are the targets; of a
            dict, the labels. Up to 4,000 samples are read, in this process.
        val_loader: the same for the validation set; up to 2,000 samples. Without it a fifth of the
            training samples is held out.
        loss: `loss(outputs, targets)`, a tensor of one number; None where the model returns it.
        optimizer: an optimizer of the model's parameters, or a function of parameters that makes
            one. Without it AdamW at 1e-3 is used, and nothing is said about it.
        seed: of everything that is drawn.

    Raises:
        DataError: where batches are not of one of these kinds, or an argument is not.
        UserCodeError: where the model cannot be copied, or model or loss raise.
    """
    for loader, name in ((train_loader, "train_loader"), (val_loader, "val_loader")):
        if loader is not None:
            objects.check_loader(loader, name)
    objects.check_model_and_loss(model, loss)
    if optimizer is not None and not isinstance(optimizer, Optimizer) and not callable(optimizer):
        raise DataError(
            "optimizer: must be an optimizer of the model, or a function of parameters that makes"
            f" one (got {optimizer!r:.60})"
        )
    with python_errors(), explaining():
        source = Source(model)
        with untouched(source.made):
            torch.manual_seed(derive_seed(seed, "api"))
            what = _read(source, train_loader, val_loader, Loss(loss), optimizer, seed)
            findings = list(_findings(what))
    findings = findings_in_python(findings)
    read = {"train": sum(map(len, what.train)), "val": sum(map(len, what.val))}
    document = document_of("sanity", findings, samples=read)
    title = f"sanity of {source.name}"
    detail = f"{read['train']} training and {read['val']} validation samples"
    return Result(
        findings,
        document,
        partial(_draw, title, detail, findings),
        [partial(_shown, title, detail, findings)],
    )


def _read(
    source: Source,
    train_loader: Any,
    val_loader: Any,
    loss: Loss,
    optimizer: OptimizerLike | None,
    seed: int,
) -> _Given:
    device = objects.device_of(source.made)
    whole = loss.function is None

    def of(loader: Any, name: str, samples: int) -> list[Batch]:
        read = objects.read(loader, name, samples=samples, seconds=READ_SECONDS, whole=whole)
        return [batch.to(device) for batch in read]

    train = of(train_loader, "train_loader", TRAIN_SAMPLES)
    if val_loader is not None:
        val = of(val_loader, "val_loader", VAL_SAMPLES)
        return _Given(source, loss, optimizer, train, val, False, seed)
    kept = max(1, round(len(train) * (1 - HELD_OUT)))
    return _Given(source, loss, optimizer, train[:kept], train[kept:], True, seed)


def _findings(what: _Given) -> Iterator[Finding]:
    """Those of the experiments on images, then what the loop adds, then what was left out."""
    classes = _classes(what)
    rows: list[Finding] = []
    if classes:
        rows = list(_on_images(what, classes))
        yield from rows
    known = {one.rule for one in rows}
    alarmed = {one.rule for one in rows if one.severity in ("warn", "fail")}
    if classes and _outside(what, classes):  # `labels` says so; no loss takes them
        yield from _left_out(what, images=True)
        return
    looped = [
        one
        for one in _loop(what, experiments=not classes)
        if one.rule not in (known if one.rule in step.RULES else alarmed)
    ]
    yield from looped
    if not classes and not any(one.severity in ("warn", "fail") for one in looped):
        text = f"nothing wrong was found in a short training ({len(rules.RULES)} rules)"
        yield Finding("loop", "ok", text)
    yield from _left_out(what, images=bool(classes))


def _outside(what: _Given, classes: int) -> bool:
    """Whether a label is none of the classes."""
    labels = torch.cat([batch.targets.flatten() for batch in (*what.train, *what.val)])
    return bool(((labels < 0) | (labels >= classes)).any())


def _classes(what: _Given) -> int:
    """The number of classes where the rules on images apply, else 0."""
    if not all(batch.images for batch in (*what.train, *what.val)) or what.loss.function is None:
        return 0
    if len({batch.args[0].shape[1:] for batch in (*what.train, *what.val)}) > 1:
        return 0
    model = what.source.copy().eval()
    few = what.train[0].args[0][:2]
    with torch.no_grad(), border(f"model {what.source.name}, forward pass"):
        logits = model(few.clone())
    fits = isinstance(logits, Tensor) and logits.ndim == 2 and len(logits) == len(few)
    return logits.shape[1] if fits and logits.shape[1] > 1 else 0


# The experiments on images


def _on_images(what: _Given, classes: int) -> Iterator[Finding]:
    """The rules of `sanity`, on a recipe whose builders return what was given."""
    train, val = _joined(what.train), _joined(what.val)
    if what.held_out:
        train, val = _divided(_joined([*what.train, *what.val]), what.seed)
    names = tuple(map(str, range(classes)))

    def loader(*, seed: int) -> Sets:  # noqa: ARG001  the argument of every builder
        return Sets(train, val, None, names)

    def build(*, num_classes: int, in_shape: tuple[int, int, int]) -> nn.Module:  # noqa: ARG001
        return what.source.copy(fresh=True)

    function = what.loss.function
    assert function is not None
    parts: dict[str, Callable[..., Any]] = {
        "loader": loader,
        what.source.name: build,
        named(function): function,
    }
    with given(**parts):
        recipe = _recipe(what)
        device = objects.device_of(what.source.made)
        data = load_data(recipe, device, checked=False, stream=False)
        found = list(step.check(recipe, data, device))
    trained = _trained(what)
    for one in found:
        if one.rule == "augmentation" or (one.rule == "split" and what.held_out):
            continue
        if one.rule == "optimizer" and what.optimizer is None:
            continue
        if trained and one.rule == "initial-loss":
            yield Finding("initial-loss", "info", f"skipped: {trained}")
            continue
        yield one


def _joined(batches: Sequence[Batch]) -> Images:
    """The images of all batches as they go into the network, with their labels."""
    pixels = [batch.args[0].float() for batch in batches]
    labels = [batch.targets.long() for batch in batches]
    if not batches:
        return Images(torch.empty(0, 1, 1, 1), torch.empty(0, dtype=torch.int64))
    return Images(torch.cat(pixels).cpu(), torch.cat(labels).cpu())


def _divided(images: Images, seed: int) -> tuple[Images, Images]:
    generator = torch.Generator().manual_seed(derive_seed(seed, "held out"))
    order = torch.randperm(len(images), generator=generator)
    count = round(HELD_OUT * len(images))
    return images.take(order[count:]), images.take(order[:count])


def _recipe(what: _Given) -> Recipe:
    """The recipe of what was given; its import strings name the objects."""
    function = what.loss.function
    train: dict[str, Any] = {"precision": "float32", "optimizer": "adamw", "lr": USUAL_LR}
    smoothing = _smoothing(function)
    train |= (
        {"loss": f"{GIVEN}:{named(function)}"}
        if smoothing is None
        else {"loss": CROSS_ENTROPY, "label_smoothing": smoothing}
    )
    if what.optimizer is not None:
        train |= _settings(what.copies()[1])
    train["batch_size"] = max(map(len, what.train))
    return Recipe.model_validate(
        {
            "name": "given",
            "seed": what.seed,
            "data": {"name": f"{GIVEN}:loader", "normalize": False},
            "model": {"name": f"{GIVEN}:{what.source.name}"},
            "train": train,
        }
    )


def _smoothing(function: Any) -> float | None:
    """The label smoothing of plain cross-entropy; None for any other loss."""
    if function is F.cross_entropy:
        return 0.0
    plain = type(function) is nn.CrossEntropyLoss and function.weight is None
    if plain and function.reduction == "mean" and function.ignore_index < 0:
        return float(function.label_smoothing)
    return None


def _settings(optimizer: Optimizer) -> dict[str, Any]:
    """The keys of `[train]` that an optimizer says; another class is taken for Adam."""
    group = max(optimizer.param_groups, key=lambda one: float(one.get("lr", 0.0)))
    lr = float(group.get("lr", 0.0))
    name = OPTIMIZERS.get(type(optimizer), "adam")
    found: dict[str, Any] = {
        "optimizer": name,
        "lr": lr if lr > 0 else USUAL_LR,
        "weight_decay": max(0.0, float(group.get("weight_decay", 0.0))),
    }
    if name == "sgd":
        found["momentum"] = min(float(group.get("momentum", 0.0)), 0.999)
    return found


@torch.no_grad()
def _trained(what: _Given) -> str:
    """That the given weights are no initial ones, since they predict; else empty."""
    model = what.source.copy().eval()
    right = total = 0
    labels: list[int] = []
    for batch in what.val:
        right += int((model(batch.args[0].clone()).argmax(1) == batch.targets).sum())
        total += len(batch)
        labels += batch.targets.tolist()
    if not total or not Chance.of(labels).beaten_by(right / total):
        return ""
    return (
        f"the model is trained already, its accuracy is {right / total:.1%}; to check initial"
        " weights, pass a new model or a function that makes one"
    )


# The loop


def _loop(what: _Given, *, experiments: bool) -> list[Finding]:
    """What the rules of training loops find in a short training of copies."""
    with seeded(what.seed, "loop", device=objects.device_of(what.source.made)):
        model, optimizer = what.copies()
        trained = {id(p) for p in model.parameters()}
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        with seen.observing(experiments=experiments) as found:
            _train(what, model, optimizer)
        record = found.record
    skipped = {"optimizer-parameters", "missing-gradients", "learning-rate"}
    findings = [
        replace(one, where="" if one.where.startswith("checked.py") else one.where)
        for one in rules.judge(record)
        if what.optimizer is not None or one.rule not in skipped - {"missing-gradients"}
    ]
    if what.optimizer is not None and not trained & held:
        text = "the optimizer holds no parameter of the model"
        advice = "make the optimizer from model.parameters(), after the model"
        findings = [one for one in findings if one.rule not in (*skipped, "stuck-loss")]
        findings.insert(0, Finding("optimizer-parameters", "fail", text, advice))
    return findings


def _train(what: _Given, model: nn.Module, optimizer: Optimizer) -> None:
    """Up to 60 steps in passes over the batches, each pass followed by a validation."""
    needs_closure = _needs_closure(optimizer)
    until = time.monotonic() + LOOP_SECONDS
    steps, name = 0, f"a training step of model {what.source.name}"
    while steps < LOOP_STEPS and time.monotonic() < until:
        model.train()
        for batch in what.train[: LOOP_STEPS // 2]:

            def closure(batch: Batch = batch) -> Tensor:
                optimizer.zero_grad()
                value = what.loss(model, batch)
                value.backward()
                return value

            with border(name):
                if needs_closure:
                    optimizer.step(closure)  # type: ignore[arg-type]
                else:
                    closure()
                    optimizer.step()
            steps += 1
            if steps >= LOOP_STEPS or time.monotonic() > until:
                break
        model.eval()
        with torch.no_grad(), border(f"model {what.source.name} in eval mode"):
            for batch in what.val[:VAL_BATCHES]:
                what.loss(model, batch)


def _needs_closure(optimizer: Optimizer) -> bool:
    parameter = inspect.signature(type(optimizer).step).parameters.get("closure")
    return parameter is not None and parameter.default is parameter.empty


# What cannot be known


def _left_out(what: _Given, *, images: bool) -> Iterator[Finding]:
    if images:
        text = "skipped: what the loader does to an image cannot be turned off from here"
        yield Finding("augmentation", "info", text)
    if what.held_out:
        text = "skipped: no val_loader; every fifth training batch was held out"
        yield Finding("split", "info", text)
    if what.optimizer is None:
        yield Finding("optimizer", "info", "skipped: no optimizer was given; AdamW at 1e-3 is used")
    elif images and type(made := what.copies()[1]) not in OPTIMIZERS:
        text = f"{named(made)}: the experiments on images use Adam at its learning rate"
        yield Finding("optimizer", "info", text)
    if what.source.hooks:
        text = f"{what.source.hooks} hooks of the model are not called: they are your functions"
        yield Finding("hooks", "info", text)


def _draw(title: str, detail: str, findings: Sequence[Finding], screen: Any) -> None:
    screen.title(title)
    screen.text(detail)
    screen.findings([seen.placed(one) for one in findings])


def _shown(title: str, detail: str, findings: Sequence[Finding]) -> str:
    ordered = sorted(findings, key=lambda one: ("fail", "warn", "info", "ok").index(one.severity))
    lines = [html.finding(seen.placed(one)) for one in ordered]
    return "".join((html.heading(title, detail), *lines))
