"""The bench of planted bugs, in small: what it prints is what the README shows."""

import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "benchmarks" / "sanity" / "planted_bugs.py"


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCH), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)


@pytest.mark.slow
def test_a_softmax_before_the_loss_is_caught_and_named() -> None:
    outcome = bench("--only", "softmax-output", "--workers", "1")
    assert "named   softmax-output" in outcome.stdout, outcome.stdout + outcome.stderr


@pytest.mark.slow
def test_the_fast_part_of_the_bench_reaches_its_targets() -> None:
    outcome = bench("--fast", "--workers", "2")
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
