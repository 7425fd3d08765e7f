"""Results out of the network in bulk: one Lava process that writes what it receives into .npy files."""

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

PORTS = 16  # also SINK_PORTS of the package above, which this module must not import


class Sink(AbstractProcess):  # type: ignore[misc]
    """Up to 16 ports `in_0` .. `in_15`; port i keeps what arrives at the logical steps after its skew.

    Each of `channels` is `{"label", "shape", "skew", "file", "what"}`: `payload` and `potential` are kept per
    logical step in `file` `[T, B, *shape]` (a payload outside of the samples is an error), `count` is summed over
    all steps in `file` `[1]`. `link_in` / `link_out` only tie networks together so that one runtime holds them.
    """

    def __init__(
        self,
        *,
        channels: list[dict[str, Any]],
        steps: int,
        samples: int,
        stretch: int = 1,
        progress: str = "",
        name: str = "sink",
    ) -> None:
        super().__init__(channels=channels, steps=steps, samples=samples, stretch=stretch, progress=progress, name=name)
        for i in range(PORTS):
            shape = tuple(channels[i]["shape"]) if i < len(channels) else (1,)
            setattr(self, f"in_{i}", InPort(shape=shape))
        self.link_in = InPort(shape=(1,))
        self.link_out = OutPort(shape=(1,))


class AbstractSinkModel(PyLoihiProcessModel):  # type: ignore[misc]
    """Writes through memory maps that the host opens afterwards."""

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.par = proc_params
        self.span = proc_params["samples"] * proc_params["steps"] * proc_params["stretch"]
        self.channels = proc_params["channels"]
        self.files = [np.load(c["file"], mmap_mode="r+") for c in self.channels]
        self.progress: Any = None
        if proc_params["progress"]:
            self.progress = np.load(proc_params["progress"], mmap_mode="r+")

    def run_spk(self) -> None:
        """Take one machine step's values."""
        step = self.time_step - 1
        for i, channel in enumerate(self.channels):
            value = getattr(self, f"in_{i}").recv()
            if channel["what"] == "count":
                self.files[i][0] += value[0]
                continue
            k = step - channel["skew"]
            if 0 <= k < self.span and k % self.par["stretch"] == 0:
                sample, t = divmod(k // self.par["stretch"], self.par["steps"])
                self.files[i][t, sample] = value
            elif channel["what"] == "payload" and value.any():
                raise RuntimeError(f"{channel['label']} sent a payload at machine step {step}, outside of its samples")
        if self.progress is not None:
            self.progress[0] = self.time_step


@implements(proc=Sink, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PySinkModel(AbstractSinkModel):
    """The model with its ports `in_0` .. `in_15` (set below)."""

    link_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    link_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)


for number in range(PORTS):
    setattr(PySinkModel, f"in_{number}", LavaPyType(PyInPort.VEC_DENSE, np.int32))
