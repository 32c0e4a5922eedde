"""What observing a script costs per step: the median step with and without the observer.

`python benchmarks/speed/observer.py` prints a table; the runs alternate, one thread each.
"""

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from cnntune.script import launch

ROUNDS = 3
STEPS = 60
SCRIPT = """
import sys, time, torch, torch.nn.functional as F
from torch import nn
torch.set_num_threads(1)
torch.manual_seed(0)
kind = sys.argv[1]
if kind == "MLP":
    net, x = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)), torch.randn(64, 64)
elif kind == "small CNN":
    net = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3, 2), nn.ReLU(),
        nn.Flatten(), nn.Linear(16 * 14 * 14, 10))
    x = torch.randn(32, 3, 32, 32)
elif kind == "60 blocks":
    block = lambda: nn.Sequential(nn.Linear(64, 64), nn.LayerNorm(64), nn.ReLU())
    net, x = nn.Sequential(*[block() for _ in range(60)], nn.Linear(64, 10)), torch.randn(128, 64)
else:
    from torchvision.models import resnet18
    net, x = resnet18(num_classes=10), torch.randn(8, 3, 64, 64)
y = torch.randint(0, 10, (len(x),))
optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
times = []
for i in range(int(sys.argv[2])):
    start = time.perf_counter()
    optimizer.zero_grad()
    F.cross_entropy(net(x), y).backward()
    optimizer.step()
    times.append(time.perf_counter() - start)
late = times[len(times) // 4 :]
print("ms", 1000 * sum(late) / len(late))
"""


def milliseconds(kind: str, *, observed: bool) -> float:
    """The mean step of one run, without its first quarter."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        if observed:
            environment |= launch.settings(
                os.environ, Path(folder), steps=STEPS, timeout=None, full=True, token="benchmark"
            )
        run = subprocess.run(
            [sys.executable, "-c", SCRIPT, kind, str(STEPS)],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
    return float(run.stdout.split()[-1])


def main() -> None:
    """Print the table."""
    print("| script | alone, ms per step | observed | more |\n| --- | --- | --- | --- |")
    for kind in ("MLP", "small CNN", "60 blocks", "ResNet-18"):
        pairs = [
            (milliseconds(kind, observed=False), milliseconds(kind, observed=True))
            for _ in range(ROUNDS)
        ]
        alone = statistics.median(pair[0] for pair in pairs)
        seen = statistics.median(pair[1] for pair in pairs)
        print(
            f"| {kind} | {alone:.2f} | {seen:.2f} | {100 * (seen / alone - 1):.0f} % |", flush=True
        )


if __name__ == "__main__":
    main()
