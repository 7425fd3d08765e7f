"""What the sinks keep: payloads, potentials and saturation counts."""

from __future__ import annotations

from typing import Any

import numpy as np

from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma
from snn2chip.ir.types import LEAK_ONE, V_MAX, PayloadType
from snn2chip.ir.validate import current_ranges
from snn2chip.schedule import Schedule
from snn2chip_backends.lava.layout import Choice
from snn2chip_backends.lava.net.processes import SINK_PORTS

RECORDS = ("all", "payloads", "outputs")


def channels_of(program: Program, layout: dict[str, Choice], timing: Schedule, record: str) -> list[dict[str, Any]]:
    """One entry per port that a sink keeps, with the sink's name and slot.

    record: `all` keeps every payload and every observable potential, `payloads` every payload and the potentials
    that outputs read, `outputs` only what outputs read.
    """
    assert record in RECORDS
    reach = {name: max(-lo, hi) for name, (lo, hi) in current_ranges(program).items()}
    readouts = {program.into[o.name][0].src for o in program.outputs if o.read == "potential"}
    counted = {program.into[o.name][0].src for o in program.outputs if o.read != "potential"}
    found: list[dict[str, Any]] = []
    for soma in program.somas:
        own = layout[soma.name].kind == "soma"
        skew = timing.skew_out[soma.name]
        sends = soma.payload_type() != PayloadType(0, 0)
        if soma.name in counted or (record != "outputs" and sends):
            found.append(_channel(soma, "payload", "s_out", skew, np.dtype(soma.payload_type().dtype()).str))
        if own and (record == "all" or soma.name in readouts):
            found.append(_channel(soma, "potential", "v_out", skew, "<i4"))
        if own and record != "outputs" and may_saturate(soma, reach[soma.name], program.steps):
            found.append(_channel(soma, "count", "sat_out", skew, "<i8"))
    for i, channel in enumerate(found):
        channel |= {"sink": f"sink>{i // SINK_PORTS}", "slot": i % SINK_PORTS}
    return found


def _channel(soma: Soma, what: str, port: str, skew: int, dtype: str) -> dict[str, Any]:
    return {
        "node": soma.name,
        "what": what,
        "port": port,
        "label": soma.name,
        "shape": [1] if what == "count" else list(soma.shape),
        "skew": skew,
        "dtype": dtype,
    }


def may_saturate(soma: Soma, reach: int, steps: int) -> bool:
    """Whether the potential could reach sat24 within a sample; `reach` bounds |a|, the summed incoming current."""
    gain = int(abs(soma.gain).max())
    leak = int(abs(soma.leak).max())
    shift = int(soma.gain_shift.min())
    x = (reach * gain + ((1 << shift) >> 1)) >> shift
    if soma.syn_leak is not None:
        x = min(x * steps, 1 << 23) if int(soma.syn_leak.max()) else min(x, 1 << 23)
    if soma.reset == "subtract-delayed" and soma.theta is not None:
        x += int(abs(soma.theta).max()) * int(soma.levels.max())
    push = x + int(abs(soma.bias).max())
    v = int(abs(soma.v_init).max())
    extra = max((int(abs(p).max()) for p in (soma.v_min, soma.v_reset) if p is not None), default=0)
    for _ in range(min(steps, 4096)):
        v = max(v * max(leak, 0) // LEAK_ONE + push, extra)
        if v > V_MAX:
            return True
    return steps > 4096
