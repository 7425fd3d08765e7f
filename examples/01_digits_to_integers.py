"""Train a small network with QCFS activations, lower it to integers two ways, and prove the backends equal.

Run it with `python examples/01_digits_to_integers.py`; it takes about ten seconds.
"""

from __future__ import annotations

import torch

import snn2chip
from snn2chip.convert import qcfs_mlp
from snn2chip.data import load_data

x_train, y_train = load_data("digits", split="train")  # raw pixels 0..16, [1347, 1, 8, 8]
x_test, y_test = load_data("digits", split="test")  # [450, 1, 8, 8]
x_train, x_test = x_train.reshape(len(x_train), -1), x_test.reshape(len(x_test), -1)

for weights, steps, levels in (("ternary", 1, 8), ("int8", 4, 2)):
    torch.manual_seed(0)
    model = qcfs_mlp.QCFSMLP(weights=weights, levels=8)
    qcfs_mlp.train(model, x_train, y_train, epochs=20)

    # Integers only from here: 8 levels in one step, or 4 steps of 2 levels, which give the same rates.
    program = qcfs_mlp.lower(model, steps=steps, levels=levels)
    trace = snn2chip.run(program, x_test, backend="torch")
    result = snn2chip.check(program, x_test, backends=("reference", "torch"))
    result.raise_if_different()

    print(program.text())
    print(f"float accuracy    {qcfs_mlp.accuracy(model, x_test, y_test):.4f}")
    print(f"integer accuracy  {(trace.pred == y_test).mean():.4f}")
    print(f"equal             {result.compared:,} integers on {' and '.join(result.backends)}")
    print(f"spikes per sample {trace.counts.totals['spikes'] / trace.samples:.1f}\n")
