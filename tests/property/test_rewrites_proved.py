"""Single-neuron rewrites proved for every value of their registers with an SMT solver (z3).

Each test asks for a counterexample over bit vectors wide enough that nothing wraps; `unsat` is the proof. A wrong
variant of the same rewrite must have one.
"""

from __future__ import annotations

import pytest

z3 = pytest.importorskip("z3", reason="z3-solver is not installed")

WIDE = 56
V = (1 << 23) - 1


def value(name: str, lo: int, hi: int) -> tuple[object, list[object]]:
    """A whole number in [lo, hi] as a wide bit vector."""
    x = z3.BitVec(name, WIDE)
    return x, [x >= lo, x <= hi]


def counterexample(claim: object, *given: object) -> bool:
    solver = z3.Solver()
    solver.set("timeout", 120_000)
    solver.add(*given, z3.Not(claim))
    answer = solver.check()
    assert answer != z3.unknown, "the solver gave up"
    return bool(answer == z3.sat)


def count(v: object, theta: object, levels: int) -> object:
    return z3.Sum([z3.If(v >= k * theta, z3.BitVecVal(1, WIDE), z3.BitVecVal(0, WIDE)) for k in range(1, levels + 1)])


def test_strict_compare_of_a_lower_threshold() -> None:
    """v >= theta is v > theta - 1 on whole numbers; v > theta is not."""
    (v, a), (theta, b) = value("v", -V, V), value("theta", -V, V)
    assert not counterexample((v >= theta) == (v > theta - 1), *a, *b)
    assert counterexample((v >= theta) == (v > theta), *a, *b)


@pytest.mark.parametrize("levels", [1, 2, 3, 4])
def test_levels_as_one_spike_per_sub_step(levels: int) -> None:
    """Form B (P2.8): as many sub-steps as levels, at most one spike each, the same count and the same rest."""
    (v, a), (theta, b) = value("v", -V, V), value("theta", 1, V // levels)
    rest, spikes = v, z3.BitVecVal(0, WIDE)
    for _ in range(levels):
        fires = rest >= theta
        spikes = spikes + z3.If(fires, z3.BitVecVal(1, WIDE), z3.BitVecVal(0, WIDE))
        rest = z3.If(fires, rest - theta, rest)
    s = count(v, theta, levels)
    assert not counterexample(z3.And(spikes == s, rest == v - s * theta), *a, *b)
    assert counterexample(spikes == count(v, theta, levels + 1), *a, *b)


@pytest.mark.parametrize("levels", [1, 2])
def test_two_equal_steps_as_one_graded_step(levels: int) -> None:
    """P2.3 with T = 2: a constant current, a start in [0, theta), saturation included."""
    (v0, a), (theta, b) = value("v0", 0, V), value("theta", 1, V // (2 * levels))
    (x, c) = value("x", -(1 << 40), 1 << 40)

    def sat(v: object) -> object:
        return z3.If(v > V, z3.BitVecVal(V, WIDE), z3.If(v < -V, z3.BitVecVal(-V, WIDE), v))

    first = sat(v0 + x)
    s1 = count(first, theta, levels)
    second = sat(first - s1 * theta + x)
    fused = count(sat(v0 + 2 * x), theta, 2 * levels)
    together = s1 + count(second, theta, levels)
    assert not counterexample(together == fused, *a, *b, *c, v0 < theta)
    assert counterexample(together == fused, *a, *b, *c)


def test_a_bias_moves_into_the_threshold_of_a_stateless_neuron() -> None:
    """v = sat(x + b) >= theta is x >= theta - b, as long as theta lies inside the register."""
    (x, a), (b, c), (theta, d) = value("x", -(1 << 40), 1 << 40), value("b", -V, V), value("theta", -V + 1, V)
    v = z3.If(x + b > V, z3.BitVecVal(V, WIDE), z3.If(x + b < -V, z3.BitVecVal(-V, WIDE), x + b))
    assert not counterexample((v >= theta) == (x >= theta - b), *a, *c, *d)


@pytest.mark.parametrize("shift", [1, 4, 15])
def test_right_shift_rounds_half_up(shift: int) -> None:
    """(x + 2^(k-1)) >> k is the only y with -1/2 <= y - x/2^k < ... : 2x - 2^k < 2^(k+1) y <= 2x + 2^k."""
    (x, a) = value("x", -(1 << 46), 1 << 46)
    y = (x + (1 << (shift - 1))) >> shift
    bound = z3.And(2 * x - (1 << shift) < (1 << (shift + 1)) * y, (1 << (shift + 1)) * y <= 2 * x + (1 << shift))
    assert not counterexample(bound, *a)
    floor = x >> shift
    assert counterexample(z3.And(2 * x - (1 << shift) < (1 << (shift + 1)) * floor), *a)
