"""Write an integer program by hand, run it, save it with golden vectors, and feed it step by step.

One neuron with two thresholds' worth of levels: v <- v + p0 - p1; s = min(floor(v/3), 2); v <- v - 3 s.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

import snn2chip
from snn2chip import Input, Output, Program, Soma, Synapse
from snn2chip.checks.outside import check_golden

program = Program(
    nodes=[
        Input("pixels", (2,), 0, 15, coding="steps"),
        Synapse("weights", weight=[[1, -1]], bits=1),
        Soma("neuron", (1,), v_init=1, theta=3, levels=2),
        Output("spikes", read="payload"),
    ],
    edges=[("pixels", "weights"), ("weights", "neuron"), ("neuron", "spikes")],
    steps=3,
)

x = np.array([[[4, 0]], [[0, 2]], [[9, 1]]])  # [T, B, 2]: three steps of one sample
trace = snn2chip.run(program, x, backend="reference", time_axis=True)
print("payloads  ", trace.payloads["neuron"][:, 0, 0].tolist())  # 1, 0, 2
print("potentials", trace.potentials["neuron"][:, 0, 0].tolist())  # 2, 0, 2

session = snn2chip.session(program, backend="reference")
print("streamed  ", [int(session.step(step).payloads["neuron"][0, 0]) for step in x])

with tempfile.TemporaryDirectory() as folder:
    file = Path(folder) / "neuron.s2c"
    program.save(file, golden=1, inputs=x)
    print("golden    ", "equal" if check_golden(file, backends=("torch",)).equal else "different")
