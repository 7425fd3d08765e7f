"""Pools composed with their neighbours, on random geometries, against running one after the other in float64."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snn2chip.ir.channel_layers import SumPoolLayer
from snn2chip.ir.linear_layers import Conv2dLayer, LinearLayer, WeightParts
from snn2chip.passes.pooling import conv_then_pool, pool_then_conv, pool_then_linear, pool_then_pool

GEOMETRY = st.fixed_dictionaries(
    {
        "size": st.tuples(st.integers(6, 11), st.integers(6, 11)),
        "kernel": st.tuples(st.integers(1, 3), st.integers(1, 3)),
        "stride": st.tuples(st.integers(1, 3), st.integers(1, 3)),
        "padding": st.integers(0, 1),
        "conv": st.tuples(  # size, stride, padding, dilation, groups
            st.integers(1, 3), st.integers(1, 2), st.integers(0, 2), st.integers(1, 2), st.sampled_from([1, 2])
        ),
        "seed": st.integers(0, 2**16),
    }
)  # fmt: skip


def parts_like(*shape: int) -> WeightParts:
    return WeightParts(
        scale=2.0 ** torch.randint(-3, 1, shape[:1]).double(), integers=torch.randint(0, 2, shape) * 2 - 1
    )


def make(g: dict[str, object]) -> tuple[SumPoolLayer, Conv2dLayer]:
    torch.manual_seed(int(str(g["seed"])))
    pad = g["padding"] if min(g["kernel"]) > 1 else 0  # type: ignore[call-overload]
    pool = SumPoolLayer(
        name="pool", kernel=g["kernel"], stride=g["stride"], padding=pad,
        factor=torch.randint(1, 5, (2,)).double() / 4,
    )  # fmt: skip
    size, stride, padding, dilation, groups = g["conv"]  # type: ignore[misc]
    parts = parts_like(4, 2 // groups, size, size)
    bias = torch.randint(-4, 5, (4,)).double()
    conv = Conv2dLayer(
        name="conv", weight=parts.weight(), bias=bias, stride=stride, padding=padding, dilation=dilation, groups=groups
    )
    return pool, conv


@settings(max_examples=150, deadline=None, database=None, derandomize=True)
@given(GEOMETRY)
def test_pool_and_conv_in_either_order(g: dict[str, object]) -> None:
    pool, conv = make(g)
    shape = (2, *g["size"])  # type: ignore[misc]
    x = torch.randint(-4, 5, (1, 3, *shape)).double()
    pooled, bad = pool.out_shape([shape])
    if not bad and not conv.out_shape([pooled])[1]:
        composed = pool_then_conv(pool, conv, shape=shape)
        expected = conv.apply([pool.apply([x])])
        axes = zip(pool.kernel, pool.stride, pool.padding, conv.padding, pooled[1:], shape[1:], strict=True)
        sees_rest = any(outside and (p or k > s or out * s < n) for k, s, p, outside, out, n in axes)
        assert (composed is None) == sees_rest
        if composed is not None:
            assert torch.equal(composed.apply([x]), expected)
    after = SumPoolLayer(name="pool", kernel=pool.kernel, stride=pool.stride, padding=pool.padding, factor=0.25)
    convolved, bad = conv.out_shape([shape])
    if not bad and not after.out_shape([convolved])[1]:
        composed = conv_then_pool(conv, after, shape=shape)
        assert (composed is None) == (after.padding != (0, 0))
        if composed is not None:
            assert torch.equal(composed.apply([x]), after.apply([conv.apply([x])]))


@settings(max_examples=60, deadline=None, database=None, derandomize=True)
@given(GEOMETRY)
def test_pool_then_linear_and_pool(g: dict[str, object]) -> None:
    pool, _ = make(g)
    shape = (2, *g["size"])  # type: ignore[misc]
    x = torch.randint(-4, 5, (1, 3, *shape)).double()
    pooled = pool.apply([x])
    parts = parts_like(3, pooled[0, 0].numel())
    linear = LinearLayer(name="fc", weight=parts.weight(), bias=torch.ones(3).double(), parts=parts)
    composed = pool_then_linear(pool, linear, shape=shape)
    assert torch.equal(composed.apply([x]), linear.apply([pooled]))
    second = SumPoolLayer(name="next", kernel=2, stride=1, factor=0.5)
    if not second.out_shape([tuple(pooled.shape[2:])])[1]:
        both = pool_then_pool(pool, second)
        assert (both is None) == (pool.kernel != pool.stride or pool.padding != (0, 0))
        if both is not None:
            assert torch.equal(both.apply([x]), second.apply([pooled]))


def test_parts_follow_a_pool() -> None:
    """An average of 2x2 in front of binary weights: every sign four times, the scale a quarter."""
    torch.manual_seed(0)
    parts = parts_like(3, 2, 3, 3)
    conv = Conv2dLayer(name="conv", weight=parts.weight(), parts=parts, padding=1)
    pool = SumPoolLayer(name="pool", kernel=2, stride=2, factor=0.25)
    composed = pool_then_conv(pool, conv, shape=(2, 8, 8))
    assert composed is not None
    assert composed.parts is not None
    assert composed.parts.kind == "binary"
    assert torch.equal(composed.parts.integers, parts.integers.repeat_interleave(2, 2).repeat_interleave(2, 3))
    assert torch.equal(composed.parts.scale, parts.scale / 4)
    assert composed.out_shape([(2, 8, 8)]) == ((3, 4, 4), [])
    behind = conv_then_pool(conv, pool, shape=(2, 8, 8))
    assert behind is not None
    assert behind.parts is not None
    assert behind.parts.kind == "int4"  # sums of up to four signs
    assert behind.weight.shape == (3, 2, 4, 4)
