"""Memory: values die with their last reader, blocks have a bounded size, samples do not add up."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from snn2chip_backends.torch import TorchBackend, backend, engine
from snn2chip_backends.torch.backend import BLOCK_BYTES, MOST_SAMPLES

from snn2chip.ir.nodes import Input, Output, Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma


def tower(layers: int, size: int = 4) -> Program:
    """Somas one above the other, the first one also read by the last one, two outputs."""
    nodes: list[Any] = [Input("in", (2, size, size), 0, 3)]
    edges: list[Any] = []
    before = "in"
    for i in range(layers):
        nodes += [Synapse(f"s{i}", "identity"), Soma(f"n{i}", (2, size, size), theta=2)]
        edges += [(before, f"s{i}"), (f"s{i}", f"n{i}")]
        before = f"n{i}"
    nodes += [Synapse("short", "identity"), Output("first", "count"), Output("last", "payload")]
    edges += [("n0", "short"), ("short", before), ("n0", "first"), (before, "last")]
    return Program(nodes=nodes, edges=edges, steps=3)


def test_values_are_freed_after_their_last_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    alive: list[set[str]] = []
    free = engine._Block.free

    def spy(self: Any, names: list[str]) -> None:
        free(self, names)
        alive.append(set(self.values))

    monkeypatch.setattr(engine._Block, "free", spy)
    monkeypatch.setattr(backend, "run_captured", lambda *_: None)
    TorchBackend().run(tower(4), {"in": np.ones((3, 2, 2, 4, 4), np.int64)}, record="outputs")
    assert max(len(values) for values in alive) == 2, "n0 waits for the shortcut, one more is in work"
    assert {"n0", "n1"} in alive
    assert alive[-1] == set()


def test_a_current_with_two_readers_stays_until_both_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    program = Program(
        nodes=[
            Input("in", 3, 0, 3),
            Synapse("shared", "identity", 2),
            Soma("a", 3, theta=2),
            Soma("b", 3, theta=5),
            Output("o", "count"),
        ],
        edges=[("in", "shared"), ("shared", "a"), ("shared", "b"), ("b", "o")],
        steps=2,
    )
    backend = TorchBackend()
    plan = backend.plan(program)
    assert plan.inlined == frozenset()
    make = plan.currents["shared"]
    monkeypatch.setitem(plan.currents, "shared", lambda p: (calls.append("made"), make(p))[1])
    trace = backend.run(program, {"in": np.full((2, 4, 3), 3)}, record="all")
    assert calls == ["made"]
    assert trace.payloads["a"].sum() == 2 * 4 * 3
    assert trace.payloads["b"].sum() == 2 * 4 * 3


def test_block_follows_the_size_of_the_program() -> None:
    backend = TorchBackend()
    sizes = [4, 16, 64, 256]
    blocks = [backend.block(tower(2, size)) for size in sizes]
    assert blocks[0] == MOST_SAMPLES
    assert blocks == sorted(blocks, reverse=True)
    for size, block in zip(sizes[2:], blocks[2:], strict=True):
        payloads = 2 * 3 * 2 * size * size  # two somas alive, T = 3, one byte each
        assert block * payloads <= BLOCK_BYTES["cpu"]
    assert backend.block(tower(2, 4096)) == 1


MEASURE = """
import resource, sys
import numpy as np
import torch
from snn2chip.api import run
from snn2chip.ir.nodes import Input, Output, Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma

torch.set_num_threads(1)
rng = np.random.default_rng(0)
program = Program(
    nodes=[Input("in", (3, 32, 32), 0, 255), Synapse("c", "conv2d", rng.integers(-9, 9, (16, 3, 3, 3)), padding=1),
           Soma("n", (16, 32, 32), theta=500), Synapse("p", "sumpool", kernel_size=8),
           Soma("m", (16, 4, 4), fire="none"), Output("o")],
    edges=[("in", "c"), ("c", "n"), ("n", "p"), ("p", "m"), ("m", "o")], steps=4)
x = rng.integers(0, 256, size=(1200, 3, 32, 32), dtype=np.uint8)
peaks = []
for samples in (300, 300, 1200):
    trace = run(program, x[:samples], record="outputs", block=100)
    assert trace.samples == samples and trace.outputs.any()
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
print(peaks[2] - peaks[1])
"""


def test_peak_memory_does_not_grow_with_samples() -> None:
    """Four times the samples, several blocks more: less than 12 MB more (their payloads alone are 60 MB)."""
    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, timeout=120, check=True)
    assert int(done.stdout) < 12 * 1024
