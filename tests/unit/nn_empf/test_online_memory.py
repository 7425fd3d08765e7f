"""What online training keeps for the backward pass, in bytes, and half precision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from snn2chip_models.blocks_empf import empf_stages
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.functional import cross_entropy

from snn2chip.nn import Repeat, Seq, TimeMean, make_neuron
from snn2chip.train.online import online_losses, online_step


def conv_net(steps: int) -> Seq:
    torch.manual_seed(0)
    stages = empf_stages(blocks=(1,), channels=(4,), strides=(1,), inputs=4, steps=steps, version="II", seca="II")
    stem = [nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), Repeat(steps)]
    return Seq(*stem, stages, nn.Flatten(), nn.Linear(4 * 36, 3), TimeMean())


class Held:
    """A saved tensor and how many bytes all of them hold."""

    alive = 0
    peak = 0

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor.detach()  # an operation that saves its own result must not keep itself alive
        self.bytes = tensor.numel() * tensor.element_size()
        Held.alive += self.bytes
        Held.peak = max(Held.peak, Held.alive)

    def __del__(self) -> None:
        Held.alive -= self.bytes


def peak(run: Callable[[], None]) -> int:
    """Most bytes kept for the backward pass at any moment."""
    Held.alive = Held.peak = 0
    with saved_tensors_hooks(Held, lambda held: held.tensor):
        run()
    assert Held.alive == 0
    return Held.peak


def online_peak(steps: int, **args: Any) -> int:
    model, x, y = conv_net(steps), torch.rand(4, 1, 6, 6), torch.arange(4) % 3
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01)
    return peak(lambda: (online_step(model, x, y, optimiser=optimiser, **args), None)[1])


def whole_peak(steps: int) -> int:
    model, x, y = conv_net(steps), torch.rand(4, 1, 6, 6), torch.arange(4) % 3
    return peak(lambda: cross_entropy(model(x), y).backward())  # type: ignore[no-untyped-call]


def test_saved_tensors_do_not_grow_with_the_steps() -> None:
    """Equal at T = 2 and T = 16, to the byte, also with one random step; one graph over all steps: nearly eightfold."""
    assert online_peak(2) == online_peak(16) == online_peak(16, chosen=(15,)) > 0
    assert whole_peak(16) > 7 * whole_peak(2)
    assert whole_peak(16) > 13 * online_peak(16)


@pytest.mark.parametrize("name", ["empf", "empf-norm", "empf-parallel"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_currents_keep_their_precision(name: str, dtype: torch.dtype) -> None:
    neuron = make_neuron(name, steps=2, channels=3)
    x = torch.randn(2, 4, 3, 5, generator=torch.Generator().manual_seed(0))
    got = neuron(x.to(dtype))
    assert got.dtype == dtype
    torch.testing.assert_close(got.float(), neuron(x), rtol=0.02, atol=0.03)


def test_mixed_precision_steps() -> None:
    """Under autocast every parameter gets a finite gradient in full precision."""
    model, x, y = conv_net(2), torch.rand(4, 1, 6, 6), torch.arange(4) % 3
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for _, loss in online_losses(model, x, y):
            loss.backward()  # type: ignore[no-untyped-call]
    for parameter in model.parameters():
        assert parameter.dtype == torch.float32
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()
