"""Channel attention in integers: the band, the table, the product, and whole nets with SECA of both forms."""

from __future__ import annotations

import sys
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from snn2chip_models import build
from torch.nn import functional

import snn2chip
from snn2chip.checks.fidelity import fidelity
from snn2chip.checks.inside import inside, source_current
from snn2chip.compiler import compile_graph
from snn2chip.errors import QuantizeError, UnsupportedError
from snn2chip.ir.attention_layers import SecaLayer, band
from snn2chip.ir.dynamics import rshift
from snn2chip.ir.graph import LayerGraph
from snn2chip.ir.graph_files import from_parts, to_parts
from snn2chip.ir.layers import InputLayer, OutputLayer
from snn2chip.ir.linear_layers import Conv2dLayer
from snn2chip.ir.nodes import Product, Synapse
from snn2chip.ir.types import V_MAX
from snn2chip.passes import run_passes
from snn2chip.passes.expand_attention import ExpandAttention
from snn2chip.quantize.attention import attended_unit, lower_score, table_range
from snn2chip.quantize.calibrate import calibrate
from snn2chip.quantize.lower import lower
from snn2chip.quantize.spec import QuantSpec
from snn2chip.testing.nets import dyadic

T = 2


def attended(*, kernel: int = 3, channels: int = 6, seed: int = 0) -> LayerGraph:
    """input [2,5,4] -> conv -> SECA, every step of the product read out."""
    g = torch.Generator().manual_seed(seed)
    weight = torch.randint(-60, 61, (channels, 2, 3, 3), generator=g).double() / 128
    weight[:, 0, 0, 0] = 127 / 128  # 8 bits hold these exactly
    layers = (
        InputLayer(name="x", shape=(2, 5, 4)),
        Conv2dLayer(
            name="conv",
            path="net.conv",
            weight=weight,
            bias=torch.randn(channels, generator=g).double(),
            padding=1,
        ),
        SecaLayer(name="seca", path="net.seca", weight=torch.randn(kernel, generator=g) / 8, bias=0.3),
        OutputLayer(name="output", reduce="sum"),
    )
    names = [layer.name for layer in layers]
    return LayerGraph(layers=layers, inputs={b: (a,) for a, b in pairwise(names)}, steps=T)


def pixels(n: int = 8, seed: int = 1) -> Any:
    return np.random.default_rng(seed).integers(0, 16, (n, 2, 5, 4))


@pytest.mark.parametrize(("channels", "kernel"), [(6, 3), (4, 5), (2, 7), (1, 1), (9, 5)])
def test_a_band_matrix_is_the_convolution_along_the_channels(channels: int, kernel: int) -> None:
    weight, x = torch.randn(kernel).double(), torch.randn(3, channels).double()
    want = functional.conv1d(x[:, None], weight.view(1, 1, -1), padding=kernel // 2)[:, 0]
    torch.testing.assert_close(x @ band(weight, channels).T, want, rtol=0, atol=1e-12)


def test_taking_attention_apart_changes_no_value_and_files_keep_it() -> None:
    graph, x = attended(), torch.as_tensor(pixels()).double()
    apart = ExpandAttention().run(graph)
    assert not apart.of_kind("seca")
    torch.testing.assert_close(apart.run(x).output, graph.run(x).output, rtol=1e-12, atol=1e-12)
    fields, tensors = to_parts(graph)
    assert torch.equal(from_parts(fields, tensors, path="here").run(x).output, graph.run(x).output)
    assert run_passes(graph).normal_form_breaches() == []


@pytest.mark.parametrize("span", [(-3.0, 2.0), (0.5, 0.5), (-40.0, 40.0), (1.0, 1.5), (-0.2, 6.0)])
def test_a_table_is_the_sigmoid_within_its_recorded_error(span: tuple[float, float]) -> None:
    """|entry - sigmoid(z)| <= cell/8 + half a unit for every z inside, since the slope is at most 1/4; ends hold on."""
    found = lower_score(name="s", path="", shape=(3,), delta=np.array([0.01, 0.02, 1e-5]), bias=np.zeros(3), span=span)
    soma, mu = found.soma, found.mu[0]
    assert soma.table is not None
    lo, hi = table_range(span)
    assert lo <= max(span[0], -8)
    assert hi >= min(span[1], 8)
    v = np.unique(np.linspace(lo / mu, hi / mu, 20001).round().astype(np.int64))
    entry = soma.table[np.clip((v + soma.table_offset) >> soma.table_shift, 0, 255)]
    error = np.abs(entry / 4096 - 1 / (1 + np.exp(-v * mu)))
    allowed = next(r.error for r in found.records if r.field == "table")
    assert error.max() <= allowed * (1 + 1e-9) + mu / 4
    assert allowed <= (hi - lo) / 256 / 8 * 2.01 + 2.0**-13
    assert (np.diff(soma.table) >= 0).all()
    far = np.array([-V_MAX, V_MAX])
    ends = soma.table[np.clip((far + soma.table_offset) >> soma.table_shift, 0, 255)]
    assert ends.tolist() == soma.table[[0, -1]].tolist()


def test_units_of_what_is_multiplied_leave_room_for_the_sum_over_space() -> None:
    delta = np.array([1.0, 0.5, 2.0])
    current, sums = np.array([100.0, 2.0**20, 1e3]), np.array([5e3, 2.0**20, 2.0**26])
    unit = attended_unit(delta, current, sums, spare_bits=1)
    assert (unit >= delta).all()
    assert np.isin(np.log2(unit / delta), range(30)).all()
    assert unit[0] == delta[0]  # fits as it is: exact
    assert (current / unit <= 2**15).all()
    assert (sums / unit <= V_MAX / 4).all()
    tight = unit[1:] / 2
    assert ((current[1:] / tight > 2**15) | (sums[1:] / tight > V_MAX / 4)).all()


def test_the_product_stays_within_a_bound_of_float64_that_its_roundings_give() -> None:
    """e_p, e_mean, e_z, e_score and the product's own half unit, each from the program's integers, against float64."""
    graph, x = run_passes(attended()), pixels()
    program = lower(graph, calibrate(graph, x))
    trace = snn2chip.run(program, x, backend="reference")
    truth = graph.run(torch.as_tensor(x).double(), collect=True).values
    nodes, units = program.meta["layers"], program.meta["units"]["payload"]
    conv, kernel = graph.layer("conv"), program["conv"]
    assert isinstance(kernel, Synapse)
    relay, mean_relay = (name for name, soma in nodes.items() if name.startswith("relay"))
    X, M = truth[relay].numpy(), truth[mean_relay].numpy()[..., 0, 0]
    p = trace.payloads[nodes[relay]] * np.reshape(units[nodes[relay]], (-1, 1, 1))
    pu = np.broadcast_to(units[nodes[relay]], 6)
    weight = conv.weight.numpy()  # type: ignore[attr-defined]
    step = program.meta["units"]["potential"][nodes[relay]]
    fine = program[nodes[relay]].gain.ravel()  # type: ignore[union-attr]
    off = np.abs(kernel.weight * (np.array(step) * fine).reshape(-1, 1, 1, 1) - weight)
    e_p = (off.reshape(6, -1).sum(1) * x.max() + pu / 2 + np.array(step)).reshape(-1, 1, 1)
    assert (np.abs(p - X) <= e_p).all()
    m = trace.payloads[nodes[mean_relay]][..., 0, 0] * units[nodes[mean_relay]][0]
    e_m = e_p.reshape(-1) + units[nodes[mean_relay]][0] + np.abs(M) * 2.0**-15
    assert (np.abs(m - M) <= e_m).all()
    score = program[nodes["seca_score1"]]
    mu, shift = program.meta["units"]["potential"][nodes["seca_score1"]][0], score.gain_shift  # type: ignore[union-attr]
    w = band(graph.layer("seca_band1").weight[3, 2:5], 6).numpy()  # type: ignore[attr-defined]
    W = program["seca_band1"].dense()  # type: ignore[union-attr]
    worth = score.gain.ravel() / 2.0 ** shift.ravel() * mu / units[nodes[mean_relay]][0]  # type: ignore[union-attr]
    e_z = e_m @ np.abs(w).T + np.abs(m) @ np.abs(W * worth[:, None] - w).T + mu
    z = inside(program, trace, score).before * mu  # type: ignore[arg-type]
    want_z = M @ w.T + 0.3
    assert (np.abs(z - want_z) <= e_z).all()
    table = next(r["error"] for r in program.records if r["field"] == "table")
    e_s = e_z / 4 + table
    s = trace.payloads[nodes["seca_score1"]] / 4096
    assert (np.abs(s - 1 / (1 + np.exp(-want_z))) <= e_s).all()
    (gate,) = [n for n in program.nodes if isinstance(n, Product)]
    own = pu / 4096 * 2.0**gate.shift
    y = source_current(program, trace, gate.name) * own.reshape(-1, 1, 1)
    bound = np.abs(X) * e_s[..., None, None] + s[..., None, None] * e_p + own.reshape(-1, 1, 1) / 2
    want = truth["seca"].numpy()
    assert (np.abs(y - want) <= bound).all()
    assert bound.max() < 0.03 * np.abs(want).max(), "a bound that says something"
    read = np.array(program.meta["units"]["potential"]["readout"]).reshape(-1, 1, 1)
    total = trace.potentials["readout"][-1] * read
    slack = T * (bound[0] + read) + 1e-4 * np.abs(want).max()
    assert (np.abs(total - want.sum(0)) <= slack).all()


def test_a_trace_replays_exactly_from_its_own_payloads() -> None:
    """Sum over space, band, table and product recomputed in whole numbers from what was sent."""
    program, trace, _ = compiled("resnet20-empf", seca="II")
    products = [n for n in program.nodes if isinstance(n, Product)]
    assert len(products) == 4
    for gate in products:
        relay, score = (edge.src for edge in program.into[gate.name])
        p, q = trace.payloads[relay].astype(object), trace.payloads[score].astype(object)
        half = (1 << gate.shift) >> 1
        want = (p * q[..., None, None] + half) >> gate.shift
        assert (source_current(program, trace, gate.name) == want.astype(np.int64)).all()
        (into,) = program.into[score]
        mean_relay = program.into[into.src][0].src
        soma, means = program[score], program[mean_relay]
        (pool,) = program.into[mean_relay]
        total = p.sum((-2, -1)) * int(program[pool.src].weight.ravel()[0])  # type: ignore[union-attr]
        v = rshift(total.astype(np.int64) * means.gain.ravel(), means.gain_shift.ravel()) + means.bias.ravel()  # type: ignore[union-attr]
        sent = rshift(v * means.out_gain.ravel(), means.out_shift.ravel())  # type: ignore[union-attr]
        assert (sent == trace.payloads[mean_relay][..., 0, 0]).all()
        a = sent @ program[into.src].weight.toarray().T  # type: ignore[union-attr]
        z = rshift(a * soma.gain.ravel(), soma.gain_shift.ravel()) + soma.bias.ravel()  # type: ignore[union-attr]
        cell = np.clip((z + soma.table_offset) >> soma.table_shift, 0, 255)  # type: ignore[union-attr]
        assert (soma.table[cell] == q).all()  # type: ignore[union-attr, index]
        assert len(np.unique(cell)) > 3, "the table is used"


VGG = {"stages": [[4, 4], [6]], "input_shape": [3, 8, 8], "last_pool": "global"}
RES = {"blocks": [1, 1], "channels": [4, 6], "strides": [1, 2], "stem_channels": 4, "input_shape": [3, 8, 8]}


def compiled(name: str, *, target: str = "loihi2", **args: Any) -> tuple[Any, Any, Any]:
    """A small net whose norms fit its samples, compiled and run on the reference: (program, trace, graph)."""
    torch.manual_seed(5)
    shape = RES if name.endswith("-empf") else VGG
    model = build(name, **shape, **args)
    x = 2 * torch.rand(8, 3, 8, 8)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                module.momentum = None
                module.weight.fill_(2.0)
                module.bias.fill_(1.0)
        model.train()(x)
    program, graph = compile_graph(model.eval(), x, target=target)
    return program, snn2chip.run(program, x.numpy(), backend="reference", record="all"), (graph, x)


NETS = [
    ("vgg13", {"activation": "empf", "seca": True, "T": 3, "weights": "binary"}),
    ("vgg13", {"activation": "empf-norm", "seca": True, "T": 3, "weights": "binary"}),
    ("vgg13", {"activation": "lmht", "seca": True, "T": 2, "L": 2}),
    ("resnet18-empf", {"seca": "I", "version": "II", "T": 3}),
    ("resnet18-empf", {"seca": "II", "version": "II", "T": 3}),
    ("resnet18-empf", {"seca": "II", "version": "I", "parallel": False, "T": 3}),
]


@pytest.mark.parametrize(
    ("name", "args"), NETS, ids=lambda v: v if isinstance(v, str) else "-".join(map(str, v.values()))
)
def test_nets_with_attention_are_equal_on_two_backends_and_near_their_float_net(
    name: str, args: dict[str, Any]
) -> None:
    program, trace, (graph, x) = compiled(name, **args)
    other = snn2chip.run(program, x.numpy(), backend="torch", record="all")
    assert all((trace.payloads[k] == other.payloads[k]).all() for k in trace.payloads)
    assert (trace.outputs == other.outputs).all()
    rows = {row.soma: row for row in fidelity(program, graph, x).layers}
    scores = [row for name, row in rows.items() if program[name].fire == "table"]
    relays = [row for name, row in rows.items() if program[name].fire == "relay"]
    assert len(scores) == len([n for n in program.nodes if isinstance(n, Product)]) > 1
    assert max(row.forced_potential for row in scores) < 0.01, "a table's own error, of the scores' rms"
    assert max(row.forced_potential for row in relays) < 0.02
    firing = [row for name, row in rows.items() if program[name].fire in ("levels", "excess")]
    assert max(row.forced_potential for row in firing) < 0.05
    coded = {row.soma: row for row in fidelity(program, graph, x, same_payloads=True).layers}
    agree = [coded[row.soma].forced_equal for row in firing]  # the first reads real pixels through 8-bit weights
    assert min(agree[1:]) > 0.94  # type: ignore[type-var, operator]


@pytest.mark.lava
@pytest.mark.skipif(sys.version_info[:2] != (3, 10), reason="lava-nc needs Python 3.10")
def test_attention_is_equal_on_lava() -> None:
    program, trace, (_, x) = compiled("resnet18-empf", seca="II", version="II", T=2)
    lava = snn2chip.run(program, x[:1].numpy(), backend="lava", record="all")
    for name, payload in lava.payloads.items():
        assert (payload == trace.payloads[name][:, :1]).all(), name
    assert (lava.outputs == trace.outputs[:1]).all()


def test_a_target_without_products_lists_every_attention() -> None:
    with pytest.raises(UnsupportedError) as found:
        compiled("vgg13", activation="empf", seca=True, T=2, target="loihi1")
    for path in ("layers.seca1_1", "layers.seca1_2", "layers.seca2_1"):
        assert f"{path})" in str(found.value)
    assert "multiplies two messages" in str(found.value)


def test_the_band_keeps_eight_bits_and_cannot_be_named() -> None:
    """Its zeros would become weights in one bit; they are not stored either."""
    graph, x = run_passes(attended()), pixels()
    ranges = calibrate(graph, x)
    node = lower(graph, ranges, spec=QuantSpec(weights="binary"))["seca_band1"]
    assert isinstance(node, Synapse)
    assert node.sparse
    assert node.bits == 8
    assert node.values().size == 6 * 3 - 2
    with pytest.raises(QuantizeError, match=r"no layer with weights is called .net\.seca"):
        lower(graph, ranges, spec=QuantSpec(overrides={"net.seca": "int4"}))


def test_dyadic_nets_with_attention_trace_alike() -> None:
    """The recorded attention is the module's own value, at every step."""
    torch.manual_seed(0)
    model = dyadic(build("small-vgg", **{**VGG, "last_pool": "pool"}, activation="if", T=2, seca=True), seed=1).eval()
    x = 4 * torch.rand(2, 3, 8, 8)
    from snn2chip.frontends.torch import trace

    graph = trace(model, x)
    assert len(graph.of_kind("seca")) == 3
    with torch.no_grad():
        torch.testing.assert_close(graph.run(x).output, model(x), rtol=1e-4, atol=1e-4)
