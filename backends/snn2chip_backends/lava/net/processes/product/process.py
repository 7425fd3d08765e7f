"""Elementwise product of two payloads as one Lava process: `a = (p*q + half) >> shift`.

The current sent at a machine step belongs to the payloads of the step before, as with every synapse.
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


class Product(AbstractProcess):  # type: ignore[misc]
    """Payloads in at `p_in` and `q_in` (one may be per channel), current out at `a_out`."""

    def __init__(
        self,
        *,
        p_shape: tuple[int, ...],
        q_shape: tuple[int, ...],
        shape: tuple[int, ...],
        shift: int = 0,
        name: str = "product",
    ) -> None:
        super().__init__(p_shape=p_shape, q_shape=q_shape, shape=shape, shift=shift, name=name)
        self.p_in = InPort(shape=p_shape)
        self.q_in = InPort(shape=q_shape)
        self.a_out = OutPort(shape=shape)


class WideProduct(Product):
    """`Product` for currents that may leave 32 bits."""


class AbstractProductModel(PyLoihiProcessModel):  # type: ignore[misc]
    """NumPy int64 model of both products."""

    p_in: PyInPort = None
    q_in: PyInPort = None
    a_out: PyOutPort = None

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.shape = tuple(proc_params["shape"])
        self.shift = proc_params["shift"]
        self.buffer = np.zeros(self.shape, np.int64)

    def run_spk(self) -> None:
        """Send the current of the step before, then take this step's payloads."""
        self.a_out.send(self.buffer)
        p, q = (self.spread(port.recv().astype(np.int64)) for port in (self.p_in, self.q_in))
        self.buffer = (p * q + ((1 << self.shift) >> 1)) >> self.shift

    def spread(self, payload: Any) -> Any:
        """A per-channel payload, ready to broadcast over space."""
        if payload.shape == self.shape:
            return payload
        return payload.reshape((self.shape[0],) + (1,) * (len(self.shape) - 1))


@implements(proc=Product, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyProductModel(AbstractProductModel):
    """Currents in 32 bits."""

    p_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    q_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    a_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)


@implements(proc=WideProduct, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyWideProductModel(AbstractProductModel):
    """Currents in 64 bits."""

    p_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    q_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    a_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int64)
