"""A PostgreSQL server of the tests' own: made in a moment, on a free port, gone afterwards."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

DEBIAN = Path("/usr/lib/postgresql")  # its packages leave the server's programs off the PATH
USER, PASSWORD = "tester", "secret"
UNPRIVILEGED = "postgres"  # PostgreSQL refuses to run as root


@dataclass(frozen=True)
class Postgres:
    """A server that runs; everybody is let in."""

    folder: Path
    port: int

    def database(self) -> str:
        """The address of a new, empty database."""
        import psycopg

        name = f"cnntune_{uuid4().hex[:8]}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return self.url(name)

    def url(self, database: str) -> str:
        """The address as `--storage` takes it."""
        return f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def control(self, *words: str) -> None:
        """`pg_ctl`: start, stop or restart, and wait until it is done."""
        command = [program("pg_ctl"), "-D", self.folder / "data", "-w", "-l", self.folder / "log"]
        _run(*command, *words)

    @property
    def options(self) -> str:
        """Those of the server; what a crash of the machine would lose is not asked here."""
        return f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1 -c fsync=off"


@contextmanager
def running() -> Iterator[Postgres]:
    """A server as long as the block lasts; where none can be had, the test is skipped."""
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    if program("initdb") is None:
        pytest.skip("PostgreSQL is not installed")
    # Not in tmp_path: another user may not enter it, and a socket's name must be short.
    with tempfile.TemporaryDirectory(prefix="pg-", dir="/tmp", ignore_cleanup_errors=True) as place:
        folder = Path(place)
        if os.geteuid() == 0:
            try:
                shutil.chown(folder, UNPRIVILEGED)
            except LookupError:
                pytest.skip(f"root may not run PostgreSQL, and there is no user {UNPRIVILEGED}")
        _run(program("initdb"), "-D", folder / "data", "-U", USER, "-A", "trust", "--no-sync")
        server = Postgres(folder, _free_port())
        server.control("-o", server.options, "start")
        try:
            yield server
        finally:
            server.control("-m", "immediate", "stop")


def program(name: str) -> str | None:
    """A program of the server, the newest where there are several."""
    installed = sorted(DEBIAN.glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    return str(installed[-1]) if installed else shutil.which(name)


def _run(*command: object) -> None:
    other = UNPRIVILEGED if os.geteuid() == 0 else None
    # The output is not captured: the server would inherit the pipe, whose end would never come.
    subprocess.run(
        [str(word) for word in command],
        check=True,
        cwd="/",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        user=other,
        group=other,
        extra_groups=[] if other else None,
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
