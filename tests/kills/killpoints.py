"""Counts what a process does to the files of one folder, and kills it before or after the N-th of these steps.

A step is a file that is opened for writing, renamed, removed, brought to the disk, a folder made or removed: `before`
of every step that Python announces (audit events, also of libraries), `after` of those in `AFTER`.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

BEFORE = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.chmod", "os.truncate")
AFTER = ("replace", "rename", "fsync", "mkdir", "unlink", "rmdir")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def install(folder: str, *, kill_at: int | None, count: str | None) -> None:
    """Watch what lies in `folder` and below; `kill_at` N: die there; `count`: a file of a line per step."""
    place, seen, busy = os.path.realpath(folder), [0], [False]

    def step(name: str, path: Any) -> None:
        if busy[0] or not isinstance(path, (str, bytes, os.PathLike, int)):
            return
        busy[0] = True
        try:
            if isinstance(path, int):
                where = os.readlink(f"/proc/self/fd/{path}")
            else:
                where = os.path.abspath(os.fsdecode(path))
            if where != place and not where.startswith(place + os.sep):
                return
            seen[0] += 1
            if count is not None:
                with open(count, "a") as file:
                    file.write(f"{seen[0]} {name} {Path(where).name}\n")
            if seen[0] == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
        except OSError:
            return
        finally:
            busy[0] = False

    def audit(event: str, args: tuple[Any, ...]) -> None:
        if event in BEFORE:
            step(f"before {event}", args[0])
        elif event == "open" and isinstance(args[2], int) and args[2] & WRITING:
            step("before open", args[0])

    def after(name: str) -> None:
        plain = getattr(os, name)

        def wrapped(path: Any, *rest: Any, **named: Any) -> Any:
            done = plain(path, *rest, **named)
            step(f"after os.{name}", rest[0] if rest and name in ("replace", "rename") else path)
            return done

        setattr(os, name, wrapped)

    for name in AFTER:
        after(name)
    sys.addaudithook(audit)


def install_from_environment() -> None:
    """Install what the variables KILL_FOLDER, KILL_AT and KILL_COUNT say, if they say anything."""
    folder, at = os.environ.get("KILL_FOLDER"), os.environ.get("KILL_AT")
    if folder:
        install(folder, kill_at=int(at) if at else None, count=os.environ.get("KILL_COUNT"))
