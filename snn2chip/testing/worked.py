"""Worked examples of the integer machine: small programs whose every number was computed by hand.

Each example gives the payloads of its soma (and the potentials after reset, where they are stated) at every
logical step of one sample. Currents that are "given directly" enter through an identity synapse.
"""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np

from snn2chip.ir.nodes import Input, Output, Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma
from snn2chip.ir.types import IntArray

Rows = tuple[tuple[int, ...], ...]


@attrs.frozen(kw_only=True)
class WorkedExample:
    """One program with hand-computed results of its soma `soma`.

    `frames[t]` are the input payloads of step t, `payloads[t]` and `potentials[t]` (after reset) what the soma
    must show; `potentials` is None where only the payloads are stated.
    """

    name: str
    program: Program
    frames: Rows
    payloads: Rows
    potentials: Rows | None = None

    def coded(self, batch: int = 1) -> dict[str, IntArray]:
        """Input payloads `[T, batch, n]`: the same sample `batch` times."""
        frames = np.array(self.frames, dtype=np.int64)[:, None]
        return {"in": np.repeat(frames, batch, axis=1)}

    def wrong(self, trace: Any) -> list[str]:
        """What a trace of `coded()` gets wrong, in words."""
        found = []
        batch = trace.samples
        stated = [("payloads", self.payloads)]
        if self.potentials is not None and "soma" in trace.potentials:
            stated.append(("potentials", self.potentials))
        for field, rows in stated:
            want = np.repeat(np.array(rows, dtype=np.int64)[:, None], batch, axis=1)
            got = getattr(trace, field)["soma"]
            if got.shape != want.shape or (got != want).any():
                found.append(f"{self.name}: {field} {np.asarray(got)[:, 0].tolist()}, by hand {want[:, 0].tolist()}")
        return found


def _rows(values: Any) -> Rows:
    return tuple(tuple(int(v) for v in np.atleast_1d(row)) for row in values)


def _example(
    name: str, frames: Any, payloads: Any, potentials: Any = None, *, weight: Any = None, **soma: Any
) -> WorkedExample:
    frames = _rows(frames)
    neurons = len(_rows(payloads)[0])
    kind = {"kind": "identity"} if weight is None else {"kind": "linear", "weight": np.array(weight)}
    read = "potential" if soma.get("fire") == "none" else "payload"
    program = Program(
        nodes=[
            Input("in", (len(frames[0]),), -63, 63, coding="steps"),
            Synapse("synapse", **kind),
            Soma("soma", (neurons,), **soma),
            Output("out", read),
        ],
        edges=[("in", "synapse"), ("synapse", "soma"), ("soma", "out")],
        steps=len(frames),
        meta={"name": name},
    )
    return WorkedExample(
        name=name,
        program=program,
        frames=frames,
        payloads=_rows(payloads),
        potentials=None if potentials is None else _rows(potentials),
    )


def _column(*values: int) -> IntArray:
    return np.array(values, dtype=np.int64).reshape(-1, 1)


def worked_examples() -> list[WorkedExample]:
    """All worked examples, in the order of the contract."""
    multi = {"weight": [[1, -1]], "theta": 3, "levels": 2, "v_init": 1}
    frames = [[4, 0], [0, 2], [9, 1]]
    window = [[2, 1, 1], [1, 2, 1], [0, 1, 3]]
    merged: dict[str, Any] = {
        "weight": [[1, -1, 1]],
        "fire": "excess",
        "gain": _column(11, 11, 11, 13),
        "gain_shift": 1,
        "leak": _column(4096, 3072, -2048, 6144),
        "bias": _column(5, 5, 5, -3),
        "theta": _column(20, 24, 20, 16),
        "out_gain": 5,
        "out_shift": 5,
        "out_max": 15,
    }
    merged_frames = [[3, 1, 0], [15, 0, 15], [0, 4, 1], [9, 1, 4]]
    return [
        _example("multi-level", frames, [1, 0, 2], [2, 0, 2], **multi),
        _example("multi-level-leak", frames, [1, 0, 2], [1, -2, 1], leak=2048, **multi),
        _example(
            "excess-clamp",
            [5, 9, -3, 40],
            [5, 11, 0, 15],
            [4, 6, -2, 8],
            fire="excess",
            reset="clamp",
            gain=2,
            bias=1,
            theta=_column(4, 6, 6, 8),
            leak=_column(4096, 2048, 2048, 4096),
            out_gain=3,
            out_shift=2,
            out_max=15,
        ),
        _example("window", [3, 0, 6], [2, 2, 3], [3, 1, 3], window=window, theta=5, levels=3, v_init=2, leak=3072),
        _example(
            "parallel-steps",
            [7, -2, 4, 1],
            [0, 1, 1, 1],
            [0, 0, 0, 0],
            window=np.ones((4, 4), dtype=np.int64),
            reset="drop",
            bias=-1,
            theta=_column(10, 8, 5, 3),
            ladder=False,
        ),
        _example("parallel-graded", [10], [3], [0], reset="drop", bias=-1, levels=4, theta=_column(3, 5, 8, 10)),
        _example(
            "current-based",
            [3, 3, 0, -9],
            [0, 1, 0, 0],
            [192, 0, 144, -300],
            syn_leak=2048,
            leak=3686,
            gain=64,
            theta=200,
            reset="zero",
            v_min=-300,
        ),
        _example("delayed-subtract", [5, 5, 5], [0, 1, 1], [5, 10, 9], theta=6, reset="subtract-delayed"),
        _example(
            "changes-floored",
            [3, 4, 2, -15, -9, 40],
            [2, 2, 0, -5, 0, 13],
            [5, 9, 11, 0, 0, 27],
            fire="delta",
            reset="keep",
            syn_leak=4096,
            leak=0,
            bias=2,
            v_min=0,
            theta=4,
            delta_shift=1,
        ),
        _example("merged-clamp", merged_frames, [0, 15, 0, 4], [16, 24, -23, 16], reset="clamp", **merged),
        _example("merged-drop", merged_frames, [0, 15, 0, 9], [0, 0, 0, 0], reset="drop", **merged),
        _example(
            "ladder",
            [[1, 3, 0], [0, 0, 0], [5, 3, 4]],
            [[3, 1], [1, 0], [3, 2]],
            [[0, 0], [0, 0], [0, 0]],
            weight=[[1, 2, 0], [-1, 1, 3]],
            levels=4,
            bias=[-2, 1],
            theta=np.array([[-2, 3], [5, 7], [5, 12], [11, 16]]),
            reset="drop",
        ),
    ]
