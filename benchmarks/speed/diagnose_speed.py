"""How long `cnntune diagnose` takes: its start, and a folder of 1,000 runs of 100 epochs.

    python benchmarks/speed/diagnose_speed.py

The runs are made up (a falling loss with noise) and are written into a temporary folder. Wall and
CPU time are the least of several processes; the start is that of one short run, less a bare Python.
"""

import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cnntune.runs.run import COLUMNS

RUNS, EPOCHS = 1000, 100
REPEATS = 3
HEAVY = ("torch", "pandas", "optuna", "sklearn", "numpy")
WANTED = {"start": 0.3, "1000 runs": 2.0}  # seconds: of CPU, and of the wall clock


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        study = Path(folder)
        write_runs(study, RUNS)
        first = study / "trial-0000"
        bare = least(["-c", "pass"])[1]
        start = least(["-m", "cnntune", "diagnose", "--json", str(first)])[1] - bare
        wall, cpu = least(["-m", "cnntune", "diagnose", "--json", str(study)])
    print(f"start: {start:.2f} s of CPU beyond Python's {bare:.2f} s (wanted: {WANTED['start']})")
    print(f"{RUNS} runs of {EPOCHS} epochs: {wall:.2f} s, {cpu:.2f} s of CPU", end="")
    print(f" (wanted: {WANTED['1000 runs']})")
    print(f"imported of {', '.join(HEAVY)}: {', '.join(imported()) or 'none'}")


def write_runs(study: Path, count: int) -> None:
    draw = random.Random(0)
    for number in range(count):
        run = study / f"trial-{number:04d}"
        run.mkdir()
        (run / "config.json").write_text(json.dumps({"train": {"epochs": EPOCHS, "lr": 0.01}}))
        lines = [",".join(COLUMNS)]
        for epoch in range(1, EPOCHS + 1):
            loss, noise = 2.3 / epoch**0.5, draw.gauss(0, 0.02)
            row = (epoch, 0.01, loss, 1 - loss / 3, loss + 0.1 + noise, 0.9 - loss / 3, 1.0, 2.5)
            lines.append(",".join(map(repr, row)))
        (run / "metrics.csv").write_text("\n".join(lines) + "\n")


def least(words: list[str]) -> tuple[float, float]:
    """The least wall and CPU seconds of several processes."""
    walls, cpus = [], []
    for _ in range(REPEATS):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        begin = time.perf_counter()
        subprocess.run([sys.executable, *words], check=True, capture_output=True)
        walls.append(time.perf_counter() - begin)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpus.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(walls), min(cpus)


def imported() -> list[str]:
    light = "cnntune.cli, cnntune.diagnosis.judge"
    code = f"import sys, {light}; print(*(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return sorted(done.stdout.split())


if __name__ == "__main__":
    main()
