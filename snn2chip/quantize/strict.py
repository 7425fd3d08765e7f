"""Strict compare: a neuron that fires at v > theta, on integers v >= theta + 1.

    reset zero, drop        theta + 1                           one level
    drop, several levels    bias - 1: v > k*theta is v - 1 >= k*theta, and nothing is kept
    ladder                  every threshold + 1
    reset subtract          v(0) - 1: with leak 1 the whole run is one unit lower, and theta is what is subtracted

Exact, all of them. A leaking neuron with soft reset, or several levels with reset to zero, has no such form. One that
is itself declared strict (an imported one) takes theta + 1, for what is subtracted too: one unit of the potential more,
no more than what rounding theta may cost.
"""

from __future__ import annotations

from typing import Any

from snn2chip.ir.layers import FloatSoma


def strict_breach(soma: FloatSoma) -> str:
    """Why a firing neuron cannot compare strictly; empty if it can or does not compare."""
    if soma.fire not in ("levels", "ladder") or soma.v_init_rule == "strict" or soma.strict:
        return ""
    if soma.trained is not None:
        return "was trained on integers that fire at v >= theta"
    if soma.reset in ("subtract", "subtract-delayed") and bool((soma.leak != 1).any()):
        return "leaks and subtracts theta; only leak 1 has a strict form"
    if soma.reset == "zero" and soma.levels > 1:
        return "has several levels and resets to zero"
    return ""


def strict_compare(soma: FloatSoma, ints: dict[str, Any]) -> dict[str, Any]:
    """Return the integer fields `theta`, `bias`, `v_init` of the soma that fires at v > theta."""
    if soma.fire not in ("levels", "ladder") or soma.v_init_rule == "strict":
        return {}
    if soma.reset in ("subtract", "subtract-delayed") and not bool((soma.leak != 1).any()):
        return {field: ints[field] - 1 for field in ("v_init", "v_min") if field in ints}
    if soma.fire == "levels" and soma.levels > 1:
        return {"bias": ints["bias"] - 1}
    return {"theta": ints["theta"] + 1}
