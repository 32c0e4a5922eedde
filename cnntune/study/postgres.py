"""A PostgreSQL server that several machines share: the study's lock, and who is alive.

All that a coordinator writes goes through one connection, and that connection holds the study's
lock. Where it breaks, the lock is lost together with what was to be written under it, never one
without the other. Who is alive follows from heartbeats, in a table of ours beside Optuna's, on the
server's clock.
"""

import importlib.util
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import optuna
from optuna.exceptions import OptunaError
from sqlalchemy import URL, Engine, create_engine, event, make_url, text
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import ArgumentError, InterfaceError, OperationalError, SQLAlchemyError

from cnntune.errors import DeviceError, StudyError
from cnntune.runs.study import without_password
from cnntune.seeds import derive_seed

SCHEMES = ("postgresql", "postgresql+psycopg")
DRIVER = "postgresql+psycopg"
MIN_SERVER_VERSION = 14  # the first with idle_session_timeout
HEARTBEAT_SECONDS = 10.0  # as Kubernetes' nodes (leases, renewed every 10 s)
GRACE_SECONDS = 60.0  # without a heartbeat a machine counts as dead; Kubernetes waits 50
MAX_RETRY_SECONDS = 1800.0  # without a server: longer than restarts and upgrades take
PAUSES_SECONDS = (0.1, 5.0)  # the first between two attempts, and the longest
FORGET_AFTER = "1 day"  # heartbeats of machines that were killed
CONNECT_SECONDS = 10
SILENCE_MS = 30_000  # until a connection over which nothing is acknowledged counts as broken

# libpq's parameters: without them a connection to a machine without power hangs for hours
CONNECTION: Mapping[str, Any] = {
    "connect_timeout": CONNECT_SECONDS,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 4,
    "tcp_user_timeout": SILENCE_MS,
    "application_name": "cnntune",
}

TABLE = """
CREATE TABLE IF NOT EXISTS cnntune_coordinators
(owner text PRIMARY KEY, since timestamptz NOT NULL, beat timestamptz NOT NULL)
"""
FORGET = f"DELETE FROM cnntune_coordinators WHERE beat < now() - interval '{FORGET_AFTER}'"
# `since` restarts after a gap: a coordinator that was cut off, or whose server was restarted, does
# not judge others by heartbeats that they could not send either.
HEARTBEAT = """
INSERT INTO cnntune_coordinators AS c VALUES (:owner, now(), now())
ON CONFLICT (owner) DO UPDATE SET beat = now(), since = CASE
WHEN c.beat < now() - make_interval(secs => :gap) THEN now() ELSE c.since END
"""
LEAVE = "DELETE FROM cnntune_coordinators WHERE owner = :owner"
ALIVE = """
SELECT owner FROM cnntune_coordinators
WHERE beat > now() - make_interval(secs => :grace)
OR NOT EXISTS (SELECT FROM cnntune_coordinators
               WHERE owner = :owner AND since < now() - make_interval(secs => :grace))
"""
# A coordinator that is frozen while it holds the lock must not stop all the others.
LOCK = """
SELECT set_config('idle_session_timeout', :limit, false),
       set_config('idle_in_transaction_session_timeout', :limit, false), pg_advisory_lock(:key)
"""
UNLOCK = "SELECT set_config('idle_session_timeout', '0', false), pg_advisory_unlock(:key)"

Result = TypeVar("Result")


class ServerLostError(Exception):
    """The connection broke, or there is none: what was under way may be done again from its start.

    No SQLAlchemyError, since Optuna tries those again by itself, then without our lock.
    """


class Server:
    """The connections of one coordinator to one study on a server. Use it in a `with` block."""

    def __init__(self, url: URL, study: str, say: Callable[[str], None]) -> None:
        shown = url.set(drivername=SCHEMES[0]).render_as_string(hide_password=True)
        self.name = without_password(shown)  # one in the query too
        self.study = study
        self.owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(3)}"
        self._say = say
        self._key = derive_seed("cnntune", study)
        # Two connections per coordinator: the one that holds the lock, and one for heartbeats.
        self._heartbeat_engine = _engine(url)
        self.storage = self._make_tables(url)
        self._left = threading.Event()
        self._heartbeats = threading.Thread(target=self._heartbeat_until_left, daemon=True)

    def _make_tables(self, url: URL) -> optuna.storages.RDBStorage:
        """Optuna's tables and ours, where they are missing; one machine at a time makes them."""
        address = url.render_as_string(hide_password=False)
        try:
            with self._heartbeat_engine.begin() as connection:
                version = connection.dialect.server_version_info or (0,)
                if int(version[0]) < MIN_SERVER_VERSION:
                    raise RuntimeError(f"needs PostgreSQL {MIN_SERVER_VERSION} (got {version[0]})")
                key = derive_seed("cnntune tables")
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})
                connection.execute(text(TABLE))
                connection.execute(text(FORGET))
                storage = optuna.storages.RDBStorage(address, engine_kwargs=_engine_options())
        # RuntimeError is Optuna's, too: the tables are those of another version.
        except (ServerLostError, SQLAlchemyError, OptunaError, RuntimeError) as error:
            self._heartbeat_engine.dispose()
            raise StudyError(f"--storage {self.name}: {_first_line(error)}") from None
        event.listen(storage.engine, "handle_error", _tell_lost_connections)
        return storage

    def __enter__(self) -> "Server":
        self.with_retries(self.heartbeat)
        self._heartbeats.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Leave, so that the others may resume at once what is unfinished here."""
        self._left.set()
        self._heartbeats.join(CONNECT_SECONDS)
        with suppress(ServerLostError):
            _execute(self._heartbeat_engine, LEAVE, owner=self.owner)
        self.storage.engine.dispose()
        self._heartbeat_engine.dispose()

    def heartbeat(self) -> None:
        """Record that we are alive; for all trials at once, however many workers there are."""
        _execute(self._heartbeat_engine, HEARTBEAT, owner=self.owner, gap=GRACE_SECONDS / 2)

    def _heartbeat_until_left(self) -> None:
        while not self._left.wait(HEARTBEAT_SECONDS):
            # The coordinator runs into the same problem with the server, and reports it.
            with suppress(ServerLostError, SQLAlchemyError):
                self.heartbeat()

    def alive(self) -> set[str]:
        """The owners with a heartbeat within the grace period.

        All of them while we ourselves have not had heartbeats for that long: at first, and after
        the server was away.
        """
        with self.storage.engine.begin() as connection:
            rows = connection.execute(text(ALIVE), {"owner": self.owner, "grace": GRACE_SECONDS})
            return {row[0] for row in rows}

    @contextmanager
    def study_lock(self) -> Iterator[None]:
        """Hold the study's lock: no other coordinator decides anything meanwhile."""
        limit = str(int(GRACE_SECONDS * 1000))
        _execute(self.storage.engine, LOCK, key=self._key, limit=limit)
        try:
            yield
        finally:
            with suppress(ServerLostError):  # the lock went with the connection
                _execute(self.storage.engine, UNLOCK, key=self._key)

    def with_retries(self, action: Callable[[], Result]) -> Result:
        """The result of `action`, which is called again where the connection broke.

        Raises:
            StudyError: where the server stays unreachable.
        """
        lost = time.monotonic()
        minutes = f"{MAX_RETRY_SECONDS / 60:.0f} minutes"
        pause = 0.0
        while True:
            try:
                answer = action()
            except ServerLostError as error:
                if not pause:
                    self._say(
                        f"{self.name}: {error}; retrying for {minutes} while training continues"
                    )
                if time.monotonic() - lost > MAX_RETRY_SECONDS:
                    raise StudyError(
                        f"{self.name}: {error}, for {minutes}; no results were lost; run the same"
                        " command to resume"
                    ) from None
                pause = min(2 * pause, PAUSES_SECONDS[1]) or PAUSES_SECONDS[0]
                time.sleep(pause)
            except (SQLAlchemyError, OptunaError) as error:
                raise StudyError(f"{self.name}: {_first_line(error)}") from None
            else:
                if pause:
                    self._say(f"{self.name} is back after {time.monotonic() - lost:.0f} s")
                return answer


def connect(storage: str, study: str, say: Callable[[str], None]) -> Server:
    """The server that `--storage` names; `say` takes lines about lost and restored connections.

    Raises:
        DeviceError: where the driver is not installed.
        StudyError: where the address cannot be used, or no server answers there.
    """
    try:
        url = make_url(storage)
    except (ArgumentError, ValueError):
        url = None
    if url is None or url.drivername not in SCHEMES:
        raise StudyError(
            "--storage: must be postgresql://user:password@host/database"
            f" (got {without_password(storage)!r})"
        )
    if importlib.util.find_spec("psycopg") is None:
        raise DeviceError("--storage: needs the driver psycopg: pip install 'cnntune[postgres]'")
    return Server(url.set(drivername=DRIVER), study, say)


def _engine_options() -> dict[str, Any]:
    """One connection; Optuna takes a second one for a moment, to check its tables."""
    return {"pool_size": 1, "max_overflow": 1, "connect_args": dict(CONNECTION)}


def _engine(url: URL) -> Engine:
    engine = create_engine(url, **_engine_options())
    event.listen(engine, "handle_error", _tell_lost_connections)
    return engine


def _tell_lost_connections(context: ExceptionContext) -> None:
    """Raise our own exception for whatever a later attempt may fix."""
    lost = isinstance(context.sqlalchemy_exception, OperationalError | InterfaceError)
    if lost or context.is_disconnect:
        raise ServerLostError(_first_line(context.original_exception))


def _execute(engine: Engine, statement: str, **values: Any) -> None:
    with engine.begin() as connection:
        connection.execute(text(statement), values)


def _first_line(error: BaseException) -> str:
    """What went wrong, on one line, without the statement and without what libpq puts before."""
    cause = error.__cause__ if isinstance(error, OptunaError) else error
    cause = getattr(cause, "orig", None) or cause
    line = (str(cause).strip().splitlines() or [type(cause).__name__])[0]
    return re.sub(r"^(connection failed: |consuming input failed: )+", "", line)
