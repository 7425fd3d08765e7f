"""Results go through bytes and come back the same, type by type; what is damaged is said to be."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from snn2chip.shards.trees import pack, unpack

PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
ARRAYS = st.lists(st.integers(-(2**63), 2**63 - 1), max_size=5).map(lambda x: np.array(x, np.int64))
TREES = st.recursive(
    PLAIN | ARRAYS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


def same(a, b):
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and a.shape == b.shape and bool((a == b).all())
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(tree=TREES)
def test_what_goes_in_comes_out(tree):
    assert same(unpack(pack(tree)), tree)


@pytest.mark.parametrize("dtype", ["int8", "int32", "int64", "uint64", "float32", "float64", "bool"])
def test_types_and_shapes_of_arrays(dtype):
    x = np.arange(12).reshape(3, 1, 4).astype(dtype)
    assert same(unpack(pack({"x": x, "again": x, "scalar": x[0, 0, 0]}))["again"], x)
    assert same(unpack(pack([np.zeros((0, 4), dtype), np.array(7).astype(dtype)]))[1], np.array(7).astype(dtype))


def test_counts_take_the_bytes_that_they_need_and_equal_arrays_one_place():
    noise = np.random.default_rng(0).integers(0, 100, 100_000)
    assert len(pack({"a": noise})) < 110_000
    assert len(pack({"a": noise, "b": noise.copy()})) < 110_000


def test_damage_is_an_error_and_nothing_is_unpickled():
    data = pack({"x": np.arange(50), "y": [1, "two"]})
    for at in range(0, len(data), 7):
        bad = bytearray(data)
        bad[at] ^= 0x55
        with suppress(ValueError):
            assert same(unpack(bytes(bad)), unpack(data))  # a byte that says nothing
    with pytest.raises(ValueError, match="damaged"):
        unpack(data[:-30])
    with pytest.raises(ValueError, match="damaged"):
        unpack(pack({"$array": ["a0", "no type"]}))
    with pytest.raises(ValueError, match="never unpickled"):
        pack_object()


def pack_object():
    import io

    stream = io.BytesIO()
    np.savez(stream, tree=np.array([{"a": 1}], dtype=object))
    return unpack(stream.getvalue())
