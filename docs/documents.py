"""What `--json` prints and what a study keeps on disk, as types.

`docs/write_reference.py` makes JSON Schema of them, and `tests/docs/test_reference.py` validates
what each command prints against it. A command's document is `Document` and the keys of its types in
`COMMANDS`; with exit code 2 it is `Document` and `CouldNotRun`.
"""

from typing import Any, Literal, NotRequired

from pydantic import ConfigDict, with_config
from typing_extensions import TypedDict  # pydantic asks for it until Python 3.12

from cnntune.config.space import Value
from cnntune.diagnosis.proven import Result, Start
from cnntune.diagnosis.rules import Label
from cnntune.findings import Severity
from cnntune.steps.lr_sweep import Verdict

described = with_config(ConfigDict(use_attribute_docstrings=True))


@described
class FindingEntry(TypedDict):
    """One verdict: evidence first, advice second."""

    rule: str
    """What was checked; `docs/reference/sanity.md` lists the rules of `sanity`."""
    severity: Severity
    """`fail` leads to exit code 1."""
    evidence: str
    """What was found, in a sentence."""
    advice: str
    """What to do; empty where there is nothing to do."""
    where: str
    """The layer, key or file that the finding is about; may be empty."""
    measured: float | None
    """The number that was measured, where there is one."""
    expected: float | None
    """The number that `measured` is compared with, where there is one."""


@described
class Document(TypedDict):
    """What every command prints with `--json`."""

    format: Literal[1]
    """Version of the format; it changes when a key changes its meaning."""
    command: str
    """Name of the command."""
    ok: bool
    """False where a finding has severity `fail`, or the command could not run."""
    findings: list[FindingEntry]
    """All findings, also those of severity `ok`."""
    study: str | None
    """Folder of the study; null where the command has none."""


@described
class CouldNotRun(TypedDict):
    """Exit code 2: nothing was found out, and `errors` says why."""

    errors: list[str]
    """One line per problem, as on stderr."""


@described
class Initialised(TypedDict):
    """What `init` adds."""

    recipe: str
    """The file that was written."""


@described
class LayerEntry(TypedDict):
    """A layer of a network at initialisation."""

    name: str
    """Name of the module in the model."""
    type: str
    """Class of the module."""
    output: list[int]
    """Shape of the output for one image."""
    parameters: int
    """Parameters of the layer."""
    multiply_adds: int
    """Multiply-adds for one image."""
    receptive_field: int | None
    """In pixels of the image; null where it cannot be followed."""
    stride: int | None
    """In pixels of the image; null where it cannot be followed."""
    activation_std: float | None
    """Standard deviation of the output; null where it was not measured."""
    gradient_std: float | None
    """Standard deviation of the gradient of the loss with respect to the output; or null."""


@described
class MemoryEntry(TypedDict):
    """Bytes of one training step at the recipe's batch size."""

    weights: int
    """The parameters."""
    gradients: int
    """Their gradients."""
    optimizer: int
    """The state of the optimizer."""
    activations: int
    """What the forward pass keeps for the backward pass."""
    measured: int | None
    """The peak on a GPU; null on other devices."""
    total: int
    """The sum of the four estimates."""


@described
class Inspected(TypedDict):
    """What `inspect` adds."""

    parameters: int
    """Parameters of the network."""
    multiply_adds: int
    """Multiply-adds for one image, in eval mode."""
    receptive_field: int | None
    """Receptive field of the logits, in pixels; null where it cannot be followed."""
    head_share: float
    """Share of the parameters in linear layers behind the feature map, 0 to 1."""
    memory: MemoryEntry | None
    """Memory of a training step; null where it cannot be estimated from shapes."""
    step_seconds: float
    """Seconds of a training step at the recipe's batch size."""
    layers: list[LayerEntry]
    """The layers in the order in which they compute."""


@described
class Explained(TypedDict):
    """What `sanity --explain RULE` adds."""

    rule: NotRequired[str]
    """The rule that was asked for."""
    lesson: NotRequired[str]
    """The text behind it."""


@described
class ScriptEntry(TypedDict):
    """The script that `sanity -- COMMAND` observed."""

    command: str
    """What was typed after `--`."""
    steps: int
    """Optimizer steps that were seen, of the parameters that were stepped most."""
    stopped: Literal["ended", "steps", "validations", "time", "running"]
    """Why the observation ended; `running` where the process was killed."""
    framework: str | None
    """Whose loop it is: `plain` (your own), `lightning`, `transformers`; null without a step."""


@described
class ScriptSeen(TypedDict):
    """What `sanity -- COMMAND` adds."""

    script: NotRequired[ScriptEntry]
    """The script, and how much of it was seen."""


@described
class RateEntry(TypedDict):
    """The loss at one learning rate."""

    lr: float
    """Learning rate."""
    verdict: Verdict | None
    """How the loss developed; null where a command's losses are no measure of progress."""
    loss_first: float | None
    """Loss of the first iterations; null where it is not finite."""
    loss_last: float | None
    """Loss of the last iterations; null where it is not finite."""
    losses: list[float | None]
    """Loss of each iteration; null where it is not finite."""


@described
class Swept(TypedDict):
    """What `lr-sweep` adds."""

    lr: float | None
    """The learning rate to use; null where none lowers the loss."""
    range: list[float] | None
    """Lowest and highest learning rate to search; null where none lowers the loss."""
    curves: list[RateEntry]
    """The learning rates that were tried."""
    recipe: NotRequired[dict[str, Any]]
    """The recipe that was swept; only in `lr-sweep.json`."""


@described
class TrialCounts(TypedDict):
    """Trials of a study, by their state."""

    complete: int
    """Trained to the last epoch."""
    diverged: int
    """Ended with a loss that is not finite, or far above that of guessing."""
    pruned: int
    """Ended early by the pruner."""
    failed: int
    """Could not be trained."""
    running: int
    """Begun and not ended."""


@described
class RankedBy(TypedDict):
    """The number that ranks the trials of a command, where it is no plain loss or accuracy."""

    name: str
    """Name of the column in the log of the command."""
    value: float
    """Its value in the best epoch, as it was logged."""
    times: float
    """The factor from a score, such as an entry of `val_accs`, to what was logged."""
    plus: float
    """What is added to that product."""


@described
class BestTrial(TypedDict):
    """The complete trial with the highest validation accuracy."""

    number: int
    """Number of the trial; `trial-0007` is the folder of trial 7."""
    val_acc: float | None
    """Validation accuracy of its best epoch, 0 to 1; null for a script that logs none."""
    val_loss: float | None
    """Validation loss of its best epoch, in nats; null where it is not known."""
    ranked: NotRequired[RankedBy]
    """What a command is ranked by, where it is no plain loss or accuracy."""
    epochs: int
    """Epochs that were trained."""
    values: dict[str, Value]
    """Values that were drawn, by recipe key."""


@described
class Searched(TypedDict):
    """What `search` and `refine` add."""

    trials: TrialCounts
    """Trials of the study so far."""
    best: BestTrial | None
    """The best trial; null where none is complete."""
    importance: dict[str, float]
    """Share of the variance of the accuracy per key (fANOVA), 0 to 1; empty for few trials."""


@described
class CandidateEntry(TypedDict):
    """One of the best trials, trained again with fresh seeds."""

    number: int
    """Number of the trial in its round."""
    config: str
    """The `config.json` that `cnntune train` takes."""
    values: dict[str, Value]
    """Values that were drawn, by recipe key."""
    selected_acc: float
    """Validation accuracy by which the trial was selected; it is too high on average."""
    cut: bool
    """Whether the trial was ended before its last epoch."""
    val_accs: list[float]
    """Validation accuracy of each fresh seed that was trained to the end, or minus its loss."""
    asked: int
    """Fresh seeds that were asked for."""
    diverged: int
    """Fresh seeds that diverged."""
    failed: int
    """Fresh seeds that could not be trained."""
    mean: float | None
    """Mean of `val_accs`; null where there is none."""
    sd: float | None
    """Sample standard deviation of `val_accs`; null for fewer than two."""
    interval: list[float] | None
    """The 95 % interval of the mean over seeds, Student's t; null for fewer than two of them."""
    image_error: float | None
    """How far as many other validation images would move the mean: its binomial standard error."""


@described
class Refined(TypedDict):
    """What `refine` adds besides."""

    candidates: list[CandidateEntry]
    """The best trials, highest mean first."""
    tie: list[int]
    """Numbers of the candidates that cannot be told from the best by their seeds (Welch's t)."""


@described
class Tuned(TypedDict):
    """What `tune` adds; a failed check of `sanity` ends it without these keys."""

    candidates: NotRequired[list[CandidateEntry]]
    """The best trials, highest mean first."""
    winner: NotRequired[str | None]
    """The `config.json` of the first candidate; null where there is none."""
    rounds: NotRequired[int]
    """Number of the last round; round 0 is the search."""


@described
class RunEntry(TypedDict):
    """A run and what its curves say."""

    path: str
    """The run; a file of several runs gives one entry for each, with a `#` and its name."""
    format: str
    """Format of the log; `cnntune` for a run folder of cnntune."""
    label: Label
    """The diagnosis; `docs/reference/diagnose.md` lists the labels."""
    also: list[Label]
    """Labels that a careful reader would accept too."""
    confidence: float
    """0 to 1."""
    evidence: str
    """The numbers behind the label."""
    advice: list[str]
    """What to change, the first one first."""
    epochs: int
    """Points of the curve: epochs, or evaluations where there are fewer."""
    best_epoch: float | None
    """Epoch of the lowest validation loss, else of the highest validation accuracy."""
    last_epoch: float | None
    """Epoch of the last point."""
    unit: Literal["epoch", "step"]
    """What `best_epoch` and `last_epoch` count: steps where the log does not count epochs."""
    flags: list[str]
    """Secondary signs; `docs/reference/diagnose.md` lists them."""
    command: str | None
    """The command that trains a run of cnntune with the first change; else null."""
    columns: dict[str, str]
    """Column of the log that each curve was read from."""
    notes: list[str]
    """What reading the log left out or guessed."""


@described
class SkippedEntry(TypedDict):
    """What resembles a log and was not diagnosed."""

    path: str
    """The file or folder."""
    reason: str
    """Why it was skipped."""


@described
class ComparisonEntry(TypedDict):
    """A change against the unchanged control, from one start, over the same seeds."""

    key: str
    """The recipe key that was changed."""
    before: Value
    """Its value in the run and in the control."""
    after: Value
    """Its value in the changed runs."""
    advice: str
    """The line of the advice that was tried."""
    start: Start
    """Where all runs of the comparison start."""
    epochs: int
    """Number of the last epoch of the changed runs."""
    control: list[float]
    """Best validation accuracy of the control per seed, 0 to 1; only seeds with both runs."""
    changed: list[float]
    """Best validation accuracy with the change, for the same seeds."""
    diverged: int
    """Changed runs that diverged; they count with the accuracy of guessing."""
    failed: int
    """Changed runs that could not be trained."""
    mean: float | None
    """Mean difference, changed minus control; null for fewer than two seeds."""
    low: float | None
    """Lower end of the 95 % interval of the mean difference (paired, Student's t)."""
    high: float | None
    """Upper end of that interval."""
    result: Result
    """`works` and `harms` where the interval excludes 0."""


@described
class KeptEntry(TypedDict):
    """A change that works and harms from no start."""

    key: str
    """The recipe key."""
    value: Value
    """The value that works."""
    start: Start
    """Where it was shown."""


@described
class ProofEntry(TypedDict):
    """What training showed about the advice for a run."""

    run: str
    """Name of the run in its study."""
    label: Label
    """The diagnosis whose advice was tried."""
    seeds: list[int]
    """Seeds of all runs; none is that of the diagnosed run unless `--seed` asks for it."""
    checkpoint: int | None
    """Epoch of the run's checkpoint that runs continue from; null where there is none."""
    after_round: int
    """The last round of the study then; the next round includes what was kept."""
    complete: bool
    """False where runs are left to train."""
    comparisons: list[ComparisonEntry]
    """One per change and start."""
    kept: list[KeptEntry]
    """The changes to keep, the largest gain first."""


@described
class ProofsFile(TypedDict):
    """`prove.json`: what `diagnose --prove` showed in a study."""

    format: Literal[1]
    """Version of the format."""
    proofs: list[ProofEntry]
    """The last proof of each run."""


@described
class Diagnosed(TypedDict):
    """What `diagnose` adds."""

    runs: list[RunEntry]
    """The runs, those with the worst label first."""
    skipped: list[SkippedEntry]
    """What could not be read."""
    proof: NotRequired[ProofEntry | None]
    """With `--prove`: what training showed; null where the advice changes no key."""


@described
class TrainedRun(TypedDict):
    """What `train` adds, besides the keys of `summary.json`."""

    run: str
    """Folder of the run."""


@described
class Reported(TypedDict):
    """What `report` adds."""

    report: str
    """The HTML file that was written."""


Status = Literal["complete", "pruned", "diverged", "failed"]


@described
class Summary(TypedDict):
    """The result of a run; the numbers are those of its best epoch."""

    status: Status
    """How the run ended."""
    epochs: int
    """Epochs that were trained."""
    best_epoch: int | None
    """Epoch with the highest validation accuracy; null for a diverged or failed run."""
    train_loss: NotRequired[float | None]
    """Mean cross-entropy on training images, in nats, without augmentation."""
    train_acc: NotRequired[float | None]
    """Accuracy on training images, 0 to 1, without augmentation."""
    val_loss: NotRequired[float | None]
    """Mean cross-entropy on the validation set, in nats."""
    val_acc: NotRequired[float | None]
    """Accuracy on the validation set, 0 to 1."""
    chance_acc: NotRequired[float]
    """Accuracy of always answering the largest class, 0 to 1."""
    chance_loss: NotRequired[float]
    """Loss of answering with the shares of the classes, in nats."""
    val_images: NotRequired[int]
    """Images in the validation set."""
    parameters: NotRequired[int]
    """Parameters of the network."""
    seconds: NotRequired[float]
    """Training time of a trial: the sum over its epochs."""
    waited_seconds: NotRequired[float]
    """Seconds in which training waited for images from disk."""
    metric: NotRequired[str]
    """Of a command: what its trials are ranked by, and where that was read."""
    ranked: NotRequired[RankedBy]
    """Of a command: the number that ranks its trials, where it is no plain loss or accuracy."""
    test: NotRequired[str]
    """Present while the final test is not measured."""
    test_acc: NotRequired[float]
    """Accuracy on the test set, 0 to 1."""
    test_loss: NotRequired[float | None]
    """Mean cross-entropy on the test set, in nats."""
    test_images: NotRequired[int]
    """Images in the test set."""
    test_views: NotRequired[int]
    """Views of each test image, where there is more than one."""
    error: NotRequired[str]
    """Why a trial failed."""
    error_kind: NotRequired[
        Literal[
            "recipe",
            "data",
            "device",
            "study",
            "out-of-memory",
            "user-code",
            "user-error",
            "killed",
            "bug",
        ]
    ]
    """The same as a word."""


@described
class CommandEntry(TypedDict):
    """A command that was run on the study."""

    argv: list[str]
    """Its arguments; passwords are replaced by `***`."""
    at: str
    """When it began, as ISO 8601 in UTC."""
    id: str
    """Tells it from the same command run again."""


@described
class StudyFile(TypedDict):
    """What was asked of a study."""

    format: Literal[1]
    """Version of the format."""
    name: str
    """Name of the study."""
    commands: list[CommandEntry]
    """The commands that were run on it, the first one first."""
    versions: NotRequired[dict[str, str]]
    """Versions of cnntune, Python and the libraries."""
    device: NotRequired[str]
    """Name of the device."""
    commit: NotRequired[str | None]
    """Git commit of the working directory; null outside a repository."""
    code: NotRequired[str]
    """Folder in which modules of user code are found."""


@described
class PlanFile(TypedDict):
    """What a round of trials is to be; written before its first trial."""

    format: Literal[1]
    """Version of the format."""
    trials: int
    """Trials of the round."""
    changes: list[str]
    """How the space differs from that of the round before."""
    findings: list[FindingEntry]
    """The same as findings."""


@described
class RoundFile(TypedDict):
    """A round of `tune` that is over; `cnntune refine` writes its document instead."""

    format: Literal[1]
    """Version of the format."""
    trials: int
    """Trials that the round has had."""


@described
class LookEntry(TypedDict):
    """One measurement of the test set."""

    run: str
    """Folder of the run that was measured."""
    at: str
    """When, as ISO 8601 in UTC."""
    test_acc: float
    """Accuracy, 0 to 1."""
    test_loss: float | None
    """Mean cross-entropy, in nats."""
    test_images: int
    """Images in the test set."""
    test_views: NotRequired[int]
    """Views of each image, where there is more than one."""
    labels: NotRequired[str]
    """Digest of the labels in their order."""
    images: NotRequired[str]
    """Digest of the images."""


@described
class LooksFile(TypedDict):
    """Every measurement of the test set in a study."""

    format: Literal[1]
    """Version of the format."""
    looks: list[LookEntry]
    """The measurements, the first one first."""


@described
class ServerFile(TypedDict):
    """Where the trials of a study are recorded that several machines share (`--storage`)."""

    format: Literal[1]
    """Version of the format."""
    server: str
    """The server, without a password."""
    id: str
    """Tells the study from another one of the same name."""


COMMANDS: dict[str, tuple[Any, ...]] = {
    "init": (Initialised,),
    "inspect": (Inspected,),
    "sanity": (Explained, ScriptSeen),
    "lr-sweep": (Swept,),
    "search": (Searched,),
    "refine": (Searched, Refined),
    "diagnose": (Diagnosed,),
    "report": (Reported,),
    "tune": (Tuned,),
    "train": (TrainedRun, Summary),
}
# The files of a study, without `.json`. A file with the name of a command holds its document;
# `refine.json` may be that of `tune` instead.
FILES: dict[str, tuple[Any, ...]] = {
    "study": (StudyFile,),
    "plan": (PlanFile,),
    "prove": (ProofsFile,),
    "refine": (RoundFile,),
    "test": (LooksFile,),
    "server": (ServerFile,),
    "summary": (Summary,),
}
