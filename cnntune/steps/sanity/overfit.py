"""Whether a tiny sample was learnt by heart, and where not, what the network shows of the cause."""

import torch
from torch import Tensor, nn

from cnntune.findings import Finding, Severity
from cnntune.steps.sanity.record import WEIGHT_OPS, recording
from cnntune.steps.sanity.subject import Subject
from cnntune.steps.sanity.tiny import TINY_IMAGES, TINY_SECONDS, TINY_STEPS, Memory
from cnntune.training.device import seeded

NEARLY_ACC = 0.95  # a network that is cut off, or misses a class of ten, stays below this,
NEARLY_LOSS = 0.25  # of the first one, and a squashed one above this
SHRUNK = 0.05  # of what the last layer gives, left in the logits
DOUBLED = 1e-2  # relative: logits that follow their layer
BOUND = 1.5  # for logits; ten classes need 5 to be 95 % sure
STOPS = 0.02  # relative: losses that are equal at several rates
LINEAR = 1e-3  # of the logits' distance; float32 leaves 1e-6
STRAIGHT_IMAGES = 8  # looked at, and as many of noise
MANY_CLASSES = 4  # the logits of 32 images are not sorted by chance
SEVERAL = 3  # attempts, the best one included
FAR_OFF = 30.0  # times: a rate a decade off is what `lr-sweep` is for
HOPELESS = 500.0  # times: no schedule makes up for it,
HOPELESS_TOO = 99.0  # nor for this upwards, where the recipe's own rate leaves the loss
LEARNT = 0.9  # above this share of the first one; a low rate may only be slow


def overfit_tiny(subject: Subject, memory: Memory) -> list[Finding]:
    """A network that cannot learn 32 images by heart will not learn 50,000 (CS231n step 2).

    Augmentation, dropout, weight decay, clipping and label smoothing are off, since each of them
    exists to prevent just this. The recipe's rate may be wrong, so others are tried too. Large
    networks get fewer images, and the largest none.
    """
    if not memory.attempts:
        step = subject.cost.image * memory.images + subject.cost.update
        text = f"skipped: a step with {memory.images} images takes {step:.1f} s"
        return [Finding("overfit-tiny", "info", text)]
    best = memory.attempts[-1]
    if memory.reached:
        text = f"{memory.images} images: loss {best.loss:.2g}, accuracy 100% after {best.steps}"
        text += f" steps at rate {best.lr:.2g}"
        found = [Finding("overfit-tiny", "ok", text, measured=best.loss, expected=0.0)]
        return [*found, *_far_off(subject, memory), *_straight(subject, memory)]
    if any(attempt.cut for attempt in memory.attempts):
        steps = sum(attempt.steps for attempt in memory.attempts)
        text = (
            f"skipped: loss {best.loss:.3g}, accuracy {best.acc:.0%} at best in the {steps} steps"
        )
        text += f" that {TINY_SECONDS:.0f} s allow"
        return [Finding("overfit-tiny", "info", text, measured=best.loss, expected=0.0)]
    rates = ", ".join(
        f"{attempt.lr:.2g}" for attempt in sorted(memory.attempts, key=lambda a: a.lr)
    )
    text = f"{memory.images} images: loss {best.loss:.3g}, accuracy {best.acc:.0%} at best, after"
    text += f" {TINY_STEPS} steps at each of the rates {rates}"
    causes = [*_changes_weights(subject), *_causes(subject, memory)]
    if not causes and best.acc >= NEARLY_ACC and best.loss <= NEARLY_LOSS * best.first:
        return [Finding("overfit-tiny", "info", f"nearly: {text}", measured=best.loss)]
    advice = "do not tune yet: mend what other rules name; else look at the labels' order, at"
    advice += " layers that are cut off, and at what reaches the loss"
    found = [Finding("overfit-tiny", "fail", text, advice, measured=best.loss, expected=0.0)]
    return [*found, *causes, *_straight(subject, memory)]


def _causes(subject: Subject, memory: Memory) -> list[Finding]:
    """What the logits look like after all attempts, where that tells why they failed."""
    images = subject.inputs[: memory.images]
    with torch.no_grad():
        logits = memory.model(images.clone()).detach().float()
    distinct = len(torch.unique(logits.cpu(), dim=1).T)  # mps cannot
    if distinct < subject.classes:
        text = f"{subject.classes} classes get {distinct} different logits in every image"
        advice = "look for a mean, expand or repeat over the classes after the last layer"
        return [Finding("outputs", "fail", text, advice, measured=distinct)]
    steps = logits.diff(dim=1)
    if subject.classes >= MANY_CLASSES and ((steps <= 0).all() or (steps >= 0).all()):
        text = "the logits of every image are sorted by size: which class is which is lost"
        return [Finding("outputs", "fail", text, "look for sort or topk after the last layer")]
    return _bounded(memory, logits) or _shrunk(memory.model, images)


def _bounded(memory: Memory, logits: Tensor) -> list[Finding]:
    """All images right, and a loss that stops above 0 at one rate as at another."""
    best = memory.attempts[-1]
    largest = float(logits.abs().max())
    stops = [abs(attempt.loss - best.loss) < STOPS * best.loss for attempt in memory.attempts]
    if best.acc < 1.0 or (largest > BOUND and sum(stops) < SEVERAL):
        return []
    text = f"accuracy is 100% with a loss of {best.loss:.3g}: logits stay within {largest:.2g}"
    advice = "do not squash or normalise the outputs; a cosine needs a factor of 10 or more"
    return [Finding("outputs", "fail", text, advice, measured=largest)]


def _shrunk(model: nn.Module, images: Tensor) -> list[Finding]:
    """A factor after the last layer, which the layers would have to make up for."""
    with torch.no_grad(), recording(model) as recorder:
        logits = model(images.clone()).detach().float()
    layers = [output for output in recorder.outputs if output.op in WEIGHT_OPS and output.rms > 0]
    share = float(logits.square().mean().sqrt()) / layers[-1].rms if layers else 1.0
    if not 0 < share < SHRUNK or not _follow(model, layers[-1].where, images, logits):
        return []
    text = f"logits are {share:.1g} times what the last layer gives"
    advice = "remove that factor: a temperature divides by about 1"
    return [Finding("outputs", "fail", text, advice, layers[-1].where, share, 1.0)]


@torch.no_grad()
def _follow(model: nn.Module, layer: str, images: Tensor, logits: Tensor) -> bool:
    """Whether logits double with the weights of a layer: nothing squashes them after it."""
    weights = [p for name, p in model.named_parameters() if name.rpartition(".")[0] == layer]
    for weight in weights:
        weight.mul_(2)
    doubled = model(images.clone()).float()
    for weight in weights:
        weight.div_(2)
    return torch.allclose(doubled, 2 * logits, rtol=DOUBLED)


def _changes_weights(subject: Subject) -> list[Finding]:
    """A forward pass that sets weights takes back what the optimizer does."""
    model = subject.model()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    with torch.no_grad():
        model(subject.inputs[: TINY_IMAGES[-1]])
    changed = [n for n, p in model.named_parameters() if not torch.equal(p, before[n])]
    if not changed:
        return []
    text = f"the forward pass itself changes {len(changed)} weights, such as {changed[0]}"
    advice = "initialise in __init__, and leave changes to the optimizer"
    return [Finding("trainable-parameters", "fail", text, advice, measured=len(changed))]


def _far_off(subject: Subject, memory: Memory) -> list[Finding]:
    """The recipe's own rate did not do it, and one a decade or more away did."""
    best = memory.attempts[-1]
    own = next(a for a in memory.attempts if a.lr == subject.recipe.train.lr)
    if own.reached or 1 / FAR_OFF < own.lr / best.lr < FAR_OFF:
        return []
    text = f"train.lr = {own.lr:.2g} cannot overfit {memory.images} images (loss {own.loss:.3g}),"
    text += f" {best.lr:.2g} can"
    advice = "run `cnntune lr-sweep`"
    limit = HOPELESS_TOO if own.loss > LEARNT * own.first else HOPELESS
    hopeless = not 1 / HOPELESS < own.lr / best.lr < limit
    severity: Severity = "fail" if hopeless else "warn"
    return [Finding("optimizer", severity, text, advice, measured=own.lr, expected=best.lr)]


def _straight(subject: Subject, memory: Memory) -> list[Finding]:
    """Several layers that together are one linear map: the logits of a mean are the mean logits.

    Looked at after training, since residual branches may start at 0.
    """
    layers = sum(parameter.ndim > 1 for parameter in memory.model.parameters())
    if layers < 2 or len(subject.labels) < 2:
        return []
    model = memory.model.eval()
    with torch.no_grad(), seeded(subject.recipe.seed, device=subject.device):
        # Noise too: images that are much alike may all lie where the same units are active.
        images = subject.inputs[:STRAIGHT_IMAGES]
        images = torch.cat([images, torch.randn_like(images)])
        first, second = images[:-1], images[1:]
        ends = [model(part.clone()).float() for part in (first, second)]
        middle = model((first + second) / 2).float()
    apart = float((ends[0] - ends[1]).abs().max())
    if apart == 0 or float((middle - (ends[0] + ends[1]) / 2).abs().max()) > LINEAR * apart:
        return []
    text = f"nothing bends between the {layers} layers: together they are one linear map"
    advice = "put a ReLU between layers, and keep its result: x = F.relu(x)"
    return [Finding("activations", "warn", text, advice)]
