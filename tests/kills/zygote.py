"""A process that has everything imported and forks a child per command: kills then fall into the work itself.

It reads a JSON line `{"argv", "cwd", "folder", "kill_at", "count", "said", "code"}` (code: Python that the
child executes first) and answers with the child's process id, then with its exit code.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))


def warm() -> None:
    """Import what the verbs import, and compile what they compile: a report and its page, whose result nobody keeps."""
    import h5py  # noqa: F401
    import torch

    import snn2chip.train.lightning_run
    import snn2chip.train.modules  # noqa: F401
    from snn2chip import load, report
    from snn2chip.data import load_data

    torch.set_num_threads(1)
    x, y = load_data("digits", split="test")
    report(load("m.s2c"), x[:4].reshape(4, 64), labels=y[:4]).html()


def child(order: dict[str, object]) -> None:
    """Run one command as a process of its own session would."""
    from killpoints import install

    from snn2chip.cli import main

    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    out = os.open(str(order["said"]), os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    for number in (1, 2):
        os.dup2(out, number)
    os.chdir(str(order["cwd"]))
    sys.argv = ["snn2chip", *order["argv"]]  # type: ignore[misc]
    code = 0
    try:
        exec(str(order["code"]), {})
        install(order["folder"], kill_at=order["kill_at"], count=order["count"])  # type: ignore[arg-type]
        main()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
        code = 99
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def serve() -> None:
    """Answer until the input ends."""
    warm()
    print("ready", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if not pid:
            child(order)
        print(pid, flush=True)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    serve()
