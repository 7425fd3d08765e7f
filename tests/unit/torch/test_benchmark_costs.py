"""Figures that the engine's own costs are made of: memory, operations, fused forms, runs that cannot record."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import attrs
import numpy as np
import pytest

from benchmarks.costs import BareBackend, SynapseClock
from benchmarks.engine import refusal, same_sums
from benchmarks.networks import conv_net, mlp, pixels
from benchmarks.peak import SessionPeak, extra_megabytes, forked, of_rows
from benchmarks.table import Row
from snn2chip.api import run
from snn2chip.ir.nodes import Input, Output, Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma
from snn2chip.transforms import transform

linux = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
MB = 1 << 20


def taken(megabytes: int) -> None:
    np.ones(megabytes * MB, np.uint8)


@linux
def test_memory_of_a_row_is_what_it_takes_at_most() -> None:
    """Also after more was taken and freed before; and in a process of its own, of which nothing is left here."""
    taken(256)
    assert 63 <= extra_megabytes(lambda: taken(64)) < 80
    kept: list[int] = []

    def work() -> None:
        kept.append(1)
        taken(64)

    assert 63 <= forked(Row(name="r", samples=1, run=work), threads=1) < 80
    assert not kept
    first = Row(name="first", samples=1, run=lambda: taken(3))
    assert forked(first, threads=1, before=lambda: taken(96)) < 40  # what ran before is not the row's
    with pytest.raises(RuntimeError, match="bad: the process that measures its memory ended early"):
        forked(Row(name="bad", samples=1, run=lambda: 1 / 0), threads=1)


@linux
def test_memory_of_a_session_is_that_of_all_its_processes() -> None:
    child = "import time; x = bytearray(40 << 20); x[:] = bytes(1) * len(x); print(1, flush=True); time.sleep(60)"
    code = f"import subprocess, sys; input(); subprocess.run([sys.executable, '-c', {child!r}])"
    words = [sys.executable, "-c", code]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(words, text=True, start_new_session=True, **pipes) as process:  # type: ignore[call-overload]
        try:
            with SessionPeak(process.pid) as memory:
                process.stdin.write("go\n")
                process.stdin.flush()
                assert process.stdout.readline() == "1\n"
            assert 40 <= memory.extra < 200
        finally:
            os.killpg(process.pid, signal.SIGKILL)


@linux
def test_every_row_of_a_question_has_its_memory() -> None:
    found = of_rows("numpy", quick=True, threads=1)
    assert set(found) == {"NumPy loop", "NumPy loop, first layer once", "torch engine", "torch, raw samples in"}
    assert 0.5 < found["NumPy loop"] < 50  # 256 frames in float32: 0.8 MB


def test_operations_in_synapses_are_counted_as_they_are_carried_out() -> None:
    """Repeated frames once: 2 * 64*3*9 * 32*32 of 8 samples; spikes at each step: 2 * 64*64*9 * 16*16 of 4 * 8."""
    program = conv_net()
    x = pixels(program, 8)
    clock = SynapseClock(program, x)
    assert (clock() == run(program, x, record="outputs").outputs).all()
    assert clock.done == 2 * 64 * 3 * 9 * 1024 * 8 + 2 * 64 * 64 * 9 * 256 * 32
    assert 0 < clock.seconds[0] == clock.spent


def repeated() -> Program:
    """One layer under a frame that stays, read out: what `fuse-time` takes."""
    rng = np.random.default_rng(0)
    soma = Soma("soma", 6, theta=900, v_init=450)
    nodes = [Input("input", 5, 0, 255), Synapse("w0", "linear", rng.integers(-9, 10, (6, 5))), soma]
    nodes += [
        Synapse("w1", "linear", rng.integers(-9, 10, (3, 6))),
        Soma("out", 3, fire="none"),
        Output("o", "potential"),
    ]
    edges = [("input", "w0"), ("w0", "soma"), ("soma", "w1"), ("w1", "out"), ("out", "o")]
    return Program(nodes=nodes, edges=edges, steps=4)


def test_a_fused_form_with_other_sums_is_found() -> None:
    program = repeated()
    one, x = transform(program, "fuse-time"), pixels(program, 9)
    assert "over the 4 steps" in same_sums(program, one, x)
    assert run(program, x).payloads["soma"].any()
    soma = attrs.evolve(one["soma"], theta=2 * one["soma"].theta)
    wrong = attrs.evolve(one, nodes=[soma if n.name == "soma" else n for n in one.nodes])
    with pytest.raises(AssertionError):
        same_sums(program, wrong, x)


def test_what_fuse_time_refuses_is_quoted() -> None:
    assert refusal(repeated()) == "fuse-time takes it"
    assert "soma1: sees a different current at every step" in refusal(mlp((20, 30, 10, 10)))


def test_a_run_that_cannot_record_gives_the_same_outputs_and_counts() -> None:
    program = conv_net(channels=8)
    x = pixels(program, 3)
    bare, full = (run(program, x, backend=b, record="all") for b in (BareBackend(), "torch"))
    assert (bare.outputs == full.outputs).all()
    assert bare.counts == full.counts
    assert not bare.payloads
    assert not bare.potentials
    assert not bare.inputs
