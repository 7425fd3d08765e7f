"""A batch of samples in Lava processes: the source, blocks of somas with their synapses, and the sink.

Every port carries `[B, *shape]` in a type of its own, so the classes are made for the ports they need. A block sends
what it computed from the messages of earlier steps and then receives, as Lava's own Dense does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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

Ports = Sequence[tuple[Sequence[int] | None, str]]
"""Shape without the batch (None: one number for the whole batch), and NumPy type, of each port."""


class Ported(AbstractProcess):  # type: ignore[misc]
    """Ports `in_0` .. and `out_0` ..; `link_in` / `link_out` tie networks together, nothing is ever sent there."""

    def __init__(self, *, batch: int, ins: Ports = (), outs: Ports = (), **arguments: Any) -> None:
        super().__init__(batch=batch, ins=ins, outs=outs, **arguments)
        for i, (shape, _) in enumerate(ins):
            setattr(self, f"in_{i}", InPort(shape=message(batch, shape)))
        for i, (shape, _) in enumerate(outs):
            setattr(self, f"out_{i}", OutPort(shape=message(batch, shape)))
        self.link_in = InPort(shape=(1,))
        self.link_out = OutPort(shape=(1,))


class Feed(Ported):
    """Sends `frames[t, n*B : (n+1)*B]` of a .npy file at machine step `(n*T + t)*stretch`.

    The file is `[T, N, *shape]`, or `[1, N, *shape]` for samples that are the same at all steps; a `constant` one is
    sent at the first step of a sample and no other.
    """


class Block(Ported):
    """Somas with their synapses and products; arguments of `machine.Machine`."""


class Keep(Ported):
    """Writes what arrives into the .npy files of `channels`, as the sink of the layout `stock` does, in batches."""


class FeedModel(PyLoihiProcessModel):  # type: ignore[misc]
    """Reads the file as it goes; the last batch is filled up with its last sample."""

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.frames = np.load(proc_params["frames"], mmap_mode="r", allow_pickle=False)
        self.batch, self.steps, self.stretch = (proc_params[name] for name in ("batch", "steps", "stretch"))
        self.constant = proc_params.get("constant", False)
        self.idle = np.zeros((self.batch, *self.frames.shape[2:]), self.frames.dtype)

    def run_spk(self) -> None:
        """Send the frame of this machine step."""
        frame, rest = divmod(self.time_step - 1, self.stretch)
        rows, samples = self.frames.shape[:2]
        start, row = frame // self.steps * self.batch, frame % self.steps % rows
        if self.constant and (rest or start >= samples or frame % self.steps):
            return
        if rest or start >= samples:
            self.out_0.send(self.idle)
        elif start + self.batch <= samples:
            self.out_0.send(self.frames[row, start : start + self.batch])
        else:
            numbers = np.minimum(np.arange(start, start + self.batch), samples - 1)
            self.out_0.send(self.frames[row, numbers])


class BlockModel(PyLoihiProcessModel):  # type: ignore[misc]
    """Runs a `Machine`."""

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        from ...machine.machine import Machine  # not above: Lava also executes this file outside of its package

        self.machine = Machine(proc_params)
        self.in_names = [f"in_{i}" for i in range(len(proc_params["ins"]))]
        self.out_names = [f"out_{i}" for i in range(len(proc_params["outs"]))]

    def run_spk(self) -> None:
        """One machine step: compute, send, receive."""
        step = self.time_step - 1
        try:
            values = self.machine.step(step)
        except Exception as error:
            raise RuntimeError(f"{self.machine.place} failed at machine step {step}: {error}") from error
        for name, value in zip(self.out_names, values, strict=True):
            if value is not None:
                getattr(self, name).send(value)
        for i, name in enumerate(self.in_names):
            if self.machine.awaits(step, i):
                self.machine.take(step, i, getattr(self, name).recv())


class KeepModel(PyLoihiProcessModel):  # type: ignore[misc]
    """Writes through memory maps that the host opens afterwards: nothing can fill up and block."""

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.batch, self.samples = proc_params["batch"], proc_params["samples"]
        self.steps, self.stretch = proc_params["steps"], proc_params["stretch"]
        self.span = -(-self.samples // self.batch) * self.steps * self.stretch
        self.channels = proc_params["channels"]
        self.files = [np.load(c["file"], mmap_mode="r+") for c in self.channels]
        self.progress: Any = None
        if proc_params.get("progress"):
            self.progress = np.load(proc_params["progress"], mmap_mode="r+")

    def run_spk(self) -> None:
        """Take one machine step's values."""
        step = self.time_step - 1
        for i, channel in enumerate(self.channels):
            k = step - channel["skew"]
            due = 0 <= k < self.span and k % self.stretch == 0
            n, t = divmod(k // self.stretch, self.steps)
            if channel["last"] and not (due and t == self.steps - 1):
                continue  # this port is silent but for the last step of each sample
            value = getattr(self, f"in_{i}").recv()
            if channel["what"] == "count":
                self.files[i][0] += value[0]
            elif due:
                start = n * self.batch
                end = min(start + self.batch, self.samples)
                self.files[i][t, start:end] = value[: end - start]
            elif channel["what"] == "payload" and value.any():
                raise RuntimeError(f"{channel['label']} sent a payload at machine step {step}, outside of its samples")
        if self.progress is not None:
            self.progress[0] = self.time_step


KINDS: dict[str, tuple[Any, Any]] = {"feed": (Feed, FeedModel), "block": (Block, BlockModel), "keep": (Keep, KeepModel)}


def ported(kind: str, args: Mapping[str, Any]) -> Any:
    """The process class of `kind` for the ports in `args`; made once, with its model, where Lava looks for it."""
    process, model = KINDS[kind]
    ins, outs = args.get("ins", ()), args.get("outs", ())
    name = "_".join((process.__name__, *("".join(np.dtype(d).str[1:] for _, d in part) for part in (ins, outs))))
    if name not in globals():
        body: dict[str, Any] = {"__module__": __name__, "__doc__": process.__doc__}
        made = type(process)(name, (process,), dict(body))
        body |= {f"in_{i}": LavaPyType(PyInPort.VEC_DENSE, np.dtype(d).type) for i, (_, d) in enumerate(ins)}
        body |= {f"out_{i}": LavaPyType(PyOutPort.VEC_DENSE, np.dtype(d).type) for i, (_, d) in enumerate(outs)}
        body["link_in"] = LavaPyType(PyInPort.VEC_DENSE, np.int32)
        body["link_out"] = LavaPyType(PyOutPort.VEC_DENSE, np.int32)
        fixed = requires(CPU)(type(model)(f"{name}Model", (model,), body))
        globals()[f"{name}Model"] = tag("fixed_pt")(implements(proc=made, protocol=LoihiProtocol)(fixed))
        globals()[name] = made
    return globals()[name]


def message(batch: int, shape: Sequence[int] | None) -> tuple[int, ...]:
    """Shape of a port."""
    return (1,) if shape is None else (batch, *shape)
