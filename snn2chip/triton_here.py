"""Whether Triton kernels can be compiled here, and why not.

A kernel needs a CUDA device of compute capability 7.0 or more and Triton 3.0 or later, which CUDA builds of PyTorch for
Linux bring along (2.5 and later). `SNN2CHIP_TRITON=0` switches all kernels off; PyTorch's operations compute the same.
"""

from __future__ import annotations

import os
from functools import lru_cache

import torch

SWITCH = "SNN2CHIP_TRITON"
LEAST = (3, 0)
LEAST_CAPABILITY = (7, 0)


@lru_cache(maxsize=8)
def why_no_triton(device: torch.device) -> str:
    """Why there are no Triton kernels for `device`, or "" where there are."""
    if os.environ.get(SWITCH, "1") == "0":
        return f"switched off by {SWITCH}=0"
    if device.type != "cuda":
        return f"no kernels for {device.type}"
    try:
        import triton
    except ImportError:
        return "triton is not installed"
    found = tuple(int(part) for part in triton.__version__.split(".")[:2])
    if found < LEAST:
        return f"triton {triton.__version__} is older than {LEAST[0]}.{LEAST[1]}"
    if torch.version.hip is not None:
        return "PyTorch for AMD: the kernels were never tried there"
    if (capability := torch.cuda.get_device_capability(device)) < LEAST_CAPABILITY:
        return f"compute capability {capability[0]}.{capability[1]} is below 7.0"
    return ""
