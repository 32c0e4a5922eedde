"""What a function does in a process of its own, and how that process ends."""

import os
import subprocess
import sys

import pytest

from cnntune.clock import Deadline, OutOfTimeError
from cnntune.errors import RecipeError, StudyError
from cnntune.lifeline import COORDINATOR, call, follow


def test_a_function_is_called_in_another_process() -> None:
    assert call("math:hypot", 3.0, 4.0) == 5.0
    assert call("os:getpid") != os.getpid()


def test_an_error_that_a_user_can_mend_arrives_as_it_is() -> None:
    with pytest.raises(RecipeError, match=r"nowhere\.toml"):
        call("cnntune.recipe_files:find", "nowhere.toml")


def test_another_error_arrives_with_its_traceback() -> None:
    with pytest.raises(RuntimeError, match=r"Traceback(.|\n)*ValueError"):
        call("math:sqrt", -1.0)


def test_a_process_that_is_killed_is_said_to_have_died() -> None:
    with pytest.raises(StudyError, match=r"os:_exit died \(exit 7\)"):
        call("os:_exit", 7)


def test_a_server_whose_coordinator_died_before_its_first_look_ends() -> None:
    other = str(os.getppid())  # not the parent of the server
    server = subprocess.run(
        [sys.executable, "-c", "import cnntune.preload"],
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
