# %% [markdown]
# # Find a divergence
#
# Somebody sends the payloads of "the same" network, and they are not ours. One weight of 2,368 is wrong. Which?

# %%
import attrs
import numpy as np
import torch
from torch import nn

import snn2chip
from snn2chip.checks.compare import compare
from snn2chip.data import load_data
from snn2chip.nn import LIF, Repeat, Seq, TimeMean

x, _ = load_data("digits", split="test")
raw = torch.as_tensor(load_data("digits", split="train")[0][:200], dtype=torch.float32)
torch.manual_seed(0)
model = Seq(Repeat(6), nn.Flatten(), nn.Linear(64, 32), LIF(steps=6), nn.Linear(32, 10), TimeMean())
program = snn2chip.compile(model, raw[:2], calibration=raw, input_range=(0, 16))
ours = snn2chip.run(program, x[:50], backend="reference")
ours

# %% [markdown]
# We play the other side: a weight drawn at random changes its sign, and only the payloads come back.

# %%
rng = np.random.default_rng(7)
first = next(node for node in program.nodes if isinstance(node, snn2chip.Synapse))
weight = first.weight.copy()
row, column = (int(i) for i in rng.choice(np.argwhere(np.abs(weight) > 20)))
weight[row, column] *= -1
wrong = [attrs.evolve(node, weight=weight) if node is first else node for node in program.nodes]
theirs = attrs.evolve(snn2chip.run(attrs.evolve(program, nodes=wrong), x[:50], backend="torch"), backend="theirs")

# %% [markdown]
# ## The first difference

# %%
result = compare(program, [ours, theirs])
print(result.first)
assert not result.equal
assert result.first.index == (row,)

# %% [markdown]
# The message says neuron, sample and step. Both sides got the same input (`incoming current` is computed with
# *our* weights from the payloads that each side recorded, and is equal), the same potential came before; so this
# neuron's own weights or parameters differ.
#
# ## The potential before and after

# %%
soma, sample = result.first.soma, result.first.sample
print("ours  ", ours.potentials[soma][:, sample, row].tolist())
print("theirs", theirs.potentials[soma][:, sample, row].tolist())

# %% [markdown]
# ## Which weight?
#
# At the first step nothing has been forgotten yet, so the potentials of step 0 differ by the error of the current
# alone: what is wrong with the weight, times the pixel, times the gain. A wrong weight shows in the samples in
# which its pixel is lit, so we look for the pixel that explains all 50 differences at once.

# %%
node = next(n for n in program.somas if n.name == soma)
theta = int(node.theta[0, row if node.theta.shape[1] > 1 else 0])
ours_v, theirs_v = (t.potentials[soma][0, :, row] + t.payloads[soma][0, :, row] * theta for t in (ours, theirs))
error = (theirs_v - ours_v).astype(float)  # of the potentials before the reset
pixels = ours.inputs[program.inputs[0].name][0].reshape(50, -1).astype(float)
fit = [np.corrcoef(pixels[:, i], error)[0, 1] ** 2 if pixels[:, i].std() else 0.0 for i in range(64)]
guess = int(np.argmax(fit))
print(f"pixel {guess} explains {fit[guess]:.4f} of the differences, the next best {sorted(fit)[-2]:.4f}")
assert guess == column

# %% [markdown]
# Pixel and neuron are found. With their weight put right, everything is equal again.

# %%
weight[row, guess] *= -1
healed = [attrs.evolve(n, weight=weight) if n is first else n for n in program.nodes]
again = snn2chip.run(attrs.evolve(program, nodes=healed), x[:50], backend="torch")
result = compare(program, [ours, again])
assert result.equal
result
