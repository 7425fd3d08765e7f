"""What only a GPU can show: its units add as they are relied on to, kernels compile and are taken, graphs replay."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from snn2chip_backends.torch import TorchBackend
from snn2chip_backends.torch.tensor_cores import sound_units, units_of

from snn2chip.nn import ParallelNeuron
from snn2chip.nn.fused import plain_neurons, why_plain
from snn2chip.registry import get_backend
from snn2chip.testing.cases import covering_cases
from snn2chip.testing.programs import random_program
from snn2chip.triton_here import why_no_triton

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "nn"))
from fused_cases import CASES, away_from_start, both, currents

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no CUDA device on this machine"),
]
CUDA = torch.device("cuda")


@pytest.fixture(autouse=True)
def _kernels() -> None:
    """These are tests of kernels; where there are none, the reason is the outcome."""
    if reason := why_no_triton(CUDA):
        pytest.skip(reason)


def test_every_matrix_unit_is_sound() -> None:
    assert sound_units(CUDA) == units_of(torch.cuda.get_device_capability())


def test_somas_take_the_kernel_and_blocks_are_replayed() -> None:
    """Three blocks of one shape with other samples each: fresh, captured, replayed."""
    backend, reference = TorchBackend("cuda"), get_backend("reference")
    taken = replays = 0
    for case in covering_cases()[::4]:
        plan = backend.plan(case.program)
        taken += sum(kernel.gpu is not None for kernel in plan.somas.values())
        for shift in range(3):
            coded = {key: np.roll(value, shift, axis=1) for key, value in case.coded.items()}
            got, expected = backend.run(case.program, coded, record="outputs"), reference.run(case.program, coded)
            assert got.counts == expected.counts, case.name
            assert all((got.all_outputs[k] == v).all() for k, v in expected.all_outputs.items()), case.name
        assert backend.graphs is not None
        replays += any(made is not None for made in backend.graphs._known.get(case.program, {}).values())
    assert taken > 20
    assert replays > 10, backend.graphs and backend.graphs.why


@pytest.mark.parametrize("seed", range(48))
def test_random_programs(seed: int) -> None:
    case = random_program(seed)
    got = get_backend("torch", device="cuda").run(case.program, case.coded)
    assert got.counts == case.expected.counts
    for name, payload in case.expected.payloads.items():
        assert (got.payloads[name] == payload).all(), name
        assert (got.potentials[name] == case.expected.potentials[name]).all(), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("name", "variant"), CASES)
def test_neurons_have_the_bits_of_the_cpu(name: str, variant: dict[str, Any], dtype: torch.dtype) -> None:
    """Payloads and g_x by the kernels here, by PyTorch's operations on the CPU: each product rounded on its own."""
    neuron = away_from_start(name, variant, steps=4)
    x = currents(neuron.input_steps, "channels_last", dtype)
    g = torch.randn(4, *x.shape[1:], generator=torch.Generator().manual_seed(1)).to(dtype)
    plain = both(neuron, x, g)[0]
    neuron = neuron.to(CUDA)
    leaf = x.to(CUDA).requires_grad_()
    assert why_plain(neuron, leaf) == ""
    out = neuron(leaf)
    out.backward(g.to(CUDA))
    assert leaf.grad is not None
    trained = any(p.requires_grad for p in neuron.parameters())
    if trained and name != "qcfs":  # sigmoid of a parameter need not have the same last bit on both devices
        torch.testing.assert_close(out.cpu().float(), plain["out"].float(), rtol=1e-3, atol=1e-3)
        return
    assert torch.equal(out.cpu(), plain["out"])
    assert torch.equal(leaf.grad.cpu(), plain["x"])


@pytest.mark.parametrize("steps", [4, 33])
def test_the_parallel_neuron(steps: int) -> None:
    x = torch.randint(-8, 17, (steps, 2, 3, 5, 7), device=CUDA) / 8
    neuron = ParallelNeuron(steps=steps, theta=[0.5, 1.0, 0.3], psi=0.25).to(CUDA)
    fast = neuron(x)
    with plain_neurons():
        assert torch.equal(fast, neuron(x))
