"""What a function does in a process of its own, and how that process ends."""

import os
import signal
import subprocess
import sys
from multiprocessing import Pipe
from pathlib import Path

import pytest

from cnntune.errors import RecipeError, StudyError
from cnntune.machine.clock import Deadline, OutOfTimeError
from cnntune.workers.processes import COORDINATOR, answer, call, follow, relay


def test_a_function_is_called_in_another_process() -> None:
    assert call("math:hypot", 3.0, 4.0) == 5.0
    assert call("os:getpid") != os.getpid()


def test_an_error_that_a_user_can_mend_arrives_as_it_is() -> None:
    with pytest.raises(RecipeError, match=r"nowhere\.toml"):
        call("cnntune.config.files:find", "nowhere.toml")


def test_another_error_arrives_with_its_traceback() -> None:
    with pytest.raises(RuntimeError, match=r"Traceback(.|\n)*ValueError"):
        call("math:sqrt", -1.0)


def test_a_process_that_is_killed_is_said_to_have_died() -> None:
    with pytest.raises(StudyError, match=r"os:_exit died \(exit 7\)"):
        call("os:_exit", 7)


def test_a_result_that_nobody_waits_for_any_more_is_no_error() -> None:
    for run, function, arguments in (
        (answer, "math:hypot", (3.0, 4.0)),
        (answer, "math:sqrt", (-1.0,)),
        (relay, "itertools:repeat", (1,)),
    ):
        here, there = Pipe()
        here.close()
        run(there, function, arguments)  # raises nothing, and ends


STARTS = """
import os, signal, sys
from multiprocessing import forkserver
from cnntune.workers import processes
begin = forkserver.ensure_running

def disturbed():
    {before}
    begin()
    {after}

forkserver.ensure_running = disturbed
try:
    processes.prepare()
    print("went on")
except KeyboardInterrupt:
    print("interrupted")
except processes.StudyError as error:
    print(error)
"""


def started(before: str = "pass", after: str = "pass") -> str:
    """What a process prints in which something happens while the server starts."""
    code = STARTS.format(before=before, after=after)
    words = [sys.executable, "-c", code]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


def test_ctrl_c_while_the_server_starts_is_not_lost() -> None:
    assert started(before="os.kill(os.getpid(), signal.SIGINT)") == "interrupted"
    assert started(after="os.kill(os.getpid(), signal.SIGINT)") == "interrupted"


def test_workers_leave_ctrl_c_to_the_coordinator_and_block_nothing() -> None:
    assert call("signal:getsignal", signal.SIGINT) == signal.SIG_IGN
    assert call("signal:pthread_sigmask", signal.SIG_BLOCK, ()) == set()


@pytest.mark.parametrize("error", ["EOFError", "BrokenPipeError(32, 'Broken pipe')"])
def test_a_server_that_is_killed_while_it_starts_is_a_line(error: str) -> None:
    said = started(after=f"raise {error}")
    assert said.startswith("a worker process could not be started")
    assert said.endswith("no results were lost")


def test_a_server_whose_coordinator_died_before_its_first_look_ends() -> None:
    other = str(os.getppid())  # not the parent of the server
    server = subprocess.run(
        [sys.executable, "-c", "import cnntune.workers.preload"],
        env={**os.environ, COORDINATOR: other},
        check=False,
    )
    assert server.returncode == 1  # while torch is imported


def test_what_an_iterator_yields_arrives_from_another_process_value_by_value() -> None:
    assert list(follow("builtins:range", 3)) == [0, 1, 2]
    with pytest.raises(RuntimeError, match=r"Traceback(.|\n)*ValueError"):
        list(follow("math:sqrt", -1.0))


def test_an_iterator_is_ended_at_its_deadline_though_it_had_more_to_yield() -> None:
    endless = follow("itertools:repeat", "news", deadline=Deadline.after(0.5))
    with pytest.raises(OutOfTimeError):
        list(endless)


TALK = """
def talk(pipe):
    pipe.send("here")
    while True:
        pipe.send("x" * 100_000)  # waits until it is read, or until nobody will
"""
DIE = """
import os
from cnntune.workers.processes import start
if __name__ == "__main__":  # workers import this file too
    workers = [start("own_talk:talk") for _ in range(5)]
    for _, pipe in workers:
        pipe.recv()
    os._exit(0)  # as after SIGKILL: nothing is closed in order
"""


@pytest.mark.slow
def test_workers_that_speak_to_a_killed_coordinator_end_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "own_talk.py").write_text(TALK)
    (tmp_path / "die.py").write_text(DIE)
    package = str(Path(__file__).parents[2])
    ended = subprocess.run(
        [sys.executable, "die.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{package}:{tmp_path}"},
        stderr=subprocess.PIPE,  # until the last worker has ended
        text=True,
        check=True,
    )
    assert ended.stderr == ""
