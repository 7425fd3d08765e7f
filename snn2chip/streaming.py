"""Streaming: one step at a time, equal to the batch result.

A session keeps potentials, delay lines and window banks between calls. Without windowed somas every
`step(x)` returns the payloads of that logical step. A windowed soma must have seen its whole sample before
it speaks, so everything behind w of them lags by w*(T-1) steps; `flush()` pushes those steps out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import attrs
import numpy as np

from snn2chip.errors import InputError, UnsupportedError
from snn2chip.ir.host import encode
from snn2chip.ir.nodes import Input, Node, Product, Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma
from snn2chip.ir.types import IntArray


class Kernel(Protocol):
    """What a backend offers so that a session can drive it step by step (arrays are its own)."""

    def array(self, payload: IntArray) -> Any: ...

    def numpy(self, payload: Any) -> IntArray: ...

    def current(self, node: Synapse | Product, payloads: list[Any]) -> Any: ...

    def mix(self, soma: Soma, currents: list[Any]) -> list[Any]: ...

    def start(self, soma: Soma, batch: int) -> Any: ...

    def fire(self, soma: Soma, state: Any, current: Any, t: int) -> Any: ...

    def potential(self, state: Any) -> IntArray: ...


@attrs.frozen(kw_only=True)
class StepResult:
    """What came out of one call: int64 `payloads[name]` `[B, ...]` and the (sample, step) they belong to.

    `outputs` is int64 `[B, classes]` of the first Output when this call completed a sample, else None.
    """

    payloads: Mapping[str, IntArray]
    steps: Mapping[str, tuple[int, int]]
    outputs: IntArray | None


class Session:
    """A running program; make one with `snn2chip.session(program, backend=...)`."""

    def __init__(self, program: Program, kernel: Kernel, batch: int) -> None:
        self.program, self.batch, self.kernel = program, batch, kernel
        self._nodes: list[Node] = [n for n in program.order if isinstance(n, (Synapse, Product, Soma))]
        self._lag = self._lags()
        self._keep = max(self._lag.values()) + max((e.delay for e in program.edges), default=0) + program.steps + 1
        self.reset()

    def reset(self, *, first_sample: int = 0) -> None:
        """Forget everything and start with the first step of a new sample, counted from `first_sample`."""
        self._clock, self._first = 0, first_sample
        self._values: dict[str, dict[int, Any]] = {n.name: {} for n in self.program.nodes}
        self._states: dict[str, Any] = {}
        self._read: IntArray | None = None

    def _lags(self) -> dict[str, int]:
        """Calls by which each node lags behind the input."""
        lag = {n.name: 0 for n in self.program.nodes}
        for _ in range(2):  # the second round carries lags along delayed edges
            for node in self._nodes:
                into = max((lag[e.src] for e in self.program.into[node.name]), default=0)
                waits = isinstance(node, Soma) and node.window is not None
                lag[node.name] = into + (self.program.steps - 1 if waits else 0)
        return lag

    def step(self, x: Any) -> StepResult:
        """Feed the next frame of every sample: raw values `[B, ...]` (a mapping by name for several inputs)."""
        t = self._clock % self.program.steps
        names = [n.name for n in self.program.inputs]
        given = dict(x) if isinstance(x, Mapping) else {names[0]: x}
        if set(given) != set(names):
            raise InputError(f"the program takes inputs {', '.join(names)}; got {', '.join(map(str, given))}")
        frames = {}
        for node in self.program.inputs:
            frame = np.asarray(given[node.name])
            if frame.shape[:1] != (self.batch,):
                raise InputError(f"{node.name}: expected a batch of {self.batch} frames, got shape {frame.shape}")
            frames[node.name] = self._coded(node, frame, t)
        return self._advance(frames)

    def _coded(self, node: Any, frame: Any, t: int) -> IntArray:
        if node.coding.startswith("rate"):
            return encode(node, frame, self.program.steps)[t]
        plain = attrs.evolve(node, coding="repeat") if isinstance(node, Input) or node.coding == "steps" else node
        return encode(plain, frame, 1)[0]

    def flush(self) -> list[StepResult]:
        """Push out what windowed somas still hold and get ready for the next sample; only at the end of a sample.

        Raises InputError in the middle of a sample. Without windowed somas there is nothing to push out.
        """
        steps = self.program.steps
        if self._clock % steps:
            raise InputError(f"flush in the middle of a sample: step {self._clock % steps} of {steps}; finish it first")
        fed = self._clock // steps
        zeros = {n.name: np.zeros((self.batch, *n.shape), np.int64) for n in self.program.inputs}
        results = [self._advance(zeros) for _ in range(max(self._lag.values()))]
        self.reset(first_sample=self._first + fed)
        return [self._only_fed(result) for result in results]

    def _only_fed(self, result: StepResult) -> StepResult:
        """The part of a result that belongs to samples that were fed."""
        known = {name: at for name, at in result.steps.items() if at[0] < self._first}
        return attrs.evolve(result, steps=known, payloads={name: result.payloads[name] for name in known})

    def _advance(self, frames: Mapping[str, IntArray]) -> StepResult:
        for name, frame in frames.items():
            self._values[name][self._clock] = self.kernel.array(frame)
        payloads: dict[str, IntArray] = {}
        steps: dict[str, tuple[int, int]] = {}
        for node in self._nodes:
            at = self._clock - self._lag[node.name]
            if isinstance(node, Soma):
                if node.window is not None:
                    self._mix(node, at)
                if at >= 0:
                    payloads[node.name] = self.kernel.numpy(self._fire(node, at))
                    sample, step = divmod(at, self.program.steps)
                    steps[node.name] = (self._first + sample, step)
            elif at >= 0:
                arriving = [self._arriving(e.src, e.delay, at) for e in self.program.into[node.name]]
                self._values[node.name][at] = self.kernel.current(node, arriving)  # type: ignore[arg-type]
        self._forget()
        self._clock += 1
        outputs = self._outputs(steps)
        return StepResult(payloads=payloads, steps=steps, outputs=outputs)

    def _arriving(self, source: str, delay: int, at: int) -> Any:
        if at % self.program.steps < delay:
            shape = (self.batch, *self.program.shapes[source])
            return self.kernel.array(np.zeros(shape, np.int64))
        return self._values[source][at - delay]

    def _current(self, soma: Soma, at: int) -> Any:
        return sum(self._values[e.src][at] for e in self.program.into[soma.name])

    def _mix(self, soma: Soma, at: int) -> None:
        """When the last current of a sample is in, mix the whole sample."""
        steps = self.program.steps
        if at >= 0 and at % steps == 0:
            mixed = self.kernel.mix(soma, [self._current(soma, at + j) for j in range(steps)])
            self._states[f"{soma.name}/mixed"] = mixed

    def _fire(self, soma: Soma, at: int) -> Any:
        t = at % self.program.steps
        if t == 0:
            self._states[soma.name] = self.kernel.start(soma, self.batch)
        a = self._states[f"{soma.name}/mixed"][t] if soma.window is not None else self._current(soma, at)
        payload = self.kernel.fire(soma, self._states[soma.name], a, t)
        self._values[soma.name][at] = payload
        return payload

    def _outputs(self, steps: Mapping[str, tuple[int, int]]) -> IntArray | None:
        if not self.program.outputs:
            return None
        output = self.program.outputs[0]
        source = self.program.into[output.name][0].src
        if source not in steps:
            return None
        t = steps[source][1]
        if output.read == "potential":
            value = self.kernel.potential(self._states[source])
        else:
            value = self.kernel.numpy(self._values[source][self._clock - 1 - self._lag[source]])
            value = (value != 0).astype(np.int64) if output.read == "count" else value
            value = value if t == 0 or self._read is None else self._read + value
        self._read = value
        return value.reshape(self.batch, -1).astype(np.int64) if t == self.program.steps - 1 else None

    def _forget(self) -> None:
        oldest = self._clock - self._keep
        for values in self._values.values():
            values.pop(oldest, None)


def session(program: Program, *, backend: str = "torch", batch: int = 1, device: str | None = None) -> Session:
    """Open a streaming session: `session.step(x)` feeds one frame per sample and returns its payloads.

    Raises UnsupportedError for a backend that runs whole batches only.
    """
    from snn2chip.api import ready_backend

    if batch < 1:
        raise InputError(f"batch must be at least 1, got {batch}")
    engine = ready_backend(backend, program, device=device)
    make = getattr(engine, "kernel", None)
    if make is None:
        raise UnsupportedError(
            f"backend {backend!r} runs whole batches and has no step-by-step session; use backend='torch' or "
            "'reference' (for live Lava processes see snn2chip_backends.lava.to_lava)"
        )
    return Session(program, make(program), batch)
