"""The command line: parse, call a step, store its result, draw it, choose the exit code.

It must not know how anything is computed.

Heavy libraries are imported inside the commands that need them, so that `--help` and `diagnose`
start at once.

Exit codes: 0 fine; 1 a finding of severity `fail`; 2 could not run; 3 a bug in cnntune; 130 Ctrl-C
or SIGTERM; 141 nobody reads the result any more.
"""

import errno
import gc
import os
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Annotated, Any, NoReturn

import typer
from typer.exceptions import TyperException

from cnntune import __version__
from cnntune.cli import interrupts
from cnntune.cli.command import Command, Typed, running
from cnntune.cli.diagnose import diagnose
from cnntune.cli.init import init
from cnntune.cli.inspect import inspect
from cnntune.cli.lr_sweep import lr_sweep
from cnntune.cli.refine import refine
from cnntune.cli.report import report
from cnntune.cli.sanity import sanity
from cnntune.cli.screen import Screen
from cnntune.cli.script import refused_command
from cnntune.cli.search import search
from cnntune.cli.train import train
from cnntune.cli.tune import tune
from cnntune.user_code.borders import explained

STOPPED = 130  # the exit code after Ctrl-C, by convention 128 and the number of SIGINT
READER_GONE = 141  # by convention 128 and the number of SIGPIPE: `cnntune diagnose runs | head -1`
REFUSALS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG)
RESUMABLE = ("search", "refine", "tune", "train")

NO_RUNS: Mapping[str, Any] = {"runs": [], "skipped": []}  # `diagnose` where nothing can be judged
NOTHING_FOUND: Mapping[str, Any] = {}

app = typer.Typer(
    name="cnntune",
    help="Find out why a CNN does not train, and tune one that does (CS231n, training CNNs).",
    epilog="A usual session: sanity, lr-sweep, search --budget 50, refine, diagnose runs/, train;"
    " or tune, which does all of it.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for verb in (init, inspect, sanity, lr_sweep, search, refine, diagnose, report, tune, train):
    app.command()(verb)


def version(wanted: bool) -> None:
    """Print the version and leave."""
    if wanted:
        print(f"cnntune {__version__}")
        raise typer.Exit()


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Find out why a CNN does not train, and tune one that does (CS231n, training CNNs)."""


def main() -> NoReturn:
    """Run the command line; a problem is one line, a bug is a traceback."""
    _open_streams()
    interrupts.catch()
    running.set(None)
    typed = Typed.of(sys.argv[1:])
    errors: list[str] = []
    found = NOTHING_FOUND
    try:
        code = _run()
        interrupts.ignore()
        if code == STOPPED:
            _say_stopped(typed)
    except KeyboardInterrupt:  # before typer or after it, which makes an exit code of others
        interrupts.ignore()
        code = STOPPED
        _say_stopped(typed)
    except BrokenPipeError:
        _silence()
        code = READER_GONE
    except TyperException as error:  # a wrong option or argument
        code, errors = 2, [refused_command(sys.argv[1:]) or error.format_message()]
    except (Exception, SystemExit) as error:
        known = explained(error)
        refused = None if known else _refused(error)
        if known or refused:
            code, errors = 2, known.lines if known else [str(refused)]
            found = known.document if known else found
        elif interrupts.came():  # a library that is interrupted in its import raises what it likes
            code = STOPPED
            _say_stopped(typed)
        else:
            code, errors = 3, traceback.format_exception_only(error)
            with _perhaps_unread():
                traceback.print_exc()
                print("this is a bug in cnntune", file=sys.stderr)
    if code == 2:
        _say_problems(errors, typed, found)
    if command := running.get():
        command.end_log(code, errors)
    interrupts.ignore()
    sys.exit(code)


def _run() -> int:
    """Run the command that was typed and flush its result; returns the exit code."""
    out = sys.stdout
    try:
        code: int = app(standalone_mode=False) or 0
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):  # typer makes an exit code 1 of it
            raise end.__context__ from None
        raise  # of user code: commands of ours end by typer.Exit
    finally:
        sys.stdout = out
    sys.stdout.flush()  # here, for at exit a reader that went away would be a traceback
    if "torch" not in sys.modules:  # its libraries report what is not freed
        gc.freeze()  # collecting all that a search imports at exit takes 0.3 s
    return code


def _open_streams() -> None:
    """Discard what is written to stdout or stderr where the caller closed them.

    Otherwise the next file that is opened would get its number, and receive what libraries write.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "r" if name == "stdin" else "w", closefd=False))


@contextmanager
def _perhaps_unread() -> Iterator[None]:
    """Print on the way out, whether or not somebody reads it: the exit code stays what it is."""
    try:
        yield
        sys.stdout.flush()
    except OSError:  # no reader, or no space
        _silence()


def _silence() -> None:
    """What is left in stdout and stderr goes nowhere; at exit it would be an error once more."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in filter(None, (sys.__stdout__, sys.__stderr__)):
        try:
            stream.flush()
        except OSError:
            os.dup2(nowhere, stream.fileno())


def _say_stopped(typed: Typed) -> None:
    again = "; run the same command again to resume" if typed.verb in RESUMABLE else ""
    with suppress(OSError), _perhaps_unread():  # the terminal may be what went away
        print(f"interrupted{again}", file=sys.stderr)


def _refused(error: BaseException) -> str | None:
    """The file that the system does not let us read or write, where the error names one."""
    if isinstance(error, OSError) and error.errno in REFUSALS and error.filename:
        return f"{error.filename}: {error.strerror}"
    return None


def _say_problems(
    lines: Sequence[str], typed: Typed, found: Mapping[str, Any] = NOTHING_FOUND
) -> None:
    """One line per problem on stderr, and a document on stdout if one was asked for.

    `found` holds keys of the document that say what was found all the same.
    """
    with _perhaps_unread():
        for line in lines:
            print(line, file=sys.stderr)
    if typed.json:
        with _perhaps_unread():
            command = Command(typed.verb, json=True, screen=Screen(quiet=True))
            keys = {**NO_RUNS, **found} if typed.verb == "diagnose" else found
            command.print(command.document([], None, errors=lines, **keys) | {"ok": False})
