"""What a forward pass does is recorded, also that of a compiled network."""

import subprocess
import sys

import pytest

COMPILED = """
import torch
from torch import nn
from cnntune.steps.sanity.record import Recorder

network = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3))
compiled = torch.compile(network, backend="eager")
for _ in range(12):  # the compiler complains of the ninth variant of a function
    with Recorder(lambda: "") as recorder:
        compiled(torch.ones(2, 4))
print([output.op for output in recorder.outputs])
"""


@pytest.mark.slow
def test_a_compiled_network_is_observed_without_a_word_of_the_compiler() -> None:
    done = subprocess.run(
        [sys.executable, "-c", COMPILED], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("['addmm', 'addmm']\n", "")
