"""The torch backend: the exact engine on CPU and CUDA."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from snn2chip.errors import InputError
from snn2chip.ir.program import Program
from snn2chip.ir.types import IntArray
from snn2chip.trace import Trace
from snn2chip_backends.torch.captured import beyond_capture, run_captured
from snn2chip_backends.torch.device import keep_freed_memory, parse_device, why_missing
from snn2chip_backends.torch.engine import evaluate, put_inputs
from snn2chip_backends.torch.exact import exact_arithmetic
from snn2chip_backends.torch.gpu_graphs import Graphs
from snn2chip_backends.torch.gpu_records import records_for
from snn2chip_backends.torch.kernel import TorchKernel
from snn2chip_backends.torch.limits import EXACT_SUMS, sum_limits
from snn2chip_backends.torch.memory import AtOnce
from snn2chip_backends.torch.plan import Plan, plan_for
from snn2chip_backends.torch.side_by_side import side_by_side

BLOCK_BYTES = {"cpu": 32 << 20, "cuda": 4 << 30}
"""Working set of one block: on the CPU small enough for the caches and for the allocator to reuse its memory."""
MOST_SAMPLES = 4096


class TorchBackend:
    """Batched, exact integers on PyTorch: every payload equals the reference, on `cpu`, `cuda` or `cuda:N`.

    Nodes outside feedback loops are evaluated for all steps at once, loops step by step. Exactness is proven per
    synapse from weights and payload ranges (see `snn2chip_backends.torch.exact`). `widest`: float64, or float32 for
    devices that are slow at float64 products; programs whose sums need more are then refused. Raises InputError for
    any other device or type.
    """

    name = "torch"

    def __init__(self, device: str | torch.device = "cpu", *, widest: str = "float64") -> None:
        self.device = parse_device(device)
        if widest not in EXACT_SUMS:
            raise InputError(f"widest={widest!r} is none of {', '.join(EXACT_SUMS)}")
        self.widest = widest
        self.at_once = AtOnce(self.device)
        self.graphs = Graphs() if self.device.type == "cuda" else None
        if self.device.type == "cpu":
            keep_freed_memory()

    def missing(self) -> str | None:
        """Why the device cannot be used here, or None."""
        return why_missing(self.device)

    def limits(self, program: Program) -> list[str]:
        """Sums beyond what `widest` holds exactly; float64 holds whatever a valid program can say."""
        return sum_limits(program, self.widest)

    def plan(self, program: Program) -> Plan:
        """The program made ready for this device."""
        return plan_for(program, self.device)

    def kernel(self, program: Program) -> TorchKernel:
        """Step-by-step access for sessions."""
        return TorchKernel(self.plan(program), self.device)

    def block(self, program: Program) -> int:
        """Samples per block that keep the working set within a fixed number of bytes."""
        budget = BLOCK_BYTES[self.device.type]
        return min(max(1, budget // self.plan(program).sample_bytes), MOST_SAMPLES)

    def run(self, program: Program, inputs: Mapping[str, IntArray], *, record: str = "all") -> Trace:
        """Run one block of samples; see `snn2chip.registry.Backend`.

        Where memory runs out, in halves (with a MachineWarning). Raises InputError for payloads out of range and
        BackendFailure when one sample does not fit.
        """
        return self.at_once.run(lambda part: self._run(program, part, record), inputs)

    def _run(self, program: Program, inputs: Mapping[str, IntArray], record: str) -> Trace:
        plan = self.plan(program)
        if record == "outputs" and self.device.type == "cpu":
            trace = run_captured(program, plan, inputs, self.name)
            if trace is None and beyond_capture(program, plan, inputs):
                trace = side_by_side(lambda part: self._run(program, part, record), inputs)
            if trace is not None:
                return trace
        with exact_arithmetic(self.device):
            payloads = put_inputs(program, plan, inputs, self.device)
            return self.run_placed(program, plan, payloads, record=record)

    def run_placed(self, program: Program, plan: Plan, payloads: dict[str, Tensor], *, record: str) -> Trace:
        """Run payloads `[T or 1, B, *shape]` that lie on the device (see `put_inputs`); they are used up."""
        if self.graphs is not None and record == "outputs":
            replayed = self.graphs.run(program, plan, payloads, self.name)
            if replayed is not None:
                return replayed
        batch = next(iter(payloads.values())).shape[1]
        records = records_for(program, plan.payloads, batch, self.device, everything=record == "all")
        evaluate(program, plan, payloads, records)
        return records.trace(self.name)
