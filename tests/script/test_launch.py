"""`sanity -- COMMAND` as a user types it: how the command is started, stopped, and left."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands import call
from scripts import PACKAGE, SCRIPTS, sanity

PLAIN = str(SCRIPTS / "sound" / "plain.py")
SMALL = """import torch
torch.set_num_threads(1)
torch.manual_seed(0)
w = torch.nn.Linear(4, 2)
o = torch.optim.SGD(w.parameters(), lr=0.1)
for i in range({steps}):
    x = torch.randn(8, 4)
    o.zero_grad()
    loss = torch.nn.functional.cross_entropy(w(x), (x[:, 0] > 0).long())
    loss.backward()
    o.step()
    print(repr(loss.item()), flush=True)
"""


def written(folder: Path, text: str) -> str:
    path = folder / "own.py"
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.slow
def test_the_numbers_of_an_observed_script_are_those_of_the_script_alone() -> None:
    alone = subprocess.run(
        [sys.executable, PLAIN],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(SCRIPTS), "OMP_NUM_THREADS": "1"},
    ).stdout.splitlines()
    seen = sanity(sys.executable, PLAIN, options=("--full",))
    assert seen.returncode == 0
    assert seen.stderr.splitlines()[-len(alone) :] == alone
    document = json.loads(seen.stdout)
    assert document["script"]["steps"] == 144
    assert document["script"]["stopped"] == "ended"
    assert document["script"]["framework"] == "plain"


@pytest.mark.slow
def test_it_stops_after_so_many_steps_whatever_the_script_catches(tmp_path: Path) -> None:
    loop = SMALL.format(steps=100_000).replace("\n", "\n    ")
    text = f"try:\n    {loop}\nexcept BaseException:\n    print('caught')\n"
    text += "finally:\n    print('finally')\n"
    run = sanity(sys.executable, written(tmp_path, text), options=("--steps", "7"))
    document = json.loads(run.stdout)
    assert (run.returncode, document["script"]["stopped"]) == (0, "steps")
    assert document["script"]["steps"] == 35  # 5 times as many: quick, and it never validates
    assert "caught" not in run.stderr
    assert "finally" not in run.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ((sys.executable, "-I", "-c", "import torch"), "isolated mode"),
        ((sys.executable, "-c", "print('nothing')"), "torch was not imported"),
        ((sys.executable, "-c", "import torch"), "no optimizer stepped"),
        (("sh", "-c", "true"), "no Python was observed"),
        (("no-such-command",), "cannot be started"),
    ],
)
def test_where_nothing_was_seen_it_says_why(words: tuple[str, ...], reason: str) -> None:
    run = sanity(*words)
    assert run.returncode == 2
    assert any(reason in line for line in json.loads(run.stdout)["errors"])
    assert "Traceback" not in run.stderr


@pytest.mark.slow
def test_a_crash_before_the_first_step_shows_the_users_lines_and_the_error() -> None:
    code = "import torch\nfor i in range(50): print('line', i)\nraise ValueError('no such data')"
    run = sanity(sys.executable, "-c", code)
    lines = json.loads(run.stdout)["errors"]
    assert run.returncode == 2
    assert "exit code 1 before the first step" in lines[0]
    assert lines[1:] == ["<string>:3", "ValueError: no such data"]


@pytest.mark.slow
def test_a_label_that_has_no_output_is_advised_on() -> None:
    code = "import torch\n"
    code += "torch.nn.functional.cross_entropy(torch.zeros(1, 10), torch.tensor([10]))"
    lines = json.loads(sanity(sys.executable, "-c", code).stdout)["errors"]
    assert lines[-2] == "IndexError: Target 10 is out of bounds."
    assert lines[-1].endswith("if they run from 1, subtract 1")


@pytest.mark.slow
def test_a_crash_after_some_steps_is_a_finding(tmp_path: Path) -> None:
    run = sanity(
        sys.executable, written(tmp_path, SMALL.format(steps=5) + "raise KeyError('late')")
    )
    found = {f["rule"]: f for f in json.loads(run.stdout)["findings"]}
    assert run.returncode == 1
    assert "KeyError: 'late'" in found["exit-code"]["evidence"]


@pytest.mark.slow
def test_binary_output_and_a_script_that_forks_do_no_harm(tmp_path: Path) -> None:
    text = "import os, sys\nsys.stdout.buffer.write(bytes(range(256)) + b'\\n')\n"
    text += SMALL.format(steps=12) + "if os.fork() == 0:\n    os._exit(0)\nos.wait()\n"
    assert sanity(sys.executable, written(tmp_path, text)).returncode == 0


@pytest.mark.slow
def test_checkpoints_are_read_back_and_not_left_behind(tmp_path: Path) -> None:
    text = SMALL.format(steps=12)
    text += "torch.save(w.state_dict(), 'best.pt')\nw.load_state_dict(torch.load('best.pt'))\n"
    text += "from torch.utils.tensorboard import SummaryWriter\nSummaryWriter('events').close()\n"
    path = written(tmp_path, text)
    run = subprocess.run(
        [sys.executable, "-m", "cnntune", "sanity", "--", sys.executable, path],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(PACKAGE), "OMP_NUM_THREADS": "1"},
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "no checkpoint was written" in run.stdout
    assert [p.name for p in tmp_path.iterdir()] == ["own.py"]


@pytest.mark.slow
def test_the_hidden_sitecustomize_is_run_too(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.hidden = True\n")
    path = written(tmp_path, "import sys\nassert sys.hidden\n" + SMALL.format(steps=12))
    paths = os.pathsep.join([str(tmp_path), str(PACKAGE)])
    assert sanity(sys.executable, path, PYTHONPATH=paths).returncode == 0


@pytest.mark.slow
def test_all_ranks_of_torchrun_end_and_the_first_is_judged() -> None:
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2")
    run = sanity(*torchrun, "--master-port", "29641", str(SCRIPTS / "two_ranks.py"))
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["script"]["steps"] >= 100
    assert processes_with("two_ranks.py") == []


@pytest.mark.slow
def test_the_time_limit_ends_a_script_that_hangs_with_its_children(tmp_path: Path) -> None:
    text = "import subprocess, sys, time\nsubprocess.Popen([sys.executable, '-c',"
    text += " 'import time; time.sleep(600) # hanging-child'], start_new_session=True)\n"
    path = written(tmp_path, text + "time.sleep(600)\n")
    run = sanity(sys.executable, path, options=("--timeout", "1s"))
    assert run.returncode == 2
    assert "--timeout" in json.loads(run.stdout)["errors"][0]
    assert processes_with("hanging-child") == []


@pytest.mark.slow
def test_a_script_whose_network_runs_and_does_not_train_in_time_says_so(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "import torch\nmodel = torch.nn.Linear(2, 2)\nwhile True:\n    model(torch.ones(1, 2))\n",
    )
    run = sanity(sys.executable, path, options=("--timeout", "8s"))
    assert run.returncode == 2
    assert "--timeout" in json.loads(run.stdout)["errors"][0]


def test_a_rule_of_scripts_that_is_misspelt_gets_a_suggestion(tmp_path: Path) -> None:
    misspelt = call("sanity", "--explain", "missing-zero-gard", cwd=tmp_path)
    assert misspelt.code == 2
    assert "missing-zero-grad" in misspelt.err


@pytest.mark.slow
def test_ctrl_c_leaves_nothing_and_ends_with_130(tmp_path: Path) -> None:
    path = written(tmp_path, SMALL.format(steps=10_000_000))
    command = [sys.executable, "-m", "cnntune", "sanity", "--full", "--", sys.executable, path]
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    ) as run:
        assert run.stderr is not None
        for _ in range(5):
            run.stderr.readline()  # it trains
        run.send_signal(2)
        run.communicate(timeout=60)
    assert run.returncode == 130
    assert processes_with(path) == []


def processes_with(word: str) -> list[int]:
    """Living processes with a word in their command line, half a second later at most."""
    found: list[int] = []
    for _ in range(5):
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                line = path.read_bytes()
            except OSError:
                continue
            if word.encode() in line and path.parent.name != str(os.getpid()):
                found.append(int(path.parent.name))
        if not found:
            break
        time.sleep(0.1)
    return found


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("--",), "must be followed by a command"),
        (("digits", "--", "true"), "digits: a recipe and a command cannot be combined"),
        (("digits", "more"), "more: a command is typed after --"),
        (("--seed", "1", "--", "true"), "are for recipes"),
    ],
)
def test_what_cannot_be_meant_is_one_line(words: tuple[str, ...], problem: str) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "cnntune", "sanity", *words],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(PACKAGE)},
    )
    assert run.returncode == 2
    assert len(run.stderr.splitlines()) == 1
    assert problem in run.stderr
