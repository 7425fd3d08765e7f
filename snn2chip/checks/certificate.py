"""Where rounding provably cannot have changed a spike: the integer program against its float network, per soma.

*conditional* (teacher-forced): each float soma is fed the integer run's own payloads; a neuron's step is certified if
its bound (`certificate_bound`) leaves the float potential on one side of every threshold, its payloads so far being
equal. *unconditional*: certified, and so is every ancestor in space and time; then the whole float network sends that
payload. Inputs, host stems and relays are no neurons: float somas read the raw input and unrounded relays, and the
rounding there is part of the bound. A certified step whose payload differs is a violation, that is a bug.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from snn2chip.api import by_step, raw_samples, run
from snn2chip.checks.certificate_bound import Fed, SomaCertificate, soma_certificate
from snn2chip.checks.certificate_maps import noise_of, reached
from snn2chip.checks.certificate_result import COUNTS, Certificate, LayerCertificate
from snn2chip.checks.inside import inside
from snn2chip.errors import InputError, UnsupportedError
from snn2chip.ir.float_run import run_soma
from snn2chip.ir.graph import LayerGraph
from snn2chip.ir.layers import FloatSoma
from snn2chip.ir.neuron_layer import NeuronLayer
from snn2chip.ir.program import Program
from snn2chip.ir.raw import count, like, named, part
from snn2chip.ir.soma import Soma
from snn2chip.trace import Trace

Mask = NDArray[np.bool_]


def certificate(
    program: Program,
    graph: LayerGraph,
    samples: Any,
    *,
    time_axis: bool = False,
    block: int = 16,
    without: Collection[str] = (),
) -> Certificate:
    """Certify `program` against the float graph it was lowered from, on raw samples `[N, ...]` (`[T, N, ...]`).

    `without` leaves terms of the bound out (`certificate_bound.TERMS`), which makes it unsound: for tests of the check.
    Raises InputError if the program was not lowered from this graph and UnsupportedError for somas without a bound.
    """
    work = _Work(program, graph, without)
    x = raw_samples(program, samples)
    stepped = by_step(program, x, time_axis=time_axis)
    time_axis = stepped if isinstance(stepped, bool) else time_axis
    total = count(x, stepped)
    for start in range(0, total, block):
        work.add(part(x, start, start + block, stepped), time_axis)
    rows = [row for row in work.rows.values() if row["steps"]]
    if not rows:
        raise InputError("the certificate needs at least one sample")
    ordered = sorted(rows, key=lambda row: int(row["depth"]))
    return Certificate(samples=total, layers=tuple(LayerCertificate(**row) for row in ordered))


class _Work:
    """The float network with the program's payload quantisers, and the counts so far."""

    def __init__(self, program: Program, graph: LayerGraph, without: Collection[str]) -> None:
        if graph.output.over is not None:
            raise UnsupportedError("a window over another number of frames leaves steps unread; no bound knows them")
        names: Mapping[str, str] = program.meta.get("layers", {})
        self.program, self.without = program, without
        self.somas = {n: s for n in names if n in graph.shapes and isinstance(s := program.by_name.get(names[n]), Soma)}
        other = [n for n, s in self.somas.items() if graph.shapes[n] != s.shape]
        if not self.somas or other or graph.steps != program.steps:
            raise InputError("this program was not lowered from this float graph; compile it again to certify it")
        self.units = program.meta["units"]
        neurons = [layer for n in self.somas if isinstance(layer := graph.layer(n), NeuronLayer)]
        self.graph = graph.with_layers(*(self.quantised(layer) for layer in neurons))
        self.rows: dict[str, dict[str, Any]] = {}
        depth: dict[str, int] = {}
        for layer in self.graph.layers:
            before = max((depth[n] for n in self.graph.inputs.get(layer.name, ())), default=0)
            depth[layer.name] = before + (layer.name in self.somas)
            if layer.name in self.somas:
                zero = dict.fromkeys(COUNTS, 0)
                soma = self.somas[layer.name]
                kind = {"relay": "relay", "none": "prediction"}.get(soma.fire, "neuron")
                row = {"soma": soma.name, "layer": soma.layer, "kind": kind, "depth": depth[layer.name]}
                self.rows[layer.name] = {**row, **zero}

    def quantised(self, layer: NeuronLayer) -> NeuronLayer:
        """A neuron with a real-valued excess, its payload on the codes that the program sends."""
        f, soma = layer.soma, self.somas[layer.name]
        if f.fire != "excess" or f.out_max is not None:
            return layer
        unit = torch.as_tensor(self.units["payload"][soma.name], dtype=torch.float64)
        return attrs.evolve(layer, soma=attrs.evolve(f, out_max=int(soma.out_max.max()), unit=unit))

    def neurons(self) -> list[NeuronLayer]:
        return [layer for layer in self.graph.layers if isinstance(layer, NeuronLayer) and layer.name in self.somas]

    def add(self, x: Any, time_axis: bool) -> None:
        """One block of samples."""
        graph = self.graph
        trace = run(self.program, x, backend="torch", time_axis=time_axis)
        frames = graph.input.frames is not None
        doubles = {n: np.array(np.moveaxis(a, 1, 0) if frames else a, np.float64) for n, a in named(x).items()}
        raw = like(x, {name: torch.from_numpy(a) for name, a in doubles.items()})
        forced = {
            layer.name: torch.from_numpy(trace.payloads[self.somas[layer.name].name].astype(np.float64))
            * _steps(layer.soma.unit, graph.steps, len(graph.shapes[layer.name]))
            for layer in self.neurons()
            if layer.soma.fire != "relay"
        }
        fed = graph.run(raw, collect=True, forced=forced)
        free = graph.run(raw, collect=True)
        noise = noise_of(graph, fed.values, {**fed.values, **forced})
        opened: dict[str, Tensor] = {}
        for layer in graph.layers:
            sources = graph.inputs.get(layer.name, ())
            if layer.kind == "output":
                if layer.name in self.somas:
                    current = sources[0]
                    last = self.certify(layer.name, self.readout(), trace, fed.values[current], noise[current], None)
                    self.predict(last, fed.values[current], free.values[current], opened[current], trace)
            elif isinstance(layer, NeuronLayer):
                current = sources[0]
                f = layer.soma
                if f.fire in ("relay", "none"):
                    opened[layer.name] = opened[current]
                if f.fire == "none" or layer.name not in self.somas:
                    continue
                value = fed.values[layer.name]
                before = value if f.fire == "relay" else fed.before[layer.name]
                found = self.certify(layer.name, f, trace, fed.values[current], noise[current], (before, value))
                bad = self.count(layer, found, opened[current], free.values[layer.name], trace)
                if f.fire != "relay":
                    opened[layer.name] = bad
            elif layer.kind in ("input", "host"):
                opened[layer.name] = torch.zeros(fed.values[layer.name].shape, dtype=torch.bool)
            else:
                opened[layer.name] = reached(layer, [opened[n] for n in sources])

    def certify(
        self,
        name: str,
        f: FloatSoma,
        trace: Trace,
        current: Tensor,
        noise: Tensor,
        run_of: tuple[Tensor, Tensor] | None,
    ) -> SomaCertificate:
        """The bound of one soma over this block; `run_of`: float potentials before firing and payload values."""
        soma, graph = self.somas[name], self.graph
        before, value = run_of or (run_soma(f, current).before, torch.zeros_like(current))
        if f.fire == "relay":
            f = attrs.evolve(f, unit=torch.as_tensor(self.units["payload"][soma.name], dtype=torch.float64))
        fed = Fed(
            current=current.numpy(),
            noise=noise.expand(current.shape).numpy(),
            before=before.numpy(),
            code=self.code(f, soma, value),
            constant=_constant(graph, graph.inputs[name][0]),
        )
        mu = np.asarray(self.units["potential"][soma.name], np.float64)
        mu = mu.reshape(-1, *(1,) * (len(soma.shape) - 1))
        sent = trace.payloads[soma.name].astype(np.int64)
        return soma_certificate(soma, f, mu, inside(self.program, trace, soma), fed, sent, without=self.without)

    def code(self, f: FloatSoma, soma: Soma, value: Tensor) -> Any:
        """Float payloads in payload units."""
        units = (value / _steps(f.unit, self.graph.steps, len(soma.shape))).numpy()
        if f.fire == "relay":
            return np.clip(np.floor(units + 0.5), soma.at("out_min"), soma.at("out_max"))
        return np.rint(units)

    def count(self, layer: NeuronLayer, found: SomaCertificate, field: Tensor, free: Tensor, trace: Trace) -> Tensor:
        """Add a soma's neuron-steps to its row; return where it is not certified unconditionally."""
        soma, f = self.somas[layer.name], layer.soma
        own = torch.from_numpy(~found.certified)
        if f.window is not None or soma.window is not None:
            field = field.any(0, keepdim=True).expand(field.shape)
        bad = own | field.expand(own.shape)
        if soma.stateful:
            bad = bad.int().cummax(0).values.bool()
        sure = (~bad).numpy()
        wrong = found.certified & ~found.same
        if f.fire != "relay":  # the whole float network, on its own, sends the same
            wrong = wrong | (sure & (self.code(f, soma, free) != trace.payloads[soma.name]))
        self.tally(layer.name, found.same, found.certified, sure, wrong)
        return bad

    def tally(self, name: str, same: Mask, certified: Mask, sure: Mask, wrong: Mask) -> None:
        row = self.rows[name]
        row["steps"] += same.size
        for key, mask in (("equal", same), ("certified", certified), ("unconditional", sure), ("violations", wrong)):
            row[key] += int(mask.sum())

    def readout(self) -> FloatSoma:
        """The read-out as a float soma: it adds its current up, or keeps the last one."""
        leak = 0.0 if self.graph.output.reduce == "last" else 1.0
        return FloatSoma(steps=self.graph.steps, theta=1.0, unit=1.0, leak=leak, fire="none")

    def predict(self, found: SomaCertificate, fed: Tensor, free: Tensor, field: Tensor, trace: Trace) -> None:
        """The predicted class: certified where no other class can reach it within the bounds."""
        f, steps = self.readout(), self.graph.steps
        forced, alone = (run_soma(f, v).before[-1].flatten(1).numpy() for v in (fed, free))
        error, alive = (v[-1].reshape(len(forced), -1) for v in (found.error, found.alive))
        best = forced.argmax(1)
        rivals = forced + error + 1e-12 * np.abs(forced)
        np.put_along_axis(rivals, best[:, None], -np.inf, 1)
        own = np.take_along_axis(forced - error - 1e-12 * np.abs(forced), best[:, None], 1)[:, 0]
        certified = alive.all(1) & (own > rivals.max(1))
        opened = field.expand(steps, *field.shape[1:]).transpose(0, 1).flatten(1).any(1).numpy()
        sure = certified & ~opened
        same = best == trace.pred
        wrong = (certified & ~same) | (sure & (alone.argmax(1) != trace.pred))
        self.tally(self.graph.output.name, same, certified, sure, wrong)


def _steps(unit: Tensor, steps: int, axes: int) -> Tensor:
    """A scalar, `[C]` or `[T or 1, C or 1]` field as `[T or 1, 1, C, ..]`."""
    u = unit.detach().cpu().double()
    rows = u if u.dim() == 2 else u.reshape(1, -1)
    return rows.reshape(rows.shape[0], 1, rows.shape[1], *(1,) * (axes - 1))


def _constant(graph: LayerGraph, name: str) -> Any:
    """Sum of the biases of the linear maps of one current, `[C]`."""
    channels = (graph.shapes[name] or (1,))[0]
    maps = graph.sources(name) if graph.layer(name).kind == "add" else (graph.layer(name),)
    total = np.zeros(channels)
    for layer in maps:
        shift = getattr(layer, "bias", None) if hasattr(layer, "weight") else getattr(layer, "shift", None)
        total = total + (0.0 if shift is None else shift.detach().cpu().double().numpy().reshape(-1))
    return total
