"""The door for payloads of somebody else's Lava process: one process that passes them on in the same step."""

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


class Entry(AbstractProcess):  # type: ignore[misc]
    """Payload in at `s_in`, the same payload out at `s_out`; raises if it leaves `lo..hi`."""

    def __init__(self, *, shape: tuple[int, ...], lo: int, hi: int, name: str = "entry") -> None:
        super().__init__(shape=shape, lo=lo, hi=hi, name=name)
        self.s_in = InPort(shape=shape)
        self.s_out = OutPort(shape=shape)


@implements(proc=Entry, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyEntryModel(PyLoihiProcessModel):  # type: ignore[misc]
    """Checks the range, because everything behind is proven for it."""

    s_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int64)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.label = proc_params["name"]
        self.lo, self.hi = proc_params["lo"], proc_params["hi"]

    def run_spk(self) -> None:
        """Pass one payload on."""
        payload = self.s_in.recv()
        if payload.min() < self.lo or payload.max() > self.hi or (payload != np.rint(payload)).any():
            raise ValueError(
                f"input {self.label}: payload {payload.min()}..{payload.max()} at machine step {self.time_step - 1} "
                f"is outside the declared whole numbers {self.lo}..{self.hi}"
            )
        self.s_out.send(payload.astype(np.int32))
