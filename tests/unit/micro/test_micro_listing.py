"""Neuron programs compute what the soma computes, in steps whose ranges hold."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from snn2chip_backends.reference import ReferenceBackend
from snn2chip_backends.reference.backend import product_current, synapse_current

from snn2chip.errors import UnsupportedError
from snn2chip.ir.nodes import Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma
from snn2chip.ir.types import NEVER, V_MAX, IntArray
from snn2chip.mapping.target import OPERATIONS, Target
from snn2chip.mapping.target_file import load_target
from snn2chip.micro.lower import lower_soma
from snn2chip.micro.run import run_listing
from snn2chip.micro.step import CATEGORY, Param, Step
from snn2chip.micro.text import unmixed_range
from snn2chip.micro.widths import bits_of, width_breaches, widths
from snn2chip.testing.cases import Case, covering_cases, cross_cases
from snn2chip.testing.programs import random_program
from snn2chip.testing.soma_maker import run_soma

TARGETS = ("loihi2", "loihi1", "ideal")


@cache
def target(name: str) -> Target:
    return load_target(name)


def currents(case: Case) -> dict[str, IntArray]:
    """Summed currents `[T, B, *shape]` that really reach every soma of a case."""
    program, trace = case.program, ReferenceBackend().run(case.program, case.coded)
    payloads = {**trace.payloads, **{k: np.asarray(v) for k, v in case.coded.items()}}

    def arriving(name: str, delay: int) -> IntArray:
        late = np.zeros_like(payloads[name], dtype=np.int64)
        late[delay:] = payloads[name][: len(late) - delay]
        return late

    found = {}
    for soma in program.somas:
        total = np.zeros((program.steps, trace.samples, *soma.shape), dtype=np.int64)
        for edge in program.into[soma.name]:
            node = program[edge.src]
            into = [arriving(e.src, e.delay) for e in program.into[edge.src]]
            for t in range(program.steps):
                if isinstance(node, Synapse):
                    total[t] += synapse_current(node, into[0][t])
                else:
                    total[t] += product_current(node, into[0][t], into[1][t])  # type: ignore[arg-type]
        found[soma.name] = total
    return found


def same(soma: Soma, a: IntArray, name: str) -> None:
    steps = len(a)
    want = run_soma(soma, a)
    got = run_listing(lower_soma(soma, steps, target(name)), a)
    for expected, found, what in zip(want, got, ("payload", "potential"), strict=True):
        assert (expected == found).all(), (soma, name, what)


@pytest.mark.parametrize("name", TARGETS)
def test_listings_equal_every_soma_of_the_covering_set(name: str) -> None:
    somas = 0
    for case in covering_cases():
        for key, a in currents(case).items():
            same(case.program[key], a, name)  # type: ignore[arg-type]
            somas += 1
    assert somas > 80


def test_listings_equal_every_soma_of_the_full_cross() -> None:
    somas = 0
    for case in cross_cases():
        for key, a in currents(case).items():
            same(case.program[key], a, TARGETS[somas % 3])  # type: ignore[arg-type]
            somas += 1
    assert somas > 500


@pytest.mark.parametrize("block", range(4))
def test_listings_equal_the_somas_of_random_programs(block: int) -> None:
    somas = 0
    rng = np.random.default_rng(block)
    for seed in range(32 * block, 32 * (block + 1)):
        case = random_program(seed, wide=seed % 3 == 0)
        for key, a in currents(case).items():
            soma = case.program[key]
            assert isinstance(soma, Soma)
            same(soma, a, TARGETS[somas % 3])
            span = max(int(np.abs(a).max()), 1)
            same(soma, rng.integers(-2 * span, 2 * span + 1, a.shape), TARGETS[(somas + 1) % 3])
            somas += 1
    assert somas >= 60


@pytest.mark.parametrize("levels", [1, 2, 16, 17, 31, 32, 1000, 12345])
@pytest.mark.parametrize("reset", ["subtract", "zero", "drop", "subtract-delayed"])
def test_many_levels_are_counted_by_halving(levels: int, reset: str) -> None:
    theta = 7
    soma = Soma("n", (60,), theta=theta, levels=levels, reset=reset, out_max=(1 << 24) - 1)
    ties = np.concatenate([np.arange(-20, 20), theta * levels + np.arange(-10, 10)])
    a = np.broadcast_to(ties, (3, 1, 60)).astype(np.int64)
    listing = lower_soma(soma, 3, target("loihi2"))
    assert listing.operations()["compare"] <= min(levels, 17) + (reset == "zero")
    for name in TARGETS:
        same(soma, a, name)


def test_levels_per_channel_and_per_neuron_broadcast() -> None:
    rng = np.random.default_rng(0)
    a = rng.integers(-50, 300, (4, 5, 3, 2, 2))
    per_neuron = rng.integers(1, 40, (1, 3, 2, 2))
    for theta in (rng.integers(1, 9, (1, 3)), rng.integers(1, 9, (4, 3, 2, 2)), 5):
        for levels in (rng.integers(1, 40, (1, 3)), per_neuron, 3):
            same(Soma("n", (3, 2, 2), theta=theta, levels=levels, leak=3000), a, "loihi1")


def test_negative_leaks_round_toward_zero() -> None:
    a = np.arange(-300, 300).reshape(1, 1, -1)
    a = np.concatenate([a, np.zeros_like(a), np.zeros_like(a)])
    for leak in (-4096, -4095, -32768, 32767, 1, -1, 2048, 0):
        same(Soma("n", (600,), fire="none", leak=leak), a, "loihi2")


def test_the_end_of_the_number_range_is_reached_on_every_compare() -> None:
    a = np.array([-V_MAX, -V_MAX + 1, -1, 0, 1, V_MAX - 1, V_MAX, 2 * V_MAX], dtype=np.int64).reshape(1, 1, 8)
    for theta in (NEVER, V_MAX, -NEVER, -V_MAX, 0, 1):
        for name in TARGETS:
            same(Soma("n", (8,), theta=theta, reset="zero"), a, name)


def test_a_strict_compare_gets_the_threshold_minus_one() -> None:
    soma = Soma("n", (1,), theta=65, reset="zero")
    tests = {n: [s for s in lower_soma(soma, 1, target(n)).step if s.op in ("ge", "gt")] for n in TARGETS}
    assert [(s.op, str(s.args[1])) for s in tests["loihi1"]] == [("gt", "theta-1=64")]
    assert [(s.op, str(s.args[1])) for s in tests["loihi2"]] == [("ge", "theta=65")]


def test_no_listing_for_loihi2_uses_what_the_chip_lacks() -> None:
    used = set()
    for case in covering_cases():
        for soma in case.program.somas:
            used |= set(lower_soma(soma, case.program.steps, target("loihi2")).operations())
    assert used == set(OPERATIONS) - {"lookup"}


def test_a_factor_wider_than_a_coefficient_is_split() -> None:
    soma = Soma("n", (200,), fire="relay", reset="drop", out_gain=65535, out_shift=12, payload_bits=24)
    listing = lower_soma(soma, 1, target("loihi2"))
    factors = [step.args[1] for step in listing.step if step.op == "mul"]
    assert [(f.lo, f.hi) for f in factors if isinstance(f, Param)] == [(32767, 32767)]  # 65535 = 32768 + 32767
    assert not width_breaches(listing, widths(listing, (-1000, 1000)), target("loihi2"))
    same(soma, np.random.default_rng(1).integers(-(1 << 22), 1 << 22, (1, 4, 200)), "loihi2")


@pytest.mark.parametrize("block", range(3))
def test_every_result_lies_in_its_proven_range(block: int) -> None:
    """Random currents and the corners of the static range; the range of each step must hold each value."""
    rng = np.random.default_rng(block)
    for seed in range(14 * block, 14 * (block + 1)):
        program = random_program(seed, wide=True).program
        for soma in program.somas:
            lo, hi = unmixed_range(program, soma)
            shape = (program.steps, 4, *soma.shape)
            listing = lower_soma(soma, program.steps, target("loihi2"))
            found = widths(listing, (lo, hi))
            ends = {id(s): e for s, e in zip(listing.arrive, found.arrive, strict=True)}
            ends |= {id(s): e for s, e in zip(listing.step, found.step, strict=True)}

            def watch(step: Step, values: IntArray, ends: dict[int, tuple[int, int]] = ends) -> None:
                low, high = ends[id(step)]
                assert low <= values.min(), step
                assert values.max() <= high, step

            for a in (rng.integers(lo, hi + 1, shape), rng.choice([lo, hi], shape), np.full(shape, hi)):
                run_listing(listing, a, watch=watch)


def test_ranges_are_reached_where_they_can_be() -> None:
    """Interval arithmetic is not loose on a plain neuron: the ends occur."""
    soma = Soma("n", (1,), theta=10, leak=4096, bias=3)
    listing = lower_soma(soma, 2, target("loihi2"))
    found = widths(listing, (-5, 7))
    # t=0: v in -2..10; after subtraction the largest is 9, the smallest -2; t=1: -2-5+3 .. 9+7+3
    assert found.registers["v"] == (-4, 19)


@pytest.mark.parametrize(
    ("lo", "hi", "bits"), [(0, 0, 1), (-1, 0, 1), (0, 1, 2), (-8, 7, 4), (-9, 7, 5), (8, 8, 5), (-8, -8, 4)]
)
def test_bits_are_those_of_twos_complement(lo: int, hi: int, bits: int) -> None:
    assert bits_of(lo, hi) == bits
    assert -(2 ** (bits - 1)) <= lo <= hi < 2 ** (bits - 1)
    assert bits == 1 or not (-(2 ** (bits - 2)) <= lo and hi < 2 ** (bits - 2))


def excess(soma: Soma, steps: int, current: tuple[int, int], *, made_for: str, on: str) -> list[tuple[str, bool]]:
    listing = lower_soma(soma, steps, target(made_for))
    return [(b.text, b.certain) for b in width_breaches(listing, widths(listing, current), target(on))]


def test_width_breaches_name_register_coefficient_product_and_operation() -> None:
    window = Soma("n", (2,), theta=5, window=np.array([[3, -1], [2, 2]]))
    bad = excess(window, 2, (-(1 << 22), 1 << 22), made_for="loihi2", on="loihi2")
    # 3 * 2^22 + 1 * 2^22 = 2^24: 26 bits
    assert ("register bank0 may need 26 bits, the target keeps 24", False) in bad
    assert not excess(window, 2, (-1000, 1000), made_for="loihi2", on="loihi2")
    signed = Soma("n", (2,), theta=5, gain=[-3, 2])
    text = "step 1 (mul): coefficient gain[c]=-3..2 is negative, the target's have no sign"
    assert excess(signed, 1, (-10, 10), made_for="loihi1", on="loihi1") == [(text, True)]
    wide = excess(Soma("n", (2,), theta=5), 1, (0, 1 << 23), made_for="loihi2", on="loihi2")
    assert wide == [("its current may need 25 bits, the target sums 24", False)]
    table = Soma("n", (2,), fire="table", reset="drop", table=np.arange(256), table_offset=128)
    text = "needs the operation 'lookup', which is not there"
    assert excess(table, 1, (-9, 9), made_for="ideal", on="loihi2") == [(text, True)]
    gained = Soma("n", (2,), theta=5, gain=32767)
    product = excess(gained, 1, (-(1 << 30), 1 << 30), made_for="loihi2", on="loihi2")
    assert ("step 1 (mul) may need 46 bits, the target computes in 40", False) in product
    factor = excess(gained, 1, (-9, 9), made_for="loihi2", on="loihi1")
    assert factor == [("step 1 (mul): coefficient gain=32767 needs 15 bits, the target has 12", True)]


def test_absurd_level_counts_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="5000 levels with thresholds <= 0"):
        lower_soma(Soma("n", (2,), theta=[-1, 3], levels=5000, reset="zero"), 1, target("loihi2"))


def test_every_step_has_a_category() -> None:
    assert set(CATEGORY.values()) - {""} == set(OPERATIONS)


def test_programs_are_untouched() -> None:
    case = covering_cases()[0]
    program: Program = case.program
    before = program.digest()
    for soma in program.somas:
        lower_soma(soma, program.steps, target("loihi2"))
    assert program.digest() == before
