"""NIR primitives as fields, and what is lost in them: shared by the writers of float graphs and of programs.

    v = leak v + gain x + bias    LIF: tau = dt/(1 - leak), r = gain tau/dt, v_leak = bias tau/dt
                                  leak = 1: IF, r = gain/dt
    u = syn_leak u + x            CubaLIF: tau_syn = dt/(1 - syn_leak), w_in = tau_syn/dt

so that a reader that steps by Euler with dt = 1e-4 (snnTorch, SpikingJelly) finds the factors again.
"""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np

from snn2chip.errors import UnsupportedError

DT = 1e-4
Fields = dict[str, Any]


@attrs.define
class Made:
    """Nodes and edges for a file, what NIR cannot say of them (`losses`), and what it has no node for (`refused`)."""

    nodes: dict[str, Fields] = attrs.field(factory=dict)
    edges: list[tuple[str, str]] = attrs.field(factory=list)
    losses: list[str] = attrs.field(factory=list)
    refused: list[str] = attrs.field(factory=list)

    def add(self, name: str, fields: Fields, sources: list[str]) -> str:
        """Add a node under a legal, unused name, with edges from what it reads; the name."""
        made = legal(name)
        while made in self.nodes:
            made += "_"
        self.nodes[made] = fields
        for src in sources:
            if (src, made) in self.edges:  # the same value twice: an edge exists once
                src = self.add(f"{made}.again", {"type": "Scale", "scale": np.ones(1, np.float32)}, [src])
            self.edges.append((src, made))
        return made

    def checked(self, what: str) -> Made:
        """Itself; UnsupportedError with everything that NIR has no node for."""
        for name, fields in self.nodes.items():
            if any(isinstance(v, np.ndarray) and not np.isfinite(v).all() for v in fields.values()):
                self.refused.append(f"{name}: numbers beyond single precision")
        if self.refused:
            raise UnsupportedError([f"{what}: NIR cannot say it: {text}" for text in dict.fromkeys(self.refused)])
        return self


def legal(name: str) -> str:
    """A name that HDF5 takes for one member of a group."""
    made = "".join(c if c.isprintable() and c not in "/\\" else "_" for c in name)
    return made if made.strip(".") else f"node{made}".replace(".", "_")


def full(value: Any, shape: tuple[int, ...]) -> Any:
    """One float32 number per neuron of a scalar, per-channel or per-neuron value."""
    array = np.asarray(value, dtype=np.float64)
    if array.ndim == 1 and array.size > 1 and len(shape) > 1:
        array = array.reshape(-1, *[1] * (len(shape) - 1))
    return single(np.broadcast_to(array.reshape(array.shape if array.size > 1 else ()), shape))


def single(value: Any) -> Any:
    """An array of its own in float32; what is beyond becomes infinite, and is refused when it is written."""
    with np.errstate(over="ignore"):
        return np.array(value, dtype=np.float32)


@np.errstate(over="ignore")  # what is beyond becomes infinite, and is refused when it is written
def neuron_fields(
    shape: tuple[int, ...],
    *,
    leak: Any,
    gain: Any,
    bias: Any,
    syn_leak: Any,
    theta: Any,
    v_reset: Any,
) -> Fields | str:
    """The fields of a neuron (`theta` None: it never fires), or why there is no such primitive."""
    leak, gain, bias = (np.asarray(v, dtype=np.float64) for v in (leak, gain, bias))
    firing: Fields = {} if theta is None else {"v_threshold": full(theta, shape), "v_reset": full(v_reset, shape)}
    end = "" if theta is None else "F"
    if (leak == 1).all() and syn_leak is None:
        if (bias != 0).any():
            return "a constant current into a neuron without leak"
        return {"type": f"I{end}", "r": full(gain / DT, shape), **firing}
    if (leak >= 1).any() or (leak < 0).any():
        return "a leak outside of 0..1, or of 1 beside others or a synaptic current"
    tau = DT / (1 - leak)
    common: Fields = {"r": full(gain * tau / DT, shape), "v_leak": full(bias * tau / DT, shape), **firing}
    if syn_leak is None:
        return {"type": f"LI{end}", "tau": full(tau, shape), **common}
    syn = np.asarray(syn_leak, dtype=np.float64)
    if (syn >= 1).any() or (syn < 0).any():
        return "a synaptic current that does not decay"
    tau_syn = DT / (1 - syn)
    cuba: Fields = {"tau_syn": full(tau_syn, shape), "tau_mem": full(tau, shape), "w_in": full(tau_syn / DT, shape)}
    return {"type": f"CubaLI{end}", **cuba, **common}


def linear_fields(weight: Any, bias: Any) -> Fields:
    """Linear, or Affine with a bias."""
    fields: Fields = {"type": "Linear" if bias is None else "Affine", "weight": single(weight)}
    return fields if bias is None else {**fields, "bias": single(bias)}


def conv_fields(
    weight: Any, bias: Any, shape: tuple[int, ...], *, stride: Any, padding: Any, dilation: Any, groups: int
) -> Fields:
    """Conv2d of a plane `[C, H, W]`, or Conv1d of a row `[C, L]` with kernels of height 1."""
    weight = single(weight)
    geometry = [tuple(int(n) for n in pair) for pair in (stride, padding, dilation)]
    bias = np.zeros(len(weight), np.float32) if bias is None else single(bias)
    fields: Fields = {"bias": bias, "groups": int(groups)}
    if len(shape) == 2:
        numbers = dict(zip(("stride", "padding", "dilation"), (pair[1] for pair in geometry), strict=True))
        return {"type": "Conv1d", "input_shape": int(shape[1]), "weight": weight[:, :, 0], **numbers, **fields}
    arrays = dict(zip(("stride", "padding", "dilation"), (np.array(pair) for pair in geometry), strict=True))
    return {"type": "Conv2d", "input_shape": np.array(shape[1:]), "weight": weight, **arrays, **fields}


def pool_fields(kind: str, kernel: Any, stride: Any, padding: Any) -> Fields:
    """SumPool2d or AvgPool2d."""
    sizes = {"kernel_size": kernel, "stride": stride, "padding": padding}
    return {"type": kind, **{key: np.array(pair) for key, pair in sizes.items()}}


def flatten_fields(shape: tuple[int, ...]) -> Fields:
    """All axes into one; the batch is not counted."""
    return {"type": "Flatten", "start_dim": 0, "end_dim": -1, "input_type": np.array(shape)}
