# %% [markdown]
# # Compile a checkpoint
#
# A trained network becomes a program of integers, is compared on two backends, and proves itself from its file
# alone.

# %%
import tempfile
from pathlib import Path

import snn2chip
from snn2chip.checkpoint import load_model
from snn2chip.checkpoint_compile import compile_checkpoint, compile_checkpoint_graph
from snn2chip.checks.outside import check_golden
from snn2chip.data import load_data
from snn2chip.train import train_recipe

folder = Path(tempfile.mkdtemp())

# %% [markdown]
# A few epochs of a recipe are enough here: one-bit weights, up to 4 spikes a step, 2 steps, handwritten digits.

# %%
done = train_recipe("digits", out=folder / "digits.safetensors", epochs=4, progress=False)
model, header = load_model(folder / "digits.safetensors")
floats = sum(p.numel() for p in model.parameters())
print(f"test accuracy {done.accuracy:.3f}, T = {header.T}, L = {header.L}, {floats:,} floats")
assert done.accuracy > 0.85

# %% [markdown]
# ## Compile
#
# Norms are folded, every neuron gets whole numbers for threshold, leak, gain and bias, chosen on 256 training
# samples.

# %%
program, graph = compile_checkpoint_graph(folder / "digits.safetensors")
program

# %% [markdown]
# Each decision is recorded with the float it stands for and the relative error.

# %%
for record in program.records[:4]:
    print({key: record[key] for key in list(record)[:6]})

# %% [markdown]
# ## Equal on every backend
#
# The plain NumPy loop is the definition. Every payload at every step has to be the same integer.

# %%
x, y = load_data("digits", split="test")  # raw pixels 0..16
result = snn2chip.check(program, x[:64], backends=("reference", "torch"))
result.raise_if_different()
result

# %% [markdown]
# ## Close to the float network
#
# That is another statement: rounding may change a spike. *Forced* feeds each layer with what the float network
# sent, so it shows the layer's own rounding; *free* has the errors of the layers before in it.

# %%
found = snn2chip.fidelity(program, graph, x[:200], labels=y[:200])
print(f"float {found.float_accuracy:.4f}, integers {found.integer_accuracy:.4f}")
print(f"{found.differing} of {found.samples} predictions differ")
for layer in found.layers:
    if layer.free_equal is not None:
        print(f"{layer.soma:10} payloads equal: free {layer.free_equal:.4f}, forced {layer.forced_equal:.4f}")
assert found.differing <= 12

# %% [markdown]
# ## A file that proves itself
#
# With golden vectors in it, whoever gets the file can find out whether their machine computes the same, without
# data.

# %%
program.save(folder / "digits.s2c", golden=4, inputs=x[:4])
proof = check_golden(folder / "digits.s2c", backends=("torch",))
assert proof.equal
print(f"{proof.compared:,} integers equal; {(folder / 'digits.s2c').stat().st_size:,} bytes")

# %% [markdown]
# The same checkpoint gives the same program, byte for byte.

# %%
assert compile_checkpoint(folder / "digits.safetensors").digest() == program.digest()
