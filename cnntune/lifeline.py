"""How a worker process begins and ends: it listens for its coordinator's end before all else."""

import importlib
import os
import threading
from multiprocessing import connection, parent_process
from multiprocessing.connection import Connection


def live(module: str, pipe: Connection, device: str) -> None:
    """Run `serve(pipe, device)` of a module, and end with the coordinator, however it ends.

    The module comes as a name: it imports torch, which takes seconds, and a worker whose
    coordinator is killed meanwhile must not stay behind.
    """
    threading.Thread(target=_die_with_parent, daemon=True).start()
    importlib.import_module(module).serve(pipe, device)


def _die_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
