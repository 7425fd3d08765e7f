"""The child process of a Lava run: read a job folder, run it, write `result.json`.

The job is `job.json` (`nets`: folder, samples, frames, constant inputs and channels each; `mode`, `limit_s`,
`channel_size`) beside the plans. Leaves with its whole session when the process that started it is gone.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

import numpy as np


def main(folder: Path) -> int:
    """Run the job in `folder`; the exit code is 0 whenever `result.json` could be written."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    threading.Thread(target=leave_with_parent, args=(folder,), daemon=True).start()
    from snn2chip_backends.lava.net.runtime import NetworkFailure

    try:
        result: dict[str, Any] = {"ok": True, "info": run_job(folder)}
    except NetworkFailure as failure:
        result = {"ok": False, "process": failure.process, "text": failure.text}
    except Exception:
        result = {"ok": False, "process": "", "text": traceback.format_exc()}
    part = folder / "result.part"
    part.write_text(json.dumps(result))
    part.replace(folder / "result.json")
    return 0


def leave_with_parent(folder: Path) -> None:
    """Wait for the end of standard input, which the parent holds open, then end the session and its files."""
    while os.read(0, 1):
        pass
    shutil.rmtree(folder, ignore_errors=True)
    os.killpg(0, signal.SIGTERM)


def run_job(folder: Path) -> dict[str, Any]:
    """Assemble all networks of the job, tie them together and run them in one Lava runtime."""
    from snn2chip_backends.lava.net.assemble import assemble, read_plan, tie
    from snn2chip_backends.lava.net.watch import run_network

    job = json.loads((folder / "job.json").read_text())
    sinks: list[Any] = []
    steps = 0
    for net in job["nets"]:
        home = folder / net["folder"]
        plan, arrays = read_plan(home)
        extra: dict[str, dict[str, Any]] = {n: {"frames": str(home / f)} for n, f in net["frames"].items()}
        for sink, channels in net["channels"].items():
            extra[sink] = {"channels": [c | {"file": str(home / c["file"])} for c in channels]}
        extra[next(iter(net["channels"]))]["progress"] = str(folder / "progress.npy")
        made = assemble(
            plan, arrays, samples=net["samples"], extra=extra, prefix=net["prefix"], constant=net["constant"]
        )
        sinks += [made[name] for name in net["channels"]]
        steps = max(steps, net["machine_steps"])
    tie(sinks)
    mark = np.load(folder / "progress.npy", mmap_mode="r")
    return run_network(
        sinks[0],
        steps,
        mode=job["mode"],
        limit_s=job["limit_s"],
        channel_size=job["channel_size"],
        progress=lambda: int(mark[0]),
    )


if __name__ == "__main__":
    code = main(Path(sys.argv[1]))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # Lava's processes would try to stop a runtime that is gone
