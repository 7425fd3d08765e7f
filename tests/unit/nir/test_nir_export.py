"""Export of float graphs and programs as `.nir` files: nothing is lost on the way back, and the nodes mean the same."""

from __future__ import annotations

import json
import random
import re
import warnings
from pathlib import Path

import attrs
import h5py
import numpy as np
import pytest
import torch
from test_nir_frameworks import NETS, T, imported, samples

import snn2chip
from snn2chip.compiler import compile_float_graph
from snn2chip.errors import FileFormatError, InputError, Snn2ChipError, UnsupportedError
from snn2chip.frontends.nir import import_nir
from snn2chip.frontends.nir_file import read_nir
from snn2chip.interop.nir_compile import import_nir_program
from snn2chip.interop.nir_graph import export_graph
from snn2chip.interop.nir_own import own_network
from snn2chip.interop.nir_program import export_program, program_nodes
from snn2chip.ir.graph_files import to_parts
from snn2chip.ir.neuron_layer import NeuronLayer
from snn2chip.ir.nodes import Input, Output, Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma
from snn2chip.passes import run_passes
from snn2chip.testing.fuzz.values import changed
from snn2chip.testing.programs import random_program

DOCS = Path(__file__).parents[3] / "docs" / "interop.md"


@pytest.mark.parametrize("name", NETS)
def test_a_float_network_comes_back_whole(tmp_path, name):
    graph = imported(name)
    lost = export_graph(graph, tmp_path / "a.nir")
    back = import_nir(tmp_path / "a.nir")
    assert any("reset" in text for text in lost)
    (want, tensors), (got, found) = to_parts(graph), to_parts(back)
    assert want == got
    assert all(torch.equal(tensors[key], found[key]) for key in tensors)
    nir = pytest.importorskip("nir", reason="the nir package is not installed")
    assert set(nir.read(tmp_path / "a.nir").nodes) >= {"input", "output"} - {"input"}


WRONG = {
    "steps": ({"steps": T + 1}, f"has {T} steps, steps={T + 1} cannot change them"),
    "an option": ({"options": {"levels": "3"}}, "leave out the options levels"),
    "an option that there is not": ({"options": {"bogus": "3"}}, "leave out the options bogus"),
    "a read-out": ({"read": "count"}, "reads the sum of its output, read=count cannot change it"),
    "all of it": ({"steps": 3, "options": {"dt": 1}, "read": "mean"}, "3 problems"),
}


@pytest.mark.parametrize("name", WRONG)
def test_our_own_file_follows_nothing_that_it_does_not_hold(tmp_path, name):
    more, text = WRONG[name]
    export_graph(imported("sinabs_lif"), tmp_path / "a.nir")
    with pytest.raises(InputError, match=text):
        import_nir(tmp_path / "a.nir", **more)
    assert import_nir(tmp_path / "a.nir", steps=T, options={}, read="sum").steps == T


@pytest.mark.parametrize("name", ["snntorch_recurrent", "spikingjelly_conv", "sinabs_lif"])
def test_a_program_comes_back_bit_for_bit(tmp_path, name):
    graph = imported(name)
    program = compile_float_graph(run_passes(graph), samples(graph, slice(0, 100)), weights="int8", time_axis=False)
    export_program(program, tmp_path / "a.nir")
    back = import_nir_program(tmp_path / "a.nir")
    assert back.digest() == program.digest()
    assert dict(back.meta) == dict(program.meta)
    nir = pytest.importorskip("nir", reason="the nir package is not installed")
    assert len(nir.read(tmp_path / "a.nir").nodes) >= 5


def test_random_programs_come_back_or_are_refused_by_name(tmp_path):
    came, refused = 0, 0
    for seed in range(120):
        program = random_program(seed, most_blocks=1 + seed % 2).program
        made = program_nodes(program)
        if made.refused:
            with pytest.raises(UnsupportedError, match="NIR cannot say it"):
                export_program(program, tmp_path / "a.nir")
            refused += 1
            continue
        export_program(program, tmp_path / "a.nir")
        assert import_nir_program(tmp_path / "a.nir").digest() == program.digest()
        came += 1
    assert came >= 3
    assert refused >= 3


def integers(reset="zero", *, theta=(11, 5), **soma):
    """A small program of whole numbers in two layers."""
    rng = np.random.default_rng(8)
    nodes = [
        Input("in", (6,), 0, 3, coding="steps"),
        Synapse("w1", "linear", rng.integers(-7, 8, (9, 6))),
        Soma("a", (9,), theta=theta[0], reset=reset, out_max=1, **soma),
        Synapse("w2", "linear", rng.integers(-7, 8, (4, 9))),
        Soma("b", (4,), theta=theta[1], reset=reset, out_max=1, **soma),
        Output("out", "payload"),
    ]
    edges = [("in", "w1"), ("w1", "a"), ("a", "w2"), ("w2", "b"), ("b", "out")]
    return Program(nodes=nodes, edges=edges, steps=T)


@pytest.mark.parametrize(("reset", "compare"), [("zero", ">"), ("zero", ">="), ("subtract", ">=")])
@pytest.mark.parametrize("more", [{}, {"bias": 2}, {"leak": 2048, "gain": 64}, {"leak": 3072, "syn_leak": 2048}])
def test_the_nodes_of_a_program_mean_the_program(tmp_path, more, reset, compare):
    """Read plainly, by anybody's rules, the nodes give the program's spikes; what differs is rounding toward zero."""
    fine = {"gain": 64, "theta": (704, 320)} if "leak" in more else {"theta": (11, 5)}
    scaled = integers(reset, **{**more, **fine})
    export_program(scaled, tmp_path / "a.nir")
    options = {"compare": compare, "reset": reset}
    graph = import_nir(tmp_path / "a.nir", profile="generic", steps=T, options=options)
    x = np.random.default_rng(3).integers(0, 4, (T, 200, 6))
    run = graph.run(torch.tensor(x, dtype=torch.float64), collect=True)
    trace = snn2chip.run(scaled, x, backend="reference", time_axis=True)
    got = [run.values[name].numpy() for name in ("a", "b")]
    want = [trace.payloads[name] for name in ("a", "b")]
    assert all(0.02 < w.mean() < 0.98 for w in want)
    exact = "leak" not in more
    for mine, theirs in zip(got, want, strict=True):
        assert (mine != theirs).mean() <= (0.0 if exact else 0.03)


def test_changed_nodes_are_not_what_was_written(tmp_path):
    path = tmp_path / "a.nir"
    export_program(integers(), path)
    with h5py.File(path, "a") as file:
        file["node/nodes/w2/weight"][0, 0] += 1
    with pytest.raises(InputError, match="weight of node 'w2' is no longer as snn2chip wrote it"):
        import_nir_program(path)
    graph = import_nir(path, profile="generic", steps=T, options={"reset": "zero"})
    assert graph.steps == T


@pytest.mark.parametrize("what", ["header", "kind", "version", "arrays/0"])
def test_damaged_metadata(tmp_path, what):
    path = tmp_path / "a.nir"
    export_program(integers(), path)
    with h5py.File(path, "a") as file:
        del file[f"node/metadata/snn2chip/{what}"]
    with pytest.raises(FileFormatError, match="metadata is damaged"):
        import_nir(path)


PYTHON = re.compile(
    r"zip\(|not supported between|by zero|no attribute|unhashable|positional|keyword|subscriptable|iterable|dictionary"
    r"|must be a mapping|indices|unpack|(Type|Key|Value|Attribute|Index|Overflow|ZeroDivision)Error"
)


def test_damaged_metadata_is_told_in_words(tmp_path):
    """Places of the header exchanged, taken out or filled with others: one error, and none in Python's own words."""
    rng, told = random.Random(5), set()
    export_graph(imported("snntorch_mlp"), tmp_path / "g.nir")
    export_program(integers(), tmp_path / "p.nir")
    for kind, load in (("g", import_nir), ("p", import_nir_program)):
        graph = read_nir(tmp_path / f"{kind}.nir")
        own = dict(graph.metadata["snn2chip"])
        header = json.loads(own["header"])
        for _ in range(150):
            text = json.dumps(changed(header, rng))
            victim = attrs.evolve(graph, metadata={"snn2chip": {**own, "header": text}})
            try:
                own_network(victim, path=kind)
            except Snn2ChipError as error:
                told.add(str(error))
        assert load(tmp_path / f"{kind}.nir").steps == T
    assert len(told) > 20
    assert not [text for text in told if PYTHON.search(text)]


def test_what_nir_cannot_say_is_listed_at_once(tmp_path):
    from snn2chip.nn import LMHT

    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(6, 5), LMHT(steps=4, levels=2), torch.nn.Linear(5, 3))
    from snn2chip.float_graph import float_graph

    graph = float_graph(net, torch.rand(4, 2, 6))
    with pytest.raises(UnsupportedError, match="a temporal window"):
        export_graph(graph, tmp_path / "a.nir")
    assert not (tmp_path / "a.nir").exists()


def test_the_documented_tables_are_the_registry():
    from snn2chip.interop.formats import table

    text = DOCS.read_text(encoding="utf-8")
    assert table() in text


def test_every_sink_has_its_writers():
    from importlib import import_module

    from snn2chip.interop.formats import FEATURES, SINKS, SOURCES, sink_named

    for sink in SINKS.values():
        for writer in filter(None, (sink.program, sink.graph)):
            module, _, function = writer.partition(":")
            assert callable(getattr(import_module(module), function))
    assert all(set(f.supports) <= set(FEATURES) for f in (*SOURCES.values(), *SINKS.values()))
    with pytest.raises(InputError, match="known: nir"):
        sink_named("onnx")


def test_neurons_beyond_float32_are_refused_when_they_are_written(tmp_path):
    """Their numbers overflow on the way; nothing warns, nothing is written."""
    graph = imported("sinabs_lif")
    layer = next(layer for layer in graph.layers if isinstance(layer, NeuronLayer))
    soma = attrs.evolve(layer.soma, gain=torch.full_like(layer.soma.gain, 1e308, dtype=torch.float64))
    graph = graph.with_layers(attrs.evolve(layer, soma=soma))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UnsupportedError, match="beyond single precision"):
            export_graph(graph, tmp_path / "a.nir")
    assert not list(tmp_path.iterdir())
