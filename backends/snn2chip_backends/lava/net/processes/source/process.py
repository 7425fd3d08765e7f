"""Samples from a file into the network: one Lava process that sends a payload frame per logical step."""

from __future__ import annotations

from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol


class Source(AbstractProcess):  # type: ignore[misc]
    """Sends `frames[t, n]` of a .npy file `[T, B, *shape]` at machine step `(n*T + t)*stretch`, otherwise 0."""

    def __init__(self, *, shape: tuple[int, ...], frames: str, stretch: int = 1, name: str = "source") -> None:
        super().__init__(shape=shape, frames=frames, stretch=stretch, name=name)
        self.s_out = OutPort(shape=shape)


@implements(proc=Source, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PySourceModel(PyLoihiProcessModel):  # type: ignore[misc]
    """Reads the file as it goes, so that memory does not grow with the number of samples."""

    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.frames = np.load(proc_params["frames"], mmap_mode="r", allow_pickle=False)
        self.stretch = proc_params["stretch"]
        self.idle = np.zeros(proc_params["shape"], np.int32)

    def run_spk(self) -> None:
        """Send the frame of this machine step."""
        frame, rest = divmod(self.time_step - 1, self.stretch)
        steps, samples = self.frames.shape[:2]
        if rest or frame >= steps * samples:
            self.s_out.send(self.idle)
        else:
            self.s_out.send(self.frames[frame % steps, frame // steps].astype(np.int32))
