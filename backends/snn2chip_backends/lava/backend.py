"""The backend "lava": programs as lava-nc processes under Loihi2SimCfg(select_tag="fixed_pt").

With the layout `stock` every soma and every synapse is a Lava process of its own, Lava's where that is exact; `layer`
and `fused` are fast and all our own. The whole run happens in a guarded child process.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from snn2chip.errors import BackendFailure, BackendUnavailable, InputError
from snn2chip.ir.program import Program
from snn2chip.ir.types import IntArray
from snn2chip.schedule import schedule
from snn2chip.trace import Trace
from snn2chip_backends.lava.blocks import block_layout
from snn2chip_backends.lava.job import Job, Net
from snn2chip_backends.lava.layout import STOCK, Choice, lava_layout
from snn2chip_backends.lava.limits import lava_limits
from snn2chip_backends.lava.plan import LAYOUTS, NetPlan, make_plan

MODES = ("sync", "async")
TRACE_BYTES = 256_000_000
"""Most that one run may write."""
SIDE_BY_SIDE = 90
"""Lava processes in one runtime up to which programs share it; beyond, a step gets slower than in two runtimes."""
BATCH, MESSAGE_BYTES = 256, 8_000_000
"""Most samples in one message, and the bytes of one message on every wire up to which a batch grows by itself."""
INSTALL = "pip install lava-nc==0.10.0"


class LavaBackend:
    """Runs programs as real Lava processes.

    stock: `True` uses Lava's own Dense, Sparse, Conv, LIF and GradedVec wherever they are exact, `"always"` also
    where stock Conv is very slow, `False` never. mode: `sync` is Lava's barrier-synchronised Loihi protocol,
    `async` Lava's own conversion without the barrier (same results, faster). timeout: seconds for one run (default
    scaled with its size). substitutes: node name -> `FILE.py:Class` or `module:Class`, another Lava process for it.

    layout: `stock` (the independent oracle), `layer` (one own process per layer) or `fused` (one for the whole
    network, a fast mode). `batch` samples ride in every message of the latter two (default: as many as help).
    """

    name = "lava"

    def __init__(
        self,
        *,
        stock: bool | str = True,
        mode: str = "sync",
        timeout: float | None = None,
        substitutes: Mapping[str, str] | None = None,
        layout: str = "stock",
        batch: int | None = None,
    ) -> None:
        if stock not in STOCK:
            raise InputError(f"stock must be True, False or 'always', got {stock!r}")
        if mode not in MODES:
            raise InputError(f"mode must be 'sync' or 'async', got {mode!r}")
        if timeout is not None and timeout <= 0:
            raise InputError(f"timeout must be more than 0 seconds, got {timeout}")
        if layout not in LAYOUTS:
            raise InputError(f"the Lava layout is one of {', '.join(LAYOUTS)}, got {layout!r}")
        if batch is not None and batch < 1:
            raise InputError(f"batch must be at least 1 sample, got {batch}")
        if batch not in (None, 1) and layout == "stock":
            raise InputError(f"the layout 'stock' takes one sample at a time, got batch={batch}; choose layer or fused")
        if layout != "stock" and stock is not True:
            raise InputError(f"stock={stock!r} chooses processes of the layout 'stock', but the layout is {layout!r}")
        self.stock, self.mode, self.timeout = stock, mode, timeout
        self.lava_layout, self.batch = layout, batch
        self.substitutes = dict(substitutes or {})

    def missing(self) -> str | None:
        """Why Lava cannot run here (None: it can); does not import it."""
        here = ".".join(map(str, sys.version_info[:2]))
        if sys.version_info[:2] != (3, 10):
            return f"lava-nc 0.10 needs Python 3.10, this is {here}; make a Python 3.10 environment and {INSTALL}"
        if importlib.util.find_spec("lava") is None or importlib.util.find_spec("lava.magma") is None:
            return f"lava-nc is not installed; {INSTALL} (or: pip install 'snn2chip[lava]')"
        if sys.platform == "win32":
            return "its guarded child process needs Linux or macOS"
        return None

    def limits(self, program: Program) -> list[str]:
        """What of this program is out of reach here, with reasons."""
        return lava_limits(self.plan(program, samples=1))

    def layout(self, program: Program) -> dict[str, Choice]:
        """Which Lava process stands for each node, and why."""
        if self.lava_layout != "stock":
            return block_layout(program, self.lava_layout)
        return lava_layout(program, schedule(program), stock=self.stock)

    def block(self, program: Program) -> int:
        """Samples per Lava run that keep the recorded files small."""
        neurons = sum(soma.size for soma in program.somas)
        return max(1, min(10_000, TRACE_BYTES // (8 * program.steps * max(neurons, 1))))

    def run(self, program: Program, inputs: Mapping[str, IntArray], *, record: str = "all") -> Trace:
        """Run one block of samples; see `snn2chip.registry.Backend`. Raises BackendFailure."""
        return self.run_many([(program, inputs)], record=record)[0]

    def run_many(self, pairs: Sequence[tuple[Program, Mapping[str, IntArray]]], *, record: str = "all") -> list[Trace]:
        """Run several programs, side by side in one Lava runtime as far as that is faster.

        Most of a small run is Lava's start. Raises BackendUnavailable, BackendFailure.
        """
        reason = self.missing()
        if reason is not None:
            raise BackendUnavailable(f"backend 'lava' is not available: {reason}")
        keep = "all" if record == "all" else "payloads"
        traces: list[Trace] = []
        group: list[Net] = []
        size = 0
        for program, inputs in pairs:
            plan = self.plan(program, record=keep, samples=next(iter(inputs.values())).shape[1])
            if group and size + plan.size > SIDE_BY_SIDE:
                traces += self._run_group(group, record)
                group, size = [], 0
            group.append(Net(program, plan, inputs, prefix=f"{len(group)}/" if len(pairs) > 1 else ""))
            size += plan.size
        return traces + self._run_group(group, record) if group else traces

    def plan(self, program: Program, *, record: str = "all", samples: int = BATCH) -> NetPlan:
        """The Lava network for so many samples, with the batch given or one as large as it helps."""
        make = partial(
            make_plan,
            program,
            stock=self.stock,
            record=record,
            substitutes=self.substitutes,
            layout=self.lava_layout,
        )
        plan = make()
        if self.lava_layout == "stock":
            return plan
        batch = self.batch or min(BATCH, max(1, MESSAGE_BYTES // max(plan.message_bytes, 1)))
        batch = min(batch, samples)
        return plan if batch == 1 else make(batch=batch)

    def _run_group(self, nets: Sequence[Net], record: str) -> list[Trace]:
        folder = Path(tempfile.mkdtemp(prefix="snn2chip-lava-"))
        try:
            return Job(folder, nets, mode=self.mode, timeout=self.timeout, layout=self.lava_layout).run(record)
        except OSError as error:
            raise BackendFailure(f"the Lava run could not use its folder {folder}: {error}") from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)
