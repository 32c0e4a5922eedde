"""What a column's name means: its split, the kind of number, and how specific the name is.

Names are interpreted by their words, not by tool: `val/loss`, `ValidLoss`, `eval-loss` and
`loss/holdout` are all a validation loss, and so are names in the languages of `languages`. Names
that depend on the other columns are left to `choose`.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal

from cnntune.diagnosis.logs.languages import english

Kind = Literal["loss", "accuracy", "error", "lr", "epoch", "step", "other"]
Split = Literal["train", "val", "test", ""]

CURVES = frozenset({"loss", "accuracy", "error"})  # the kinds that are drawn as a curve
COUNTS = frozenset({"epoch", "step"})  # the kinds that count the rows of a log
MODES = frozenset({"mode", "phase", "split", "stage", "subset", "type"})  # may hold a row's split


def words(text: str) -> frozenset[str]:
    """The words of a text, as a set."""
    return frozenset(text.split())


TRAIN = words("train training trn tr learn")  # the last one: CatBoost's
VAL = words(
    "val vals valid validation validate validating vld vl va eval evaluation dev holdout heldout"
    " crossval crossvalidation cv oof"
)
TEST = words("test testing tst te")
SPLITS: dict[str, Split] = {
    **dict.fromkeys(TRAIN, "train"),
    **dict.fromkeys(VAL, "val"),
    **dict.fromkeys(TEST, "test"),
}

LOSS = words("loss losses nll xent crossentropy ce bce cost objective logloss mlogloss")
REGRESSION = words("mse mae rmse rmsle mape msle mses ppl perplexity huber smoothl1 mphe deviance")
NORMS = words("l1 l2")  # a loss where nothing but a split is named; elsewhere often a penalty
ERROR = words("error errors err misclassification merror")
ERROR_RATES = words("wer cer eer")
ACCURACY = words("accuracy acc accu accs accuracies top prec")
# Other scores for which higher is better; those most like an accuracy come first.
SCORES = (
    words("f1 fscore f1score fbeta dice iou miou jaccard kappa mcc"),
    words("auc auroc roc rocauc aucroc auprc map ap map50 map95 ap50 map5095"),
    words("score precision recall sensitivity specificity"),
    words("r2 rsquared bleu bleu4 sacrebleu rouge meteor cider ndcg mrr pearson spearman ssim"),
)
# Higher is better here too, but they may be negative, and are never percentages.
SIGNED = words("r2 rsquared kappa mcc pearson spearman")

# A number about the run, not about how well it learns; or a best value so far.
OTHER = words(
    "time times sec secs second seconds ms minute minutes min mins hour hours eta elapsed duration"
    " runtime date timestamp created wall speed throughput memory mem gpu cpu ram disk power"
    " best max minimum maximum std stdev stddev stderr var variance lower upper ci"
    " scale scaler weight weights decay coef coefficient lambda temperature momentum beta"
    " grad gradient gradients norm patience counter wait count seed fold trial samples size"
    " threshold params flops"
)
RATE = re.compile(r"lr\d*|learningrate|lrs")
EPOCH = words("epoch epochs ep")
STEP = words("step steps iter iters iteration iterations batch batches")
COUNTING = words("global current cur num number idx index no n id trainer")

# Words that do not distinguish one loss or accuracy from another.
NEUTRAL = words(
    "avg average mean total overall running final metrics metric per the of on set data dataset"
    " rate history net model value epoch step b m all main is at de del des der du da di la le en"
)
CLASSIFYING = words("sparse categorical binary multiclass class cls classification")
ADVERSARIAL = words("robust adv adversarial")

# The losses of two networks that are trained against each other.
GENERATOR = words("g gen generator")
DISCRIMINATOR = words("d dis disc discr discriminator critic")

RESPELLED = (
    (re.compile(r"mIoU"), "miou"),
    (re.compile(r"IoU"), "iou"),
    (re.compile("mAP"), "map"),
    (re.compile(r"max(?=F(?:1|beta|m(?![a-z])|[Mm]easure))"), ""),  # over thresholds, not epochs
    (re.compile(r"(?i)\br(?:\^2|²)"), "r2"),
)
CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
WORD = re.compile(r"[a-z]+\d*|\d+")
GLUED = re.compile(
    r"(training|train|trn|tr|t|validation|valid|val|vld|v|evaluation|eval|testing|test|tst|dev)"
    r"(loss|accuracy|acc|error|err|auc|iou|miou|map|dice|top)(\d*)"
)
GLUED_SHORT: dict[str, str] = {"t": "train", "v": "val"}
TAKES_DIGIT = words("acc top prec error err accuracy hit")
# Adjacent in this order, the two words mean the training set, evaluated in eval mode.
TRAIN_EVAL = re.compile(r"train(?:ing)?[ _-]?eval(?:uation)?(?![a-z])")

TOP_K = re.compile(r"\D+(?:5|10)")

# Ranks: 0 is the plain loss or accuracy; each extra word adds 1, and other kinds add more.
REGRESSION_RANK = 20  # used as the loss only where there is no other
SCORE_RANK = 10  # of the first group of SCORES, 10 more for each further group
FAR_FROM_ACCURACY = 40  # of the last group: a gap in R2 or BLEU is not one in accuracy
TOP_K_RANK = 30  # top-5 saturates early
BATCH_RANK = 1  # the value of one batch is noisier than that of an epoch
ADVERSARIAL_RANK = -1  # in adversarial training it is the adversarial value that is optimised


@dataclass(frozen=True)
class Meaning:
    """What a name means. A lower `rank` means a more direct name, 0 the plain loss or accuracy.

    `base` is the name without its split word, so that `train_ce` and `val_ce` pair up; `batch` says
    that each value is that of one batch.
    """

    kind: Kind
    split: Split
    rank: int
    base: str
    batch: bool = False


@cache
def meaning(name: str) -> Meaning:
    """What the name of a column means, from the name alone."""
    words = words_of(name)
    found = set(words)
    split = _split(name, words)
    rest = [word for at, word in enumerate(words) if not _is_of_split(words, at)]
    base = " ".join(rest)
    batch = bool(found & STEP)
    kind, rank = _kind(rest)
    if split and set(rest) <= NORMS and rest:  # LightGBM's `valid_0's l2`
        kind, rank = "loss", REGRESSION_RANK
    if kind in ("loss", "accuracy", "error"):
        rank += BATCH_RANK * batch + ADVERSARIAL_RANK * bool(found & ADVERSARIAL)
        base = " ".join(word for word in rest if word not in EPOCH | STEP)
    return Meaning(kind, split, rank, base, batch)


def is_adversarial(losses: Iterable[str]) -> bool:
    """Whether the losses are those of a generator and of its discriminator, as a GAN's are."""
    words = [set(words_of(name)) for name in losses]
    return any(found & GENERATOR for found in words) and any(
        found & DISCRIMINATOR for found in words
    )


def is_of_gan(name: str) -> bool:
    """Whether a name holds the word of a generator or discriminator."""
    return bool(set(words_of(name)) & (GENERATOR | DISCRIMINATOR))


def has_curves(names: Iterable[str]) -> bool:
    """Whether one of the names is a loss, an accuracy or an error."""
    return any(meaning(name).kind in CURVES for name in names)


def with_mode(row: Mapping[str, float], mode: str) -> Mapping[str, float]:
    """The row with the split from a column such as `phase` put before the names of its curves."""
    if mode.lower() not in SPLITS:
        return row
    curves = {name for name in row if has_curves([name])}
    return {f"{mode}/{name}" if name in curves else name: value for name, value in row.items()}


def words_of(name: str) -> list[str]:
    """The words of a name in lower case: `val/acc@1`, `ValAcc1` and `val_acc_1` are val, acc1."""
    name = english(name).replace("'s ", " ")  # LightGBM's `valid_1's l2`
    for pattern, plain in RESPELLED:
        name = pattern.sub(plain, name)
    words: list[str] = []
    for word in WORD.findall(CAMEL.sub(" ", name).lower()):
        if word.isdigit() and words and words[-1] in TAKES_DIGIT:
            words[-1] += word
        elif words and words[-1] in GLUED_SHORT and word.rstrip("0123456789") in LOSS | ACCURACY:
            words[-1:] = [GLUED_SHORT[words[-1]], word]  # t_loss and v_loss
        elif glued := GLUED.fullmatch(word):
            words += [GLUED_SHORT.get(glued[1], glued[1]), glued[2] + glued[3]]
        else:
            words.append(word)
    return words


def _split(name: str, words: list[str]) -> Split:
    """The last split word; `metrics/...` is Ultralytics' prefix for validation."""
    if TRAIN_EVAL.search(CAMEL.sub("_", name).lower()):
        return "train"
    for word in reversed(words):
        if word in SPLITS:
            return SPLITS[word]
    return "val" if name.strip().lower().startswith("metrics/") else ""


def _is_of_split(words: list[str], at: int) -> bool:
    """Whether a word says the split, or which set of a split: `valid_1` is validation set 1."""
    numbers = words[at].isdigit() and at > 0 and words[at - 1] in SPLITS
    return words[at] in SPLITS or numbers


def _kind(words: list[str]) -> tuple[Kind, int]:
    found = set(words)
    if any(map(RATE.fullmatch, words)) or {"learning", "rate"} <= found:
        return "lr", len(found - {"lr", "learning", "rate", "learningrate", "lr0", "pg0", "epoch"})
    if found & OTHER:
        return "other", 0
    if found & REGRESSION or ({"squared", "absolute"} & found and found & (ERROR | {"mean"})):
        return "loss", REGRESSION_RANK
    if found & LOSS or {"cross", "entropy"} <= found:
        return "loss", _length(found - LOSS - {"cross", "entropy"} - NEUTRAL - ADVERSARIAL)
    if {"smooth", "l1"} <= found:
        return "loss", REGRESSION_RANK
    if found & ERROR_RATES:
        return "error", SCORE_RANK
    return _score(words)


def _score(words: list[str]) -> tuple[Kind, int]:
    """Accuracies, error rates and other scores; failing these, a count of epochs or steps."""
    found = set(words)
    rates = {word: word.rstrip("0123456789") for word in words}
    hits = {word for word, plain in rates.items() if plain in ACCURACY | ERROR}
    if hits:
        kind: Kind = "error" if any(rates[word] in ERROR for word in hits) else "accuracy"
        extra = found - hits - NEUTRAL - CLASSIFYING - ADVERSARIAL - EPOCH - STEP
        return kind, _length(extra) + TOP_K_RANK * any(map(TOP_K.fullmatch, hits))
    for number, group in enumerate(SCORES, start=1):
        if found & group and not (number < len(SCORES) and found & SCORES[-1]):
            return "accuracy", SCORE_RANK * number + _length(found - group - NEUTRAL)
    if found & EPOCH and not found - EPOCH - COUNTING:
        return "epoch", len(found) - 1
    if found & STEP and not found - STEP - COUNTING:
        return "step", len(found) - 1
    return "other", 0


def _length(words: set[str]) -> int:
    return sum(not word.isdigit() for word in words)
