"""The words of Python in place of those of the command line, in evidence and advice."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from cnntune.errors import CnntuneError
from cnntune.findings import Finding

# What is typed in a shell, or written in a recipe: what does it in Python. In this order.
WORDS = (
    (r"; see `cnntune inspect --augment [\w.]+`", "; look at a batch of the loader"),
    (r"`cnntune inspect --augment [\w.]+` shows an augmented batch", "look at a batch"),
    (r"`cnntune lr-sweep(?: -- [^`]*)?`", "`cnntune.lr_sweep`"),
    (r"lr-sweep\b", "`cnntune.lr_sweep`"),
    (r"`cnntune sanity(?: -- [^`]*)?`", "`cnntune.sanity`"),
    (r"set data\.normalize = true, or scale the images yourself", "normalize the images"),
    (r" on top of data\.normalize", " on top of that of the loader"),
    (r"set data\.val_fraction, or check", "check"),
    (r"raise data\.val_fraction", "hold out more images"),
    (r"--set train\.lr=", "set lr="),
    (r"train\.loss = \S+", "the loss"),
    (r"use train\.batch_size >= 16", "use a batch size of 16 or more"),
    (r"lower train\.batch_size", "lower the batch size"),
    (r"train\.(\w+) =", r"\1 ="),
    (r"\btrain\.(\w+)", r"\1"),
    (r"weaken \[augment\]", "weaken the augmentation"),
    (r"\[augment\]", "the augmentation"),
    (r"; map a metric such as a validation loss with --map", "; name another column with columns="),
    (r"; see --map", "; see columns="),
    (r"name one with --map val_loss=COLUMN", "name one with columns={'val_loss': ...}"),
    (r"--map (\w+)=([^:]+):", r"columns: \1=\2:"),
    (r"--map ", "columns: "),
    (r"--fail-on ", "fail_on: "),
    (r"(\w+) given:", r"\1 "),
)
PATTERNS = [(re.compile(pattern), words) for pattern, words in WORDS]


def in_python(text: str) -> str:
    """A text as it reads where there is no command line."""
    for pattern, words in PATTERNS:
        text = pattern.sub(words, text)
    return text


def findings_in_python(findings: Sequence[Finding]) -> list[Finding]:
    """Findings in the words of Python."""
    return [
        replace(one, evidence=in_python(one.evidence), advice=in_python(one.advice))
        for one in findings
    ]


@contextmanager
def python_errors() -> Iterator[None]:
    """Raise errors of cnntune in the words of Python."""
    try:
        yield
    except CnntuneError as error:
        raise type(error)([in_python(line) for line in error.lines]) from error.__cause__
