"""A linear map with integer weights as one Lava process: `a = (W p) << exponent`, exact.

As in Lava's own Dense, the current sent at a machine step belongs to the payload of the step before, so that
loops do not lock up. Products are summed in floating point only where every partial sum is an exact integer.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol


class Synapse(AbstractProcess):  # type: ignore[misc]
    """Payload in at `s_in`, current out at `a_out` (int32; `WideSynapse`: int64).

    map: `linear` (weight `[M, N]`, or csr parts), `conv2d` (weight `[Cout, Cin/groups, kh, kw]`, cross-correlation),
    `sumpool` and `identity` (weight ready to broadcast). `bound` is the largest |W p| possible.
    """

    def __init__(
        self,
        *,
        map: str,
        in_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        weight: Any,
        bound: int,
        exponent: int = 0,
        kernel_size: tuple[int, int] = (1, 1),
        stride: tuple[int, int] = (1, 1),
        padding: tuple[int, int] = (0, 0),
        dilation: tuple[int, int] = (1, 1),
        groups: int = 1,
        name: str = "synapse",
    ) -> None:
        super().__init__(
            map=map,
            in_shape=in_shape,
            out_shape=out_shape,
            weight=weight,
            bound=bound,
            exponent=exponent,
            kernel_size=kernel_size,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            name=name,
        )
        self.s_in = InPort(shape=in_shape)
        self.a_out = OutPort(shape=out_shape)


class WideSynapse(Synapse):
    """`Synapse` for currents that may leave 32 bits."""


class AbstractSynapseModel(PyLoihiProcessModel):  # type: ignore[misc]
    """NumPy model of both synapses."""

    s_in: PyInPort = None
    a_out: PyOutPort = None

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.par = proc_params
        self.out_shape = tuple(proc_params["out_shape"])
        self.buffer = np.zeros(self.out_shape, np.int64)
        self.exact = "float32" if proc_params["bound"] < 1 << 24 else "float64"
        weight = proc_params["weight"]
        if proc_params["map"] == "conv2d":
            groups = proc_params["groups"]
            self.weight = weight.reshape(groups, weight.shape[0] // groups, -1).astype(self.exact)
        elif proc_params["map"] == "linear":
            self.weight = weight.astype(np.int64 if hasattr(weight, "indptr") else self.exact)
        else:
            self.weight = weight.astype(np.int64)

    def run_spk(self) -> None:
        """Send the current of the step before, then take this step's payload."""
        self.a_out.send(self.buffer)
        payload = self.s_in.recv()
        if payload.any():
            self.buffer = self.current(payload) << self.par["exponent"]
        else:
            self.buffer = np.zeros(self.out_shape, np.int64)

    def current(self, p: Any) -> Any:
        """`W p` of one payload array."""
        kind = self.par["map"]
        if kind == "identity":
            return p.astype(np.int64) * self.weight
        if kind == "linear":
            flat = p.reshape(-1)
            if hasattr(self.weight, "indptr"):
                return (self.weight @ flat.astype(np.int64)).reshape(self.out_shape)
            return np.rint(self.weight @ flat.astype(self.exact)).astype(np.int64).reshape(self.out_shape)
        patches = self.patches(p)
        if kind == "sumpool":
            return patches.sum((1, 2), dtype=np.int64) * self.weight
        groups = self.par["groups"]
        columns = patches.astype(self.exact).reshape(groups, -1, self.out_shape[1] * self.out_shape[2])
        return np.rint(self.weight @ columns).astype(np.int64).reshape(self.out_shape)

    def patches(self, p: Any) -> Any:
        """Kernel taps of every output position: `[C, kh, kw, H', W']`."""
        par = self.par
        (ph, pw), (sh, sw), (dh, dw) = par["padding"], par["stride"], par["dilation"]
        kh, kw = par["kernel_size"]
        _, h, w = self.out_shape
        padded = np.pad(p, ((0, 0), (ph, ph), (pw, pw)))
        c, y, x = padded.strides
        shape = (padded.shape[0], kh, kw, h, w)
        return np.lib.stride_tricks.as_strided(padded, shape, (c, y * dh, x * dw, y * sh, x * sw), writeable=False)


@implements(proc=Synapse, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PySynapseModel(AbstractSynapseModel):
    """Currents in 32 bits."""

    s_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    a_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)


@implements(proc=WideSynapse, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyWideSynapseModel(AbstractSynapseModel):
    """Currents in 64 bits."""

    s_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    a_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int64)
