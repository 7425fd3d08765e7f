"""Dense and conv blocks of a `.net` file as synapses, split by axonal delay where a layer has several.

A NetX synapse of delay d adds W p(t - d) to the current of logical step t; the one machine step that every synapse
costs besides is the schedule's business. Delays are per source, per target, per synapse, or one for all.
"""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from snn2chip.frontends.netx_file import LayerSpec
from snn2chip.frontends.netx_issues import Issues, numbered
from snn2chip.frontends.netx_weights import StoredWeights, netx_joined_weights, store
from snn2chip.ir.geometry import out_shape
from snn2chip.ir.nodes import Synapse
from snn2chip.ir.types import IntArray

RECURRENT = "weight_rec"
MAX_DELAY = 62
"""NetX clamps delays here."""
INT8 = 127
"""NetX's conv keeps kernel, stride, padding, dilation and groups in 8 bits."""


@attrs.frozen
class Delayed:
    """A synapse and the logical delay of the edge into it; `back`: from the layer's own neurons, a step later."""

    synapse: Synapse
    delay: int = 0
    back: bool = False


def dense_synapses(layer: LayerSpec, inputs: int, *, exact: bool, issues: Issues) -> list[Delayed]:
    """The synapses of a dense layer that reads `inputs` payloads; empty after telling `issues` why not.

    `exact` takes the file's own integers; otherwise they are what NetX makes of them.
    """
    if layer.inner:
        issues.refuse(
            layer, f"the weight is a group ({', '.join(layer.inner[:4])}); complex weights cannot be imported"
        )
        return []
    matrices = _matrices(layer, inputs, exact=exact, issues=issues)
    found: list[Delayed] = []
    for key, weight in matrices.items():
        delays = _delays(layer, weight, exact, issues)
        parts = _stored(layer, weight, issues)
        found += [] if delays is None else [d for part in parts for d in _split(layer, part, delays, key)]
    return found


def _matrices(layer: LayerSpec, inputs: int, *, exact: bool, issues: Issues) -> dict[str, IntArray]:
    """The matrices of a layer by name, as they act: from its inputs, and from its own neurons where it is recurrent."""
    outputs = int(np.prod(layer.shape or (0,)))
    found: dict[str, IntArray] = {}
    for key, columns in {"weight": inputs, RECURRENT: outputs}.items():
        if key not in layer.numbers:
            continue
        weight = _whole(layer, key, exact, issues)
        weight = weight.reshape(outputs, -1) if weight.ndim == 1 and outputs and weight.size % outputs == 0 else weight
        if weight.ndim != 2 or weight.shape != (outputs, columns):
            text = f"{key} {weight.shape} does not map {columns} inputs to {outputs} neurons {layer.shape}"
            issues.damaged(layer, text)
            return {}
        found[key] = weight
    if exact:
        return found
    acting = netx_joined_weights(list(found.values()))
    refusals = [
        f"{part.refusal}; {numbered('file')} takes the file's weights instead" for part in acting if part.refusal
    ]
    if RECURRENT in found and "delay" in layer.numbers:
        text = "delays in a recurrent layer, where NetX loses the exponent of its weights"
        refusals.append(f"{text}; {numbered('file')} keeps it")
    if refusals:
        issues.refuse(layer, refusals[0])
        return {}
    for part in acting:
        if part.changes:
            issues.note(layer, part.changes)
    return {key: part.weight for key, part in zip(found, acting, strict=True)}


def _split(layer: LayerSpec, part: StoredWeights, delays: IntArray, key: str) -> list[Delayed]:
    whole, back = _synapse(layer, part, key=key), key == RECURRENT
    values = np.unique(delays)
    if len(values) == 1:
        return [Delayed(whole, int(values[0]), back)]
    dense = whole.dense()
    found = [(int(d), np.where(np.broadcast_to(delays == d, dense.shape), dense, 0)) for d in values]
    return [
        Delayed(attrs.evolve(whole, name=f"{whole.name}.d{d}", weight=sparse.csr_matrix(w), sparse=True), d, back)
        for d, w in found
        if w.any() or not dense.any()
    ]


def _synapse(
    layer: LayerSpec, part: StoredWeights, kind: str = "linear", *, key: str = "weight", **geometry: Any
) -> Synapse:
    return Synapse(
        ".".join([f"layer{layer.index}", key, *([part.suffix] if part.suffix else [])]),
        kind,
        part.weight,
        exponent=part.exponent,
        sign=part.sign,
        sparse=part.sparse,
        layer=layer.path,
        **geometry,
    )


def _delays(layer: LayerSpec, weight: IntArray, exact: bool, issues: Issues) -> IntArray | None:
    """Delays that broadcast against `[outputs, inputs]`; one value per target wins over one per source."""
    raw = layer.numbers.get("delay")
    if raw is None:
        return np.zeros((1, 1), np.int64)
    rows, cols = weight.shape
    if raw.size == 1:
        shape: tuple[int, int] = (1, 1)
    elif raw.ndim == 1 and raw.size in (rows, cols):
        shape = (rows, 1) if raw.size == rows else (1, cols)
    elif raw.shape == (rows, cols):
        shape = (rows, cols)
    else:
        issues.damaged(layer, f"delay {raw.shape} fits neither {rows} targets nor {cols} sources")
        return None
    if raw.min() < 0:
        issues.damaged(layer, f"delay {raw.min():g} is negative")
        return None
    if raw.max() > MAX_DELAY:
        if exact:
            text = f"delay {raw.max():g} is beyond {MAX_DELAY}"
            issues.refuse(layer, f"{text}; {numbered('netx')} clamps it, as NetX does")
            return None
        issues.note(layer, f"delays up to {raw.max():g} are clamped to {MAX_DELAY}, as NetX does")
    delays = np.minimum(raw, MAX_DELAY).astype(np.int64)
    if (delays != np.minimum(raw, MAX_DELAY)).any():
        issues.note(layer, "fractions of delays are dropped, as NetX does")
    return delays.reshape(shape)


def conv_synapses(layer: LayerSpec, shape: tuple[int, ...], *, exact: bool, issues: Issues) -> list[Delayed]:
    """The synapses of a conv layer that reads payloads `[C, H, W]`; empty after telling `issues` why not.

    Kernels are in torch order and correlate, as in PyTorch; NetX applies them without clipping or truncation.
    """
    weight = _whole(layer, "weight", exact, issues)
    weight = weight[..., 0] if weight.ndim == 5 and weight.shape[4] == 1 else weight
    pairs: dict[str, Any] = {key: _pair(layer, key, issues) for key in ("stride", "padding", "dilation")}
    groups = int(layer.numbers["groups"].ravel()[0]) if "groups" in layer.numbers else 1
    least = min(*pairs["stride"], *pairs["dilation"], groups)
    if weight.ndim != 4 or least < 1 or min(pairs["padding"]) < 0:
        issues.damaged(layer, f"weight {weight.shape}, {pairs} and groups={groups} do not make a convolution")
        return []
    if not exact and max(groups, *weight.shape[2:], *(n for pair in pairs.values() for n in pair)) > INT8:
        issues.refuse(
            layer, f"NetX keeps kernel sizes, {', '.join(pairs)} and groups in 8 bits; one here is over {INT8}"
        )
        return []
    delay = layer.numbers.get("delay")
    if delay is not None and delay.any():
        issues.reads_past(layer, "delay", f"up to {delay.max():g}")
    found = []
    for part in _stored(layer, weight, issues):
        synapse = _synapse(layer, part, "conv2d", groups=groups, **pairs)
        made, bad = out_shape(synapse, shape)
        if not bad and made != layer.shape:
            bad = [f"declares neurons {layer.shape}, but its synapse makes {made} of {shape}"]
        for text in bad:
            issues.damaged(layer, text)
        found.append(Delayed(synapse))
    return found


def _stored(layer: LayerSpec, weight: IntArray, issues: Issues) -> list[StoredWeights]:
    parts = store(weight)
    if parts is None:
        issues.refuse(layer, f"weights {weight.min()}..{weight.max()} do not fit 8 bits, a sign and an exponent")
    return parts or []


def _whole(layer: LayerSpec, key: str, exact: bool, issues: Issues) -> IntArray:
    raw: NDArray[np.float64] = layer.numbers[key]
    weight: IntArray = raw.astype(np.int64)
    if (weight != raw).any():
        if exact:
            issues.refuse(layer, f"{key} holds fractions; {numbered('netx')} drops them, as NetX does")
        else:
            issues.note(layer, f"fractions of {key} are dropped, as NetX does")
    return weight


def _pair(layer: LayerSpec, key: str, issues: Issues) -> tuple[int, int]:
    value = layer.numbers[key].ravel()
    if value.size not in (1, 2):
        issues.damaged(layer, f"{key} must be one number or two, got {value.size}")
    return int(value[0]), int(value[-1])
