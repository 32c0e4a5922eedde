"""When a script was seen enough, what is written then, and how it ends."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

from .kept import experiments
from .models import alike, follows
from .seen import MAX_EVENTS, SEEN

FORMAT = 1
MANY_STAGES = 5  # times the steps that are wanted, where each stage has a network of its own
CHEAP_SECONDS = 8.0
VALIDATIONS = 2  # to see what differs between two of them
SNAPSHOT_SECONDS = 5.0  # between two writes of the record, for a process that is killed


def perhaps_stop() -> None:
    """Stop where enough was seen, or the time is over."""
    if SEEN.inside or SEEN.done or os.getpid() != SEEN.pid:
        return
    now = time.time()
    if now > SEEN.deadline:
        leave("time")
    if now - SEEN.written > SNAPSHOT_SECONDS:
        write("running")
    if SEEN.full:
        return
    wanted = SEEN.steps_wanted
    if SEEN.cut_from is None:
        recent = list(SEEN.stepped.values())[-2:]
        many = recent and max(recent) >= wanted and min(recent) >= wanted // 10
        if many or SEEN.steps >= MANY_STAGES * wanted:
            SEEN.cut_from = SEEN.steps
            SEEN.event("cut")
            if SEEN.validations >= VALIDATIONS:
                leave("steps")
    elif SEEN.validations >= VALIDATIONS:
        leave("validations")
    elif SEEN.steps >= min(2 * SEEN.cut_from, SEEN.cut_from + wanted):
        # A further stage, such as a student's after its teacher's, is waited for where it is cheap.
        if now - SEEN.stepped_first > CHEAP_SECONDS or SEEN.steps >= MANY_STAGES * wanted:
            leave("steps")


def record(reason: str) -> dict[str, Any]:
    """All that was seen, as plain values."""
    for reference in SEEN.roots.values():
        module = reference()
        for name, parameter in module.named_parameters() if module is not None else ():
            entry = SEEN.parameters.get(SEEN.numbers.of(parameter))
            if entry is not None and len(name) >= len(entry["name"]):
                entry["name"] = name
        if module is not None:
            known = SEEN.models[SEEN.numbers.of(module)]
            known["alike"] = alike(module)
            now = {SEEN.numbers.of(parameter): parameter for parameter in module.parameters()}
            for one in known["frozen"]:
                one[3] = one[3] and not (one[0] in now and follows(one, now[one[0]]))
    torch = sys.modules.get("torch")
    return {
        "format": FORMAT,
        "reason": reason,
        "pid": SEEN.pid,
        "rank": int(os.environ.get("RANK") or 0),
        "python": sys.version.split()[0],
        "torch": str(getattr(torch, "__version__", "")),
        "framework": SEEN.framework,
        "seconds": time.time() - SEEN.started,
        "steps": max(SEEN.stepped.values(), default=0),
        "cut_from": SEEN.cut_from if SEEN.cuts else None,
        "moved": SEEN.moved,
        "full": len(SEEN.events) >= MAX_EVENTS,
        "events": SEEN.events,
        "optimizers": {
            str(known.number): {"class": known.name, "at": known.at, "steps": known.steps}
            for known in SEEN.optimizers.values()
        },
        "models": {str(number): entry for number, entry in SEEN.models.items()},
        "parameters": {str(number): entry for number, entry in SEEN.parameters.items()},
        "leaf_sets": SEEN.leaf_sets,
        "counts": SEEN.counts,
        "errors": SEEN.errors,
        "experiments": SEEN.experiments,
    }


def write(reason: str) -> None:
    """Write the record, whole or not at all."""
    inside, SEEN.inside = SEEN.inside, True
    try:
        SEEN.written = time.time()
        path = os.path.join(SEEN.folder, f"record-{SEEN.pid}.json")
        with open(path + ".new", "w", encoding="utf-8") as file:
            json.dump(record(reason), file, default=str)
        os.replace(path + ".new", path)
    except Exception as error:
        sys.stderr.write(f"cnntune: cannot write what was seen: {error!r}\n")
    finally:
        SEEN.inside = inside


def leave(reason: str) -> None:
    """End the process here: nothing that the script catches or does at its end."""
    if reason != "time":
        experiment()
    write(reason)
    SEEN.done = True
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # closed, or nobody reads it
            continue
    multiprocessing = sys.modules.get("multiprocessing")
    for child in multiprocessing.active_children() if multiprocessing else ():
        child.terminate()
    os._exit(0)


def at_exit() -> None:
    """The script ended by itself."""
    if not SEEN.done and os.getpid() == SEEN.pid:
        experiment()
        write("ended")


def experiment() -> None:
    """Experiments on what was kept, in the first of several ranks."""
    torch = sys.modules.get("torch")
    if torch is not None and not int(os.environ.get("RANK") or 0):
        write("running")  # should an experiment end the process
        SEEN.experiments = experiments(torch, SEEN.deadline - time.time())
