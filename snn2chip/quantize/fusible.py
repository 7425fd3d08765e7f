"""Networks whose steps only ever add up: lowered so that nothing is rounded at single steps, and T steps can fuse.

Where every window is all-equal and nothing leaks, a neuron sees the sum of its sample (methods.md P2.9). Then

    relay into a sum    multiplies by a whole m[c]: the branch's unit is m[c] * 2^e of the sum's, 2^e behind the relay
    read-out            one unit for all classes: whole gain, no shift

moves the steps of a shortcut's weights a little and lets `fuse-time` collapse the program exactly. An identity, which
has no steps of its own, gets the nearest m[c].
"""

from __future__ import annotations

import numpy as np

from snn2chip.ir.graph import LayerGraph
from snn2chip.ir.neuron_layer import NeuronLayer
from snn2chip.ir.types import V_MAX
from snn2chip.quantize.spec import FloatArray
from snn2chip.quantize.weights import IntValues, IntWeights, on_grid

MOST = 32767
"""Largest gain of a relay."""


def only_sums(graph: LayerGraph) -> bool:
    """Whether all windows are all-equal, there is one, and every neuron keeps its whole potential."""
    somas = [layer.soma for layer in graph.layers if isinstance(layer, NeuronLayer) and layer.soma.fire != "relay"]
    windows = [soma.window for soma in somas if soma.window is not None]
    kept = all(
        soma.fire == "levels" and soma.reset == "subtract" and bool((soma.leak == 1).all()) and soma.trained is None
        for soma in somas
    )
    return graph.steps > 1 and bool(windows) and kept and all(bool((w == w.flatten()[0]).all()) for w in windows)


def on_sum_grid(weights: IntWeights, delta: FloatArray, *, most: float = MOST) -> tuple[IntWeights, IntValues, int]:
    """The weights in units of `m[c] * 2^e * delta[c]`, no finer than their own, with `m [C]` <= `most` and `e`.

    Exact weights keep their integers; their factor is the nearest.
    """
    ratio = weights.delta / delta
    most = min(MOST, max(1.0, np.floor(most)))
    exponent = max(0, int(np.ceil(np.log2(max(float(ratio.max()), 1e-30) / most))))
    scaled = ratio / 2.0**exponent
    m = np.clip(np.rint(scaled) if weights.exact else np.ceil(scaled), 1, most).astype(np.int64)
    return (weights if weights.exact else on_grid(weights, delta * m * 2.0**exponent)), m, exponent


def whole_gain(delta: FloatArray, bias: FloatArray, static: FloatArray, reach: FloatArray, *, steps: int) -> int:
    """Largest gain of a read-out in one unit that cannot saturate in `steps` steps; 0 if there is none."""
    if not (delta == delta[0]).all() or float((reach / delta).max()) > V_MAX / 2:
        return 0
    most = steps * float((static + np.abs(bias) / delta).max()) + steps
    return int(min(V_MAX / most, 2.0**14))
