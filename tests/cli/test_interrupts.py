"""Ctrl-C ends a command wherever Python happens to be."""

import subprocess
import sys

import pytest

IN_A_FINALIZER = """
import os, signal, time
from cnntune.cli import interrupts

class Freed:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0)  # the handler runs before the next line of Python

interrupts.catch()
try:
    Freed()
    time.sleep(60)
except KeyboardInterrupt:
    print("stopped")
"""
AT_THE_END = """
import os, signal
from cnntune.cli import interrupts

interrupts.catch()
interrupts.ignore()
os.kill(os.getpid(), signal.{name})
print("ended")
"""


def ended(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False
    )


def test_an_interrupt_that_python_drops_in_a_finalizer_ends_the_command_all_the_same() -> None:
    process = ended(IN_A_FINALIZER)
    assert (process.stdout, process.stderr) == ("stopped\n", "")


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_an_interrupt_after_the_result_does_not_change_the_exit_code(name: str) -> None:
    process = ended(AT_THE_END.format(name=name))
    assert (process.returncode, process.stdout, process.stderr) == (0, "ended\n", "")


def test_what_else_is_raised_in_a_finalizer_is_still_reported() -> None:
    process = ended(
        "from cnntune.cli import interrupts\n"
        "class Freed:\n"
        "    def __del__(self):\n"
        "        raise ValueError('a bug')\n"
        "interrupts.catch()\n"
        "Freed()\n"
    )
    assert "ValueError: a bug" in process.stderr
    assert process.stdout == ""
