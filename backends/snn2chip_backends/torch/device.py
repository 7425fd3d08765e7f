"""Which device: parsing of `cpu`, `cuda`, `cuda:N`, and why one is not there."""

from __future__ import annotations

import re
from functools import lru_cache

import torch

from snn2chip.errors import InputError

DEVICE = re.compile(r"(cpu|cuda(:\d+)?)\Z")


def parse_device(name: str | torch.device) -> torch.device:
    """The torch device called `name`; raises InputError for anything but cpu, cuda or cuda:N."""
    if not DEVICE.match(str(name)):
        raise InputError(f"device must be 'cpu', 'cuda' or 'cuda:N', got {str(name)!r}")
    return torch.device(name)


def why_missing(device: torch.device) -> str | None:
    """Why `device` cannot be used here, or None."""
    if device.type == "cpu":
        return None
    if not torch.cuda.is_available():
        built = torch.version.cuda
        reason = f"built for CUDA {built}, but finds no usable GPU or driver" if built else "built without CUDA"
        return f"PyTorch {torch.__version__} is {reason}; use device='cpu'"
    found = torch.cuda.device_count()
    if device.index is not None and device.index >= found:
        return f"device '{device}' does not exist; this machine has cuda:0 to cuda:{found - 1}"
    return None


@lru_cache(maxsize=1)
def keep_freed_memory() -> None:
    """Let glibc reuse the memory of freed tensors instead of handing it back to the system each time.

    glibc raises the size from which it does that (and twice that for trimming its heap) to the largest block it
    has seen freed, at most 32 MiB. One such block, never touched, spares each layer fresh pages and their faults
    (measured: a quarter of the time of a small MLP). Elsewhere it does nothing.
    """
    torch.empty((32 << 20) - (64 << 10), dtype=torch.uint8, device="cpu")


def out_of_memory(error: RuntimeError | MemoryError) -> bool:
    """Whether PyTorch or NumPy gave up because the device (or the machine) has no memory left."""
    kinds = (torch.cuda.OutOfMemoryError, MemoryError)
    return isinstance(error, kinds) or "can't allocate memory" in str(error)
