"""Checks of the recipe's augmentation: an augmented image must keep its label."""

from cnntune.config.recipe import AugmentSection
from cnntune.findings import Finding
from cnntune.runs.chance import ENOUGH_IMAGES
from cnntune.steps.sanity.references import far_below, plain_cnn
from cnntune.steps.sanity.subject import Subject


def augmentation(subject: Subject) -> list[Finding]:
    """Augmentation must leave what the label depends on.

    A turned hue hides the class where colour is the class; a crop may leave the image blank. A
    small CNN of ours is trained with the recipe's augmentation, and without. Before: `hue = 0.5` on
    red and green apples, 52 % instead of 99 %. After: `hue = 0`, and 99 %.
    """
    settings = subject.recipe.augment
    if settings == AugmentSection():
        return [Finding("augmentation", "ok", "none")]
    if len(subject.data.val) < ENOUGH_IMAGES:
        text = f"skipped: {len(subject.data.val)} validation images are too few"
        return [Finding("augmentation", "info", text)]
    without, with_all = (plain_cnn(subject, chosen) for chosen in (AugmentSection(), settings))
    text = f"a small CNN reaches {without.acc:.1%} without augmentation and {with_all.acc:.1%} with"
    if not far_below(with_all.acc, without):
        text += " it"
        return [Finding("augmentation", "ok", text, "", "", with_all.acc, without.acc)]
    changed = settings.model_dump(exclude_defaults=True)
    alone = {
        key: plain_cnn(subject, AugmentSection(**{key: value})) for key, value in changed.items()
    }
    guilty = [key for key, reached in alone.items() if far_below(reached.acc, without)]
    named = [f"augment.{key} = {changed[key]} alone ({alone[key].acc:.1%})" for key in guilty]
    text += f" {', '.join(named) or '[augment]'}"
    advice = "turn it off, or weaken it: it removes what tells the classes apart; see"
    advice += " `cnntune inspect --augment batch.png`"
    return [Finding("augmentation", "fail", text, advice, "", with_all.acc, without.acc)]
