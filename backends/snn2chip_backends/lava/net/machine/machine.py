"""Somas with the synapses and products that feed them, advanced one machine step at a time on a batch of samples.

A payload made in machine step m is read from m + 1 on, inside as outside. Payloads are kept by their global logical
step g = n*T + t (n: which batch) as long as somebody reads them, so that delays need no lines of their own.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from .maps import make_map
from .population import Population


class Machine:
    """`par` holds `inputs`, `currents`, `somas`, `outputs` and the machine time (see `snn2chip_backends.lava.blocks`).

    `samples=0` runs without end. `constant` names inputs that send the same payload at all steps of a sample: what
    depends on nothing else is computed at its first.
    """

    def __init__(self, par: Mapping[str, Any]) -> None:
        self.batch, self.samples = par["batch"], par["samples"]
        self.clock = Clock(par)
        self.histories = {item["name"]: History(item, self.batch) for item in (*par["inputs"], *par["somas"])}
        self.inputs = [(item["name"], item["skew"]) for item in par["inputs"]]
        self.constant = constant = set(par.get("constant", ()))
        self.currents = {item["name"]: Current(item, self.batch, constant) for item in par["currents"]}
        self.somas = [Layer(item, self.batch, self.clock) for item in par["somas"]]
        self.place = ""
        by_name = {soma.name: soma for soma in self.somas}
        self.outputs = [(by_name[item["node"]], item["what"], item["last"]) for item in par["outputs"]]

    def step(self, m: int) -> list[Any]:
        """Compute machine step `m`; returns what its outputs carry, None for one that is silent in this step."""
        for current in self.currents.values():
            g = self.clock.logical(m - current.skew)
            if g is not None:
                self.place = current.label
                current.compute(g, self.clock.steps, self.histories)
        for soma in self.somas:
            self.place = soma.label
            g_in, g_out = self.clock.logical(m - soma.skew_in), self.clock.logical(m - soma.skew_out)
            soma.step(g_in, g_out, self.currents, self.histories[soma.name], self.real(g_out))
        self.place = ""
        return [soma.shown(what) if soma.at_end or not last else None for soma, what, last in self.outputs]

    def real(self, g: int | None) -> int:
        """How many samples of the batch at global logical step `g` are not padding."""
        if g is None or not self.samples:
            return int(self.batch)
        return int(min(self.batch, self.samples - g // self.clock.steps * self.batch))

    def awaits(self, m: int, number: int) -> bool:
        """Whether input `number` sends in machine step `m`; one that is constant stays as it was in between."""
        name, skew = self.inputs[number]
        if name not in self.constant:
            return True
        g = self.clock.logical(m - skew)
        if g is not None and g % self.clock.steps:
            self.histories[name].put(g, self.histories[name].at(g - 1))
        return g is not None and g % self.clock.steps == 0

    def take(self, m: int, number: int, payload: Any) -> None:
        """Keep what input `number` received in machine step `m`."""
        name, skew = self.inputs[number]
        g = self.clock.logical(m - skew)
        if g is not None:
            self.histories[name].put(g, payload)


class Clock:
    """Which logical step falls on a machine step."""

    def __init__(self, par: Mapping[str, Any]) -> None:
        self.steps, self.stretch = par["steps"], par["stretch"]
        batches = -(-par["samples"] // par["batch"])
        self.span = batches * self.steps * self.stretch or None

    def logical(self, k: int) -> int | None:
        """Global logical step `k` machine steps after a skew, or None."""
        if k < 0 or k % self.stretch or (self.span is not None and k >= self.span):
            return None
        return k // self.stretch


class History:
    """The last payloads of one source, `[B, *shape]` each, by global logical step."""

    def __init__(self, item: Mapping[str, Any], batch: int) -> None:
        shape = (batch, *item["shape"])
        self.kept = [np.zeros(shape, item["dtype"]) for _ in range(item["keep"])]

    def put(self, g: int, payload: Any) -> None:
        """Keep an array that nobody else writes."""
        self.kept[g % len(self.kept)] = payload

    def at(self, g: int) -> Any:
        """The payload of global logical step `g`; to be filled by the source itself."""
        return self.kept[g % len(self.kept)]


class Current:
    """A synapse or product; its currents are kept for consumers that take them later."""

    def __init__(self, item: Mapping[str, Any], batch: int, constant: Collection[str]) -> None:
        self.label, self.skew, self.sources = item["label"], item["skew"], item["sources"]
        self.constant = all(name in constant and not delay for name, delay in self.sources)
        self.map = make_map(item, batch)
        self.kept: list[Any] = [None] * item["keep"]

    def compute(self, g: int, steps: int, histories: Mapping[str, History]) -> None:
        """The current of global logical step `g`; None stands for 0: a delayed payload before the sample's first."""
        slot = g % len(self.kept)
        if self.constant and g % steps:
            self.kept[slot] = self.at(g - 1)
            return
        if any(g % steps < delay for _, delay in self.sources):
            self.kept[slot] = None
            return
        found = self.map.current([histories[name].at(g - delay) for name, delay in self.sources])
        self.kept[slot] = found if len(self.kept) == 1 else found.copy()

    def at(self, g: int) -> Any:
        """The current of global logical step `g`."""
        return self.kept[g % len(self.kept)]


class Layer:
    """A soma in machine time: sums its currents, mixes them in a window, advances its population."""

    def __init__(self, item: Mapping[str, Any], batch: int, clock: Clock) -> None:
        self.name, self.label, self.sources = item["name"], item["label"], item["sources"]
        self.skew_in, self.skew_out, self.steps = item["skew_in"], item["skew_out"], clock.steps
        shape = tuple(item["shape"])
        self.population = Population(item["params"], shape, batch, item["number"], item["clips"])
        self.window = item["params"]["window"]
        self.window_shift = item["params"]["window_shift"]
        self.zero = np.zeros((batch, *shape), item["number"])
        self.sum = np.zeros_like(self.zero)
        self.idle = np.zeros((batch, *shape), item["dtype"])
        self.payload = self.idle
        self.saturated = 0
        self.at_end = False
        """Whether the last logical step of a sample was computed in this machine step."""
        if self.window is not None:
            self.window = self.window.astype(item["number"])
            self.filling = np.zeros((self.steps, batch, *shape), item["number"])
            self.ready = np.zeros_like(self.filling)

    def step(
        self, g_in: int | None, g_out: int | None, currents: Mapping[str, Current], history: History, real: int
    ) -> None:
        """One machine step: take the currents of `g_in`, speak for `g_out`."""
        self.payload, self.saturated = self.idle, 0
        self.at_end = g_out is not None and g_out % self.steps == self.steps - 1
        if self.window is not None:
            if g_out is not None and g_out % self.steps == 0:
                self.filling, self.ready = self.ready, self.filling
            if g_in is not None:
                self.mix(self.total(currents, g_in), g_in % self.steps)
        if g_out is None:
            return
        t = g_out % self.steps
        if t == 0:
            self.population.start()
        a = self.total(currents, g_out) if self.window is None else self.mixed(t)
        self.payload = history.at(g_out)
        self.saturated = self.population.advance(a, t, self.payload, real)

    def total(self, currents: Mapping[str, Current], g: int) -> Any:
        """Sum of all currents of global logical step `g`, in the number type; not to be changed."""
        parts = [part for name in self.sources if (part := currents[name].at(g)) is not None]
        if not parts:
            return self.zero
        if len(parts) == 1 and parts[0].dtype == self.zero.dtype:
            return parts[0]
        np.copyto(self.sum, parts[0], casting="unsafe")
        for part in parts[1:]:
            self.sum += part.astype(self.sum.dtype, copy=False)
        return self.sum

    def mix(self, a: Any, t: int) -> None:
        """Add one step's current to the bank that is being filled."""
        if t == 0:
            self.filling[...] = 0
        for row, weight in zip(self.filling, self.window[:, t], strict=True):
            if weight:
                row += weight * a

    def mixed(self, t: int) -> Any:
        """Mixed current of logical step `t` from the full bank."""
        a, k = self.ready[t], self.window_shift
        if not k:
            return a
        if a.dtype.kind == "f":
            return np.floor((a + ((1 << k) >> 1)) / (1 << k))
        return (a + ((1 << k) >> 1)) >> k

    def shown(self, what: str) -> Any:
        """What an output of this soma carries: payload, potential after reset, or saturations of this step."""
        if what == "count":
            return np.array([self.saturated], np.int64)
        return self.payload if what == "payload" else self.population.v
