"""split-signs: -1 and +1 stored as 0 and 1 with one shared sum are the same integers, in half the weight memory."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
import pytest
from snn2chip_backends.reference import ReferenceBackend

from snn2chip.ir.host import encode
from snn2chip.ir.nodes import Input, Output, Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma
from snn2chip.mapping.assign import map_program
from snn2chip.mapping.fact import Fact
from snn2chip.mapping.partition import partition
from snn2chip.mapping.savings import savings
from snn2chip.mapping.target_file import load_target
from snn2chip.testing.programs import random_program
from snn2chip.testing.seeds import seeds
from snn2chip.trace import Trace
from snn2chip.transforms import SplitSigns, transform


def run(program: Program, raw: Any) -> Trace:
    coded = {n.name: np.asarray(encode(n, raw[n.name], program.steps)) for n in program.inputs}
    return ReferenceBackend().run(program, coded)


def same(program: Program, before: Trace, after: Trace) -> None:
    for name, value in before.all_outputs.items():
        assert (after.all_outputs[name] == value).all(), name
    for soma in program.somas:
        assert (after.payloads[soma.name] == before.payloads[soma.name]).all(), soma.name
        assert (after.potentials[soma.name] == before.potentials[soma.name]).all(), soma.name


def signs(rng: np.random.Generator, *shape: int) -> Any:
    weight = rng.choice([-1, 1], shape)
    weight.flat[0] = -1
    return weight


@pytest.mark.parametrize("seed", seeds(200))
def test_random_programs_keep_every_integer(seed: int) -> None:
    case = random_program(seed)
    same(case.program, case.expected, run(SplitSigns().run(case.program), case.raw))


@pytest.mark.parametrize("seed", seeds(60))
def test_binary_convolutions_and_matrices_are_split(seed: int) -> None:
    """Every geometry: stride, padding, dilation, groups, delays, exponents, two layers that share one sum."""
    rng = np.random.default_rng(seed)
    groups, steps = int(rng.integers(1, 3)), int(rng.integers(1, 4))
    stride, padding, dilation = (tuple(int(n) for n in rng.integers(low, 3, 2)) for low in (1, 0, 1))
    kernel = int(rng.integers(1, 4)), int(rng.integers(2, 4))
    geometry: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    conv = [
        Synapse(f"c{i}", "conv2d", signs(rng, 4 * groups, 2, *kernel), 1, exponent=int(rng.integers(0, 4)), **geometry)
        for i in range(2)
    ]
    delay = int(rng.integers(0, 2))
    probe = Program(
        nodes=[
            Input("x", (2 * groups, 9, 8), -5, 9, coding="steps"),
            conv[0],
            Soma("p", shape_of(conv[0], groups), fire="none"),
        ],
        edges=[("x", "c0"), ("c0", "p")],
        steps=1,
    )
    shape = probe.shapes["c0"]
    nodes: list[Any] = [probe["x"], *conv]
    nodes += [Soma("a", shape, theta=5, levels=3), Soma("b", shape, theta=int(rng.integers(1, 9)))]
    size = int(np.prod(shape))
    nodes += [Synapse("w", "linear", signs(rng, 6, size), 1), Soma("r", 6, fire="none"), Output("o")]
    edges: list[Any] = [
        ("x", "c0", delay),
        ("x", "c1", delay),
        ("c0", "a"),
        ("c1", "b"),
        ("a", "w"),
        ("w", "r"),
        ("r", "o"),
    ]
    edges += [("c0", "b")]
    program = Program(nodes=nodes, edges=edges, steps=steps)
    split = SplitSigns().run(program)
    relays = [s for s in split.somas if s.name not in program.by_name]
    assert sorted(s.shape for s in relays) == sorted([(groups, *shape[1:]), (1,)])
    for name in ("c0", "c1", "w"):
        synapse = split[name]
        assert isinstance(synapse, Synapse)
        assert (synapse.bits, synapse.sign) == (1, "excitatory")
        assert set(np.unique(synapse.dense())) <= {0, 1}
    raw = {"x": rng.integers(-5, 10, (steps, 3, 2 * groups, 9, 8))}
    same(program, run(program, raw), run(split, raw))
    assert transform(program, "split-signs").digest() == split.digest()
    assert SplitSigns().run(split) is split


def shape_of(synapse: Synapse, groups: int) -> tuple[int, ...]:
    from snn2chip.ir.geometry import out_shape

    return out_shape(synapse, (2 * groups, 9, 8))[0]


def test_weights_take_one_bit_instead_of_two() -> None:
    """A dense layer of 64 x 4096 signs: 2 bits of 64 KiB, then 1 bit of 32 KiB, 512 B for the sum, 8 B to spread it."""
    rng = np.random.default_rng(0)
    nodes = [
        Input("x", 4096),
        Synapse("w", "linear", signs(rng, 64, 4096), 1),
        Soma("n", 64, theta=9),
        Output("o", "count"),
    ]
    program = Program(nodes=nodes, edges=[("x", "w"), ("w", "n"), ("n", "o")], steps=1)
    plain, split = (
        sum(int(t.demand["synapse bytes"].sum()) for t in partition(p, load_target("loihi2")).tilings.values())
        for p in (program, SplitSigns().run(program))
    )
    assert plain == 64 * 4096 * 2 // 8
    assert split == (64 * 4096 + 4096 + 64) // 8
    assert savings(map_program(program, "loihi2")) == []  # it fits on one core, the shared sum would take another
    tight = load_target("loihi2")
    fact = Fact(40_000, "bytes", "own", "E")
    tight = attrs.evolve(tight, limits=attrs.evolve(tight.limits, synapse_memory_per_core=fact))
    assert partition(program, tight).tilings["n"].cores == 2
    assert partition(SplitSigns().run(program), tight).tilings["n"].cores == 1


def test_a_mapping_offers_the_transform_where_it_saves_cores() -> None:
    """2048 x 4096 signs: 128 KiB of synapses hold 128 neurons at 2 bits, 256 at 1; the sum has a core of its own."""
    nodes = [
        Input("x", 4096),
        Synapse("w", "linear", signs(np.random.default_rng(0), 2048, 4096), 1),
        Soma("n", 2048, theta=9),
        Output("o", "count"),
    ]
    program = Program(nodes=nodes, edges=[("x", "w"), ("w", "n"), ("n", "o")], steps=1)
    (offer,) = savings(map_program(program, "loihi2"))
    split = map_program(SplitSigns().run(program), "loihi2")
    assert (offer.before, offer.cores) == (2048 // 128, split.partition.cores)
    assert offer.cores < offer.before
    assert offer.bytes_before == 2048 * 4096 * 2 // 8
    rounded = offer.synapse_bytes - (2048 * 4096 + 4096 + 2048) // 8  # up to whole bytes on every core
    assert 0 <= rounded <= offer.cores
    assert f"take {offer.cores} cores instead of 16" in str(offer)
    assert savings(split) == []


def test_what_saves_nothing_or_is_on_a_loop_stays() -> None:
    rng = np.random.default_rng(1)
    nodes: list[Any] = [Input("x", 3), Synapse("small", "linear", signs(rng, 1, 3), 1), Soma("n", 1, theta=1)]
    nodes += [Synapse("up", "linear", signs(rng, 9, 3), 1), Soma("m", 9, theta=1, reset="zero")]
    nodes += [
        Synapse("back", "linear", signs(rng, 9, 9), 1),
        Synapse("full", "linear", np.ones((9, 3), int), 1),
        Output("o", "count"),
    ]
    edges: list[Any] = [("x", "small"), ("small", "n"), ("x", "up"), ("up", "m"), ("m", "back", 1), ("back", "m")]
    edges += [("x", "full"), ("full", "m"), ("m", "o")]
    split = SplitSigns().run(Program(nodes=nodes, edges=edges, steps=3))
    changed = {s.name for s in split.synapses if s.name in {"small", "up", "back", "full"} and s.sign == "excitatory"}
    assert changed == {"up"}
