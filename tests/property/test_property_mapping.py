"""No core of any mapping breaks a limit and every neuron lies on one core; checked from the connectivity itself.

The checker knows nothing of the partitioner's formulas: it pushes unit payloads through the synapses to see which
neuron reaches which, and writes every list bit by bit.
"""

from __future__ import annotations

import functools
import itertools
import math
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
from scipy import sparse

from snn2chip.errors import UnsupportedError
from snn2chip.ir.nodes import Input, Output, Product, Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma
from snn2chip.mapping.assign import in_order
from snn2chip.mapping.fact import Fact
from snn2chip.mapping.mesh import Chips, cost
from snn2chip.mapping.partition import Partition, partition
from snn2chip.mapping.place import placed
from snn2chip.mapping.target import Encoding, Target
from snn2chip.mapping.target_file import load_target
from snn2chip.mapping.traffic import traffic
from snn2chip.mapping.wiring import waits
from snn2chip.testing.programs import random_program

CASES = 120


LIMITS = {
    "neurons_per_core": "compartments",
    "synapse_memory_per_core": "synapse bytes",
    "memory_per_core": "memory bytes",
    "input_axons_per_core": "input axons",
    "output_slots_per_core": "output slots",
    "words_per_synapse_list": "list words",
    "threshold_profiles_per_core": "threshold profiles",
    "compartment_profiles_per_core": "compartment profiles",
    "synapse_formats_per_core": "synapse formats",
}


def random_target(rng: np.random.Generator, program: Program) -> Target:
    """A chip whose limits are a part of what the largest population would take on one core, so that they bind."""

    def fact(value: float) -> Fact:
        return Fact(value, "", "own", "E")

    target = load_target(str(rng.choice(["loihi1", "loihi1-nengo", "loihi2"])))
    loose = attrs.evolve(target, limits=attrs.evolve(target.limits, **{key: fact(math.inf) for key in LIMITS}))
    whole = partition(program, loose).tilings.values()
    tight = {}
    for key, row in LIMITS.items():
        most = max(int(t.demand[row].max()) for t in whole)
        if rng.random() < 0.3:
            part = rng.uniform(0.6, 1.0) if row in ("synapse formats", "list words") else rng.uniform(0.15, 0.9)
            tight[key] = fact(max(1, int(most * part)))
    if target.neuron.model.value == "lif":
        tight.pop("memory_per_core", None)
    if rng.random() < 0.3:
        tight["delay_max_full"] = fact(int(rng.integers(0, 5)))
    chip = {"cores_per_chip": fact(int(rng.integers(2, 20)))}
    return attrs.evolve(target, limits=attrs.evolve(target.limits, **tight, **chip))


def joined(program: Program, via: Synapse | Product, number: int) -> Any:
    """0/1 `[targets, sources]`: stored synapses of a connection, by definition and not by geometry."""
    edge = program.into[via.name][number]
    shape, out = program.shapes[edge.src], program.shapes[via.name]
    n_in, n_out = math.prod(shape), math.prod(out)
    if isinstance(via, Product):
        like = np.arange(n_in).reshape(shape)
        where = np.broadcast_to(like.reshape(shape + (1,) * (len(out) - len(shape))), out).ravel()
        return sparse.csr_matrix((np.ones(n_out), (np.arange(n_out), where)), shape=(n_out, n_in))
    if via.kind == "linear":
        return (
            sparse.csr_matrix(via.weight != 0)
            if sparse.issparse(via.weight)
            else sparse.csr_matrix(np.ones((n_out, n_in)))
        )
    if via.kind == "identity":
        return sparse.identity(n_in, format="csr")
    c, h, w = shape
    _, oh, ow = out
    rows, cols = [], []
    groups = via.groups if via.kind == "conv2d" else c
    per_in, per_out = c // groups, out[0] // groups
    for o, y, x in itertools.product(range(out[0]), range(oh), range(ow)):
        for i, ky, kx in itertools.product(range(per_in), range(via.kernel_size[0]), range(via.kernel_size[1])):
            sy = y * via.stride[0] - via.padding[0] + ky * via.dilation[0]
            sx = x * via.stride[1] - via.padding[1] + kx * via.dilation[1]
            if 0 <= sy < h and 0 <= sx < w:
                rows.append((o * oh + y) * ow + x)
                cols.append(((o // per_out) * per_in + i) * h * w + sy * w + sx)
    return sparse.csr_matrix((np.ones(len(rows)), (rows, cols)), shape=(n_out, n_in))


def shape3(shape: tuple[int, ...]) -> tuple[int, int, int]:
    filled = [*shape, 1, 1]
    return filled[0], filled[1], math.prod(filled[2:])


def list_words(encoding: Encoding, local: list[int], outputs: int, each: int) -> int:
    """Write one list entry by entry; `local`: its targets in the order of the core."""
    per = encoding.synapses_per_entry.value
    skips = bool(encoding.start_bits_min.value) and not encoding.zeros.value
    entries: list[list[int]] = []
    for target in local:
        gap = target - entries[-1][-1] - 1 if entries else 0
        broken = gap > 0 if encoding.zeros.value else skips and gap > 2**encoding.index_bits_max.value - 1
        if not entries or len(entries[-1]) >= per or broken:
            entries.append([target])
        else:
            entries[-1].append(target)
    start = max(encoding.start_bits_min.value, math.ceil(math.log2(outputs))) if encoding.start_bits_min.value else 0
    if encoding.zeros.value:
        index = 0
    elif skips:
        gaps = [b - a - 1 for e in entries for a, b in itertools.pairwise(e)]
        index = max(encoding.index_bits_min.value, max(gaps, default=0).bit_length())
    else:
        widest = max(e[-1] - e[0] + 1 for e in entries)
        index = max(encoding.index_bits_min.value, math.ceil(math.log2(widest)))
    head = encoding.header_bits.value + start
    width = encoding.word_bits.value
    sizes = [head + len(e) * (each + index) for e in entries]
    if encoding.rounding.value == "entry":
        return sum(math.ceil(s / width) for s in sizes)
    words = math.ceil(sum(sizes) / width)
    return words + (words * width - sum(sizes) < encoding.spare_bits.value)


def check_limits(cut: Partition) -> None:
    """Recount every limit of every core."""
    program, target, limits = cut.program, cut.target, cut.target.limits
    plan = waits(program, target)
    tile_of = {}
    for name, tiling in cut.tilings.items():
        shape = shape3(tiling.population.soma.shape)
        seen = np.full(shape, -1)
        for tile, ((c0, c1), (h0, h1), (w0, w1)) in enumerate(tiling.grid.boxes()):
            assert (seen[c0:c1, h0:h1, w0:w1] == -1).all(), "a neuron lies on two cores"
            seen[c0:c1, h0:h1, w0:w1] = tile
        assert (seen >= 0).all(), "a neuron lies on no core"
        tile_of[name] = seen.ravel()
        assert (tiling.grid.tile_of == seen.ravel()).all()
    slots = {name: np.zeros(t.cores) for name, t in cut.tilings.items()}
    routes = {name: np.zeros(t.cores) for name, t in cut.tilings.items()}
    for soma in program.somas:
        tiling = cut.tilings[soma.name]
        memory, axons, used_words = (np.zeros(tiling.cores) for _ in range(3))
        number = 0
        longest_wait = 0
        for edge in program.into[soma.name]:
            via = program[edge.src]
            for factor, payload in enumerate(program.into[via.name]):
                mode = tiling.modes[number]
                number += 1
                wait = plan.wait(payload, soma.name)
                longest_wait = max(longest_wait, wait)
                matrix = joined(program, via, factor)  # type: ignore[arg-type]
                source = shape3(program.shapes[payload.src])
                position = np.arange(math.prod(source)) % (source[1] * source[2])
                axon = position if mode == "population" else np.arange(math.prod(source))
                for tile in range(tiling.cores):
                    own = np.flatnonzero(tile_of[soma.name] == tile)
                    part = matrix[own].tocsc()
                    senders = np.flatnonzero(np.diff(part.indptr))
                    axons[tile] += len(np.unique(axon[senders]))
                    size, words = stored(cut, via, part, own, soma, mode, wait)  # type: ignore[arg-type]
                    memory[tile] += size
                    used_words[tile] = max(used_words[tile], words)
                    if payload.src in tile_of:
                        pairs = {(tile_of[payload.src][s], axon[s]) for s in senders}
                        each = (
                            target.charges.slots_population if mode == "population" else target.charges.slots_discrete
                        )
                        for home, _ in pairs:
                            routes[payload.src][home] += 1
                            slots[payload.src][home] += each.value
        neurons = np.bincount(tile_of[soma.name], minlength=tiling.cores)
        soft = soma.fire == "levels" and soma.reset == "subtract"
        compartments = neurons * (target.neuron.soft_reset_compartments.value if soft else 1)
        most = limits.neurons_per_core.value
        if longest_wait > limits.delay_max_full.value:
            assert (compartments * longest_wait <= most * limits.delay_max_full.value).all()
        assert (compartments <= most).all()
        assert (memory <= limits.synapse_memory_per_core.value).all(), (soma.name, memory)
        assert (axons <= limits.input_axons_per_core.value).all()
        for recount, name in ((memory, "synapse bytes"), (axons, "input axons"), (used_words, "list words")):
            assert (recount <= np.asarray(tiling.demand[name]).ravel() + 1e-6).all(), (soma.name, name)
        assert (used_words <= limits.words_per_synapse_list.value).all()
        assert number <= limits.synapse_formats_per_core.value
        if target.neuron.model.value == "lif":
            check_profiles(soma, tile_of[soma.name], target)
            continue
        bank = 0 if soma.window is None else 2 * program.steps * 3  # 24 bits
        total = target.charges.program.value + neurons * (target.charges.neuron.value + bank) + memory
        total = total + axons * target.charges.route_in.value
        tiling_total = np.asarray(tiling.demand["memory bytes"]).ravel()
        assert (total <= limits.memory_per_core.value).all()
        assert (total <= tiling_total).all()
    for name in routes:
        assert (slots[name] <= limits.output_slots_per_core.value).all(), (name, slots[name])
        if target.neuron.model.value == "program":
            tiling = cut.tilings[name]
            found = np.asarray(tiling.demand["memory bytes"]).ravel()
            assert (found <= limits.memory_per_core.value).all()
            assert (routes[name] == np.asarray(tiling.demand["routes"]).ravel()).all(), name


def check_profiles(soma: Soma, tiles: Any, target: Target) -> None:
    """Different thresholds, and different other parameters, of the neurons of one core."""
    for fields, limit in (
        (("theta",), target.limits.threshold_profiles_per_core.value),
        (("leak", "syn_leak", "v_min", "v_reset"), target.limits.compartment_profiles_per_core.value),
    ):
        columns = []
        for value in (getattr(soma, f) for f in fields):
            for t in range(0 if value is None else len(value)):
                columns.append(np.broadcast_to(soma.spread(value[t]), soma.shape).ravel())
        rows = list(zip(*columns, strict=True)) or [()] * soma.size
        for tile in range(tiles.max() + 1):
            assert len({rows[n] for n in np.flatnonzero(tiles == tile)}) <= limit


def stored(cut: Partition, via: Any, part: Any, own: Any, soma: Soma, mode: str, wait: int) -> tuple[float, int]:
    """Least bytes of a core's part `[own targets, sources]` of a connection, and its longest list."""
    target = cut.target
    bits = 1 if isinstance(via, Product) else via.bits
    needs_sign = bits == "ternary" or (bits == 1 and not isinstance(via, Product) and via.sign == "mixed")
    width = min(n for n in target.weights.widths.value if n >= (2 if needs_sign else bits))
    if mode == "population" and target.weights.kernels.value:
        _, h, w = shape3(soma.shape)
        channels = len(np.unique(own // (h * w)))
        if isinstance(via, Product):
            taps = 1
        else:
            taps = math.prod(via.kernel_size) * (via.weight.shape[1] if via.kind == "conv2d" else 1)
        return channels * taps * width * (1 + target.encodings["kernel"].overhead.value) / 8, 0
    _, h, w = shape3(soma.shape)
    order = np.lexsort((own // (h * w), own % w, own // w % h))  # rows, columns, channels innermost
    rank = np.empty(len(own), int)
    rank[order] = np.arange(len(own))
    lists = [sorted(rank[part.indices[a:b]].tolist()) for a, b in itertools.pairwise(part.indptr) if b > a]
    if not lists:
        return 0, 0
    scattered = getattr(via, "kind", "") == "linear" and sparse.issparse(via.weight)
    best: list[tuple[float, int]] = []
    for encoding in target.encodings.values():
        if encoding.overhead.value or (scattered and encoding.zeros.value):
            continue
        each = width + (wait.bit_length() if target.neuron.model.value == "lif" else 0)
        distinct = {tuple(x) for x in lists}
        words = {key: list_words(encoding, list(key), len(own), each) for key in distinct}
        if mode == "population":  # positions with one footprint share a list; at the very least one is stored
            total = max(words.values())
        else:
            total = sum(words[tuple(x)] for x in lists)
        best.append((total * encoding.word_bits.value / 8, max(words.values())))
    return min(b for b, _ in best), min(w for _, w in best)


@functools.cache
def fitting(seed: int) -> tuple[Partition, ...]:
    """The partition of one random program on one random target, if it fits."""
    rng = np.random.default_rng(seed)
    program = random_program(seed % 200).program
    try:
        return (partition(program, random_target(rng, program)),)
    except UnsupportedError as error:
        text = str(error)
        assert "fits on no core" in text or "settles" in text or "waits" in text, text
        return ()


def test_most_random_cases_fit_and_many_are_cut() -> None:
    """The property below would be empty if nothing fitted or nothing had to be cut."""
    cuts = [cut for seed in range(CASES) for cut in fitting(seed)]
    assert len(cuts) > CASES / 3
    assert sum(any(t.cores > 1 for t in cut.tilings.values()) for cut in cuts) > CASES / 6
    assert sum(len(t.modes) and "population" in t.modes for cut in cuts for t in cut.tilings.values()) > 10


@pytest.mark.parametrize("seed", range(CASES))
def test_no_core_breaks_a_limit_and_every_neuron_is_placed_once(seed: int) -> None:
    for cut in fitting(seed):
        check_limits(cut)
        start = in_order(cut)
        chips = Chips.of(cut.target, int(start.max()) // Chips.of(cut.target, 1, cut.cores).cores + 1, cut.cores)
        rng = np.random.default_rng(seed)
        spikes = {n.name: rng.integers(0, 9, cut.program.shapes[n.name]) for n in cut.program.somas}
        messages = traffic(cut, {**{n.name: np.zeros(n.shape) for n in cut.program.inputs}, **spikes})
        check_messages(cut, spikes, messages)
        ids = placed(messages, start, chips)
        assert len(set(ids.tolist())) == cut.cores
        assert 0 <= ids.min() <= ids.max() < chips.count * chips.cores
        assert cost(messages, ids, chips).objective <= cost(messages, start, chips).objective * (1 + 1e-9)


def check_messages(cut: Partition, spikes: dict[str, Any], messages: Any) -> None:
    """One message per spike and core with any synapse of the neuron, counted neuron by neuron."""
    total = 0
    for soma in cut.program.somas:
        reached: set[tuple[int, str, int]] = set()
        for edge in cut.program.out_of[soma.name]:
            via = cut.program[edge.dst]
            if isinstance(via, Output):
                continue
            for number, payload in enumerate(cut.program.into[via.name]):
                if payload.src != soma.name:
                    continue
                matrix = joined(cut.program, via, number).tocoo()  # type: ignore[arg-type]
                for onward in cut.program.out_of[via.name]:
                    tiles = cut.tilings[onward.dst].grid.tile_of[matrix.row]
                    reached |= set(zip(matrix.col.tolist(), [onward.dst] * len(tiles), tiles.tolist(), strict=True))
        fires = spikes[soma.name].ravel()
        total += sum(int(fires[neuron]) for neuron, _, _ in reached)
    assert messages.sum() == total


def test_a_program_larger_than_any_core_says_why(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    nodes = [
        Input("x", 9),
        Synapse("w", "linear", rng.integers(-8, 8, (4, 9)), 4),
        Soma("n", 4, theta=3, layer="net.fc"),
    ]
    nodes += [Output("o", "count")]
    program = Program(nodes=nodes, edges=[("x", "w"), ("w", "n"), ("n", "o")], steps=2)
    path = tmp_path / "tiny.toml"
    path.write_text(
        'base = "loihi1"\nname = "tiny"\n[limits]\n'
        'input_axons_per_core = { value = 8, unit = "axons", source = "own", confidence = "E" }\n'
    )
    with pytest.raises(
        UnsupportedError, match=r"n \(net\.fc\): fits on no core: input axons: 9 needed .*\(1 too many\)"
    ):
        partition(program, load_target(path))
