"""What could round on a GPU is off while the engine runs there and as before afterwards; no GPU is needed to see it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from snn2chip_backends.torch.exact import exact_arithmetic

CUDA = torch.device("cuda")
PRODUCTS: Any = torch.backends.cuda.matmul
REDUCED = ("allow_fp16_reduced_precision_reduction", "allow_bf16_reduced_precision_reduction")


def convolutions_may_round() -> bool:
    """Whether cuDNN's convolutions may use TF32, by the switch that this PyTorch has."""
    library: Any = torch.backends.cudnn
    return library.conv.fp32_precision != "ieee" if hasattr(library, "conv") else library.allow_tf32


@pytest.mark.parametrize("before", [True, False])
def test_sums_of_half_precision_products(before: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    old = {name: getattr(PRODUCTS, name) for name in REDUCED}
    try:
        for name in REDUCED:
            setattr(PRODUCTS, name, before)
        with exact_arithmetic(CUDA):
            assert not any(getattr(PRODUCTS, name) for name in REDUCED)
        assert all(getattr(PRODUCTS, name) == before for name in REDUCED)
        with pytest.raises(ValueError, match="inside"), exact_arithmetic(CUDA):
            raise ValueError("inside")
        assert all(getattr(PRODUCTS, name) == before for name in REDUCED)
    finally:
        for name, value in old.items():
            setattr(PRODUCTS, name, value)


def test_convolutions_of_the_library() -> None:
    before = convolutions_may_round()
    assert before  # PyTorch's own setting
    with exact_arithmetic(CUDA):
        assert not convolutions_may_round()
    assert convolutions_may_round() == before


def test_the_cpu_does_not_touch_them() -> None:
    with exact_arithmetic(torch.device("cpu")):
        assert all(getattr(PRODUCTS, name) for name in REDUCED)
        assert convolutions_may_round()
