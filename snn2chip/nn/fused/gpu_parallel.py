"""The parallel neuron on a GPU: where its kernel applies, and its launch."""

from __future__ import annotations

from functools import lru_cache
from types import ModuleType

import torch
from torch import Tensor

from snn2chip.nn.fused.gpu import BLOCK, ROUNDED, programs
from snn2chip.triton_here import why_no_triton


@lru_cache(maxsize=8)
def kernels(device: torch.device) -> ModuleType | None:
    """Return the module of the kernel for tensors on `device`, or None where there is none."""
    if why_no_triton(device):
        return None
    from snn2chip.nn.fused import triton_parallel

    return triton_parallel


def parallel_spikes(x: Tensor, theta: Tensor, psi: Tensor, phi: Tensor, *, last: bool) -> Tensor | None:
    """Return payloads `[T,B,C,...]` of float32 currents by the kernel, or None where it does not apply.

    theta, psi, phi: scalars or `[C]`. Half precision takes the torch code, which also adds in half precision.
    """
    constants = (theta, psi, phi)
    if x.dtype != torch.float32 or type(x) is not Tensor or torch.compiler.is_compiling():
        return None
    if not x.is_contiguous() or not x.numel() or any(v.dtype != x.dtype or v.device != x.device for v in constants):
        return None
    if x.is_cuda and x.device.index != torch.cuda.current_device():
        return None
    module = kernels(x.device)
    if module is None or torch._C._len_torch_dispatch_stack() or torch._C._get_tracing_state() is not None:
        return None
    each = any(v.dim() for v in constants)
    channels = x.shape[2] if each else 1
    if each:
        theta, psi, phi = (v.expand(channels).contiguous() for v in constants)
    out, count = torch.empty_like(x), x[0].numel()
    module.spikes[(programs(count),)](
        x,
        theta,
        psi,
        phi,
        out,
        count,
        count // (x.shape[1] * channels) if each else 1,
        channels,
        len(x),
        EACH=each,
        LAST=last,
        BLOCK=BLOCK,
        **ROUNDED,
    )
    return out
