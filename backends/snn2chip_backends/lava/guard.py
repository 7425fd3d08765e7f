"""A child process in its own session, and the certainty that nothing of it is left afterwards."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from snn2chip.errors import BackendFailure

GRACE_S = 1.0
"""How long a session may take to end by itself."""
TAIL = 4000
SOCKET, SOCKET_BYTES = "pymp-12345678/listener-12345678", 103
"""Where a manager of Python listens below the folder of temporary files, and the longest path it can (macOS)."""


def run_child(folder: Path, *, limit_s: float) -> dict[str, Any]:
    """Run the job in `folder` in a child process; return what it wrote to `result.json`.

    Raises BackendFailure when the child dies, or has not answered 2 s after `limit_s` (which it watches itself).
    Whatever happens (also Ctrl-C), its session is empty afterwards and its shared memory is freed.
    """
    with open(folder / "output.txt", "wb") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", "snn2chip_backends.lava.child", str(folder)],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={**child_environment(), **_own_temporary(folder)},
            start_new_session=True,
        )
        late = False
        try:
            child.wait(timeout=limit_s + 2.0)
        except subprocess.TimeoutExpired:
            late = True
        finally:
            end_session(child.pid)
            child.wait()
            assert child.stdin is not None
            child.stdin.close()
    said = (folder / "output.txt").read_text(errors="replace")[-TAIL:].strip()
    if (folder / "result.json").is_file():
        result: dict[str, Any] = json.loads((folder / "result.json").read_text())
        return result
    if late:
        raise BackendFailure(f"the Lava run was not finished after the time limit of {limit_s:g} s and was ended")
    how = f"signal {-child.returncode}" if child.returncode < 0 else f"exit code {child.returncode}"
    raise BackendFailure(f"the child process of the Lava run died ({how})" + (f"; it said:\n{said}" if said else ""))


def child_environment() -> dict[str, str]:
    """One thread per process, and the place of this package on the path."""
    home = str(Path(__file__).resolve().parents[2])
    given = [os.path.abspath(p) for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]
    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return {**os.environ, **one, "PYTHONPATH": os.pathsep.join([home, *given])}


def _own_temporary(folder: Path) -> dict[str, str]:
    """Temporary files of the child go with its folder, unless that lies too deep for the sockets of its managers."""
    return {"TMPDIR": str(folder)} if len(os.fsencode(folder / SOCKET)) <= SOCKET_BYTES else {}


def session_members(session: int) -> list[int]:
    """Process ids in a session, without those that ended already."""
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            fields = Path("/proc", entry, "stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] not in "ZX":
            found.append(int(entry))
    return found


def end_session(session: int) -> None:
    """End every process of a session.

    SIGTERM first: Python's resource tracker ignores it, outlives the others and frees their shared memory.
    """
    if not Path("/proc/self/stat").exists():
        for number in (signal.SIGTERM, signal.SIGKILL):
            _send_group(session, number)
            time.sleep(GRACE_S / 2)
        return
    for number, spare_tracker in ((signal.SIGTERM, False), (signal.SIGKILL, True), (signal.SIGKILL, False)):
        for pid in session_members(session):
            if not (spare_tracker and _is_tracker(pid)):
                _send(pid, number)
        end = time.monotonic() + GRACE_S / 2
        while session_members(session):
            if time.monotonic() > end:
                break
            time.sleep(0.005)
        else:
            return


def _is_tracker(pid: int) -> bool:
    try:
        return b"resource_tracker" in Path("/proc", str(pid), "cmdline").read_bytes()
    except OSError:
        return False


def _send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _send_group(group: int, number: signal.Signals) -> None:
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return
