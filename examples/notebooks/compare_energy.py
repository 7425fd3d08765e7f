# %% [markdown]
# # Energy against T, L and bits
#
# What do more steps, more levels per step and wider weights buy, and what do they cost? Everything below is
# *counted* on the integer program that runs; the energy is *modelled*: a published range for Loihi 2
# (`interval`), never a measurement.

# %%
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt

import snn2chip
from snn2chip.checkpoint_compile import compile_checkpoint
from snn2chip.data import load_data
from snn2chip.train import train_recipe

folder = Path(tempfile.mkdtemp())
x, y = load_data("digits", split="test")
x, y = x[:100], y[:100]
NETS = [("binary", 1, 4), ("binary", 2, 1), ("binary", 2, 4), ("binary", 4, 4)]  # weights, T, L

# %%
RECIPE = """
base = "digits"
title = "digits, {weights}, T = {T}, L = {L}"
epochs = 4
[model]
name = "digits-cnn"
args = {{ weights = "{weights}", neuron = "lmht", L = {L}, T = {T} }}
"""


def trained(weights: str, T: int, L: int) -> Path:
    """A checkpoint, after a few epochs."""
    recipe = folder / f"{weights}-t{T}-l{L}.toml"
    recipe.write_text(RECIPE.format(weights=weights, T=T, L=L))
    return train_recipe(recipe, out=recipe.with_suffix(".safetensors"), progress=False).path


def row(program: snn2chip.Program, name: str) -> dict:
    """Accuracy, counts and energy per sample of one program."""
    found = snn2chip.report(program, x, labels=y, detail=True, targets=("loihi2",), energy_models=("interval",))
    energy = found.as_dict()["costs"]["targets"][0]["estimates"][0]["joules"]
    return {
        "name": name,
        "accuracy": found.accuracy["integer"],
        "spikes": found.per_sample("spikes"),
        "events": found.per_sample("synaptic_events"),
        "low": energy["lo"] * 1e6,
        "energy": energy["value"] * 1e6,
        "high": energy["hi"] * 1e6,
    }


rows = []
for weights, T, L in NETS:
    program = compile_checkpoint(trained(weights, T, L))
    rows.append(row(program, f"T={T} L={L}"))

# %% [markdown]
# ## Steps and levels
#
# The second net has binary spikes only. Levels are cheap where a graded spike is one message and one event per
# synapse, as on Loihi 2; on a chip with binary spikes, T L steps would take their place.


# %%
def show(rows: list[dict]) -> None:
    """A table."""
    print(f"{'':12} {'accuracy':>8} {'spikes':>8} {'events':>9} {'energy, µJ':>22}")
    for r in rows:
        energy = f"{r['energy']:6.2f} ({r['low']:.2f} .. {r['high']:.2f})"
        print(f"{r['name']:12} {r['accuracy']:8.3f} {r['spikes']:8,.0f} {r['events']:9,.0f} {energy:>22}")


show(rows)
by_name = {r["name"]: r for r in rows}
assert by_name["T=4 L=4"]["events"] > by_name["T=2 L=4"]["events"] > by_name["T=1 L=4"]["events"]

# %% [markdown]
# ## Bits
#
# One net with float weights, compiled to several widths. Width decides memory and accuracy; the energy per event
# of these models does not know it, so the energy follows the spikes, which hardly change. A report that showed
# savings here would show more than is known.

# %%
source = trained("float", 2, 4)
widths = [row(compile_checkpoint(source, weights=w), w) for w in ("int8", "int4", "int2")]
show(widths)
assert max(w["events"] for w in widths) < 2 * min(w["events"] for w in widths)

# %%
figure, axes = plt.subplots(figsize=(5, 3.2), dpi=70)
for r in [*rows, *widths]:
    errors = [[r["energy"] - r["low"]], [r["high"] - r["energy"]]]
    axes.errorbar(r["energy"], r["accuracy"], xerr=errors, marker="o", capsize=3, label=r["name"])
axes.set_xlabel("modelled dynamic energy per sample, µJ (range of the model)")
axes.set_ylabel("accuracy")
axes.legend(fontsize=7)
figure.tight_layout()
plt.show()

# %% [markdown]
# Ranges overlap: two programs whose bars overlap are not told apart by this model. The counts are exact, so
# compare events first.
