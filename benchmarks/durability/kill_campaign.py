"""Kill search, refine and tune in every phase, start them again, and look at what is on disk.

Searches train a recipe or run a command: `search-script` and `refine-script` are over a script that
writes a CSV and a checkpoint, and has a child in a session of its own.

    python benchmarks/durability/kill_campaign.py --kills 300 --keep faults

SIGKILL goes to the coordinator, to one of its processes, to both or to the command of a trial, and
SIGINT to all as Ctrl-C sends it: after a random time, or when a file or a line of progress appears,
so that every phase is hit. Every other campaign goes on with other budgets. After each command:
nothing that was there is lost, doubled or written again, record, folders and curves agree, values
follow from seed and slot, the command ended (0, 1, 2 or 130, without a traceback), and five seconds
later no process of it is left. At the end a study has no unfinished run, and where its budget
stayed the same, and for a search without pruning also where it came to the same, it holds, seconds
apart, what the undisturbed study holds.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from killed_study import Look, differences, faults_between, faults_in, look

from cnntune.script.command import study_mark
from cnntune.script.launch import marked

RECIPE = """
name = "campaign"
[data]
name = "digits"
size = 600
[train]
batch_size = 16
schedule = "cosine"
epochs = 6
[search]
epochs = 2
[space]
train.lr = { log = [3e-2, 0.5] }
model.dropout = { uniform = [0.0, 0.3] }
model.width = { choice = [4, 8] }
"""  # small, but some trials learn: a study in which none does is not refined
SPACE = """
name = "campaign"
[space]
train.lr = { log = [1e-3, 1.0] }
train.weight_decay = { log = [1e-6, 1e-2] }
"""
SCRIPT = """
import argparse, json, math, os, random, subprocess, sys, time
parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float)
parser.add_argument("--wd", type=float)
parser.add_argument("--seed", type=int)
parser.add_argument("--epochs", type=int, default=6)
asked = parser.parse_args()
if os.listdir("."):
    sys.exit(f"another run was here: {os.listdir('.')}")
sleep = [sys.executable, "-c", "import time; time.sleep(600)  # helper of train.py"]
helper = subprocess.Popen(sleep, start_new_session=True)
drawn = random.Random(asked.seed)
best = 0.95 - 0.1 * abs(math.log10(asked.lr) + 1.5) - 0.01 * abs(math.log10(asked.wd) + 4)
with open("log.csv", "w") as log:
    log.write("epoch,train_loss,val_loss,val_acc\\n")
    for epoch in range(1, asked.epochs + 1):
        time.sleep(0.05)
        acc = best * (1 - 0.5**epoch) + drawn.uniform(-0.005, 0.005)
        log.write(f"{epoch},{1 - acc},{1.1 - acc},{acc}\\n")
        log.flush()
        with open("checkpoint.tmp", "w") as file:
            json.dump({"epoch": epoch, "acc": acc}, file)
        os.replace("checkpoint.tmp", "checkpoint.json")
helper.kill()
"""
HELPER = "helper of train.py"  # in the words of the script's child
LONGEST_SECONDS = 12.0  # until a kill that waits for no file: start-up takes about a third of it
GRACE_SECONDS = 5.0  # for the processes of a coordinator that ended
ENDS_SECONDS = 300.0  # for a command; the longest takes twenty on two free cores
POLL_SECONDS = 0.005
STRIKES = 8  # planned for each study, in the order of its phases
MOST_COMMANDS = 30  # for a study; then it will never be done
TARGETS = ("coordinator", "worker", "both", "interrupt", "command")
START = "0 start"  # a Ctrl-C before Python has read a line of ours is Python's to handle
ENDS = (0, 1, 2, 130)
KINDS = (
    "lost",
    "doubled",
    "changed",
    "no record",
    "unfinished",
    "failed",
    "unlike",
    "wrong end",
    "traceback",
    "never ended",
    "processes left",
)


@dataclass(frozen=True)
class Moment:
    """When to strike: a while after a file of the study, or a line of progress, appears."""

    file: str = ""  # a pattern below the study's folder; what was there before does not count
    line: str = ""
    longest: float = 0.2  # seconds until the strike

    def come(self, study: Path, progress: Path, before: set[Path]) -> bool:
        """Whether it is there."""
        if self.line:
            return self.line in progress.read_text(errors="replace")
        return any(path not in before for path in study.glob(self.file))

    def known(self, study: Path) -> set[Path]:
        """What is there already."""
        return set(study.glob(self.file)) if self.file else set()


def files(*patterns: str) -> tuple[Moment, ...]:
    return tuple(Moment(file=pattern) for pattern in patterns)


@dataclass(frozen=True)
class Tested:
    """A command under test: its words, budgets and moments, in the order in which they come."""

    name: str
    words: tuple[str, ...]
    same: str  # the budget of studies that are compared with the undisturbed one
    others: tuple[str, ...]
    last: str  # the budget that ends a study of changing budgets; larger than all others
    moments: tuple[Moment, ...]
    done: str  # the file that only a finished study has
    before: tuple[str, ...] = ()  # the command that leaves what it needs
    alike: bool = False  # also where budgets changed; a bracket that was decided stays as it is
    script: tuple[str, ...] = ()  # the command of each trial; typed after -- for a search
    workers: int = 2

    @property
    def targets(self) -> tuple[str, ...]:
        """What can be struck; the command of a trial, which often does not run, is there twice."""
        return (*TARGETS, TARGETS[-1]) if self.script else TARGETS[:-1]


FIRST_ROUND = files(
    "study.db", "trial-0000/config.json", "trial-0003/metrics.csv", "trial-0006/summary.json"
)


def refinement(number: int, checkpoint: str = "checkpoint.pt") -> tuple[Moment, ...]:
    return files(
        f"refine-{number}",
        f"refine-{number}/study.db",
        f"refine-{number}/trial-0000/{checkpoint}",
        f"refine-{number}/trial-0003/metrics.csv",
        f"refine-{number}/trial-0004/summary.json",
        f"refine-{number}/trial-0005/summary.json",
    )


SWEEP = (
    Moment(line="training images", longest=2.0),  # sanity begins
    Moment(line="rates at a time", longest=2.0),
    *files("lr-sweep.json"),
)
REPEATS = ("trial-*-seed-1", "trial-*-seed-2/metrics.csv", "trial-*-seed-2/summary.json")
TRIAL_ENDS = files("trial-0008/checkpoint.pt", "trial-0015/summary.json", "trial-0022/metrics.csv")
SEARCH = ("search", "campaign.toml", "--epochs", "9", "--pruner")
WRITTEN = "work/checkpoint.json"  # by a script
VALUES = ("--lr", "{train.lr}", "--wd={train.weight_decay}", "--seed", "{seed}")
RUN = (sys.executable, "train.py", *VALUES)
TOLD = (*RUN, "--epochs", "{search.epochs}")
RUNS_SCRIPT = (
    *FIRST_ROUND,
    *files("trial-0008/work/log.csv", f"trial-0015/{WRITTEN}", "trial-0022/stderr.txt"),
)


def script_search(words: tuple[str, ...], script: tuple[str, ...], workers: int) -> Tested:
    """A search over a command."""
    return Tested(
        "search-script",
        ("search", "space.toml", *words),
        "24",
        ("4", "12", "20"),
        "24",
        RUNS_SCRIPT,
        "search.json",
        alike=not words,
        script=script,
        workers=workers,
    )


def script_refinement(workers: int) -> Tested:
    """A refinement of a search over a command."""
    return Tested(
        "refine-script",
        ("refine", "campaign"),
        "14",
        ("12", "13", "16"),
        "18",
        (
            *refinement(1, WRITTEN),
            *files(*(f"refine-1/{repeat}" for repeat in REPEATS), "refine-1/refine.json"),
            *refinement(2, WRITTEN),
            *files(*(f"refine-2/{repeat}" for repeat in REPEATS)),
        ),
        "refine-2/refine.json",
        ("search", "space.toml", "--budget", "12"),
        script=RUN,
        workers=workers,
    )


HALVING = ("--epochs", "6", "--pruner", "halving")
TESTED = {
    "search": (
        Tested(
            "search",
            (*SEARCH, "none"),
            "24",
            ("4", "12", "20"),
            "24",
            (*FIRST_ROUND, *TRIAL_ENDS),
            "search.json",
            alike=True,
        ),
        Tested(
            "search",
            (*SEARCH, "halving"),
            "24",
            ("4", "12", "20"),
            "24",
            (*FIRST_ROUND, *TRIAL_ENDS),
            "search.json",
        ),
    ),
    "refine": (
        Tested(
            "refine",
            ("refine", "campaign"),
            "14",
            ("12", "13", "16"),
            "18",
            (
                *refinement(1),
                *files(*(f"refine-1/{repeat}" for repeat in REPEATS), "refine-1/refine.json"),
                *refinement(2),
                *files(*(f"refine-2/{repeat}" for repeat in REPEATS)),
            ),
            "refine-2/refine.json",
            ("search", "campaign.toml", "--budget", "12"),
        ),
    ),
    "tune": (
        Tested(
            "tune",
            ("tune", "campaign.toml"),
            "30",
            ("40", "20", "30", "3s", "6s"),
            "60",
            (
                *SWEEP,
                *FIRST_ROUND,
                *refinement(1),
                *refinement(2),
                *refinement(3),
                *files(*(f"**/{repeat}" for repeat in REPEATS), "tune.json"),
            ),
            "tune.json",
        ),
    ),
    "search-script": (
        script_search((), RUN, workers=2),
        script_search(HALVING, TOLD, workers=2),
        script_search((), RUN, workers=1),
        script_search(HALVING, RUN, workers=1),  # ended after six evaluations
    ),
    "refine-script": (script_refinement(workers=2), script_refinement(workers=1)),
}


@dataclass
class Tally:
    """What was struck, and what was found."""

    most: int
    kills: Counter[tuple[str, str, str]] = field(default_factory=Counter)  # command, phase, target
    faults: Counter[str] = field(default_factory=Counter)
    ends: Counter[tuple[str, int]] = field(default_factory=Counter)  # of commands that ended
    studies: int = 0

    def of(self, command: str) -> int:
        """Kills of a command."""
        return sum(count for (name, _, _), count in self.kills.items() if name == command)

    @property
    def left(self) -> int:
        """Kills still asked for."""
        return self.most - self.kills.total()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--command", choices=(*TESTED, "all"), default="all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="for studies that have faults")
    asked = parser.parse_args()
    commands = tuple(TESTED) if asked.command == "all" else (asked.command,)
    rng = random.Random(asked.seed)
    tally = Tally(asked.kills)
    with tempfile.TemporaryDirectory(prefix="cnntune-kills-") as scratch:
        turns = dict.fromkeys(commands, 0)
        wanted: dict[tuple[str, ...], Look] = {}  # of one worker or two: both give the same
        place = Path(scratch) / "place"  # of all studies: a recipe names the folder of its command
        while tally.left > 0:
            command = min(commands, key=tally.of)
            turn, variants = turns[command], TESTED[command]
            turns[command] += 1
            tested = variants[turn // 2 % len(variants)]
            what = (*tested.words, *tested.script)
            if what not in wanted:
                wanted[what] = undisturbed(tested, place)
                shutil.rmtree(place)
            campaign = Campaign(tested, place, rng, tally, changing=turn % 2 == 1)
            campaign.go(wanted[what])
            name = f"{command}-{turn}"
            tally.studies += 1
            tally.faults.update(fault.partition(":")[0] for fault in campaign.faults)
            budgets = "budgets changing" if campaign.changing else f"budget {tested.same}"
            print(f"{name}, {budgets}: {', '.join(campaign.history)}", flush=True)
            for fault in campaign.faults:
                print(f"  FAULT {fault}", flush=True)
            if campaign.faults and asked.keep:
                kept = asked.keep / f"{name}-seed-{asked.seed}"
                shutil.copytree(place, kept, dirs_exist_ok=True)
                print(f"  kept in {kept}", flush=True)
            shutil.rmtree(place)
    print(report(tally))
    sys.exit(1 if tally.faults else 0)


def report(tally: Tally) -> str:
    """Kills by phase, and faults by kind."""
    phases = sorted({(command, phase) for command, phase, _ in tally.kills})
    rows = [
        (command, phase, *counts, sum(counts))
        for command, phase in phases
        for counts in [[tally.kills[command, phase, target] for target in TARGETS]]
    ]
    ends = ", ".join(f"{name} {code}: {n}" for (name, code), n in sorted(tally.ends.items()))
    lines = [f"  {kind}: {tally.faults[kind]}" for kind in KINDS]
    return "\n".join(
        [
            f"\n{tally.kills.total()} kills in {tally.studies} studies",
            *(line(row) for row in [("command", "phase", *TARGETS, "kills"), *rows]),
            f"commands that ended, by exit code: {ends}",
            *lines,
        ]
    )


def line(cells: Sequence[object]) -> str:
    """One row of a table, in columns of one width."""
    return "".join(f"{cell!s:>14}" for cell in cells)


def undisturbed(tested: Tested, place: Path) -> Look:
    """The study that nobody kills.

    Raises:
        SystemExit: where it has faults of its own.
    """
    campaign = Campaign(tested, place, random.Random(0), Tally(0), changing=False)
    campaign.go(None)
    if campaign.faults:
        sys.exit("\n".join(["the undisturbed study:", *campaign.faults]))
    return look(campaign.study)


class Campaign:
    """One study, struck until it is done."""

    def __init__(
        self, tested: Tested, place: Path, rng: random.Random, tally: Tally, *, changing: bool
    ) -> None:
        self.tested, self.place, self.rng, self.tally = tested, place, rng, tally
        self.changing = changing
        self.study = place / "runs" / "campaign"
        self.faults: list[str] = []
        self.history: list[str] = []  # a command and its end
        self.cut = False  # the last command, by a strike
        count = len(tested.moments)
        chosen = sorted(rng.sample(range(count), min(STRIKES, count)))
        self.moments = [tested.moments[index] for index in chosen]

    def go(self, wanted: Look | None) -> None:
        """Start, strike and start again; then compare with the undisturbed study."""
        self.place.mkdir()
        (self.place / "campaign.toml").write_text(RECIPE)
        (self.place / "space.toml").write_text(SPACE)
        (self.place / "train.py").write_text(SCRIPT)
        if self.tested.before:
            self.command(self.tested.before, None)
        before = look(self.study)
        for number in range(MOST_COMMANDS):
            if self.tally.left <= 0:
                self.moments = []
            last = not self.moments
            budget = self.budget(number, last=last)
            planned = self.moment(number)
            code = self.command((*self.tested.words, "--budget", budget), planned)
            after = look(self.study)
            self.faults += [*faults_between(before, after), *faults_in(after, ended=False)]
            before = after
            if any(fault.startswith("never ended") for fault in self.faults):
                return
            if last and code == 2:
                self.faults.append(f"wrong end: the budget {budget} is refused")
                return
            whole = code in (0, 1) and (self.study / self.tested.done).exists()
            if whole and (last or not self.changing):
                break
            if whole and planned is not None:  # what has passed will not come again
                self.moments = []
        else:
            self.faults.append(f"never ended: not done after {MOST_COMMANDS} commands")
        self.faults += faults_in(before, ended=True)
        if wanted is not None and (not self.changing or self.tested.alike):
            self.faults += differences(before, wanted)

    def budget(self, number: int, *, last: bool) -> str:
        """Of the next command."""
        if not self.changing:
            return self.tested.same
        if last:
            return self.tested.last
        return self.tested.others[0] if number == 0 else self.rng.choice(self.tested.others)

    def moment(self, number: int) -> Moment | float | None:
        """When to strike the next command; None: it may go on to its end.

        A command with another budget often may, for what it makes of the last one shows there.
        """
        self.moments = [each for each in self.moments if not each.known(self.study)]
        through = self.changing and number and self.cut and self.rng.random() < 0.5
        if through or not self.moments:
            return None
        moment = self.moments.pop(0)
        return moment if self.rng.random() < 0.85 else self.rng.uniform(0.0, LONGEST_SECONDS)

    def command(self, words: Sequence[str], moment: Moment | float | None) -> int:
        """Run a command, strike it, and look how it ended; returns its exit code."""
        log = self.place / "log"
        log.mkdir(exist_ok=True)
        number = len(self.history)
        out, progress = log / f"{number:02d}.out", log / f"{number:02d}.err"
        with out.open("wb") as stdout, progress.open("wb") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", "cnntune", *words, *self.further(words[0])],
                cwd=self.place,
                env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )
        deadline = time.monotonic() + ENDS_SECONDS
        strikes: list[str] = []
        spared: set[str] = set()
        while moment is not None and self.wait_for(process, moment, progress, deadline):
            where = phase(self.study, progress, self.tested.words[0])
            allowed = [one for one in self.tested.targets if one not in spared]
            target = self.rng.choice(allowed if where != START else TARGETS[:3])
            if target == "command" and not (running := self.scripts()):
                target = "worker"
            if target == "command":
                kill(self.rng.choice(running), signal.SIGKILL)
                spared.add(target)  # a second one of the same trial would be a result: see memory
            else:
                strike(process, target, self.rng)
            self.tally.kills[self.tested.name, where, target] += 1
            strikes.append(f"{target} in {where}")
            if target not in ("worker", "command"):  # without these the command goes on
                break
            moment = self.moments.pop(0) if self.moments and self.tally.left > 0 else None
        self.cut = bool(strikes)
        try:
            code = process.wait(timeout=max(GRACE_SECONDS, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.fault("never ended", number, f"{' '.join(words)} after {ENDS_SECONDS:.0f} s")
            process.kill()
            code = process.wait()
        at_once = any(strike.startswith("both") for strike in strikes)
        self.check_end(process, code, number, out, progress, at_once=at_once)
        if code == 2 and not strikes and "--budget" not in progress.read_text():
            self.fault("wrong end", number, f"exit code 2 for no budget ({progress.name})")
        self.history.append(" ".join([words[-1], *strikes, "->", str(code)]))
        (log / "history.txt").write_text("\n".join(self.history) + "\n")
        return code

    def further(self, verb: str) -> list[str]:
        """The words that all commands have, and the script of a search over one."""
        words = ["--workers", str(self.tested.workers), "--json"]
        if self.tested.script and verb == "search":
            words += ["--", *self.tested.script]
        return words

    def scripts(self) -> list[int]:
        """The commands of trials that run."""
        return [pid for pid in self.of_trials() if "train.py --lr" in words_of(pid, longest=None)]

    def of_trials(self) -> list[int]:
        """All processes of commands of trials; they have sessions of their own."""
        if not self.tested.script:
            return []
        folders = [self.study, *self.study.glob("refine-*")]
        return sorted({pid for folder in folders for pid in marked(study_mark(folder))})

    def wait_for(
        self,
        process: subprocess.Popen[bytes],
        moment: Moment | float,
        progress: Path,
        deadline: float,
    ) -> bool:
        """Whether the moment came before the command ended, or the deadline."""
        if not isinstance(moment, Moment):
            deadline = min(deadline, time.monotonic() + moment)
        before = moment.known(self.study) if isinstance(moment, Moment) else set()
        while process.poll() is None:
            if isinstance(moment, Moment) and moment.come(self.study, progress, before):
                time.sleep(self.rng.uniform(0.0, moment.longest))
                return process.poll() is None
            if time.monotonic() > deadline:  # that it never ends is for the caller to say
                return not isinstance(moment, Moment)
            time.sleep(POLL_SECONDS)
        return False

    def check_end(
        self,
        process: subprocess.Popen[bytes],
        code: int,
        number: int,
        out: Path,
        progress: Path,
        *,
        at_once: bool,
    ) -> None:
        """Exit code, traceback, document, and processes that outlive the command.

        Where coordinator and worker were killed `at_once`, children of a script in sessions of
        their own are left to the next command; they count where it leaves them too.
        """
        deadline = time.monotonic() + GRACE_SECONDS
        while (left := self.left(process.pid, at_once)) and time.monotonic() < deadline:
            time.sleep(0.05)
        for pid in left:
            self.fault("processes left", number, f"after {GRACE_SECONDS:.0f} s: {words_of(pid)}")
        for pid in left:
            kill(pid, signal.SIGKILL)
        said = progress.read_text(errors="replace")
        if "Traceback" in said:
            self.fault("traceback", number, f"{said.strip().splitlines()[-1]} ({progress.name})")
        if code == -signal.SIGKILL:
            return
        self.tally.ends[self.tested.name, code] += 1
        if code not in ENDS:
            self.fault("wrong end", number, f"exit code {code}")
        if code in (0, 1):
            try:
                json.loads(out.read_text())
            except ValueError:
                self.fault("wrong end", number, f"{out.name} is not one JSON document")

    def left(self, leader: int, at_once: bool) -> list[int]:
        """What still runs of a command that ended and is not left to the next one."""
        found = [*session(leader), *self.of_trials()]
        return [pid for pid in found if not (at_once and HELPER in words_of(pid, longest=None))]

    def fault(self, kind: str, number: int, text: str) -> None:
        """Note what is wrong with a command."""
        self.faults.append(f"{kind}: command {number}: {text}")


def phase(study: Path, progress: Path, command: str) -> str:
    """Where a command is: what it wrote last says so."""
    said = progress.read_text(errors="replace")
    if not said:
        return START
    if command == "tune" and not (study / "lr-sweep.json").exists():
        return "2 sweep" if "rates at a time" in said else "1 sanity"
    return max(written(study, command), default=(0.0, "3 round 0"))[1]


def written(study: Path, command: str) -> Iterator[tuple[float, str]]:
    """When each phase wrote last."""
    for file in ("config.json", "metrics.csv", "summary.json"):
        for path in study.glob(f"**/trial-*/{file}"):
            repeat = "-seed-" in path.parent.name
            yield changed(path), "4 repeats" if repeat else f"3 {round_of(path.parent.parent)}"
    for path in study.glob("refine-*/plan.json"):
        yield changed(path), f"3 {round_of(path.parent)}"
    for path in study.glob(f"**/{command}.json"):
        yield changed(path), "5 end"


def round_of(folder: Path) -> str:
    number = folder.name.rpartition("-")[2]
    return f"round {number if folder.name.startswith('refine-') else 0}"


def changed(path: Path) -> float:
    """Seconds since 1970; 0 where it was renamed meanwhile."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def strike(process: subprocess.Popen[bytes], target: str, rng: random.Random) -> None:
    """Kill what is meant; Ctrl-C reaches every process of the terminal."""
    if target == "interrupt":
        os.killpg(process.pid, signal.SIGINT)
        return
    others = session(process.pid)
    if target in ("worker", "both") and others:
        kill(rng.choice(others), signal.SIGKILL)
    if target in ("coordinator", "both"):
        process.kill()


def words_of(pid: int, longest: int | None = 120) -> str:
    """What a process was started as, in short."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")[:longest]
    except OSError:
        return f"process {pid}, which has ended since"


def kill(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def session(leader: int) -> list[int]:
    """The processes of a command's session that still run, without the command itself."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, leader_of = stat.read_text().rpartition(")")[2].split()[:4]
        except OSError:  # it ended meanwhile
            continue
        pid = int(stat.parent.name)
        if int(leader_of) == leader and pid != leader and state != "Z":
            found.append(pid)
    return sorted(found)


if __name__ == "__main__":
    main()
