"""What the Lava backend cannot do, with reasons."""

from __future__ import annotations

import os
import shutil
import sys

from snn2chip_backends.lava.plan import NetPlan

FILES_PER_PROCESS = 12
"""File descriptors that the parent of a Lava runtime needs for each process (measured: about ten)."""
CHANNEL_SIZE = 2
"""Messages that a Lava channel holds."""


def lava_limits(plan: NetPlan) -> list[str]:
    """Reasons why this machine cannot run a plan on Lava; empty if it can."""
    found = []
    processes, allowed = plan.size, open_files() // FILES_PER_PROCESS
    if processes > allowed:
        found.append(
            f"it needs {processes} Lava processes, and with {open_files()} open files about {allowed} can run; "
            "raise the limit (ulimit -n)"
        )
    need, room = plan.message_bytes * CHANNEL_SIZE, shared_memory()
    if room is not None and need > room:
        found.append(
            f"its channels need {need / 1e6:.0f} MB of shared memory, /dev/shm has {room / 1e6:.0f} MB free; "
            "give it more (docker run --shm-size)"
        )
    return found


def open_files() -> int:
    """Open files that a process may have (the child raises its own soft limit to this)."""
    if sys.platform == "win32":
        return 512
    import resource

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return 1 << 20 if hard == resource.RLIM_INFINITY else int(hard)


def shared_memory() -> int | None:
    """Free bytes of /dev/shm, or None where that is not a folder."""
    return shutil.disk_usage("/dev/shm").free if os.path.isdir("/dev/shm") else None
