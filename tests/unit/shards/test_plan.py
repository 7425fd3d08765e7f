"""Shards cover every sample once, on their grain, around what is there."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from snn2chip.shards.plan import Shard, cut, default_size


@given(
    total=st.integers(1, 200),
    size=st.integers(1, 250),
    grain=st.integers(1, 40),
    done=st.lists(st.tuples(st.integers(-5, 210), st.integers(-5, 210)), max_size=6),
)
def test_every_sample_once_in_order_on_the_grain(total, size, grain, done):
    shards = cut(total, size=size, grain=grain, done=done)
    assert [i for s in shards for i in range(s.start, s.stop)] == list(range(total))
    assert [s.index for s in shards] == list(range(len(shards)))
    assert all(s.start % grain == 0 for s in shards)
    assert all(s.size < size + grain for s in shards if (s.start, s.stop) not in done)


def test_stored_ranges_stay_and_the_gaps_are_cut():
    found = cut(20, size=4, grain=2, done=[(6, 12), (10, 14), (3, 5), (16, 20)])
    assert [(s.start, s.stop) for s in found] == [(0, 4), (4, 6), (6, 12), (12, 16), (16, 20)]
    assert [(s.start, s.stop) for s in cut(10, size=3, grain=2)] == [(0, 4), (4, 8), (8, 10)]


def test_a_shard_says_its_samples():
    assert str(Shard(0, 64, 128)) == "samples 64..127"
    assert str(Shard(0, 5, 6)) == "sample 5"
    assert default_size(50_000, 32) == 391
    assert default_size(3, 8) == 1
    assert default_size(50_000, 4096) == 4
    assert default_size(50_000, 4096, most=512) == 98
