"""Mixup and CutMix: the mixed images and their loss."""

import math

import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import v2

from cnntune.data.augment import Mixed, loss_of
from cnntune.data.augment.mix import Mix


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def mix(images: Tensor, labels: Tensor, mixup: float, cutmix: float) -> tuple[Tensor, Mixed]:
    method, shape = Mix(mixup, cutmix), (len(images), images.shape[2], images.shape[3])
    return method(images, labels, method.draw(shape, seeded()))


def numbered(count: int, side: int = 8) -> tuple[Tensor, Tensor]:
    """Images that are full of their own label, 0 ... `count` - 1."""
    labels = torch.arange(count)
    return labels.view(-1, 1, 1, 1).expand(-1, 1, side, side).float().clone(), labels


def test_a_blend_has_each_pixel_from_both_images_in_the_share_that_is_returned() -> None:
    images, labels = numbered(50)
    mixed, targets = mix(images, labels, 0.4, 0.0)
    assert targets.first.tolist() == list(range(50))
    assert targets.second.tolist() == [49, *range(49)]  # the image before
    share = targets.share.view(-1, 1, 1, 1)
    expected = share * images + (1 - share) * images[targets.second]
    torch.testing.assert_close(mixed, expected.expand_as(mixed))


def test_a_box_of_cutmix_has_the_other_image_in_the_share_that_is_returned() -> None:
    images, labels = numbered(200)
    mixed, targets = mix(images, labels, 0.0, 1.0)
    mine = (mixed == images).flatten(1)
    other = (mixed == images[targets.second]).flatten(1)
    assert torch.all(mine ^ other)
    torch.testing.assert_close(mine.float().mean(1), targets.share)
    boxes = other.view(-1, 8, 8)
    assert torch.equal(boxes.sum((1, 2)), boxes.any(2).sum(1) * boxes.any(1).sum(1))  # rectangles


@pytest.mark.parametrize("alpha", [0.2, 1.0, 5.0])
def test_shares_of_mixup_follow_the_beta_distribution(alpha: float) -> None:
    _, targets = mix(*numbered(3000, side=1), alpha, 0.0)
    assert stats.kstest(targets.share.numpy(), stats.beta(alpha, alpha).cdf).pvalue > 1e-3


def test_shares_of_cutmix_are_those_of_torchvision() -> None:
    # torchvision draws one share for a batch: batches of two, and the share of the first image.
    _, targets = mix(*numbered(1500), 0.0, 1.0)
    theirs = v2.CutMix(alpha=1.0, num_classes=2)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pairs = [theirs(*numbered(2))[1][0, 0] for _ in range(1500)]
    assert stats.ks_2samp(targets.share.numpy(), torch.stack(pairs).numpy()).pvalue > 1e-3


def test_with_both_each_image_has_one_of_the_two() -> None:
    images, labels = numbered(1000)
    mixed, targets = mix(images, labels, 1.0, 1.0)
    cut = ((mixed == images) | (mixed == images[targets.second])).flatten(1).all(1)
    assert 430 < int(cut.sum()) < 570  # 500 +- 16


def test_a_tiny_alpha_shows_one_of_the_two_images_whole() -> None:
    _, targets = mix(*numbered(100), 1e-5, 0.0)
    assert torch.all((targets.share < 1e-3) | (targets.share > 1 - 1e-3))


# The loss


def logits_and_labels() -> tuple[Tensor, Mixed]:
    logits = torch.randn(6, 4, generator=seeded()).requires_grad_()
    share = torch.tensor([0.0, 0.1, 0.5, 0.7, 1.0, 0.3])
    return logits, Mixed(torch.tensor([0, 1, 2, 3, 0, 1]), torch.tensor([1, 1, 0, 2, 3, 0]), share)


def test_the_gradient_is_that_of_soft_targets() -> None:
    logits, targets = logits_and_labels()
    share = targets.share.unsqueeze(1)
    soft = share * F.one_hot(targets.first, 4) + (1 - share) * F.one_hot(targets.second, 4)
    (expected,) = torch.autograd.grad(F.cross_entropy(logits, soft), logits)
    (found,) = torch.autograd.grad(loss_of(F.cross_entropy, logits, targets), logits)
    torch.testing.assert_close(found, expected)


def test_the_value_is_between_the_losses_of_both_classes() -> None:
    logits, targets = logits_and_labels()
    logits = logits.detach()
    one, other = (float(F.cross_entropy(logits, y)) for y in (targets.first, targets.second))
    mean = float(targets.share.mean())
    value = float(loss_of(F.cross_entropy, logits, targets))
    assert value == pytest.approx(mean * one + (1 - mean) * other)


def test_a_custom_loss_with_class_weights_applies_them_to_mixed_images_too() -> None:
    weights = torch.tensor([1.0, 5.0, 1.0, 1.0])

    def weighted(logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels, weight=weights)

    logits, targets = logits_and_labels()
    share, rows = targets.share, torch.arange(6)
    log_p = logits.log_softmax(1)
    first = -(share * weights[targets.first] * log_p[rows, targets.first]).sum()
    second = -((1 - share) * weights[targets.second] * log_p[rows, targets.second]).sum()
    expected = first / weights[targets.first].sum() + second / weights[targets.second].sum()
    (wanted,) = torch.autograd.grad(expected, logits)
    (found,) = torch.autograd.grad(loss_of(weighted, logits, targets), logits)
    torch.testing.assert_close(found, wanted)


def test_whole_labels_have_their_plain_loss() -> None:
    logits = torch.zeros(3, 4)
    assert float(loss_of(F.cross_entropy, logits, torch.arange(3))) == pytest.approx(math.log(4))
