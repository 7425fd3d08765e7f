"""Synapses, inputs, outputs, products and the graph: what is built, what is refused and in which words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import sparse

from snn2chip.errors import ParameterError, ProgramError
from snn2chip.ir.nodes import Host, HostOp, Input, Output, Product, Synapse, describe
from snn2chip.ir.order import components
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma

Nodes = list[Any]


def program(nodes: Nodes, edges: list[Any], steps: int = 3) -> Program:
    return Program(nodes=nodes, edges=edges, steps=steps)


def refused(nodes: Nodes, edges: list[Any], steps: Any = 3) -> str:
    with pytest.raises(ProgramError) as raised:
        Program(nodes=nodes, edges=edges, steps=steps)
    return str(raised.value)


def single(synapse: Synapse, shape: tuple[int, ...] = (2, 4, 4), out: tuple[int, ...] = (1,)) -> Any:
    return [Input("in", shape), synapse, Soma("s", out, theta=1)], [("in", synapse.name), (synapse.name, "s")]


# synapses


@pytest.mark.parametrize(
    ("weight", "sign", "bits"),
    [
        ([[1, -1]], "mixed", 1),
        ([[1, 0]], "mixed", "ternary"),
        ([[1, -2]], "mixed", 2),
        ([[3, -4]], "mixed", 3),
        ([[127, -128]], "mixed", 8),
        ([[200, 0]], "excitatory", 8),
        ([[-200, 0]], "inhibitory", 8),
        ([[15, 1]], "excitatory", 4),
    ],
)
def test_smallest_bits_when_left_out(weight: Any, sign: str, bits: Any) -> None:
    assert Synapse("w", "linear", weight, sign=sign).bits == bits


def test_defaults_of_each_kind() -> None:
    conv = Synapse("c", "conv2d", np.ones((4, 2, 3, 5)))
    assert (conv.kernel_size, conv.stride, conv.padding, conv.dilation) == ((3, 5), (1, 1), (0, 0), (1, 1))
    pool = Synapse("p", "sumpool", kernel_size=2)
    assert (pool.kernel_size, pool.stride, int(pool.weight)) == ((2, 2), (2, 2), 1)
    assert Synapse("p", "sumpool", stride=3).kernel_size == (3, 3)
    assert Synapse("p", "sumpool", kernel_size=3, stride=1).stride == (1, 1)
    assert int(Synapse("i", "identity").weight) == 1


def test_sparse_weights_are_kept_sparse_and_sorted() -> None:
    matrix = sparse.coo_matrix(([3, 4, 2, 5], ([1, 0, 1, 1], [2, 1, 2, 0])), shape=(2, 3))
    synapse = Synapse("w", "linear", matrix)
    assert synapse.sparse
    assert synapse.weight.toarray().tolist() == [[0, 4, 0], [5, 0, 5]]
    assert synapse.weight.indices.tolist() == [1, 0, 2]
    assert sorted(synapse.values().tolist()) == [4, 5, 5]
    dense = Synapse("w", "linear", [[0, 4, 0], [5, 0, 5]], sparse=True)
    assert (dense.weight != synapse.weight).nnz == 0
    assert Synapse("w", "linear", [[1, 0], [-1, 1]], sparse=True).bits == 1


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"kind": "fft"}, "kind must be one of linear, conv2d, sumpool, identity, got 'fft'"),
        ({"bits": 9}, "bits must be 1, 'ternary' or 2..8, got 9"),
        ({"bits": 2, "weight": [[5]]}, "weights 5..5 do not fit 2 bits mixed (-2..1)"),
        ({"sign": "both"}, "sign must be one of"),
        ({"sign": "excitatory", "weight": [[-1]], "bits": 8}, "do not fit 8 bits excitatory (0..255)"),
        ({"exponent": 17}, "exponent must be 0..16, got 17"),
        ({"exponent": -1}, "fold a negative one into the soma's gain"),
        ({"stride": 2}, "a linear synapse has no kernel, stride"),
        ({"groups": 2}, "a linear synapse has no kernel, stride"),
        ({"kind": "sumpool", "weight": 1, "groups": 2}, "a sum-pool has no groups or dilation"),
        ({"kind": "conv2d", "weight": np.ones((1, 2, 2, 2)), "stride": 0}, "must be >= 1"),
        ({"kind": "conv2d", "weight": np.ones((1, 2, 2, 2)), "padding": -1}, "padding (-1, -1) >= 0"),
        ({"kind": "conv2d", "weight": np.ones((1, 2, 2, 2)), "kernel_size": 3}, "kernel size (3, 3) does not fit"),
        ({"sparse": "yes"}, "sparse is True or False, got 'yes'"),
    ],
)
def test_synapse_breaches(fields: dict[str, Any], told: str) -> None:
    synapse = Synapse("w", **{"weight": [[1] * 32], "layer": "body.fc", **fields})
    text = refused(*single(synapse))
    assert told in text
    assert "w (body.fc): " in text


@pytest.mark.parametrize(
    ("synapse", "told"),
    [
        (Synapse("w", "linear", np.ones((1, 31))), "weight (1, 31) takes 31 inputs, source has 32 (2, 4, 4)"),
        (Synapse("w", "linear", np.ones(32)), "a linear weight is [M, N], got shape (32,)"),
        (Synapse("w", "linear"), "a linear synapse needs a weight"),
        (Synapse("w", "conv2d", np.ones((1, 3, 2, 2))), "with groups=1 does not fit 2 source channels"),
        (Synapse("w", "conv2d", np.ones((3, 1, 2, 2)), groups=2), "with groups=2 does not fit 2 source channels"),
        (Synapse("w", "conv2d", np.ones((1, 2, 5, 5))), "kernel (5, 5) is larger than the padded source (2, 4, 4)"),
        (Synapse("w", "sumpool", np.ones(3), kernel_size=2), "a sumpool weight is a scalar or per channel [2]"),
        (Synapse("w", "identity", np.ones((2, 4, 5))), "a identity weight is a scalar or per channel [2]"),
        (Synapse("w", "linear", np.ones((5, 32))), "s: shape (1,), but w makes (5,)"),
    ],
)
def test_shapes_that_do_not_fit(synapse: Synapse, told: str) -> None:
    assert told in refused(*single(synapse))


def test_flat_source_has_no_space() -> None:
    nodes, edges = single(Synapse("w", "conv2d", np.ones((1, 2, 1, 1))), shape=(2,))
    assert "needs a source of shape [C, H, W], got (2,)" in refused(nodes, edges)


@pytest.mark.parametrize("value", [1.5, "2", [1, 2, 3], None])
def test_pairs_are_whole_numbers(value: Any) -> None:
    with pytest.raises(TypeError):
        Synapse("c", "conv2d", np.ones((1, 1, 2, 2)), padding=value)


@pytest.mark.parametrize("value", [np.array([4]), np.array([[0]]), 4.5])
def test_bits_are_one_number(value: Any) -> None:
    with pytest.raises(TypeError, match="whole number"):
        Synapse("w", "linear", np.ones((1, 1)), bits=value)
    assert Synapse("w", "linear", np.ones((1, 1)), bits=np.int64(4)).bits == 4


@pytest.mark.parametrize("value", [np.array([2.0]), [1.0, 2.0], [[1], [2, 3]]])
def test_a_scale_is_one_number(value: Any) -> None:
    with pytest.raises(TypeError, match="one number"):
        Input("in", (2,), scale=value)
    assert Input("in", (2,), scale=np.float32(0.5)).scale == 0.5


# graph


def test_an_edge_of_the_wrong_kind_is_named_and_nothing_else() -> None:
    for edges, told in (([("in", "s"), ["x"] * 5000], r"got \['x', 'x'"), (5, "got 5"), ([("in", "s"), 7], "got 7")):
        with pytest.raises(ParameterError, match=told) as caught:
            Program(nodes=[Input("in", (2,))], edges=edges, steps=1)
        assert len(str(caught.value)) < 200


def test_graph_breaches_are_all_told() -> None:
    nodes: Nodes = [
        Input("in", (2,)),
        Synapse("a", "linear", np.ones((2, 2))),
        Synapse("b", "linear", np.ones((2, 2))),
        Soma("s", (2,), theta=1, layer="net.s"),
        Output("out"),
    ]
    text = refused(nodes, [("in", "a"), ("a", "b"), ("in", "s"), ("s", "out", 1), ("out", "a")])
    assert "edge a -> b: a synapse feeds somas only; put a relay soma (fire='relay', reset='drop') between" in text
    assert "edge in -> s (net.s): a payload feeds a synapse, a product or an output; put a synapse between" in text
    assert "only payload edges into a synapse or product carry a delay" in text
    assert "nothing comes out of an output" in text
    assert "a: needs exactly one source, has 2" in text
    assert "b: feeds no soma" in text


@pytest.mark.parametrize(
    ("extra", "edges", "told"),
    [
        ([Soma("s", (2,), theta=1)], [], "s: no synapse or product feeds this soma"),
        ([Product("p")], [("in", "p")], "p: needs exactly two payload sources, has 1"),
        ([Output("out")], [("in", "out")], "edge in -> out: an output reads a soma"),
        ([Input("in", (3,))], [], "name 'in' is used by 2 nodes"),
        ([Input("2in", (3,))], [], "name '2in' is not allowed"),
        ([Input("a b", (3,))], [], "name 'a b' is not allowed"),
        (["in3"], [], "'in3' is not a program node"),
        ([], [("in", "nowhere")], "edge in -> nowhere: there is no node 'nowhere'"),
        ([], [("in", "in", -1)], "delay must be a whole number >= 0, got -1"),
        ([Product("p", shift=31)], [("in", "p"), ("in", "p")], "p: feeds no soma"),
        ([Input("h", (3,), layer=5)], [], "h: layer is the path of the user's own layer, got 5"),
    ],
)
def test_one_breach(extra: Nodes, edges: list[Any], told: str) -> None:
    assert told in refused([Input("in", (2,)), *extra], edges)


@pytest.mark.parametrize("steps", [0, -1, 2.0, "3", None, True, 1 << 21])
def test_steps(steps: Any) -> None:
    assert "steps must be a whole number from 1 to 1048576" in refused([Input("in", (2,))], [], steps)


def test_an_edge_twice() -> None:
    nodes, edges = single(Synapse("w", "identity"), shape=(1,))
    assert "w -> s is given 2 times" in refused(nodes, [*edges, ("w", "s")])


def test_a_loop_needs_a_delay() -> None:
    nodes: Nodes = [
        Input("in", (1,)),
        Synapse("w", "identity"),
        Soma("s", (1,), theta=1),
        Synapse("back", "identity"),
    ]
    edges: list[Any] = [("in", "w"), ("w", "s"), ("s", "back"), ("back", "s")]
    assert "has no delay; give one of its payload edges a delay of at least 1" in refused(nodes, edges)
    edges[2] = ("s", "back", 1)
    made = program(nodes, edges)
    assert [set(names) for names, feedback in components(made) if feedback] == [{"s", "back"}]
    nodes[2] = Soma("s", (1,), theta=1, window=np.ones((3, 3)))
    assert "a windowed soma needs its whole sample first and cannot be on a loop" in refused(nodes, edges)


@pytest.mark.parametrize(
    ("p", "q", "makes"),
    [
        ((4, 3, 2), (4, 3, 2), (4, 3, 2)),
        ((4, 3, 2), (4,), (4, 3, 2)),
        ((4,), (4, 3, 2), (4, 3, 2)),
        ((4, 3, 2), (4, 1, 1), (4, 3, 2)),
        ((4, 3), (4, 1), (4, 3)),
        ((4, 3, 2), (3,), None),
        ((4, 3, 2), (4, 3, 1), None),
        ((4, 3, 2), (4, 2, 3), None),
    ],
)
def test_product_shapes(p: tuple[int, ...], q: tuple[int, ...], makes: tuple[int, ...] | None) -> None:
    nodes: Nodes = [Input("p", p), Input("q", q), Product("x"), Soma("s", makes or p, theta=1)]
    edges = [("p", "x"), ("q", "x"), ("x", "s")]
    if makes is None:
        assert "do not fit; one may be per channel [4]" in refused(nodes, edges).replace("(4,)", "[4]")
    else:
        assert program(nodes, edges).shapes["x"] == makes


def test_product_shift_range() -> None:
    nodes: Nodes = [Input("p", (1,)), Product("x", shift=31), Soma("s", (1,), theta=1)]
    assert "shift must be 0..30, got 31" in refused(nodes, [("p", "x"), ("p", "x", 1), ("x", "s")])


def test_a_potential_is_read_of_a_silent_soma() -> None:
    nodes, edges = single(Synapse("w", "identity"), shape=(1,))
    text = refused([*nodes, Output("out", "potential")], [*edges, ("s", "out")])
    assert "out: reads a potential, so s must have fire='none'" in text
    assert "read must be one of potential, count, payload" in refused(
        [*nodes, Output("o", "mean")], [*edges, ("s", "o")]
    )


def test_currents_beyond_the_exact_range() -> None:
    """24-bit payloads times 8-bit weights times 2^16 over 512 inputs may reach 2^56."""
    nodes: Nodes = [
        Input("in", (512,), 0, (1 << 24) - 1),
        Synapse("w", "linear", np.full((1, 512), 127), exponent=16),
        Soma("s", (1,), theta=1, layer="wide"),
    ]
    assert "s (wide): its current may reach" in refused(nodes, [("in", "w"), ("w", "s")])


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"lo": 1, "hi": 5}, "must contain 0"),
        ({"lo": 0, "hi": 0}, "must contain 0, more than one value"),
        ({"hi": 1 << 24}, "fit 24 bits"),
        ({"lo": -(1 << 23) - 1}, "fit 24 bits"),
        ({"coding": "poisson"}, "coding must be one of repeat, rate-floor, rate-round, steps, got 'poisson'"),
        ({"scale": 0}, "scale must be a positive number"),
        ({"scale": float("nan")}, "scale must be a positive number"),
        ({"offset": [1, 2, 3]}, "offset is a scalar or per channel [2], got shape (3,)"),
        ({"coding": "rate-floor", "offset": 1}, "rate coding sends 0..hi without an offset"),
        ({"coding": "rate-round", "lo": -1}, "rate coding sends 0..hi without an offset"),
        ({"shape": ()}, "shape must have at least one axis"),
        ({"shape": (2, 0)}, "only positive sizes, got (2, 0)"),
    ],
)
def test_input_breaches(fields: dict[str, Any], told: str) -> None:
    shape = fields.pop("shape", (2, 3))
    assert told in refused([Input("in", shape, **fields)], [])


@pytest.mark.parametrize(
    ("ops", "told"),
    [
        ([HostOp(kind="fft")], "host operation 0 must be one of"),
        ([HostOp(kind="rescale", shift=31)], "shift must be 0..30"),
        ([HostOp(kind="rescale", lo=3, hi=2)], "lo <= hi, got shift 0, range [3, 2]"),
        ([HostOp(kind="maxpool", kernel_size=2, stride=0)], "must be >= 1"),
        ([HostOp(kind="relu"), HostOp(kind="linear", weight=np.ones((2, 3)))], "host operation 1 (linear)"),
        ([HostOp(kind="conv2d", weight=np.ones((1, 3, 1, 1)))], "does not fit 2 channels"),
        ([HostOp(kind="maxpool", kernel_size=9)], "the kernel is larger than (2, 4, 4)"),
        ([HostOp(kind="bias", weight=np.ones(3))], "the bias is a scalar or per channel [2]"),
        ([HostOp(kind="sumpool", kernel_size=2, stride=2)], "make (2, 2, 2), but the declared shape is (2, 4, 4)"),
    ],
)
def test_host_breaches(ops: list[HostOp], told: str) -> None:
    assert told in refused([Host("host", (2, 4, 4), ops=ops)], [])


def test_notes_are_plain() -> None:
    nodes = [Input("in", (2,))]
    for fields in ({"meta": 5}, {"records": [5]}, {"target": ["loihi2"]}):
        with pytest.raises(ProgramError):
            Program(nodes=nodes, edges=[], steps=1, **fields)  # type: ignore[arg-type]


def test_looking_around_in_a_program() -> None:
    nodes: Nodes = [Soma("s", (2,), theta=1), Output("out", "count"), Synapse("w", "identity"), Input("in", (2,))]
    made = program(nodes, [("w", "s"), ("s", "out"), ("in", "w", 2)])
    assert [n.name for n in made.order] == ["w", "s", "out", "in"], "a delayed edge does not order"
    assert [n.name for n in program(nodes, [("w", "s"), ("s", "out"), ("in", "w")]).order] == ["in", "w", "s", "out"]
    assert made["s"] is nodes[0]
    assert (made.into["w"][0].src, made.into["w"][0].delay) == ("in", 2)
    assert [e.dst for e in made.out_of["s"]] == ["out"]
    assert ([n.name for n in made.inputs], [n.name for n in made.somas]) == (["in"], ["s"])
    assert made.shapes == {"s": (2,), "out": (2,), "w": (2,), "in": (2,)}
    assert [n.name for n in made.sources("s")] == ["w"]
    assert "2 neurons" in repr(made)


def test_describe_names_the_users_layer() -> None:
    assert describe(Soma("s", (1,), layer="features.3")) == "s (features.3)"
    assert describe(Soma("s", (1,))) == "s"
    assert describe(Soma("s", (1,), layer="s")) == "s"
