"""Raw samples to payloads: coding, offsets, host stems, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from snn2chip.api import coded_inputs
from snn2chip.errors import InputError
from snn2chip.ir.host import encode, run_host
from snn2chip.ir.nodes import Host, HostOp, Input, Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma

RNG = np.random.default_rng(9)


def test_repeat_gives_the_same_frame_at_every_step() -> None:
    coded = encode(Input("in", (3,), 0, 9), np.array([[1, 2, 3], [4, 5, 6]]), 4)
    assert coded.shape == (4, 2, 3)
    assert coded.dtype == np.int64
    assert (coded == [[1, 2, 3], [4, 5, 6]]).all()


def test_steps_gives_a_frame_per_step() -> None:
    frames = RNG.integers(0, 2, (4, 2, 3))
    assert (encode(Input("in", (3,), coding="steps"), frames, 4) == frames).all()
    assert (encode(Input("in", (3,)), frames, 4, time_axis=True) == frames).all()


@pytest.mark.parametrize(
    ("coding", "x", "spikes"),
    [
        ("rate-floor", 0.5, [0, 1, 0, 1]),
        ("rate-floor", 1.0, [1, 1, 1, 1]),
        ("rate-floor", 0.0, [0, 0, 0, 0]),
        ("rate-floor", 0.24, [0, 0, 0, 0]),
        ("rate-floor", 0.74, [0, 1, 0, 1]),
        ("rate-round", 0.74, [0, 1, 1, 1]),
        ("rate-round", 0.24, [0, 0, 0, 1]),
        ("rate-round", 0.125, [0, 0, 0, 1]),
        ("rate-round", 0.12, [0, 0, 0, 0]),
    ],
)
def test_rate_coding_by_hand(coding: str, x: float, spikes: list[int]) -> None:
    """k = floor(x*T) or floor(x*T + 1/2) spikes; s(t) = floor(k(t+1)/T) - floor(k t/T)."""
    assert encode(Input("in", (1,), coding=coding), np.array([[x]]), 4).ravel().tolist() == spikes


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 8, 16])
@pytest.mark.parametrize("hi", [1, 4])
def test_rate_coding_sends_k_spikes_spread_evenly(steps: int, hi: int) -> None:
    x = RNG.random((20, 6)) * hi * 0.5
    coded = encode(Input("in", (6,), 0, hi, coding="rate-floor", scale=0.5), x, steps)
    k = np.floor(x * steps / 0.5)
    assert (coded.sum(0) == k).all()
    for t in range(steps):
        assert (coded[: t + 1].sum(0) == np.floor(k * (t + 1) / steps)).all()


@pytest.mark.parametrize(
    ("x", "scale", "offset", "payload"),
    [
        (0.5, 1.0, 0, 1),
        (1.49, 1.0, 0, 1),
        (-0.5, 1.0, 0, 0),
        (-0.51, 1.0, 0, -1),
        (0.3, 0.1, 0, 3),
        (100.0, 1.0, 60, 40),
        (7, 5.0, 3, 4),
    ],
)
def test_floats_round_half_up_integers_only_lose_the_offset(x: Any, scale: float, offset: int, payload: int) -> None:
    node = Input("in", (1,), -128, 127, scale=scale, offset=offset)
    assert encode(node, np.array([[x]]), 1).item() == payload


def test_offset_per_channel() -> None:
    node = Input("in", (2, 2, 1), -255, 255, offset=[10, 100])
    assert encode(node, np.full((1, 2, 2, 1), 50), 1)[0, 0, :, 0, 0].tolist() == [40, -50]


@pytest.mark.parametrize(
    ("node", "samples", "told"),
    [
        (Input("in", (3,), layer="stem"), np.zeros((2, 4)), "in (stem): expected samples [B, 3], got [2, 4]"),
        (Input("in", (3,), coding="steps"), np.zeros((2, 3)), "expected samples [T, B, 3], got [2, 3]"),
        (Input("in", (3,), coding="steps"), np.zeros((2, 1, 3)), "expected 4 steps on the first axis, got 2"),
        (Input("in", (3,)), np.full((1, 3), np.nan), "must be finite numbers"),
        (Input("in", (3,)), np.full((1, 3), np.inf), "must be finite numbers"),
        (Input("in", (3,)), np.array([["a", "b", "c"]]), "must be finite numbers"),
        (Input("in", (3,)), np.full((1, 3), 1j), "must be finite numbers"),
        (Input("in", (3,)), np.full((1, 3), 2), "values 2..2 are outside the declared range [0, 1]"),
        (Input("in", (3,)), np.full((1, 3), -1), "values -1..-1 are outside the declared range"),
        (Input("in", (3,), 0, 255), np.full((1, 3), 1e18), "too large for exact integers"),
        (Input("in", (3,), coding="rate-floor"), np.full((1, 3), 1.2), "rate coding takes values 0..1"),
        (Input("in", (3,), coding="rate-floor"), np.full((1, 3), -0.1), "rate coding takes values 0..1"),
    ],
)
def test_refused_samples(node: Input, samples: Any, told: str) -> None:
    with pytest.raises(InputError) as raised:
        encode(node, samples, 4)
    assert told in str(raised.value)


def test_host_operations_equal_torch() -> None:
    """conv (stride, padding, groups), bias, relu, pools, linear: exact, against torch in float64."""
    f, weight = torch.nn.functional, RNG.integers(-9, 10, (4, 1, 3, 2))
    last = RNG.integers(-9, 10, (5, 4 * 1 * 2))
    ops = [
        HostOp(kind="conv2d", weight=weight, stride=(1, 2), padding=(1, 0), groups=2),
        HostOp(kind="bias", weight=[5, -5, 0, 9]),
        HostOp(kind="relu"),
        HostOp(kind="maxpool", kernel_size=2, stride=2, padding=1),
        HostOp(kind="sumpool", kernel_size=(3, 2), stride=(2, 1)),
        HostOp(kind="linear", weight=last),
    ]
    x = RNG.integers(-20, 21, (3, 2, 6, 8))
    y = f.conv2d(
        torch.from_numpy(x).double(), torch.from_numpy(weight).double(), stride=(1, 2), padding=(1, 0), groups=2
    )
    y = (y + torch.tensor([5.0, -5, 0, 9])[:, None, None]).relu()
    y = f.max_pool2d(y, 2, 2, padding=1)
    y = f.avg_pool2d(y, (3, 2), (2, 1)) * 6
    shape = y.shape[1:]
    host = Host("h", tuple(shape), 0, 1, sample_shape=(2, 6, 8), ops=ops[:-1])
    assert (run_host(host, x) == y.round().numpy()).all()
    whole = Host(
        "h", (5,), 0, 1, sample_shape=(2, 6, 8), ops=[*ops[:-1], HostOp(kind="linear", weight=last[:, : y[0].numel()])]
    )
    want = y.round().flatten(1) @ torch.from_numpy(last[:, : y[0].numel()]).double().T
    assert (run_host(whole, x) == want.numpy()).all()


def test_host_rescale_by_hand() -> None:
    """clip(rshift(x * gain, shift), lo, hi): 5*3/2 = 7.5 -> 8, -15/2 = -7.5 -> -7, 300 -> 9."""
    op = HostOp(kind="rescale", gain=[3, 1], shift=1, lo=-8, hi=9)
    host = Host("h", (2,), -8, 9, ops=[op])
    assert run_host(host, np.array([[5, 5], [-5, -5], [300, -300]])).tolist() == [[8, 3], [-7, -2], [9, -8]]


def test_host_is_coded_like_an_input() -> None:
    host = Host("h", (1,), 0, 3, sample_shape=(2,), ops=[HostOp(kind="linear", weight=[[1, 1]])], coding="rate-floor")
    assert encode(host, np.array([[1, 2]]), 4).ravel().tolist() == [3, 3, 3, 3]
    frames = np.array([[[1, 0]], [[1, 1]], [[0, 0]], [[2, 1]]])
    assert encode(host, frames, 4, time_axis=True).ravel().tolist() == [1, 2, 0, 3]
    with pytest.raises(InputError, match="outside the declared range"):
        encode(host, frames + 1, 4, time_axis=True)


def test_host_scales_floats_before_its_operations() -> None:
    host = Host("h", (2,), -9, 9, ops=[HostOp(kind="relu")], scale=0.5, offset=1)
    assert encode(host, np.array([[1.0, 0.2]]), 1).ravel().tolist() == [1, 0]


def two_inputs() -> Program:
    return Program(
        nodes=[
            Input("a", (2,), 0, 9),
            Input("b", (2,), coding="steps"),
            Synapse("wa", "identity"),
            Synapse("wb", "identity"),
            Soma("s", (2,), theta=3),
        ],
        edges=[("a", "wa"), ("b", "wb"), ("wa", "s"), ("wb", "s")],
        steps=3,
    )


def test_inputs_by_name() -> None:
    coded = coded_inputs(two_inputs(), {"a": np.full((4, 2), 7), "b": np.ones((3, 4, 2), int)})
    assert {k: v.shape for k, v in coded.items()} == {"a": (3, 4, 2), "b": (3, 4, 2)}
    assert (coded["a"] == 7).all()


@pytest.mark.parametrize(
    ("inputs", "told"),
    [
        (np.zeros((4, 2)), "takes several inputs, give a dict of samples by name: a [N, 2], b [T, N, 2]"),
        ({"a": np.zeros((4, 2))}, "takes inputs a [N, 2], b [T, N, 2]; got a"),
        ({"a": np.zeros((4, 2)), "c": 0}, "takes inputs a [N, 2], b [T, N, 2]; got a, c"),
        ({"a": np.zeros((4, 2)), "b": np.zeros((3, 5, 2))}, "different numbers of samples"),
        ({"a": np.zeros((0, 2)), "b": np.zeros((3, 0, 2))}, "no samples given"),
        ({"a": np.float64(3), "b": np.zeros((3, 1, 2))}, "input 'a': expected samples on the first axis"),
    ],
)
def test_inputs_that_do_not_fit(inputs: Any, told: str) -> None:
    with pytest.raises(InputError) as raised:
        coded_inputs(two_inputs(), inputs)
    assert told in str(raised.value)
