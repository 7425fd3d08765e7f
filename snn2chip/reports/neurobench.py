"""Figures by the exact definitions of NeuroBench (v2.3.0), counted on the integer program.

    connection sparsity   weights of 0 / weights, over linear and convolution layers, 4 decimals
    activation sparsity   1 - payloads other than 0 / payloads, over somas that send, steps, samples
    Dense                 a pass with all inputs and weights 1, summed over steps, per sample; no bias, no pooling
    Effective             the same with inputs and weights other than 0; ACs if the call's input holds only 0, +1, -1,
                          else MACs; a call is one layer at one step on one batch
    membrane updates      all neurons in the first step, then those whose potential differs from the step before
    footprint             parameters and states, bytes of the smallest integer types, and true bits

Identity and pool synapses are no layers there, relays and tables no neurons. Integers in, integers out: the figures of
a float model differ where its payloads are scaled (then a call is MACs).
"""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np

from snn2chip.errors import InputError
from snn2chip.ir.nodes import Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.soma import PER_CHANNEL, PER_STEP, Soma
from snn2chip.ir.types import IntArray, smallest_int
from snn2chip.reports.counts import fan_outs, nonzero_fan_outs
from snn2chip.trace import Trace

VERSION = "2.3.0"
STATE_BITS = 24


class NeurobenchCounter:
    """Takes traces recorded with payloads and potentials; blocks but the last hold whole batches of `batch`."""

    def __init__(self, program: Program, *, batch: int = 1) -> None:
        if batch < 1:
            raise InputError(f"batch must be at least 1 sample, got {batch}")
        self.program, self.batch, self.samples = program, batch, 0
        self.layers = [s for s in program.synapses if s.kind in ("linear", "conv2d")]
        self.neurons = [s for s in program.somas if s.fire in ("levels", "excess", "delta")]
        self.acs = self.macs = self.nonzero = self.elements = self.updates = 0

    def add(self, trace: Trace) -> None:
        """Count one block."""
        payloads = {**trace.inputs, **trace.payloads}
        self.samples += trace.samples
        for layer in self.layers:
            (edge,) = self.program.into[layer.name]
            self._calls(payloads[edge.src], nonzero_fan_outs(self.program)[layer.name], edge.delay)
        for soma in self.neurons:
            p = payloads[soma.name]
            self.nonzero += int(np.count_nonzero(p))
            self.elements += p.size
            if soma.stateful:
                v = trace.potentials[soma.name]
                self.updates += v[0].size + int(np.count_nonzero(v[1:] != v[:-1]))

    def _calls(self, payload: Any, busy: IntArray, delay: int) -> None:
        live = payload[: max(len(payload) - delay, 0)]
        for step in live:
            flags = (step != 0).reshape(len(step), -1)
            graded = (np.abs(step) > 1).reshape(len(step), -1).any(1)
            operations = flags @ busy.ravel().astype(np.float64)  # whole numbers far below 2^53
            for start in range(0, len(step), self.batch):
                part = slice(start, start + self.batch)
                many = int(operations[part].sum())
                if graded[part].any():
                    self.macs += many
                else:
                    self.acs += many

    def result(self, *, execution_rate: float | None = None, model_footprint: int | None = None) -> dict[str, Any]:
        """The figures, JSON-able; `execution_rate` (Hz, in the time of the data) is the user's own statement."""
        program, n = self.program, max(self.samples, 1)
        dense = sum(
            int(f.sum()) * max(program.steps - program.into[name][0].delay, 0) for name, f in self._all().items()
        )
        footprint = footprints(program)
        return {
            "definitions": f"NeuroBench {VERSION}, on the integer program",
            "samples": self.samples,
            "timesteps": program.steps,
            "batch": self.batch,
            "ParameterCount": parameter_count(program),
            "Footprint": footprint["bytes"],
            "FootprintTrueBits": footprint["true_bytes"],
            "FootprintFloatModel": model_footprint,
            "ConnectionSparsity": connection_sparsity(self.layers),
            "ActivationSparsity": 1.0 - self.nonzero / self.elements if self.elements else 0.0,
            "SynapticOperations": {
                "Effective_MACs": self.macs / n,
                "Effective_ACs": self.acs / n,
                "Dense": dense,
            },
            "MembraneUpdates": self.updates / n,
            "ModelExecutionRate": execution_rate,
        }

    def _all(self) -> dict[str, IntArray]:
        """Fan-out with every weight counted, absent ones of sparse layers too."""
        from snn2chip.ir.geometry import fan_out

        stored = fan_outs(self.program)
        found = {}
        for layer in self.layers:
            source = self.program.shapes[self.program.into[layer.name][0].src]
            if layer.sparse and layer.kind == "linear":
                found[layer.name] = np.full(source, layer.stored.shape[0], dtype=np.int64)
            elif layer.sparse:
                found[layer.name] = fan_out(attrs.evolve(layer, sparse=False, bits=8), source)
            else:
                found[layer.name] = stored[layer.name]
        return found


def connection_sparsity(layers: list[Synapse]) -> float:
    """Weights of 0 over all weights; an absent synapse of a sparse layer is a weight of 0."""
    total = sum(int(np.prod(s.stored.shape)) for s in layers)
    nonzero = sum(int((s.values() != 0).sum()) for s in layers)
    return round(1.0 - nonzero / total, 4) if total else 0.0


def parameter_count(program: Program) -> int:
    """Weights, and every neuron parameter that is not left at its default."""
    return sum(int(np.prod(np.shape(s.weight))) for s in program.synapses) + sum(
        int(value.size) for soma in program.somas for value in _parameters(soma)
    )


def footprints(program: Program) -> dict[str, int]:
    """Bytes of parameters and states: in the smallest integer types, and in true bits (rounded up to bytes)."""
    whole, bits = 0, 0
    for synapse in program.synapses:
        values = synapse.values()
        width = {1: 1, "ternary": 2}.get(synapse.bits, 0) or int(synapse.bits)
        whole += values.size
        bits += values.size * width
    for soma in program.somas:
        for value in _parameters(soma):
            lo, hi = int(value.min()), int(value.max())
            whole += value.size * np.dtype(smallest_int(lo, hi)).itemsize
            bits += value.size * (max(hi.bit_length(), (-lo - 1).bit_length() if lo < 0 else 0) + 1)
        states = (
            1 + (soma.syn_leak is not None) + soma.remembers + (2 * program.steps if soma.window is not None else 0)
        )
        if soma.stateful or soma.window is not None:
            whole += states * soma.size * 4
            bits += states * soma.size * STATE_BITS
    return {"bytes": int(whole), "true_bytes": int(-(-bits // 8))}


def _parameters(soma: Soma) -> list[IntArray]:
    plain = Soma(soma.name, soma.shape, fire=soma.fire, reset=soma.reset)
    found = []
    for field in (*PER_STEP, *PER_CHANNEL, "table", "window"):
        value, default = getattr(soma, field), getattr(plain, field)
        if value is not None and (default is None or np.shape(value) != np.shape(default) or (value != default).any()):
            found.append(value)
    return found
