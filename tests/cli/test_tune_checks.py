"""Which failures of sanity end `tune` before its first round."""

import pytest

from cnntune.cli.tune import _weak
from cnntune.findings import Finding


@pytest.mark.parametrize(
    ("rule", "measured", "expected", "weak"),
    [
        ("learns", 0.74, 0.99, True),  # below the nearest training image, and no part to blame
        ("learns", 0.11, 0.10, False),  # at chance: the labels may not belong to their images
        ("trainable-parameters", 0.0, 1.0, False),
    ],
)
def test_only_a_network_that_may_be_too_small_does_not_end_tune(
    rule: str, measured: float, expected: float, weak: bool
) -> None:
    finding = Finding(rule, "fail", "evidence", measured=measured, expected=expected)
    assert _weak(finding) is weak
