"""One wrong weight in a copy of a program: the comparison names the right soma, step and index."""

from __future__ import annotations

from itertools import product as cross
from typing import Any

import attrs
import numpy as np
import pytest
from scipy import sparse

from snn2chip.checks.compare import check, compare
from snn2chip.errors import MismatchError
from snn2chip.ir.nodes import Input, Output, Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma
from snn2chip.registry import get_backend
from snn2chip.testing.programs import random_program
from snn2chip.trace import Trace

Place = tuple[int, int, int, tuple[int, ...]]
"""(sample, step, rank of the soma in data-flow order, index)"""


def with_weight(program: Program, name: str, at: tuple[int, ...], change: int = 1) -> Program:
    """A copy of `program` with one weight of synapse `name` changed."""
    old: Any = program[name]
    weight = np.array(old.dense())
    weight[at] += change if weight[at] < old.weight_type.hi else -change
    if old.bits == 1:
        weight[at] = -old.dense()[at]
    stored = sparse.csr_matrix(weight) if sparse.issparse(old.weight) else weight
    new = attrs.evolve(old, weight=stored, bits=8)
    nodes = [new if n.name == name else n for n in program.nodes]
    return Program(nodes=nodes, edges=program.edges, steps=program.steps)


def earliest(program: Program, right: Trace, wrong: Trace) -> tuple[Place, str] | None:
    """The first differing payload, found with loops: lowest sample, then step, then data flow, then index.

    What a windowed soma sends comes after all steps of what it received.
    """
    found: list[tuple[int, Place, str]] = []
    for rank, soma in enumerate(program.somas):
        a, b = right.payloads[soma.name], wrong.payloads[soma.name]
        for t, n, i in cross(range(program.steps), range(right.samples), np.ndindex(*soma.shape)):
            if a[t, n][i] != b[t, n][i]:
                found.append((windows_before(program, soma.name), (n, t, rank, i), soma.name))
    first = min(found, key=lambda f: (f[1][0], f[0], f[1][1:]), default=None)
    return None if first is None else first[1:]


def windows_before(program: Program, name: str, seen: tuple[str, ...] = ()) -> int:
    """Windowed somas on the way to `name`, by walking back along every path."""
    if name in seen:
        return 0
    own = int(getattr(program[name], "window", None) is not None)
    return own + max((windows_before(program, e.src, (*seen, name)) for e in program.into[name]), default=0)


def network() -> Program:
    """conv -> soma -> dense -> soma beside a shortcut, read out; the user's layers are named."""
    rng = np.random.default_rng(4)
    return Program(
        nodes=[
            Input("in", (2, 5, 4), 0, 15, coding="steps"),
            Synapse("conv", "conv2d", rng.integers(-60, 61, (3, 2, 3, 3)), 8, padding=1, layer="features.0"),
            Soma("act1", (3, 5, 4), theta=90, levels=3, layer="features.1"),
            Synapse("fc", "linear", rng.integers(-60, 61, (6, 60)), 8, layer="classifier.0"),
            Synapse("skip", "linear", rng.integers(-9, 10, (6, 40)), 8, layer="skip"),
            Soma("act2", (6,), theta=60, levels=4, layer="classifier.1"),
            Synapse("last", "linear", rng.integers(-60, 61, (4, 6)), 8, layer="classifier.2"),
            Soma("read", (4,), fire="none", layer="readout"),
            Output("out"),
        ],
        edges=[
            *(("in", "conv"), ("conv", "act1"), ("act1", "fc"), ("in", "skip"), ("fc", "act2"), ("skip", "act2")),
            *(("act2", "last"), ("last", "read"), ("read", "out")),
        ],
        steps=4,
    )


FRAMES = np.random.default_rng(5).integers(0, 16, (4, 3, 2, 5, 4)) * (
    np.random.default_rng(6).random((4, 3, 2, 5, 4)) < 0.6
)


@pytest.mark.parametrize("backend", ["reference", "torch"])
@pytest.mark.parametrize(
    ("synapse", "at", "soma", "layer", "channel"),
    [
        ("conv", (1, 0, 2, 1), "act1", "features.1", 1),
        ("fc", (4, 33), "act2", "classifier.1", 4),
        ("skip", (2, 7), "act2", "classifier.1", 2),
    ],
)
def test_the_soma_behind_the_wrong_weight_is_named(
    synapse: str, at: tuple[int, ...], soma: str, layer: str, channel: int, backend: str
) -> None:
    """Only the output channel of the wrong weight can differ first."""
    program = network()
    changed = with_weight(program, synapse, at, change=40)
    right = get_backend("reference").run(program, {"in": FRAMES})
    wrong = get_backend(backend).run(changed, {"in": FRAMES})
    result = compare(program, [right, wrong])
    first = result.first
    assert not result.equal
    assert first is not None
    assert (first.soma, first.layer, first.what) == (soma, layer, "payload")
    assert first.index[0] == channel
    place = earliest(program, right, wrong)
    assert place == ((first.sample, first.step, [s.name for s in program.somas].index(soma), first.index), soma)
    at_place = (first.step, first.sample, *first.index)
    assert (first.expected, first.got) == (right.payloads[soma][at_place], wrong.payloads[soma][at_place])
    assert first.v == (right.potentials[soma][at_place], wrong.potentials[soma][at_place])
    assert f"{soma} ({layer}), sample {first.sample}, step {first.step}, index {list(first.index)}" in str(first)
    with pytest.raises(MismatchError, match="first divergence: payload of"):
        result.raise_if_different()


def test_a_wrong_readout_weight_is_a_wrong_potential() -> None:
    """The read-out never fires, so its potential after the last step is what differs."""
    program = network()
    right = get_backend("reference").run(program, {"in": FRAMES})
    wrong = get_backend("reference").run(with_weight(program, "last", (3, 2), change=5), {"in": FRAMES})
    first = compare(program, [right, wrong]).first
    assert first is not None
    assert (first.soma, first.what, first.step, first.index) == ("read", "potential", 3, (3,))
    spikes = int(right.payloads["act2"][:, first.sample, 2].sum())
    assert spikes > 0
    assert abs(first.got - first.expected) == 5 * spikes


def test_the_incoming_currents_of_both_sides_are_told() -> None:
    program = network()
    right = get_backend("reference").run(program, {"in": FRAMES})
    wrong = get_backend("reference").run(with_weight(program, "conv", (0, 1, 1, 1), change=40), {"in": FRAMES})
    first = compare(program, [right, wrong]).first
    assert first is not None
    assert first.current[0] == first.current[1], "the payloads that arrive are the same, only the weight is not"
    assert first.theta == 90
    assert set(first.as_dict()) >= {"soma", "layer", "sample", "step", "index", "expected", "got", "v", "theta"}


def test_a_window_spreads_a_late_error_but_does_not_hide_its_cause() -> None:
    """A wrong payload at step 2 changes a windowed soma behind it from step 0 on; the cause is named."""
    nodes = [
        Input("in", (1,), 0, 9, coding="steps"),
        Synapse("w", "identity", 3),
        Soma("cause", (1,), theta=20),
        Synapse("x", "identity"),
        Soma("mixed", (1,), theta=1, levels=9, window=np.ones((3, 3))),
        Synapse("y", "identity"),
        Soma("behind", (1,), theta=1, levels=9),
    ]
    edges = [("in", "w"), ("w", "cause"), ("cause", "x"), ("x", "mixed"), ("mixed", "y"), ("y", "behind")]
    right, wrong = (
        Program(nodes=[*nodes[:1], Synapse("w", "identity", w), *nodes[2:]], edges=edges, steps=3) for w in (3, 4)
    )
    frames = np.array([1, 0, 4]).reshape(3, 1, 1)
    traces = [get_backend("reference").run(p, {"in": frames}) for p in (right, wrong)]
    assert [t.payloads["cause"].ravel().tolist() for t in traces] == [[0, 0, 0], [0, 0, 1]]
    assert [t.payloads["behind"].ravel().tolist() for t in traces] == [[0, 0, 0], [1, 1, 1]]
    first = compare(right, traces).first
    assert first is not None
    assert (first.soma, first.sample, first.step, first.index) == ("cause", 0, 2, (0,))


@pytest.mark.parametrize("seed", range(60))
def test_random_programs(seed: int) -> None:
    """A wrong weight somewhere in a random program is found exactly where loops find it, or changes nothing."""
    case = random_program(3000 + seed)
    rng = np.random.default_rng(seed)
    synapses = [s for s in case.program.synapses if s.dense().ndim >= 2]
    if not synapses:
        synapses = [s for s in case.program.synapses if s.dense().ndim == 1]
    if not synapses:
        assert all(s.dense().ndim == 0 for s in case.program.synapses)
        return
    synapse = synapses[int(rng.integers(len(synapses)))]
    at = tuple(int(rng.integers(n)) for n in synapse.dense().shape)
    changed = with_weight(case.program, synapse.name, at)
    right = get_backend("reference").run(case.program, case.coded)
    wrong = get_backend("torch").run(changed, case.coded)
    found, first = earliest(case.program, right, wrong), compare(case.program, [right, wrong]).first
    if found is None:
        assert first is None or first.what in ("potential", "output")
        return
    assert first is not None
    (sample, step, _, index), soma = found
    if first.what == "potential":  # the last step of a read-out may come first
        assert first.sample <= sample
        assert first.soma in {case.program.into[o.name][0].src for o in case.program.outputs if o.read == "potential"}
    else:
        assert (first.sample, first.step, first.soma, first.index) == (sample, step, soma, index)


def test_check_runs_backends_and_says_equal() -> None:
    result = check(network(), FRAMES, backends=("reference", "torch"))
    assert result.equal
    assert result.first is None
    assert result.backends == ("reference", "torch")
    somas = 3 * 5 * 4 + 6 + 4
    assert result.compared >= somas * 4 * 3
    result.raise_if_different()
