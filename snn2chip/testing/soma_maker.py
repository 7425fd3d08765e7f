"""Make a soma with given factor levels whose parameters fit the currents it will receive.

Thresholds are taken from potentials that really occur (so that exact ties happen), payload scaling from spikes that
really occur, and the magnitudes `saturate` and `wrap` push the potential or the current over their registers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from snn2chip.ir.dynamics import mix_window, soma_start, soma_step
from snn2chip.ir.soma import PER_STEP, SIGNED, Soma
from snn2chip.ir.types import LEAK_ONE, NEVER, V_MAX, IntArray
from snn2chip.testing.factors import NARROW

PLAIN: dict[str, str] = {
    "ladder": "no",
    "fire": "levels",
    "reset": "subtract",
    "levels": "one",
    "theta": "positive",
    "window": "none",
    "syn_leak": "none",
    "leak": "one",
    "v_min": "none",
    "gain": "one",
    "bias": "no",
    "v_init": "no",
    "per_step": "no",
    "spread": "scalar",
    "scaling": "identity",
    "magnitude": "normal",
}
"""An integrate-and-fire soma; rows need only name what differs."""

Rng = np.random.Generator


def run_soma(soma: Soma, currents: IntArray) -> tuple[IntArray, IntArray]:
    """Payloads and potentials `[T, B, *shape]` of one soma fed with unmixed currents."""
    mixed = mix_window(soma, currents) if soma.window is not None else currents
    state = soma_start(soma, currents.shape[1])
    payloads, potentials = [], []
    for t, a in enumerate(mixed):
        payloads.append(soma_step(soma, state, a, t))
        potentials.append(state.v)
    return np.stack(payloads), np.stack(potentials)


def make_soma(rng: Rng, name: str, currents: IntArray, row: Mapping[str, str], *, layer: str = "") -> Soma:
    """A soma for `currents` `[T, B, *shape]` with the levels of `row` (see `factors.SOMA_FACTORS`)."""
    return _Maker(rng, name, currents, {**PLAIN, **row}, layer).soma()


class _Maker:
    def __init__(self, rng: Rng, name: str, currents: IntArray, row: Mapping[str, str], layer: str) -> None:
        self.rng, self.name, self.a, self.row, self.layer = rng, name, currents, row, layer
        self.steps, self.shape = currents.shape[0], currents.shape[2:]
        self.fields: dict[str, Any] = {}
        self.vary_steps, self.vary_spread = self._varying()

    def _varying(self) -> tuple[set[str], set[str]]:
        """Which fields differ from step to step, and which from channel to channel."""
        row, rng = self.row, self.rng
        active = [f for f in ("bias", "leak", "gain") if row[f] not in ("no", "one", "zero")]
        active += ["syn_leak"] if row["syn_leak"] == "decay" else []
        active += ["v_min"] if row["v_min"] != "none" else []
        active += ["v_reset"] if row["reset"] == "value" else []
        theta = ["theta"] if row["fire"] in ("levels", "excess", "delta") else []
        steps = _some(rng, active + ([] if row["ladder"] == "yes" else theta)) or {"leak"}
        spread = active + theta + (["v_init"] if row["v_init"] == "yes" else [])
        spread += ["levels"] if row["levels"] == "many" and row["ladder"] == "no" else []
        spread += {"identity": [], "scaled": ["out_gain"], "clipped": ["out_gain", "out_max"]}[row["scaling"]]
        chosen = _some(rng, spread) or {"leak"}
        chosen |= {"theta"} if row["theta"] == "never" else set()
        return steps if row["per_step"] == "yes" else set(), chosen if row["spread"] != "scalar" else set()

    def size(self, field: str) -> tuple[int, ...]:
        """Stored shape of one field."""
        rows = self.steps if field in self.vary_steps and field in PER_STEP else 1
        tail: tuple[int, ...] = (1,)
        if field in self.vary_spread:
            tail = self.shape if self.row["spread"] == "neuron" else self.shape[:1]
        return (rows, *tail)

    def around(self, field: str, base: int, lo: int, hi: int, *, reach: int | None = None) -> IntArray:
        """An array of the field's stored shape around `base`, inside `lo..hi`."""
        size = self.size(field)
        reach = max(1, abs(base) // 3) if reach is None else reach
        noise = self.rng.integers(-reach, reach + 1, size=size) if np.prod(size) > 1 else np.zeros(size, np.int64)
        return np.clip(base + noise, lo, hi)

    def soma(self) -> Soma:
        self._window()
        self._leaks()
        self._gain()
        self._bias_and_start()
        v = self._free(self.fields.get("bias", 0))
        self.fields.update(fire=self.row["fire"], reset=self.row["reset"], ladder=self.row["ladder"] == "yes")
        self._fire(v)
        self._v_min(v)
        self._scaling()
        return Soma(self.name, self.shape, layer=self.layer, **self.fields)

    def _window(self) -> None:
        if self.row["window"] != "none":
            shift = 0 if self.row["window"] == "exact" else 3
            eye = np.eye(self.steps, dtype=np.int64) << shift
            window = self.rng.integers(-1 << shift, (3 << shift) - 1, size=eye.shape) + eye
            self.fields.update(window=window, window_shift=shift)
        self.mixed = mix_window(Soma("w", self.shape, **self.fields), self.a) if self.fields else self.a

    def _leaks(self) -> None:
        rng, level = self.rng, self.row["leak"]
        base = {
            "one": LEAK_ONE,
            "zero": 0,
            "decay": int(rng.integers(1500, 4000)),
            "growth": int(rng.integers(4200, 6500)),
            "negative": -int(rng.integers(1000, 5000)),
        }[level]
        lo, hi = {"decay": (1, 4095), "growth": (4097, 8192), "negative": (-8192, -1)}.get(level, (base, base))
        self.fields["leak"] = self.around("leak", base, lo, hi)
        level = self.row["syn_leak"]
        if level != "none":
            base = {"zero": 0, "decay": int(rng.integers(1000, 4000)), "full": LEAK_ONE}[level]
            lo, hi = (1, 4095) if level == "decay" else (base, base)
            self.fields["syn_leak"] = self.around("syn_leak", base, lo, hi)

    def _gain(self) -> None:
        rng, level = self.rng, self.row["gain"]
        peak = int(np.abs(self.mixed).max()) or 1
        shift = 0
        if self.row["magnitude"] in ("saturate", "wrap"):
            base = int(np.clip(int(rng.integers(1 << 23, 1 << 25)) // peak, 3, 32000))
        elif level == "negative":
            base, shift = int(rng.integers(1, 9)), int(rng.integers(0, 3))
        elif level == "scaled":
            base, shift = int(rng.integers(3, 40)), int(rng.integers(1, 5))
        else:
            base = 1
        if level == "negative":
            self.fields["gain"] = -self.around("gain", base, 1, 32767)
        elif level == "scaled":
            self.fields["gain"] = self.around("gain", base, 2, 32767)
        self.fields["gain_shift"] = shift

    def _free(self, bias: Any) -> IntArray:
        """Potentials before firing if the soma never fires (with `drop`: without memory)."""
        fields = {**self.fields, "bias": bias}
        if self.row["reset"] == "drop" and self.row["fire"] != "none":
            fields["leak"] = 0
        return run_soma(Soma("free", self.shape, fire="none", **fields), self.a)[1]

    def _bias_and_start(self) -> None:
        rng, large = self.rng, self.row["magnitude"] == "saturate"
        v = self._free(0)
        span = int(np.abs(v).max()) or 4
        if self.row["bias"] == "yes":
            base = -int(np.quantile(v[0], 0.35)) or 1
            if large:
                base = (V_MAX - int(rng.integers(0, 1 << 20))) * (1 if self.row["fire"] in ("levels", "excess") else -1)
            low, high = (1, V_MAX) if base > 0 else (-V_MAX, -1)
            self.fields["bias"] = self.around("bias", base, low, high, reach=max(2, min(span // 8, 1 << 20)))
        if self.row["v_init"] == "yes":
            base = int(rng.integers(1, span + 1)) * (1 if rng.random() < 0.7 else -1)
            low, high = (1, V_MAX) if base > 0 else (-V_MAX, -1)
            self.fields["v_init"] = self.around("v_init", base, low, high)

    def _fire(self, v: IntArray) -> None:
        rng, row = self.rng, self.row
        if row["levels"] == "many":
            most = int(rng.integers(2, 6))
            self.fields["levels"] = self.around("levels", most, 2, 7, reach=2)
        if row["reset"] == "value":
            span = min(int(np.abs(v).max()) or 4, V_MAX // 2)
            self.fields["v_reset"] = self.around("v_reset", int(rng.integers(-span, span + 1)), -V_MAX, V_MAX)
        if row["fire"] == "table":
            self._table(v)
        if row["ladder"] == "yes":
            self._ladder(v)
        elif row["fire"] in ("levels", "excess"):
            self._theta(v)
        elif row["fire"] == "delta":
            self.fields["delta_shift"] = int(rng.integers(0, 4))
            self._theta(np.abs(np.diff(v, axis=0, prepend=np.zeros_like(v[:1]))))

    def _pool(self, v: IntArray, row: int | None, at: tuple[int, ...]) -> IntArray:
        """Potentials that one entry of a stored array will meet."""
        part = v if row is None else v[row : row + 1]
        for axis, i in enumerate(at):
            part = part.take([i], axis=2 + axis)
        return part.ravel()

    def _entries(self, size: tuple[int, ...]) -> list[tuple[int, ...]]:
        return list(np.ndindex(*size))

    def _at(self, size: tuple[int, ...], entry: tuple[int, ...]) -> tuple[int, ...]:
        return () if size[1:] == (1,) and self.shape[:1] != (1,) else entry[1:]

    def _positive(self, v: IntArray, pool: IntArray) -> int:
        for values in (pool[pool > 0], v[v > 0]):
            if values.size:
                return int(self.rng.choice(values))
        return int(np.abs(v).max()) // 2 + 1

    def _theta(self, v: IntArray) -> None:
        rng, size = self.rng, self.size("theta")
        theta = np.zeros(size, dtype=np.int64)
        most = int(np.max(self.fields.get("levels", 1)))
        for entry in self._entries(size):
            step = entry[0] if size[0] > 1 else (0 if rng.random() < 0.7 else None)
            value = self._positive(v, self._pool(v, step, self._at(size, entry)))
            if self.row["fire"] == "excess" and rng.random() < 0.7:
                value = max(1, int(value * float(rng.uniform(0.2, 0.9))))
            k = int(rng.integers(1, most + 1))
            theta[entry] = min(value // k if value % k == 0 or value > 64 * most else value, V_MAX // most)
        theta = np.maximum(theta, 1)
        if self.row["theta"] == "nonpositive":
            low = v[v <= 0]
            value = int(rng.choice(low)) if low.size and rng.random() < 0.7 else 0
            theta[tuple(rng.integers(n) for n in size)] = value
        elif self.row["theta"] == "never":
            theta[:, int(rng.integers(size[1]))] = NEVER
        self.fields["theta"] = theta

    def _ladder(self, v: IntArray) -> None:
        rng, size = self.rng, self.size("theta")
        levels = int(np.max(self.fields["levels"]))
        theta = np.zeros((levels, *size[1:]), dtype=np.int64)
        for entry in self._entries((1, *size[1:])):
            pool = self._pool(v, None, self._at(size, entry))
            rungs = [self._positive(v, pool) for _ in range(levels)]
            if rng.random() < 0.4:
                rungs[-1] = rungs[0]
            for k, rung in enumerate(sorted(rungs)):
                theta[k][entry[1:]] = rung
        if self.row["theta"] == "nonpositive":
            theta[0] = np.minimum(theta[0], -int(rng.integers(0, 4)))
        elif self.row["theta"] == "never":
            theta[-1, int(rng.integers(size[1]))] = NEVER
        self.fields["theta"] = theta

    def _table(self, v: IntArray) -> None:
        span = int(np.abs(v).max()) or 4
        shift = max(0, (span * 3 // 2).bit_length() - 8)
        self.fields["table"] = self.rng.integers(-15, 16, size=256)
        self.fields["table_offset"] = min(int(self.rng.integers(100, 140)) << shift, V_MAX)
        self.fields["table_shift"] = shift

    def _v_min(self, v: IntArray) -> None:
        if self.row["v_min"] == "negative":
            low = v[v < 0]
            base = int(np.quantile(low, 0.6)) if low.size else -3
            self.fields["v_min"] = self.around("v_min", min(base, -1), -V_MAX, 0)
        elif self.row["v_min"] == "positive":
            self.fields["v_min"] = self.around("v_min", int(self.rng.integers(1, 6)), 1, V_MAX)

    def _scaling(self) -> None:
        rng, row = self.rng, self.row
        signed = row["fire"] in SIGNED
        if row["fire"] == "excess" and rng.random() < 0.5:
            self.fields["out_min"] = -int(rng.integers(1, 50))  # legal, and never reached
        wide = {"out_max": V_MAX, "out_min": -V_MAX if signed else 0}
        spikes = run_soma(Soma(self.name, self.shape, **{**self.fields, **wide}), self.a)[0]
        peak = int(np.abs(spikes).max()) or 1
        if row["scaling"] == "identity":
            if row["fire"] != "levels" and rng.random() < 0.7:
                self.fields["out_max"] = max(NARROW, (1 << peak.bit_length()) - 1)
            return
        if peak < 16:
            gain, shift = int(rng.integers(3, 14)), int(rng.integers(0, 3))
        else:
            shift = int(rng.integers(peak.bit_length() - 3, 24))
            gain = int(np.clip((int(rng.integers(20, 120)) << shift) // peak, 1, 65535))
        self.fields["out_gain"] = self.around("out_gain", gain, max(1, gain // 2), 65535)
        self.fields["out_shift"] = shift
        top = max(1, (peak * gain) >> shift)
        if row["scaling"] == "clipped":
            if row["fire"] == "levels":
                least = int(np.min(self.fields["out_gain"])) * int(np.max(self.fields.get("levels", 1))) >> shift
                top = min(top, least)
            most = max(1, min(NARROW - 1, int(top * float(rng.uniform(0.3, 0.7)))))
            self.fields["out_max"] = self.around("out_max", most, 1, most)
            if signed:
                self.fields["out_min"] = -max(1, most // 2)
        else:
            self.fields["out_max"] = max(NARROW, 2 * top)


def _some(rng: Rng, fields: list[str]) -> set[str]:
    """A random non-empty subset (empty only if nothing is offered)."""
    if not fields:
        return set()
    chosen = {f for f in fields if rng.random() < 0.5}
    return chosen or {fields[int(rng.integers(len(fields)))]}
