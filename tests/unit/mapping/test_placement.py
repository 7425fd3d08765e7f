"""Hops by hand, exchanges against brute force, saving and loading, and the size of a real network."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Mapping as MappingType
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
from scipy import sparse

from snn2chip.api import load, run
from snn2chip.errors import FileFormatError, InputError, UnsupportedError
from snn2chip.ir.nodes import Input, Output, Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma
from snn2chip.mapping.assign import map_program
from snn2chip.mapping.fact import Fact
from snn2chip.mapping.mesh import Chips, cost
from snn2chip.mapping.partition import partition
from snn2chip.mapping.place import placed
from snn2chip.mapping.saved import load_mapping
from snn2chip.mapping.tables import as_dict, core_rows, gains
from snn2chip.mapping.target import Target
from snn2chip.mapping.target_file import load_target
from snn2chip.mapping.traffic import input_messages, measured_rates, traffic, uniform_rates

LOIHI2 = load_target("loihi2")


def limited(**limits: int) -> Target:
    facts = {key: Fact(value, "", "own", "E") for key, value in limits.items()}
    return attrs.evolve(LOIHI2, limits=attrs.evolve(LOIHI2.limits, **facts))


def small(steps: int = 3) -> Program:
    """x[3] -> n[4] -> r[2], weights by hand."""
    nodes = [
        Input("x", 3, 0, 1, coding="steps"),
        Synapse("v", "linear", np.ones((4, 3), int)),
        Soma("n", 4, theta=[1, 2, 3, 9]),
    ]
    nodes += [Synapse("w", "linear", [[1, 2, 3, 4], [4, 3, 2, 1]]), Soma("r", 2, fire="none"), Output("o")]
    edges = [("x", "v"), ("v", "n"), ("n", "w"), ("w", "r"), ("r", "o")]
    return Program(nodes=nodes, edges=edges, steps=steps)


def messages(n: int, pairs: MappingType[tuple[int, int], float]) -> Any:
    rows, cols = zip(*pairs, strict=True)
    return sparse.csr_matrix((list(pairs.values()), (rows, cols)), shape=(n, n))


def test_hops_by_hand() -> None:
    """Core 5 lies in tile 1 at (1, 0), core 42 in tile 10 at (2, 1), core 6 in tile 1; core 120 starts chip 1."""
    chips = Chips.of(LOIHI2, 2, 200)
    assert [n.tolist() for n in chips.at(np.array([5, 42, 6, 120, 127]))] == [[1, 2, 1, 8, 9], [0, 1, 0, 0, 0]]
    found = cost(messages(4, {(0, 1): 3, (1, 0): 2, (0, 2): 7, (2, 2): 5, (2, 3): 1}), np.array([5, 42, 6, 120]), chips)
    # 5 -> 42 and back: 1 east-west and 1 north-south each; 5 -> 6: one tile; 6 -> 6: one core; 6 -> 120: 7 east-west
    assert (found.messages, found.same_core, found.same_tile, found.off_chip) == (18, 5, 7, 1)
    assert (found.hops_ew, found.hops_ns) == (3 + 2 + 7, 3 + 2)
    # (1,0) -> (2,0) carries 3 of 5 -> 42 and 1 of 6 -> 120
    assert found.busiest_link == 4


def test_messages_of_a_run_by_hand() -> None:
    """One core per neuron of r: every spike of n is two messages; n spikes where 1, 2, 3, 9 ones have come together."""
    program = small()
    raw = np.array([[[1, 0, 0]], [[1, 1, 0]], [[1, 1, 1]]])  # currents 1, 2, 3 into every neuron
    trace = run(program, raw, backend="reference", record="all")
    spikes = (trace.payloads["n"] != 0).sum((0, 1))
    rates = measured_rates(program, raw)
    assert rates["n"].tolist() == spikes.tolist() == [3, 2, 2, 0]
    cut = partition(program, limited(neurons_per_core=2))
    assert [t.cores for t in cut.tilings.values()] == [2, 1]
    assert traffic(cut, rates).toarray().tolist() == [[0, 0, 5], [0, 0, 2], [0, 0, 0]]
    assert input_messages(cut, rates) == 6 * 2
    assert traffic(cut, uniform_rates(program)).toarray().tolist() == [[0, 0, 6], [0, 0, 6], [0, 0, 0]]


@pytest.mark.parametrize("seed", range(5))
def test_exchanges_find_the_best_of_all_orders_of_few_cores(seed: int) -> None:
    rng = np.random.default_rng(seed)
    dense = rng.integers(0, 9, (6, 6)) * (rng.random((6, 6)) < 0.6)
    flow = sparse.csr_matrix(dense.astype(float))
    chips = attrs.evolve(Chips.of(LOIHI2, 1, 6), cores=6, cores_per_tile=1, tiles_x=3, tiles_y=2)
    best = min(cost(flow, np.array(p), chips).hops for p in itertools.permutations(range(6)))
    found = placed(flow, np.arange(6), chips)
    assert sorted(found.tolist()) == list(range(6))
    assert cost(flow, found, chips).hops == best


def test_a_mapping_is_stored_with_the_program_and_comes_back(tmp_path: Path) -> None:
    program = small()
    made = map_program(program, limited(neurons_per_core=2, cores_per_chip=2))
    assert made.chips.count == 2
    made.attached().save(tmp_path / "m.s2c")
    back = load(tmp_path / "m.s2c")
    assert back.digest() == made.program.digest()
    again = load_mapping(back, limited(neurons_per_core=2, cores_per_chip=2))
    assert again.ids.tolist() == made.ids.tolist()
    assert as_dict(again) == as_dict(made)
    assert len(json.dumps(made.plain())) < 3000
    boxes = {row["core"]: (row["soma"], row["box"]) for row in core_rows(again)}
    assert len(boxes) == 3
    assert sum(row["neurons"] for row in core_rows(again)) == 6


def test_a_stored_mapping_is_checked(tmp_path: Path) -> None:
    target = limited(neurons_per_core=2)
    program = map_program(small(), target).attached()
    with pytest.raises(InputError, match="holds no placement"):
        load_mapping(small())
    with pytest.raises(InputError, match="was changed after it was mapped"):
        load_mapping(attrs.evolve(program, steps=5), target)
    with pytest.raises(InputError, match="was mapped to 'loihi2', not to 'loihi1'"):
        load_mapping(program, "loihi1")
    with pytest.raises(FileFormatError, match="placement of n breaks compartments"):
        load_mapping(program, limited(neurons_per_core=1))

    def damaged(**change: Any) -> Program:
        return attrs.evolve(program, meta={**program.meta, "placement": {**program.meta["placement"], **change}})

    rows = program.meta["placement"]["populations"]
    with pytest.raises(FileFormatError, match="every tile a core of its own"):
        load_mapping(damaged(populations=[{**row, "cores": [0] * len(row["cores"])} for row in rows]), target)
    with pytest.raises(FileFormatError, match="other populations"):
        load_mapping(damaged(populations=rows[:1]), target)
    with pytest.raises(FileFormatError, match="cut into"):
        load_mapping(damaged(populations=[{**row, "parts": [0, 1, 1]} for row in rows]), target)
    with pytest.raises(FileFormatError, match="damaged"):
        load_mapping(damaged(cost={}), target)
    huge = {key: {**row, "messages": 10**400} for key, row in program.meta["placement"]["cost"].items()}
    with pytest.raises(FileFormatError, match="a number that is 0 or beyond every range"):
        load_mapping(damaged(cost=huge), target)


def test_too_few_chips_say_what_would_fit() -> None:
    rng = np.random.default_rng(0)
    nodes = [
        Input("x", 64),
        Synapse("w", "linear", rng.integers(-128, 128, (40, 64)), 8),
        Soma("n", 40, theta=9),
        Output("o", "count"),
    ]
    program = Program(nodes=nodes, edges=[("x", "w"), ("w", "n"), ("n", "o")], steps=1)
    target = limited(cores_per_chip=1, synapse_memory_per_core=1300)
    with pytest.raises(
        UnsupportedError, match=r"2 cores on 2 chips are needed, 1 chips .*\(1 cores too many\).*2 chips, or 4-bit"
    ):
        map_program(program, target, chips=1)
    assert map_program(program, target, chips=2).partition.cores == 2


def test_a_chip_is_left_when_its_neurons_are_used_up() -> None:
    """Six neurons on cores of two, four on a chip: the third core goes to the next chip, though the first has room."""
    made = map_program(small(), limited(neurons_per_core=2, neurons_per_chip=4))
    assert sorted(np.bincount(made.chips.chip(made.ids)).tolist()) == [1, 2]


def test_windows_hold_two_banks_of_accumulators() -> None:
    """T = 4 and 24 bits: 2 * 4 * 3 bytes beside the neuron's 16."""
    program = small(4)
    windowed = attrs.evolve(program["n"], window=np.ones((4, 4), int))
    nodes = [windowed if n.name == "n" else n for n in program.nodes]
    cut = partition(Program(nodes=nodes, edges=program.edges, steps=4), LOIHI2)
    assert [int(t.demand["state bytes"].max()) for t in cut.tilings.values()] == [4 * (16 + 24), 2 * 16]


def test_soft_reset_takes_two_compartments_on_loihi1() -> None:
    cut = partition(small(), load_target("loihi1"))
    assert [int(t.demand["compartments"].max()) for t in cut.tilings.values()] == [8, 2]


def test_thresholds_of_a_core_have_few_profiles() -> None:
    """24 channels with 24 thresholds on Loihi 1, which has 8 per core: three cores."""
    weight = np.ones((24, 3), int)
    nodes = [
        Input("x", 3),
        Synapse("w", "linear", weight),
        Soma("n", 24, theta=range(1, 25), reset="zero"),
        Output("o", "count"),
    ]
    program = Program(nodes=nodes, edges=[("x", "w"), ("w", "n"), ("n", "o")], steps=1)
    tiling = partition(program, load_target("loihi1")).tilings["n"]
    assert (tiling.cores, tiling.binding()) == (3, ("threshold profiles", 1.0))


def resnet18(rng: np.random.Generator) -> Program:
    """The 21 populations of a CIFAR ResNet-18: 3x3 convolutions of 64 to 512 channels, relays where sizes change."""
    nodes: list[Any] = [Input("x", (3, 32, 32), 0, 1)]
    edges: list[Any] = []

    def layer(name: str, source: str, c: int, size: int, *, k: int = 3, stride: int = 1, skip: str = "") -> str:
        c_in = 3 if source == "x" else next(n.shape[0] for n in nodes if n.name == source)
        weight = rng.integers(-127, 128, (c, c_in, k, k), dtype=np.int8)
        nodes.append(Synapse(f"{name}_w", "conv2d", weight, 8, stride=stride, padding=k // 2))
        relay = {"fire": "relay", "reset": "drop", "out_max": 1} if k == 1 else {"theta": 100}
        edges.extend([(source, f"{name}_w"), (f"{name}_w", name)])
        if skip:
            nodes.append(Synapse(f"{name}_skip", "identity", 1, 8))
            edges.extend([(skip, f"{name}_skip"), (f"{name}_skip", name)])
        nodes.append(Soma(name, (c, size, size), **relay))  # type: ignore[arg-type]
        return name

    tip, size = layer("stem", "x", 64, 32), 32
    for stage, c in enumerate((64, 128, 256, 512)):
        for block in range(2):
            down = stage > 0 and block == 0
            size = size // 2 if down else size
            inner = layer(f"s{stage}b{block}_a", tip, c, size, stride=2 if down else 1)
            short = layer(f"s{stage}b{block}_r", tip, c, size, k=1, stride=2) if down else tip
            tip = layer(f"s{stage}b{block}_b", inner, c, size, skip=short)
    nodes += [
        Synapse("head_w", "linear", rng.integers(-127, 128, (10, 8192)), 8),
        Soma("head", 10, fire="none"),
        Output("o"),
    ]
    edges += [(tip, "head_w"), ("head_w", "head"), ("head", "o")]
    return Program(nodes=nodes, edges=edges, steps=4)


def test_resnet18_maps_quickly_and_its_messages_go_fewer_hops() -> None:
    """Under 30 s; 30 % fewer hops than random and 10 % fewer than row-major, with layers of uneven activity."""
    rng = np.random.default_rng(0)
    program = resnet18(rng)
    rates = {n.name: rng.poisson(rng.uniform(0.1, 2.0), n.shape) for n in (*program.inputs, *program.somas)}
    start = time.process_time()
    made = map_program(program, "loihi2", rates=rates, traffic_name="made up")
    seconds = time.process_time() - start
    assert seconds < 30
    assert made.partition.cores > 120
    assert made.chips.count == 2
    saved = gains(made)
    assert saved["random"] >= 0.30
    assert saved["row_major"] >= 0.10
