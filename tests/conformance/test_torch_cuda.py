"""The same equality on a CUDA device: worked examples, the covering programs, sessions, and no waiting inside a run."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np
import pytest
import torch
from snn2chip_backends.torch import TorchBackend, plan, somas, synapses
from snn2chip_backends.torch.engine import evaluate, put_inputs
from snn2chip_backends.torch.exact import exact_arithmetic
from snn2chip_backends.torch.firing import emission
from snn2chip_backends.torch.gpu_records import records_for

from snn2chip.api import run
from snn2chip.checks.compare import compare
from snn2chip.ir.nodes import Input, Output, Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma
from snn2chip.streaming import session
from snn2chip.testing.cases import covering_cases
from snn2chip.testing.worked import worked_examples

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no CUDA device on this machine"),
]


def conv_net() -> Program:
    """Extreme sums just below 2^24 through convolutions that cuDNN would like to transform."""
    rng = np.random.default_rng(0)
    return Program(
        nodes=[
            Input("in", (32, 16, 16), -400, 400),
            Synapse("conv", "conv2d", rng.choice([127, -127, 1], size=(32, 32, 3, 3)), padding=1),
            Soma("n", (32, 16, 16), theta=9_000, levels=7, leak=3000),
            Synapse("pool", "sumpool", kernel_size=2),
            Soma("relay", (32, 8, 8), fire="relay", reset="drop"),
            Synapse("depthwise", "conv2d", rng.integers(-128, 128, size=(32, 1, 3, 3)), groups=32, stride=2),
            Soma("m", (32, 3, 3), theta=50, reset="zero"),
            Synapse("fc", "linear", rng.integers(-128, 128, size=(10, 288))),
            Soma("read", 10, fire="none"),
            Output("out"),
        ],
        edges=[
            ("in", "conv"),
            ("conv", "n"),
            ("n", "pool"),
            ("pool", "relay"),
            ("relay", "depthwise", 1),
            ("depthwise", "m"),
            ("m", "fc"),
            ("fc", "read"),
            ("read", "out"),
        ],
        steps=4,
    )


def test_worked_examples() -> None:
    backend = TorchBackend(device="cuda")
    wrong = [text for e in worked_examples() for text in e.wrong(backend.run(e.program, e.coded(3)))]
    assert wrong == []


@pytest.mark.parametrize("kernels", ["Triton", "operations"])
def test_covering_programs(kernels: str, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = TorchBackend(device="cuda")
    if kernels == "operations":  # what a machine without Triton runs
        monkeypatch.setattr(plan, "_PLANS", WeakKeyDictionary())
        monkeypatch.setattr(somas, "soma_kernels", lambda device: None)
        monkeypatch.setattr(synapses, "sound_units", lambda device: ())
    for case in covering_cases():
        got = backend.run(case.program, case.coded)
        result = compare(case.program, [case.expected, got])
        assert result.equal, f"{case.name}: {result.first}"
        assert got.counts == case.expected.counts, case.name


@pytest.mark.parametrize("precision", ["highest", "medium"])
def test_conv_net_with_extreme_sums(precision: str) -> None:
    program = conv_net()
    x = np.random.default_rng(1).choice([400, -400, 399, 1, 0], size=(9, 32, 16, 16))
    expected = run(program, x, backend="reference")
    torch.set_float32_matmul_precision(precision)
    try:
        got = run(program, x, device="cuda")
        assert torch.get_float32_matmul_precision() == precision
    finally:
        torch.set_float32_matmul_precision("highest")
    result = compare(program, [expected, got])
    assert result.equal, str(result.first)
    assert got.counts == expected.counts


def test_division_on_every_tie() -> None:
    for theta in (3, 7, 49, 4097, 65_537, 1_234_567):
        levels = ((1 << 23) - 1) // theta
        soma = Soma("n", 1, theta=theta, levels=max(3, levels), ladder=False)
        ties = torch.arange(0, levels + 1, device="cuda", dtype=torch.int32) * theta
        fire = emission(soma, torch.int32, torch.device("cuda"))
        for shift in (-1, 0, 1):
            v = (ties + shift).clamp(max=(1 << 23) - 1)
            expected = torch.div(v.to(torch.int64), theta, rounding_mode="floor").clamp(0, max(3, levels))
            assert bool((fire(v[:, None], 0).to(torch.int64)[:, 0] == expected).all())


def test_session_equals_batch() -> None:
    program = conv_net()
    frames = np.random.default_rng(3).integers(-400, 401, size=(4, 2, 32, 16, 16))
    batch = run(program, frames, device="cuda", time_axis=True)
    running = session(program, backend="torch", device="cuda", batch=2)
    for t, frame in enumerate(frames):
        result = running.step(frame)
        assert all((payload == batch.payloads[name][t]).all() for name, payload in result.payloads.items())
    assert result.outputs is not None
    assert (result.outputs == batch.outputs).all()


def test_no_waiting_for_the_device_inside_a_block() -> None:
    """Everything between placing the inputs and reading the outputs is queued without a host sync."""
    program, device = conv_net(), torch.device("cuda")
    backend = TorchBackend(device=device)
    made = backend.plan(program)
    x = np.broadcast_to(np.ones((1, 1, 32, 16, 16), np.int64), (4, 5, 32, 16, 16))
    with exact_arithmetic(device):
        payloads = put_inputs(program, made, {"in": x}, device)
        evaluate(program, made, dict(payloads), records_for(program, made.payloads, 5, device, everything=False))
        records = records_for(program, made.payloads, 5, device, everything=False)  # kernels are compiled by now
        torch.cuda.set_sync_debug_mode("error")
        try:
            evaluate(program, made, payloads, records)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert records.trace("torch").samples == 5
