"""The benchmarks measure what they say: all processes, their own memory, ratios within a round."""

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks" / "speed"
PAGE = ROOT / "docs" / "performance.md"
WRITING = sorted(
    path.stem for path in BENCHMARKS.glob("*.py") if "write=asked.write" in path.read_text()
)


@pytest.fixture
def measure(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return import_module("measure")


def python(*words: str, seconds: float = 60) -> str:
    """What a process of its own prints: measuring waits for every child of its process."""
    done = subprocess.run(
        [sys.executable, "-W", "error", *words],
        cwd=BENCHMARKS,
        capture_output=True,
        text=True,
        timeout=seconds,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_ratio_is_the_median_over_rounds_with_the_least_and_the_most(
    measure: ModuleType,
) -> None:
    assert measure.ratio([2.0, 9.0, 2.0], [1.0, 3.0, 4.0]) == "2.00 (0.50-3.00)"


def test_each_contender_takes_its_turn_and_the_first_round_is_left_out(
    measure: ModuleType,
) -> None:
    turns: list[str] = []

    def contender(name: str) -> object:
        def turn() -> int:
            turns.append(name)
            return len(turns)

        return lambda: measure.took(turn)

    found = measure.rounds({"one": contender("one"), "other": contender("other")}, 2)
    assert turns == ["one", "other"] * 3
    assert [cost.output for cost in found["one"]] == ["3", "5"]


@pytest.mark.skipif(sys.platform != "linux", reason="orphans are adopted on Linux alone")
def test_a_process_left_behind_is_waited_for_and_counted() -> None:
    burn = "import time\nwhile time.process_time() < 0.5: pass"
    leave = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {burn!r}])"
    code = (
        "import sys; from pathlib import Path; from measure import run\n"
        f"print(run([sys.executable, '-c', {leave!r}], cwd=Path('.')).cpu)"
    )
    assert float(python("-c", code)) >= 0.5


@pytest.mark.skipif(sys.platform != "linux", reason="orphans are adopted on Linux alone")
def test_a_command_that_takes_too_long_ends_with_all_that_it_started() -> None:
    start = "import subprocess, time; subprocess.Popen(['sleep', '30']); time.sleep(30)"
    code = (
        "import os, subprocess, sys; from pathlib import Path; import measure\n"
        "measure.LIMIT = 1\n"
        f"try: measure.run([sys.executable, '-c', {start!r}], cwd=Path('.'))\n"
        "except subprocess.TimeoutExpired: pass\n"
        "while True:\n"
        "    try: print(os.wait()[1])\n"
        "    except ChildProcessError: break"
    )
    assert python("-c", code, seconds=20).split() == ["9", "9"]  # both by SIGKILL


@pytest.mark.skipif(sys.platform != "linux", reason="read from /proc")
def test_memory_is_that_of_the_command_and_not_of_the_process_that_starts_it() -> None:
    code = (
        "from pathlib import Path; from measure import run_code\n"
        "held = b'x' * 300_000_000\n"
        "print(run_code('pass', cwd=Path('.')).memory)\n"
        "print(run_code('held = b\"x\" * 200_000_000', cwd=Path('.')).memory)"
    )
    small, large = map(float, python("-c", code).split())
    assert 2 < small < 100  # MiB: a bare Python
    assert 190 < large - small < 200  # 200,000,000 bytes are 190.7 MiB


@pytest.mark.skipif(sys.platform != "linux", reason="read from /proc")
def test_workers_that_go_on_are_counted_once() -> None:
    code = (
        "import time; from multiprocessing import get_context; from measure import took\n"
        "def burn(pipe):\n"
        "    while pipe.recv():\n"
        "        end = time.process_time() + 0.4\n"
        "        while time.process_time() < end: pass\n"
        "        pipe.send(True)\n"
        "context = get_context('fork'); ours, theirs = context.Pipe()\n"
        "worker = context.Process(target=burn, args=(theirs,)); worker.start()\n"
        "turn = lambda: (ours.send(True), ours.recv())\n"
        "end = lambda: (ours.send(False), worker.join())\n"
        "print(took(turn).cpu, took(turn).cpu, took(end).cpu)"
    )
    first, second, end = map(float, python("-c", code).split())
    assert 0.35 < first < 0.6
    assert 0.35 < second < 0.6
    assert end < 0.2  # though the system bills the whole of a child when it ends


def test_a_table_replaces_the_last_one_and_nothing_else(
    measure: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- speed -->\nold\n<!-- end of speed -->\nafter\n")
    monkeypatch.setattr(measure, "PAGE", page)
    monkeypatch.setattr(measure, "machine", lambda: "a machine")
    for _ in range(2):
        measure.report("speed", measure.table(("a", "b"), [(1, 2)]), write=True)
    table = "| a | b |\n| --- | --- |\n| 1 | 2 |"
    expected = f"<!-- speed -->\n{table}\n\na machine\n<!-- end of speed -->"
    assert page.read_text() == f"before\n{expected}\nafter\n"


def test_a_table_without_a_place_is_refused_and_the_page_kept(
    measure: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "page.md"
    page.write_text("no place\n")
    monkeypatch.setattr(measure, "PAGE", page)
    with pytest.raises(SystemExit, match="has no place for speed"):
        measure.report("speed", "table", write=True)
    assert page.read_text() == "no place\n"


def test_each_benchmark_has_its_place_and_make_bench_runs_it() -> None:
    places = re.findall(r"^<!-- (?!end)(\S+) -->$", PAGE.read_text(), re.MULTILINE)
    ends = re.findall(r"^<!-- end of (\S+) -->$", PAGE.read_text(), re.MULTILINE)
    run = re.search(r"^SPEED := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert run is not None
    assert places == ends
    assert sorted(places) == sorted(run[1].split()) == WRITING


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITING)
def test_a_benchmark_says_how_it_is_called(name: str) -> None:
    assert f"{name}.py" in python(f"{name}.py", "--help")


@pytest.mark.slow
def test_an_epoch_is_measured_beside_both_loops() -> None:
    printed = python("training_speed.py", "--rounds", "1", "--images", "700", seconds=300)
    assert re.search(r"\| 1 \| float32 \| tuned \|", printed)
    assert re.search(r"\| 1 \| float32 \| naive \|", printed)


@pytest.mark.slow
def test_pipelines_are_measured_beside_a_training_step() -> None:
    printed = python("input_pipeline.py", "--rounds", "1", "--images", "700", seconds=300)
    assert "| a training step |" in printed
    assert re.search(r"waits for streamed images during \d+% of an epoch", printed)


@pytest.mark.slow
def test_growth_is_measured_in_small() -> None:
    printed = python("scale.py", "--rounds", "1", "--most", "100", seconds=300)
    (memory,) = re.findall(r"`diagnose` of 100 runs.*\| (\d+) \| [\d.e+]+ \|", printed)
    assert int(memory) < 200  # MiB: torch alone takes more, and diagnose does without


@pytest.mark.slow
def test_without_a_gpu_the_script_says_so() -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    assert "no GPU here" in python("gpu.py")
