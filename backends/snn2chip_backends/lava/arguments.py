"""Arguments of the Lava process of one node: plain values, with arrays kept apart under a key."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
from scipy import sparse

from snn2chip.ir.nodes import Product, Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.soma import PER_CHANNEL, PER_STEP, Soma
from snn2chip.ir.validate import source_range
from snn2chip.schedule import Schedule
from snn2chip_backends.lava.layout import Choice

Values = dict[str, Any]


@attrs.frozen
class Store:
    """Arrays by key; `keep` returns the plain reference that stands for one."""

    arrays: Values = attrs.field(factory=dict)

    def keep(self, key: str, value: Any) -> Values:
        """Store a dense or csr array."""
        if sparse.issparse(value):
            for part in ("data", "indices", "indptr"):
                self.arrays[f"{key}.{part}"] = np.asarray(getattr(value, part))
            return {"csr": key, "shape": [int(n) for n in value.shape]}
        self.arrays[key] = np.ascontiguousarray(value)
        return {"array": key}


def synapse_args(program: Program, node: Synapse, choice: Choice, store: Store) -> Values:
    """Arguments of a stock Dense, Sparse or Conv, or of the own synapse."""
    in_shape = program.shapes[program.into[node.name][0].src]
    if choice.kind in ("Dense", "Sparse"):
        weight, exponent = stock_weight(node, in_shape)
        key = f"{node.name}/weight"
        return {"weights": store.keep(key, weight), "weight_exp": exponent, "num_message_bits": 24}
    return _conv(node, in_shape, store) if choice.kind == "Conv" else _own_synapse(program, node, in_shape, store)


def stock_weight(node: Synapse, in_shape: tuple[int, ...]) -> tuple[Any, int]:
    """Weights and exponent for Dense or Sparse: one sign as they are, mixed signs as 2W with exponent - 1.

    With mixed signs Lava drops the lowest weight bit; 2W keeps it there and the exponent takes the factor back.
    """
    weight = node.weight
    if node.kind == "identity":
        diagonal = np.broadcast_to(weight.reshape(weight.shape + (1,) * (len(in_shape) - weight.ndim)), in_shape)
        weight = sparse.csr_matrix(sparse.diags(diagonal.ravel(), dtype=np.int64))
        weight.eliminate_zeros()
    if sparse.issparse(weight):
        weight = sparse.csr_matrix((weight.data.astype(np.int32), weight.indices, weight.indptr), shape=weight.shape)
        lo, hi = int(weight.data.min()), int(weight.data.max())
    else:
        weight = weight.astype(np.int32)
        lo, hi = int(weight.min()), int(weight.max())
    if lo >= 0 or hi <= 0:
        return weight, node.exponent
    return weight * 2, node.exponent - 1


def _conv(node: Synapse, in_shape: tuple[int, ...], store: Store) -> Values:
    """Stock Conv: W-H-C layout, true convolution (kernel flipped), exponent folded into the weights."""
    channels = in_shape[0]
    weight = node.weight
    if node.kind == "sumpool":
        per_channel = np.broadcast_to(weight.reshape(-1, 1, 1, 1), (channels, 1, 1, 1))
        weight = np.broadcast_to(per_channel, (channels, 1, *node.kernel_size))
    flipped = (weight[:, :, ::-1, ::-1].transpose(0, 3, 2, 1) << node.exponent).astype(np.int32)
    return {
        "weight": store.keep(f"{node.name}/weight", flipped),
        "input_shape": list(reversed(in_shape)),
        "padding": list(reversed(node.padding)),
        "stride": list(reversed(node.stride)),
        "dilation": list(reversed(node.dilation)),
        "groups": channels if node.kind == "sumpool" else node.groups,
        "num_message_bits": 24,
    }


def _own_synapse(program: Program, node: Synapse, in_shape: tuple[int, ...], store: Store) -> Values:
    out_shape = program.shapes[node.name]
    weight = node.weight
    if node.kind in ("identity", "sumpool") and weight.ndim == 1:
        weight = weight.reshape(weight.shape + (1,) * (len(out_shape) - 1))
    lo, hi = source_range(program, node.name)
    return {
        "map": node.kind,
        "in_shape": list(in_shape),
        "out_shape": list(out_shape),
        "weight": store.keep(f"{node.name}/weight", weight),
        "bound": max(-lo, hi, hi - lo) >> node.exponent,
        "exponent": node.exponent,
        "kernel_size": list(node.kernel_size),
        "stride": list(node.stride),
        "padding": list(node.padding),
        "dilation": list(node.dilation),
        "groups": node.groups,
    }


def product_args(program: Program, node: Product) -> Values:
    """Arguments of the own product."""
    p, q = (program.shapes[edge.src] for edge in program.into[node.name])
    return {"p_shape": list(p), "q_shape": list(q), "shape": list(program.shapes[node.name]), "shift": node.shift}


def soma_args(node: Soma, choice: Choice, timing: Schedule, store: Store) -> Values:
    """Arguments of a stock GradedVec or LIFReset, or of the own soma."""
    args: Values = {"shape": list(node.shape)}
    if choice.kind == "GradedVec":
        return {**args, "vth": 0}
    if choice.lif is not None:
        for field in ("du", "dv", "bias_mant", "bias_exp", "vth"):
            value = getattr(choice.lif, field)
            args[field] = value if isinstance(value, int) else store.keep(f"{node.name}/{field}", value)
        # LIFReset resets before its steps time_step % interval == offset, and time_step counts from 1
        return {**args, "reset_interval": timing.sample_steps, "reset_offset": timing.skew_in[node.name] + 1}
    return {
        **args,
        "params": soma_params(node, store),
        "steps": timing.steps,
        "stretch": timing.stretch,
        "skew_in": timing.skew_in[node.name],
        "skew_out": timing.skew_out[node.name],
    }


def soma_params(node: Soma, store: Store) -> Values:
    """The soma's integers, ready to broadcast: `[rows, *shape or 1]`."""
    found: Values = {}
    for field in (*PER_STEP, *PER_CHANNEL):
        value = getattr(node, field)
        if value is not None:
            rows = np.stack([node.spread(row) for row in value])
            value = store.keep(f"{node.name}/{field}", rows)
        found[field] = value
    for field in ("window", "table"):
        value = getattr(node, field)
        found[field] = None if value is None else store.keep(f"{node.name}/{field}", value)
    for field in ("fire", "reset", "table_offset", "table_shift", "window_shift", "delta_shift"):
        found[field] = getattr(node, field)
    found["ladder"] = bool(node.ladder)
    return found
