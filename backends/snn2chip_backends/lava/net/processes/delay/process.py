"""A delay line as one Lava process: what comes in at machine step m leaves at m + length.

With `keep < steps` it also gates: only payloads sent at logical steps 0..keep-1 of a sample pass, so that a
message delayed by d = steps - keep never reaches the next sample.
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


class Delay(AbstractProcess):  # type: ignore[misc]
    """A line of `length` machine steps from `x_in` to `x_out` (int32; `WideDelay`: int64).

    `skew` is the machine step at which the sender's logical step 0 passes; `samples=0` means without end.
    """

    def __init__(
        self,
        *,
        shape: tuple[int, ...],
        length: int,
        steps: int,
        keep: int,
        stretch: int = 1,
        skew: int = 0,
        samples: int = 0,
        name: str = "delay",
    ) -> None:
        super().__init__(
            shape=shape,
            length=length,
            steps=steps,
            keep=keep,
            stretch=stretch,
            skew=skew,
            samples=samples,
            name=name,
        )
        self.x_in = InPort(shape=shape)
        self.x_out = OutPort(shape=shape)


class WideDelay(Delay):
    """`Delay` for currents that may leave 32 bits."""


class AbstractDelayModel(PyLoihiProcessModel):  # type: ignore[misc]
    """Ring buffer."""

    x_in: PyInPort = None
    x_out: PyOutPort = None

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.par = proc_params
        self.span = proc_params["samples"] * proc_params["steps"] * proc_params["stretch"] or None
        self.line = np.zeros((proc_params["length"] + 1, *proc_params["shape"]), np.int64)

    def run_spk(self) -> None:
        """Put in what arrives, send what is `length` steps old."""
        value = self.x_in.recv()
        step = self.time_step - 1
        size = len(self.line)
        self.line[step % size] = value if self.passes(step - self.par["skew"]) else 0
        self.x_out.send(self.line[(step + 1) % size])

    def passes(self, k: int) -> bool:
        """Whether a payload sent `k` machine steps after the sender's skew may pass."""
        par = self.par
        if par["keep"] >= par["steps"]:
            return True
        if k < 0 or (self.span is not None and k >= self.span):
            return False
        return bool((k // par["stretch"]) % par["steps"] < par["keep"])


@implements(proc=Delay, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyDelayModel(AbstractDelayModel):
    """Values in 32 bits."""

    x_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    x_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)


@implements(proc=WideDelay, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyWideDelayModel(AbstractDelayModel):
    """Values in 64 bits."""

    x_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int64)
    x_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int64)
