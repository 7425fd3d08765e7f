"""`to_lava`: live processes that are connected to somebody else's Lava processes.

Each case runs in a Python of its own, because Lava chooses how multiprocessing starts processes.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = [pytest.mark.lava, pytest.mark.skipif(sys.version_info[:2] != (3, 10), reason="lava-nc needs Python 3.10")]

HEAD = """
import numpy as np
from snn2chip.ir.nodes import Input, Output, Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma
from snn2chip.registry import get_backend
from snn2chip_backends.lava import to_lava

rng = np.random.default_rng(0)
program = Program(
    nodes=[
        Input("x", (2, 3), 0, 3), Synapse("w", weight=rng.integers(-4, 5, (5, 6))),
        Soma("s", 5, theta=4, levels=2, bias=1), Synapse("v", weight=rng.integers(-4, 5, (4, 5))),
        Soma("out", 4, fire="none", bias=1), Output("scores"), Output("spikes", "payload"),
    ],
    edges=[("x", "w"), ("w", "s"), ("s", "v"), ("v", "out"), ("out", "scores"), ("s", "spikes")],
    steps=3,
)
x = rng.integers(0, 4, (3, 5, 2, 3))
expected = get_backend("reference").run(program, {"x": x})
"""

OWN_PROCESSES = """
from lava.proc.io.sink import RingBuffer as Sink
from lava.proc.io.source import RingBuffer as Source

net = to_lava(program)
total = net.machine_steps(5)
frames = np.zeros((2, 3, total), dtype=int)
frames[..., :15] = x.transpose(2, 3, 1, 0).reshape(2, 3, 15)  # sample after sample, step after step
source, scores, spikes = Source(data=frames), Sink(shape=(4,), buffer=total), Sink(shape=(5,), buffer=total)
source.s_out.connect(net.inputs["x"])
net.outputs["scores"].connect(scores.a_in)
net.outputs["spikes"].connect(spikes.a_in)
try:
    net.run(samples=5)
    v, s = scores.data.get().astype(int), spikes.data.get().astype(int)
finally:
    net.stop()
for n in range(5):
    assert (v[:, net.output_steps("scores", n)].T == expected.potentials["out"][:, n]).all()
    assert (s[:, net.output_steps("spikes", n)].T == expected.payloads["s"][:, n]).all()
    assert (v[:, net.output_steps("scores", n)[-1]] == expected.outputs[n]).all()
assert expected.payloads["s"].any() and net.layout["w"].process == "stock Dense"
print("equal", total)
"""

OUT_OF_RANGE = """
from snn2chip_backends.lava.net.runtime import NetworkFailure
from snn2chip_backends.lava.net.watch import run_network
from lava.proc.io.source import RingBuffer as Source

net = to_lava(program)
source = Source(data=np.full((2, 3, 4), 9))
source.s_out.connect(net.inputs["x"])
try:
    run_network(source, 4, limit_s=20)
except NetworkFailure as failure:
    print(failure.process, "|", failure.text.splitlines()[-1])
"""

START_METHOD = """
import multiprocessing
multiprocessing.set_start_method("spawn")
from snn2chip.errors import EnvironmentFault
try:
    to_lava(program)
except EnvironmentFault as error:
    print(error)
"""


def script(body: str) -> str:
    done = subprocess.run([sys.executable, "-c", HEAD + body], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_own_source_and_sinks_see_what_the_reference_computes():
    assert script(OWN_PROCESSES) == "equal 17\n"  # 5 samples of 3 steps and a skew of 2


def test_payloads_outside_the_declared_range_are_refused_at_the_door():
    said = script(OUT_OF_RANGE)
    assert said.startswith("x | ValueError: input x: payload 9..9 at machine step 0")
    assert "0..3" in said


def test_a_start_method_chosen_before_is_explained():
    assert "Lava must be imported before" in script(START_METHOD)
