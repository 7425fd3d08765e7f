"""Detailed counts equal a counter that follows every payload of every neuron by hand."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import numpy as np
import pytest

from snn2chip import Input, Output, Program, Soma, Synapse
from snn2chip.api import stream
from snn2chip.ir.types import PayloadType
from snn2chip.registry import get_backend
from snn2chip.reports.detail import DetailCounter
from snn2chip.reports.tallies import bin_edges, set_bits
from snn2chip.testing.programs import random_program

sys.path.insert(0, str(Path(__file__).parent))
from brute import brute


def counted(program: Program, x, *, block: int | None = None):
    counter = DetailCounter(program)
    for trace in stream(program, x, block=block):
        counter.add(trace)
    return counter.result()


def counted_payloads(program: Program, coded, *, block: int):
    """The same on payloads `[T, B, ...]`."""
    counter, backend = DetailCounter(program), get_backend("torch")
    total = next(iter(coded.values())).shape[1]
    for start in range(0, total, block):
        counter.add(backend.run(program, {k: v[:, start : start + block] for k, v in coded.items()}))
    return counter.result()


def compare(program: Program, detail, truth, samples: int) -> None:
    for name, (sums, per_step) in truth["synapses"].items():
        row = detail.synapse(name)
        got = (row.synaptic_events, row.payload_events, row.bit_events, row.effective_operations, row.dense_operations)
        assert got == tuple(sums[k] for k in ("events", "payload", "bits", "effective", "dense")), name
        assert row.events_per_step == per_step
        assert detail.arrivals[name].tolist() == truth["arrivals"][name].ravel().tolist()
    for name, (first, values) in truth["sources"].items():
        row = detail.source(name)
        assert [*row.first_spikes, row.never_spiked] == [first[t] for t in range(program.steps + 1)]
        for lo, hi, count in row.payload_histogram:
            assert count == sum(n for v, n in values.items() if lo <= v <= hi)
        assert row.spikes == sum(n for v, n in values.items() if v) == sum(row.spikes_per_step)
        assert row.payload_sum == sum(abs(v) * n for v, n in values.items())
    for name, active in truth["active"].items():
        row = detail.source(name)
        assert row.active_updates == active.sum(), name
        assert detail.active_neurons[name].tolist() == active.ravel().tolist()
        assert row.all_updates == row.neurons * program.steps * samples


@pytest.mark.parametrize("seed", range(24))
def test_counts_of_random_programs_equal_the_count_by_hand(seed: int) -> None:
    case = random_program(seed, most_blocks=3)
    trace = case.expected
    detail = counted_payloads(case.program, case.coded, block=1)
    truth = brute(case.program, trace)
    compare(case.program, detail, truth, trace.samples)
    for name, (sums, _) in truth["synapses"].items():  # the cheap counts of every run agree
        row = trace.counts.synapses[name]
        assert row["synaptic_events"] == sums["events"]
        assert row["effective_operations"] == sums["effective"]
        assert row["dense_events"] == sums["dense"]


@pytest.mark.parametrize(
    ("values", "payload", "bits"),
    [([1], 800, 800), ([3], 2400, 1600), ([1, 2], 1200, 800), ([1, -1], 800, 800)],
    ids=["0/1", "0/theta-scaled", "graded 0/1/2", "ternary"],
)
def test_sixteen_active_inputs_of_a_100_50_layer_are_800_events(values, payload, bits) -> None:
    weight = np.random.default_rng(1).integers(-2, 2, (50, 100))
    program = Program(
        nodes=[Input("x", (100,), -1, 3), Synapse("w", "linear", weight), Soma("s", (50,), fire="none"), Output("o")],
        edges=[("x", "w"), ("w", "s"), ("s", "o")],
        steps=1,
    )
    x = np.zeros((1, 100), int)
    x[0, 20:36] = (values * 16)[:16]
    row = counted(program, x).synapse("w")
    assert (row.synaptic_events, row.payload_events, row.bit_events) == (800, payload, bits)
    assert row.dense_operations == 5000
    assert row.effective_operations == int((weight[:, 20:36] != 0).sum())


def test_blocks_of_samples_add_up() -> None:
    case = random_program(5, most_blocks=4)
    x = {name: np.repeat(v, 3, axis=1) for name, v in case.coded.items()}
    assert counted_payloads(case.program, x, block=2) == counted_payloads(case.program, x, block=100)


def test_words_that_wait_by_hand() -> None:
    """A branch that skips one soma waits one step (4 words); a window of 3 steps keeps 2 x 3 words per neuron."""
    program = Program(
        nodes=[
            Input("x", (4,), 0, 1),
            Synapse("a", "identity"),
            Soma("s", (4,), theta=1),
            Synapse("b", "identity"),
            Synapse("c", "identity"),
            Soma("t", (4,), fire="none"),
            Output("o"),
        ],
        edges=[("x", "a"), ("a", "s"), ("s", "b"), ("b", "t"), ("x", "c"), ("c", "t"), ("t", "o")],
        steps=3,
    )
    found = counted(program, np.ones((1, 4), int))
    assert (found.delay_words, found.window_words) == (4, 0)
    window = Soma("s", (4,), theta=1, reset="drop", window=np.eye(3, dtype=int))
    nodes = [window if n.name == "s" else n for n in program.nodes]
    found = counted(Program(nodes=nodes, edges=program.edges, steps=3), np.ones((1, 4), int))
    assert (found.delay_words, found.window_words) == (16, 24)  # the skip now waits 3 steps longer


def test_bins_cover_the_range_without_gaps() -> None:
    for kind in (PayloadType(0, 1), PayloadType(-1, 1), PayloadType(0, 5000), PayloadType(-(1 << 23), (1 << 24) - 1)):
        bins = bin_edges(kind)
        assert bins[0][0] == kind.lo
        assert bins[-1][1] == kind.hi
        assert all(a[1] + 1 == b[0] for a, b in itertools.pairwise(bins))
        assert (0, 0) in bins


def test_set_bits_are_those_of_the_binary_form() -> None:
    values = np.array([0, 1, 2, 3, 7, 8, 255, (1 << 24) - 1, 1 << 23])
    assert set_bits(values).tolist() == [bin(v).count("1") for v in values.tolist()]
