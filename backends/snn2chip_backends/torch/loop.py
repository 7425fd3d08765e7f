"""A feedback component step by step: every node at step t before any at t + 1.

A soma takes the compiled pass for its one step, its state kept between the steps, or else the PyTorch code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from snn2chip.ir.nodes import Product, Synapse
from snn2chip.ir.program import Edge, Program
from snn2chip.ir.soma import Soma
from snn2chip_backends.torch.pass_run import Stepper
from snn2chip_backends.torch.plan import Plan
from snn2chip_backends.torch.sample import SomaRun, Wants, empty_run
from snn2chip_backends.torch.somas import SomaKernel


class Loop:
    """The component `names` while it runs; `values` are payloads and currents `[T or 1, B, *shape]` from outside."""

    def __init__(
        self,
        program: Program,
        plan: Plan,
        names: list[str],
        values: Mapping[str, Tensor],
        batch: int,
        wants: Callable[[str], Wants],
    ) -> None:
        self.program, self.plan, self.values, self.batch = program, plan, values, batch
        self.currents: dict[str, Tensor] = {}
        self.somas = {
            name: _made(plan.somas[name], batch, program.steps, wants(name))
            for name in names
            if isinstance(program[name], Soma)
        }

    def step(self, name: str, t: int) -> None:
        """One node at one step."""
        node = self.program[name]
        edges = self.program.into[name]
        if isinstance(node, (Synapse, Product)):
            self.currents[name] = self.plan.currents[name](*(self.arriving(e, t) for e in edges))
        else:
            self.somas[name].step([self.current(e, t) for e in edges], t)

    def arriving(self, edge: Edge, t: int) -> Tensor:
        """Payload `[1, B, *shape]` that an edge delivers at step t."""
        at = t - edge.delay
        own = self.somas.get(edge.src)
        payloads = self.values[edge.src] if own is None else own.run.payload
        if at < 0:
            return torch.zeros_like(payloads[:1])
        return payloads[at : at + 1] if len(payloads) > 1 else payloads

    def current(self, edge: Edge, t: int) -> Tensor:
        """Current `[1, B, *shape]` of an edge into a soma at step t."""
        if edge.src in self.currents:
            return self.currents[edge.src]
        outside = self.values[edge.src]
        return outside[t : t + 1] if len(outside) > 1 else outside

    def result(self, name: str) -> SomaRun:
        """Everything of one soma, as if it had run at once."""
        return self.somas[name].run


class _Compiled:
    """A soma by the compiled pass."""

    def __init__(self, kernel: SomaKernel, batch: int, steps: int, wants: Wants) -> None:
        assert kernel.fused is not None
        self.run = empty_run(kernel, kernel.fused, batch, steps, 1 if kernel.silent else steps, wants)
        self.stepper = Stepper(kernel.fused, batch, steps, self.run)

    def step(self, currents: list[Tensor], t: int) -> None:
        """One step."""
        self.stepper.step(currents, t)


class _Eager:
    """A soma in PyTorch operations."""

    def __init__(self, kernel: SomaKernel, batch: int, steps: int, wants: Wants) -> None:
        self.kernel, self.state = kernel, kernel.start(batch)
        full, device = (steps, batch, *kernel.soma.shape), kernel.device
        self.run = SomaRun(
            payload=torch.zeros(full, dtype=kernel.payload_type, device=device),
            potentials=torch.zeros(full, dtype=torch.int32, device=device) if wants.all else None,
            last=torch.zeros(full[1:], dtype=torch.int32, device=device) if wants.last else None,
            saturated=self.state.saturated,
        )

    def step(self, currents: list[Tensor], t: int) -> None:
        """One step."""
        kernel, state = self.kernel, self.state
        a = kernel.arriving(currents)[0]
        self.run.payload[t] = kernel.step(state, kernel.scaled(a, t), t)
        if self.run.potentials is not None:
            self.run.potentials[t] = state.v
        if self.run.last is not None:
            self.run.last.copy_(state.v)


def _made(kernel: SomaKernel, batch: int, steps: int, wants: Wants) -> _Compiled | _Eager:
    compiled = kernel.fused is not None and kernel.soma.window is None
    return (_Compiled if compiled else _Eager)(kernel, batch, steps, wants)
