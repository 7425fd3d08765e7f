"""Energy and time by hand from the formulas of the targets; every constant with its source; the SNN may lose."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import snn2chip
from snn2chip import Input, Output, Program, Soma, Synapse
from snn2chip.api import stream
from snn2chip.errors import InputError
from snn2chip.mapping.assign import map_program
from snn2chip.mapping.partition import partition
from snn2chip.mapping.target_file import load_target
from snn2chip.reports.baselines import baselines, verdicts
from snn2chip.reports.detail import Detail, DetailCounter
from snn2chip.reports.energy import chip_estimates, totals
from snn2chip.reports.floors import floor_plan
from snn2chip.reports.latency import even_floor, timings
from snn2chip.reports.workload import Workload, workload

sys.path.insert(0, str(Path(__file__).parent))
from brute import brute

STEPS = 2


def loaded(*, active: int = 16, hi: int = 1, value: int = 1) -> Workload:
    """100 -> 50, sixteen of the inputs active in both steps, nobody spikes."""
    program = Program(
        nodes=[
            Input("x", (100,), 0, hi),
            Synapse("w", "linear", np.full((50, 100), 5), bits=8),
            Soma("s", (50,), theta=1 << 20),
            Output("o", "count"),
        ],
        edges=[("x", "w"), ("w", "s"), ("s", "o")],
        steps=STEPS,
    )
    x = np.zeros((4, 100), int)
    x[:, :active] = value
    return workload(program, counted(program, x))


def counted(program: Program, x) -> Detail:
    counter = DetailCounter(program)
    for trace in stream(program, x):
        counter.add(trace)
    return counter.result()


def by(found, key: str = "model"):
    return {getattr(row, key): row for row in found}


def test_loihi1_by_hand() -> None:
    """1600 synops and 100 active updates per sample; 32 messages of the host, delivered on their tile."""
    found = by(chip_estimates(load_target("loihi1"), loaded()))
    davies = 1600 * 23.6 + 100 * 81 + 0 * 52 + 32 * 1.7
    assert found["davies2018"].joules.value == pytest.approx(davies * 1e-12, rel=1e-12)
    fitted = 1600 * 35.5 + 100 * (51.2 + 21.6) + 0 * 69.3 + 32 * 111.0
    assert found["sana-fe"].joules.value == pytest.approx(fitted * 1e-12, rel=1e-12)
    quiet = by(chip_estimates(load_target("loihi1"), loaded(active=0)))
    assert quiet["davies2018"].joules.value == pytest.approx(100 * 52e-12, rel=1e-12)


def test_loihi2_models_are_labelled_ranges() -> None:
    found = by(chip_estimates(load_target("loihi2"), loaded()))
    interval = found["interval"]
    assert interval.joules.lo == pytest.approx((1600 * 6.8 + 100 * 10.8 + 32 * 1.7) * 1e-12, rel=1e-12)
    assert interval.joules.hi == pytest.approx((1600 * 23.6 + 100 * 43.2 + 32 * 1.7) * 1e-12, rel=1e-12)
    assert interval.joules.width <= 4
    assert {row.status for row in found.values()} <= {"surrogate", "vendor"}
    assert found["hala-point"].scope == "total"


def test_arithmetic_by_hand() -> None:
    """Binary payloads add; one pass of the ANN multiplies 5000 times."""
    load = loaded()
    found = {row.network: row.joules.value for row in baselines({"loihi2": load_target("loihi2")}, load, ("alu-45nm",))}
    assert found["spiking network, fp32"] == pytest.approx(1600 * 0.9e-12)
    assert found["spiking network, integers"] == pytest.approx((1600 + 2 * 100) * 0.1e-12)
    assert found["quantised ANN, one pass"] == pytest.approx(5000 * 0.3e-12)
    assert found["float ANN, one pass"] == pytest.approx(5000 * 4.6e-12)
    graded = loaded(hi=3, value=3)
    assert (graded.acs, graded.macs) == (0, 1600)
    found = {row.network: row.joules.value for row in baselines({"loihi2": load_target("loihi2")}, graded)}
    assert found["spiking network, fp32"] == pytest.approx(1600 * 4.6e-12)


@pytest.mark.parametrize(
    ("active", "says"), [(16, "the spiking network is cheaper"), (100, "the spiking network is dearer")]
)
def test_the_report_can_say_that_the_spiking_network_loses(active, says) -> None:
    """All inputs active in both steps: 10,000 additions in fp32 against 5000 integer multiply-adds."""
    load = loaded(active=active)
    rows = by(verdicts([], baselines({"loihi2": load_target("loihi2")}, load)), "basis")
    snn, ann = 50 * active * STEPS * 0.9, 5000 * 0.3
    row = rows["alu-45nm: fp32 against a quantised ANN"]
    assert row.ratio == pytest.approx(snn / ann)
    assert row.verdict == says
    assert rows["alu-45nm: fp32"].ratio == pytest.approx(snn / (5000 * 4.6))


def test_time_of_a_step_by_hand() -> None:
    """50 updates, 800 synops, no spike on the one core; a barrier of one tile; two steps, one more for the read-out."""
    load, target = loaded(), load_target("loihi1")
    floor = even_floor(load, target)
    assert (floor.count, floor.tiles, floor.chips) == (1, 1, 1)
    found = by(timings(target, load, floor))
    step = (50 * (6.0 + 3.7) + 800 * 3.8 + 600) * 1e-9
    assert found["sana-fe"].step.value == pytest.approx(step)
    assert found["sana-fe"].sample.value == pytest.approx(2 * step)
    assert found["davies2018"].step.value == pytest.approx((50 * 8.4 + 800 * 3.5 + 113) * 1e-9)
    assert found["davies2018"].step.hi > found["davies2018"].step.value
    assert found["systems"].step.value == pytest.approx(14.3e-6)  # the barrier of the smallest system measured


def test_static_power_is_apart() -> None:
    """104 mW of one chip for the time of a sample."""
    load, target = loaded(), load_target("loihi1")
    floor = even_floor(load, target)
    seconds = {t.model: t.sample for t in timings(target, load, floor)}
    estimates = chip_estimates(target, load)
    rows = totals(target, estimates, seconds, floor.chips)
    assert len(rows) == len(estimates) * len(seconds)
    for row in rows:
        assert row.static.value == pytest.approx(0.104 * seconds[row.timing].value)
        assert row.total.value == pytest.approx(row.dynamic.value + row.static.value)
    loihi2 = load_target("loihi2")
    names = {row.energy for row in totals(loihi2, chip_estimates(loihi2, load), seconds, 1)}
    assert "hala-point" not in names  # its figures hold static power already


def test_max_affine_bound_with_the_users_own_rates(tmp_path) -> None:
    rate = 'value = {}, unit = "ns", source = "own", confidence = "E"'
    lines = [f"{name} = {{ {rate.format(v)} }}" for name, v in (("neuron_op", 1), ("synop", 2), ("barrier", 100))]
    (tmp_path / "mine.toml").write_text(
        'base = "loihi2"\nname = "mine"\n[timing.bound]\ntitle = "mine"\nkind = "max-affine"\nstatus = "user"\n'
        'formula = "T >= max(...)"\n[timing.bound.events]\n' + "\n".join(lines)
    )
    target, load = load_target(tmp_path / "mine.toml"), loaded()
    found = by(timings(target, load, even_floor(load, target)))["bound"]
    assert found.step.value == pytest.approx(800 * 2e-9)
    assert found.busiest == "synop"


def test_scope_is_checked(tmp_path) -> None:
    (tmp_path / "mine.toml").write_text('base = "loihi2"\n[energy.interval]\nscope = "everything"\n')
    with pytest.raises(InputError, match=r"energy.interval.scope: must be one of dynamic, total, arithmetic"):
        load_target(tmp_path / "mine.toml")


def chained(meta=None) -> Program:
    """Three populations in a row; 300 x 1500 weights of 8 bits take several cores of Loihi 1."""
    rng = np.random.default_rng(5)
    nodes, edges = [Input("x", (300,), 0, 1)], []
    for i, (size, source) in enumerate(((1500, "x"), (300, "s0"), (120, "s1"))):
        weight = rng.integers(-20, 20, (size, 1500 if source == "s0" else 300))
        nodes += [Synapse(f"w{i}", "linear", weight, bits=8), Soma(f"s{i}", (size,), theta=40, reset="zero")]
        edges += [(source, f"w{i}"), (f"w{i}", f"s{i}")]
    return Program(nodes=[*nodes, Output("o", "count")], edges=[*edges, ("s2", "o")], steps=3, meta=meta or {})


def test_messages_and_hops_by_following_every_spike() -> None:
    """One message per spike and core with a synapse of it; tiles of four cores on a grid eight wide."""
    target = load_target("loihi1")
    mapping = map_program(chained(), target)
    program = mapping.attached()
    x = np.random.default_rng(6).integers(0, 2, (5, 300))
    found = counted(program, x)
    floor, load, cores = floor_plan(program, found, workload(program, found), target)
    assert "placed" in load.traffic.note
    trace = snn2chip.run(program, x)
    payloads = {**trace.inputs, **trace.payloads}
    where = {}
    for row in cores:
        where.setdefault(row["population"], []).append(row)
    sent = delivered = ew = ns = 0
    for src, dst in (("x", "s0"), ("s0", "s1"), ("s1", "s2")):
        own = mapping.partition.tilings[src].grid.tile_of if src != "x" else None
        for _, _, neuron in np.argwhere(payloads[src]):
            for there in where[dst]:  # dense weights reach every core
                sent += 1
                delivered += 1
                if own is not None:
                    here = where[src][own[neuron]]
                    ew += abs(here["x"] - there["x"])
                    ns += abs(here["y"] - there["y"])
    assert len(where["s0"]) > 1
    assert ew + ns > 0
    traffic = load.traffic
    assert traffic.messages == pytest.approx(sent / 5)
    assert traffic.deliveries == pytest.approx(delivered / 5)
    assert (traffic.hops_ew, traffic.hops_ns) == (pytest.approx(ew / 5), pytest.approx(ns / 5))
    assert floor.count == len(cores) == mapping.partition.cores
    assert sum(core.spikes for core in floor.cores) * 3 == pytest.approx(load.spikes)


def test_events_of_every_core_are_those_that_arrive_at_its_neurons(tmp_path) -> None:
    """Spikes in one corner of the image: the cores over it have all the work, spread evenly nobody would see it."""
    (tmp_path / "small.toml").write_text(
        'base = "loihi2"\nname = "small"\ntitle = "small"\n[limits]\n'
        'neurons_per_core = { value = 16, unit = "neurons", source = "own", confidence = "E" }\n'
    )
    target = load_target(tmp_path / "small.toml")
    weight = np.random.default_rng(8).integers(-4, 5, (2, 1, 3, 3))
    program = Program(
        nodes=[Input("x", (1, 8, 8), 0, 3), Synapse("w", "conv2d", weight, padding=1), Soma("s", (2, 8, 8), theta=9),
               Output("o", "count")],
        edges=[("x", "w"), ("w", "s"), ("s", "o")],
        steps=2,
    )  # fmt: skip
    x = np.zeros((3, 1, 8, 8), int)
    x[:, 0, :3, :3] = np.random.default_rng(9).integers(0, 4, (3, 3, 3))
    found = counted(program, x)
    floor, load, cores = floor_plan(program, found, workload(program, found), target)
    truth = brute(program, snn2chip.run(program, x))
    cut = partition(program, target).tilings["s"].grid
    assert len(cores) == cut.tiles >= 8
    tile_of = cut.tile_of.reshape(2, 8, 8)
    each = [c for c in floor.cores if c.core.startswith("s[")]
    for tile, core in enumerate(each):
        mine = tile_of == tile
        assert core.synops["conv"] * 6 == pytest.approx(truth["arrivals"]["w"][mine].sum())  # 3 samples, 2 steps
        assert core.active * 6 == pytest.approx(truth["active"]["s"][mine].sum())
        assert core.updates == pytest.approx(mine.sum())
    work = [core.synops["conv"] for core in each]
    assert max(work) > 2 * sum(work) / len(work)
    assert sum(work) == pytest.approx(load.all_synops / 2)


def test_without_a_stored_placement_cores_lie_in_program_order() -> None:
    program, target = chained(), load_target("loihi1")
    found = counted(program, np.ones((1, 300), int))
    _, load, cores = floor_plan(program, found, workload(program, found), target)
    assert "no placement" in load.traffic.note
    assert [row["core"] for row in cores] == list(range(len(cores)))


def test_what_does_not_fit_falls_back_to_ratios_and_says_why() -> None:
    """One neuron with 5000 sources, and a core listens to 4096."""
    program = Program(
        nodes=[Input("x", (5000,), 0, 1), Synapse("w", "linear", np.ones((1, 5000), int), bits=8),
               Soma("s", (1,), theta=40, reset="zero"), Output("o", "count")],
        edges=[("x", "w"), ("w", "s"), ("s", "o")],
        steps=1,
    )  # fmt: skip
    found = counted(program, np.zeros((1, 5000), int))
    floor, _, cores = floor_plan(program, found, workload(program, found), load_target("loihi1"))
    assert cores == ()
    assert "it does not fit" in floor.note
    assert "a ratio" in floor.note
