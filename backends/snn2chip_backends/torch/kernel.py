"""The same arithmetic one step at a time, for streaming sessions."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from snn2chip.ir.nodes import Product, Synapse
from snn2chip.ir.soma import Soma
from snn2chip.ir.types import IntArray
from snn2chip_backends.torch.exact import exact_arithmetic
from snn2chip_backends.torch.plan import Plan
from snn2chip_backends.torch.somas import State


class TorchKernel:
    """What `snn2chip.streaming.Session` drives; payloads and currents are tensors `[B, *shape]` on the device."""

    def __init__(self, plan: Plan, device: torch.device) -> None:
        self.plan, self.device = plan, device

    def array(self, payload: IntArray) -> Tensor:
        """Payloads on the device (24 bits at most, so int32)."""
        return torch.from_numpy(np.array(payload, dtype=np.int32)).to(self.device)

    def numpy(self, payload: Tensor) -> IntArray:
        """Payloads as int64, a copy of its own."""
        return payload.cpu().numpy().astype(np.int64)

    def current(self, node: Synapse | Product, payloads: list[Tensor]) -> Tensor:
        """Current of one synapse or product as int64, so that a session may add several."""
        with exact_arithmetic(self.device):
            return self.plan.currents[node.name](*(p[None] for p in payloads))[0].to(torch.int64)

    def mix(self, soma: Soma, currents: list[Tensor]) -> list[Tensor]:
        """Mixed currents of a whole sample."""
        with exact_arithmetic(self.device):
            return list(self.plan.somas[soma.name].arriving([torch.stack(currents)]))

    def start(self, soma: Soma, batch: int) -> State:
        """State at the start of a sample."""
        with exact_arithmetic(self.device):
            return self.plan.somas[soma.name].start(batch)

    def fire(self, soma: Soma, state: State, current: Tensor, t: int) -> Tensor:
        """Advance one step and return the payload."""
        kernel = self.plan.somas[soma.name]
        with exact_arithmetic(self.device):
            x = kernel.scaled(current.to(kernel.current_type), t)
            return kernel.step(state, x, t).to(kernel.payload_type, copy=True)

    def potential(self, state: State) -> IntArray:
        """Potential after the last step, a copy of its own."""
        return self.numpy(state.v)
