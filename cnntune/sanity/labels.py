"""Checks of the labels: classes without images, one class alone, one picture with two labels."""

import torch

from cnntune.findings import Finding, Severity
from cnntune.sanity.subject import Subject

IMBALANCE = 10.0  # largest class over smallest (ecosystem practice: warn the reader of accuracy)


def labels(subject: Subject) -> list[Finding]:
    """Every class must have training images, and one picture must have one label."""
    counts = torch.bincount(subject.data.train.labels, minlength=subject.classes)
    present = int((counts > 0).sum())
    names = subject.data.classes
    if present == 1:
        text = f"all training images are of class {names[int(counts.argmax())]}"
        return [Finding("labels", "fail", text, "look at how labels are made", measured=1.0)]
    missing = [names[int(k)] for k in (counts == 0).nonzero().flatten()]
    if missing:
        text = f"{len(missing)} of {len(names)} classes have no training image: "
        text += ", ".join(missing[:5])
        seen = torch.bincount(subject.data.val.labels, minlength=subject.classes)[counts == 0]
        advice = "give them images, or count labels from 0 without gaps"
        if int(seen.sum()):
            text += f"; {int(seen.sum())} validation images are of such classes"
        severity: Severity = "fail" if int(seen.sum()) or len(missing) > len(names) / 2 else "warn"
        return [
            Finding("labels", severity, text, advice, measured=float(len(missing)), expected=0.0)
        ]
    found = _contradictions(subject)
    ratio = float(counts.max() / counts.min())
    if ratio > IMBALANCE:
        majority = float(counts.max() / counts.sum())
        text = f"the largest class has {ratio:.0f} times the images of the smallest: always"
        text += f" answering {names[int(counts.argmax())]} is right {majority:.0%} of the time"
        found.append(Finding("labels", "info", text, "read accuracies against that floor"))
    text = f"{len(names)} classes, {int(counts.min())} to {int(counts.max())} training images each"
    return found or [Finding("labels", "ok", text)]


def _contradictions(subject: Subject) -> list[Finding]:
    """The same picture under two labels."""
    pictures = subject.train_pictures
    _, which = torch.unique(pictures.digests, return_inverse=True)
    first = torch.full((len(pictures),), -1, device=pictures.labels.device)
    first[which] = pictures.labels
    several = float((first[which] != pictures.labels).float().mean())
    if several == 0:
        return []
    text = f"{several:.1%} of the training images occur again with another label"
    return [Finding("labels", "warn", text, "decide on one label a picture", measured=several)]
