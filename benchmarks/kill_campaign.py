"""Kill searches at random moments, start them again, and compare with one that ran through.

    python benchmarks/kill_campaign.py --kills 300

Each search has trials of several epochs, with and without pruning. SIGKILL goes to the coordinator,
to a worker, or to both, at a random moment: during start-up, drawing, training, writing and
recording. Asked: no slot lost, none doubled, no value and no curve other than in the undisturbed
search, and no worker left alive five seconds after its coordinator.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from cnntune.ledger import Ledger
from cnntune.runs import Study

RECIPE = """
name = "campaign"
[data]
name = "digits"
size = 200
[train]
batch_size = 32
schedule = "cosine"
[search]
epochs = 9
[space]
train.lr = { log = [1e-3, 1.0] }
model.dropout = { uniform = [0.0, 0.5] }
model.width = { choice = [2, 4] }
"""
TRIALS = 24
LONGEST_SECONDS = 8.0  # until the kill: start-up takes about half of it
GRACE_SECONDS = 5.0  # for the workers of a killed coordinator
TARGETS = ("coordinator", "worker", "both")
PRUNERS = ("none", "halving")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    faults: Counter[str] = Counter()
    kills: Counter[str] = Counter()
    searches = 0
    with tempfile.TemporaryDirectory() as folder:
        expected = {
            pruner: undisturbed(Path(folder) / f"whole-{pruner}", pruner) for pruner in PRUNERS
        }
        while kills.total() < options.kills:
            pruner = PRUNERS[searches % len(PRUNERS)]
            place = Path(folder) / f"search-{searches}"
            faults += campaign(place, pruner, rng, kills, options.kills)
            faults += differences(contents(place), expected[pruner])
            searches += 1
            print(f"{searches} searches, {dict(kills)} kills, faults: {dict(faults)}", flush=True)
    slots = searches * TRIALS
    print(f"{kills.total()} kills in {searches} searches of {TRIALS} trials ({slots} slots)")
    for fault in ("lost", "doubled", "wrong values", "wrong curve", "wrong end", "workers left"):
        print(f"  {fault}: {faults[fault]}")
    sys.exit(1 if faults else 0)


def undisturbed(folder: Path, pruner: str) -> dict[int, list[object]]:
    """The search that nobody kills."""
    process = start(folder, pruner)
    if process.wait() != 0:
        sys.exit(f"the undisturbed search ended with {process.returncode}")
    return contents(folder)


def start(folder: Path, pruner: str) -> subprocess.Popen[bytes]:
    """`cnntune search` with two workers, in a session of its own."""
    folder.mkdir(exist_ok=True)
    (folder / "campaign.toml").write_text(RECIPE)
    words = ["search", "campaign.toml", "--budget", str(TRIALS), "--pruner", pruner]
    return subprocess.Popen(
        [sys.executable, "-m", "cnntune", *words, "--workers", "2", "--quiet"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )


def campaign(
    folder: Path, pruner: str, rng: random.Random, kills: Counter[str], most: int
) -> Counter[str]:
    """Kill one search until it is through; what was left alive are faults."""
    faults: Counter[str] = Counter()
    while True:
        process = start(folder, pruner)
        if kills.total() >= most:
            process.wait()
        try:
            process.wait(timeout=rng.uniform(0.0, LONGEST_SECONDS))
        except subprocess.TimeoutExpired:
            target = rng.choice(TARGETS)
            kills[target] += 1
            faults["workers left"] += strike(process, target, rng)
            if target == "worker":
                process.wait()
        if process.returncode == 0:
            return faults
        if process.returncode != -signal.SIGKILL:
            sys.exit(f"the search ended with {process.returncode}; see above")


def strike(process: subprocess.Popen[bytes], target: str, rng: random.Random) -> int:
    """Kill what is meant, and count the workers that outlive a killed coordinator."""
    workers = descendants(process.pid)
    if target in ("worker", "both") and workers:
        kill(rng.choice(workers))
    if target == "worker":
        return 0
    process.kill()
    process.wait()
    deadline = time.monotonic() + GRACE_SECONDS
    while any(map(alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return sum(map(alive, workers))


def kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def descendants(pid: int) -> list[int]:
    """The processes below `pid` that still run: workers, and the server that forks them."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
        except OSError:  # it ended meanwhile
            continue
        if state != "Z":
            parents[int(stat.parent.name)] = int(parent)
    found = [pid]
    for known in found:
        found += [child for child, parent in parents.items() if parent == known]
    return found[1:]


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def contents(folder: Path) -> dict[int, list[object]]:
    """Each trial's end, values and curve, without the seconds."""
    study = Study(folder / "runs" / "campaign")
    return {
        trial.number: [
            trial.status,
            trial.values,
            [(row.epoch, row.train_loss, row.val_loss, row.val_acc) for row in trial.run.rows()],
        ]
        for trial in Ledger.open(study).trials()
    }


def differences(found: dict[int, list[object]], expected: dict[int, list[object]]) -> Counter[str]:
    """What went wrong, counted."""
    faults: Counter[str] = Counter()
    faults["lost"] = len(expected.keys() - found.keys())
    faults["doubled"] = len(found.keys() - expected.keys())
    for number in found.keys() & expected.keys():
        names = ("wrong end", "wrong values", "wrong curve")
        pairs = zip(names, found[number], expected[number], strict=True)
        faults.update(name for name, got, wanted in pairs if got != wanted)
    return +faults


if __name__ == "__main__":
    main()
