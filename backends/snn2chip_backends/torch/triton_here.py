"""The Triton kernels of the engine, where they can be compiled."""

from __future__ import annotations

from types import ModuleType

import torch

from snn2chip.triton_here import why_no_triton


def soma_kernels(device: torch.device) -> ModuleType | None:
    """The kernels of somas, or None where there are none."""
    if why_no_triton(device):
        return None
    from snn2chip_backends.torch import triton_soma

    return triton_soma


def product_kernels(device: torch.device) -> ModuleType | None:
    """The kernels of synapses, or None where there are none."""
    if why_no_triton(device):
        return None
    from snn2chip_backends.torch import triton_products

    return triton_products
