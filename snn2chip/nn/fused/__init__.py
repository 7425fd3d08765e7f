"""Multi-step neurons as compiled kernels: one pass over the memory forward, one backward, for all T steps.

The torch code of the neurons stays the definition; kernels give its payloads bit by bit and its gradients up to the
order of sums over neurons. They run on float32 and bfloat16 currents in the CPU's memory when numba is installed, and
on CUDA tensors (float16 too) when Triton is; on all steps at once, and on single steps where the potential between them
is a constant (online training). Everything else takes the torch code: other types and devices, `torch.compile`,
`torch.func`, forward-mode and gradients of gradients, tracing, integer training (`qat`), and neurons whose equations a
subclass or a user has replaced. `why_plain` names the reason.

On CUDA each product, sum and quotient is rounded on its own, as on the CPU: no fused multiply-add. The payloads of a
window (LM-HT) are then those of the CPU, whereas the torch code on CUDA mixes by a matrix product of any order.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from snn2chip.triton_here import why_no_triton

if TYPE_CHECKING:
    from snn2chip.nn.base import Neuron


class StepRule(Protocol):
    """What one step of a neuron needs to know."""

    def step(self, x: Tensor, v: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return payload values and potentials of one step `[1,B,...]` from potentials v `[B,...]` or the start."""
        ...


_EQUATIONS = ("mix", "integrate", "fire", "settle", "forward", "_initial", "_advance")
_DTYPES = (torch.float32, torch.bfloat16)
_MORE = {"cuda": (torch.float16,)}
_allowed = True


@contextmanager
def plain_neurons(plain: bool = True) -> Iterator[None]:
    """Let all neurons take the torch code inside the `with` (or, with False, the kernels again)."""
    global _allowed
    before, _allowed = _allowed, not plain
    try:
        yield
    finally:
        _allowed = before


def allowed() -> bool:
    """Return whether kernels may be taken: not inside `plain_neurons`."""
    return _allowed


def fused(neuron: Neuron, x: Tensor) -> Tensor | None:
    """Return the payload values of currents x by the kernels, or None where they do not apply."""
    if why_plain(neuron, x):
        return None
    rule = neuron.fused_rule()
    return None if rule is None else rule(x)


def fused_step(neuron: Neuron, x: Tensor) -> Tensor | None:
    """Return the payload values of one step `[B,...]` by the kernels and keep the potentials, or None as `fused`."""
    if why_plain(neuron, x):
        return None
    state = neuron._state
    v = None if state is None else state[0]
    if v is not None and (v.shape != x.shape or v.dtype != torch.float32 or v.requires_grad or v.device != x.device):
        return None
    rule = neuron.fused_step_rule(neuron._seen)
    if rule is None:
        return None
    sent, after = rule.step(x.unsqueeze(0), v)
    neuron._state = after.squeeze(0), None
    return sent.squeeze(0)


def why_plain(neuron: Neuron, x: Tensor) -> str:
    """Return why a neuron takes the torch code for currents x, or "" when kernels exist for what it is and x is."""
    if not _allowed:
        return "switched off"
    if x.device.type == "cuda":
        if reason := why_no_triton(x.device):
            return reason
        if x.device.index != torch.cuda.current_device():
            return "not on the current CUDA device, on which kernels are launched"
    elif not installed():
        return "numba is not installed"
    if x.device.type not in ("cpu", "cuda") or x.dtype not in (*_DTYPES, *_MORE.get(x.device.type, ())):
        return f"{x.dtype} on {x.device.type}"
    if type(x) not in (Tensor, nn.Parameter) or x.layout != torch.strided or 0 in x.shape:
        return "not an ordinary tensor"
    if neuron.qat is not None:
        return "integer training"
    if any(value.dtype != torch.float32 or value.device != x.device for value in _constants(neuron)):
        return "constants of another type or device"
    if not _own_equations(type(neuron)) or any(name in vars(neuron) for name in _EQUATIONS[:4]):
        return "equations of its own"
    if _watched():
        return "torch is recording, tracing or transforming"
    return ""


@cache
def installed() -> bool:
    """Return whether numba is here."""
    return find_spec("numba") is not None


def _constants(neuron: nn.Module) -> list[Tensor]:
    return [*neuron.parameters(), *(b for b in neuron.buffers() if b.is_floating_point())]


@cache
def _own_equations(kind: type[Any]) -> bool:
    """Whether no class between `kind` and the one that wrote its rule replaces an equation."""
    rank = {name: _home(kind, name) for name in (*_EQUATIONS, "fused_rule")}
    return all(rank[name] >= rank["fused_rule"] for name in _EQUATIONS)


def _home(kind: type[Any], name: str) -> int:
    return next(index for index, owner in enumerate(kind.__mro__) if name in vars(owner))


def _watched() -> bool:
    return (
        torch._C._get_tracing_state() is not None
        or torch._C._functorch.maybe_current_level() is not None
        or torch.autograd.forward_ad._current_level >= 0
        or torch._C._len_torch_dispatch_stack() > 0
        or torch._C._len_torch_function_stack() > 0
    )
