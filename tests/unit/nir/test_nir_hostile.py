"""Hostile and broken `.nir` files: one clear error each, in bounded memory, with nothing loaded."""

from __future__ import annotations

import random
import resource
from pathlib import Path

import h5py
import numpy as np
import pytest
from nir_files import chain, cuba, given, graph, lif, linear, read, small, write

from snn2chip.errors import FileFormatError, InputError, Snn2ChipError, UnsupportedError
from snn2chip.frontends.nir import import_nir
from snn2chip.frontends.nir_file import read_nir
from snn2chip.interop.nir_look import look
from snn2chip.testing.fuzz.damage import bytes_damage
from snn2chip.testing.fuzz.nir_nodes import nir_damage

FIXTURES = Path(__file__).parent / "fixtures"


def load(path, **more):
    return import_nir(path, **{"profile": "snntorch", "steps": 4, **more})


def test_the_plain_file_is_fine(tmp_path):
    assert [layer.kind for layer in load(small(tmp_path / "a.nir")).of_kind("neuron")] == ["neuron", "neuron"]


@pytest.mark.parametrize("size", [0, 7, 8, 100, 500, 1000, 3000])
def test_truncated(tmp_path, size):
    path = small(tmp_path / "a.nir")
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(FileFormatError, match=r"a\.nir"):
        load(path)


def test_missing_file_folder_and_other_formats(tmp_path):
    with pytest.raises(FileFormatError, match="no such file"):
        load(tmp_path / "none.nir")
    with pytest.raises(FileFormatError, match="folder"):
        load(tmp_path)
    (tmp_path / "b.nir").write_bytes(b"PK\x03\x04" + bytes(200))
    with pytest.raises(FileFormatError, match="not a"):
        load(tmp_path / "b.nir")


def ints(*shape):
    return np.zeros(shape, np.int64)


ROAD = chain("input", "fc1", "lif1", "fc2", "lif2", "output")
BROKEN = {
    "text for weights": ({"fc1": {"type": "Linear", "weight": "ones"}}, "weight is the text 'ones'"),
    "complex weights": ({"fc1": {"type": "Linear", "weight": np.ones((6, 5), complex)}}, "expected numbers"),
    "weights of one axis": ({"fc1": linear(np.ones(6))}, "expected 2 axes"),
    "no weights": ({"fc1": {"type": "Linear"}}, "weight is missing"),
    "wrong width": ({"fc1": linear(np.ones((6, 4)))}, "takes 4 inputs"),
    "empty weights": ({"fc1": {"type": "Linear", "weight": np.ones((0, 5))}}, "expected 2 axes"),
    "NaN": ({"fc1": linear(np.full((6, 5), np.nan))}, "NaN or infinite"),
    "infinite threshold": ({"lif1": lif(6, theta=np.inf)}, "NaN or infinite"),
    "threshold of 0": ({"lif1": lif(6, theta=0.0)}, "more than 0"),
    "negative tau": ({"lif1": lif(6, tau=-1e-3)}, "more than 0"),
    "tau below dt": ({"lif1": lif(6, tau=1e-5, r=0.1)}, "shorter than dt"),
    "neurons of another shape": ({"lif1": lif(7)}, r"has shape \[7\]"),
    "no numbers": ({"lif1": {**lif(6), "r": np.zeros((0,))}}, r"r has shape \[0\]"),
    "missing tau": ({"lif1": {k: v for k, v in lif(6).items() if k != "tau"}}, "tau is missing"),
    "unknown type": ({"lif1": {"type": "Hodgkin"}}, "Hodgkin is not known"),
    "type that is a number": ({"lif1": {**lif(6), "type": 3}}, "no text"),
    "output of another shape": ({"output": read(4)}, r"declares the shape \[4\]"),
    "negative shape": ({"input": given(-5)}, "positive sizes"),
    "shape of halves": ({"input": {"type": "Input", "shape": np.array([2.5])}}, "positive sizes"),
    "huge shape": ({"input": given(1 << 20, 1 << 20, 1 << 20)}, "more than"),
    "missing node": ({"fc2": None}, "does not exist"),
    "no output": ({"output": None, "edges": chain("input", "fc1", "lif1", "fc2", "lif2")}, "nothing reads it"),
    "edge to nowhere": ({"edges": [*ROAD, ("fc1", "x")]}, "exist"),
    "edge twice": ({"edges": [*ROAD, ("fc1", "lif1")]}, "twice"),
    "loose node": ({"extra": linear(np.ones((3, 6)))}, "nothing feeds it"),
    "sum of two shapes": (
        {"edges": [*ROAD, ("input", "lif1")]},
        "different shapes",
    ),
    "loop of maps": (
        {
            "a": linear(np.eye(6)),
            "b": linear(np.eye(6)),
            "edges": [*ROAD, ("fc1", "a"), *chain("a", "b", "a"), ("b", "fc2")],
        },
        "no neuron, so nothing delays it",
    ),
    "loop over two populations": (
        {
            "back": linear(np.ones((6, 3))),
            "edges": [*ROAD, *chain("lif2", "back", "lif1")],
        },
        "2 populations",
    ),
    "two inputs": ({"in2": given(5), "edges": [*ROAD, ("in2", "fc1")]}, "2 nodes of type Input"),
    "huge stride": (
        {"fc1": {"type": "Conv2d", "weight": np.ones((1, 1, 1, 1)), "stride": 1 << 40, "padding": 0}},
        "whole numbers",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_nodes(tmp_path, name):
    more, text = BROKEN[name]
    path = small(tmp_path / "a.nir", **more)
    with pytest.raises((InputError, FileFormatError, UnsupportedError), match=text):
        load(path)


def test_every_problem_is_in_one_error(tmp_path):
    path = small(tmp_path / "a.nir", lif1=lif(6, theta=-1.0, v_leak=0.5), lif2=lif(3, tau=-1.0))
    with pytest.raises(InputError) as error:
        load(path)
    text = str(error.value)
    assert "lif1 (LIF)" in text
    assert "v_leak" in text
    assert text.count("more than 0") >= 1


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "a b", "\x1b[31mred", "名前", "x" * 400, "__import__('os')", ".."]
)
def test_names_are_only_names(tmp_path, name):
    """Names with path characters are groups inside of HDF5; nothing outside of the file is touched by them."""
    path = tmp_path / "a.nir"
    name = name.replace("/", "|") if name != ".." else "..."
    small(path, lif1=None, **{name: lif(6), "edges": chain("input", "fc1", name, "fc2", "lif2", "output")})
    made = load(path)
    from snn2chip.compiler import compile_float_graph
    from snn2chip.passes import run_passes

    x = np.random.default_rng(0).integers(0, 5, (16, 5))
    program = compile_float_graph(run_passes(made), x, weights="int8", time_axis=False)
    assert all("/" not in node.name and len(node.name) <= 200 for node in program.nodes)
    assert "\x1b" not in look(path)["text"]


def test_links_out_of_the_file_are_not_followed(tmp_path):
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["weight"] = np.ones((6, 5))
    path = small(tmp_path / "a.nir", fc1={"type": "Linear"})
    with h5py.File(path, "a") as file:
        file["node/nodes/fc1/weight"] = h5py.ExternalLink(str(other), "weight")
    with pytest.raises(FileFormatError, match="no plain dataset"):
        load(path)
    path = small(tmp_path / "b.nir", fc1={"type": "Linear"})
    with h5py.File(path, "a") as file:
        file["node/nodes/fc1"].create_dataset("weight", shape=(6, 5), dtype="f8", external=[(str(other), 0, 240)])
    with pytest.raises(FileFormatError, match="stored in this file"):
        load(path)


def bounded(function, megabytes):
    """Run it with so much more address space than now, at most."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + megabytes * 2**20, before[1]))
    try:
        return function()
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


BOMBS = {
    "declared, not stored": lambda g: g.create_dataset("weight", shape=(1 << 16, 1 << 16), dtype="f8", chunks=(64, 64)),
    "zeros, compressed": lambda g: g.create_dataset(
        "weight", data=np.zeros((1 << 12, 1 << 12), np.int8), compression="gzip", compression_opts=9
    ),
    "one huge chunk": lambda g: g.create_dataset(
        "weight", shape=(4, 4), dtype="f8", chunks=(1 << 14, 1 << 14), maxshape=(None, None), fillvalue=0
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_take_no_memory(tmp_path, name):
    path = small(tmp_path / "a.nir", fc1={"type": "Linear"})
    with h5py.File(path, "a") as file:
        BOMBS[name](file["node/nodes/fc1"])
    assert path.stat().st_size < 1 << 20

    def attempt():
        with pytest.raises(Snn2ChipError):
            load(path)

    bounded(attempt, 600)


def test_one_text_named_by_every_edge(tmp_path):
    """A long text stored once and referred to again and again would grow a thousandfold when read at once."""
    path = small(tmp_path / "a.nir")
    with h5py.File(path, "a") as file:
        del file["node/edges"]
        data = file["node"].create_dataset("edges", shape=(2000, 2), dtype=h5py.string_dtype())
        data[0] = ["x" * (1 << 20), "y"]
    raw = bytearray(path.read_bytes())
    with h5py.File(path, "r") as file:
        at = file["node/edges"].id.get_offset()
    first = bytes(raw[at : at + 16])
    for i in range(4000):
        raw[at + 16 * i : at + 16 * i + 16] = first
    path.write_bytes(bytes(raw))

    def attempt():
        with pytest.raises(FileFormatError, match="a name of more than"):
            load(path)

    bounded(attempt, 600)


def test_graphs_inside_each_other_end(tmp_path):
    inner = graph({"input": given(5), "output": read(5)}, [("input", "output")])
    for _ in range(30):
        inner = graph({"input": given(5), "g": inner, "output": read(5)}, chain("input", "g", "output"))
    path = write(tmp_path / "a.nir", {"input": given(5), "g": inner, "output": read(5)}, chain("input", "g", "output"))
    with pytest.raises(FileFormatError, match="inside each other"):
        load(path)


def fuzz(folder, count, *, seed=0, damage=bytes_damage):
    """Mutated files through the importer; how many were refused. Any other error than ours fails."""
    rng, refused = random.Random(seed), 0
    sources = [small(folder / "a.nir"), small(folder / "b.nir", lif1=cuba(6))]
    nodes = {"input": given(5), "rec": graph(
        {"input": given(5), "lif": lif(5), "w": linear(np.eye(5), np.ones(5)), "output": read(5)},
        [("input", "lif"), ("lif", "w"), ("w", "lif"), ("lif", "output")],
    ), "output": read(5)}  # fmt: skip
    sources.append(write(folder / "c.nir", nodes, chain("input", "rec", "output")))
    from snn2chip.interop.nir_graph import export_graph

    export_graph(load(sources[1]), folder / "d.nir")
    sources.append(folder / "d.nir")
    whole = [path.read_bytes() for path in sources]
    victim = folder / "victim.nir"
    for i in range(count):
        victim.write_bytes(damage(whole[i % len(whole)], rng))
        found: Snn2ChipError | None = None
        try:
            made = load(victim, profile=("snntorch", "generic")[i // 4 % 2] if i % 4 != 3 else None)
            assert sum(map(len, made.shapes.values())) > 0
        except Snn2ChipError as error:
            found = error
        refused += found is not None
        assert found is None or (found.exit_code == 2 and len(str(found)) < 20_000), found
    return refused


def test_mutated_files_give_clear_errors(tmp_path):
    """Networks that the fuzzing of all doors does not have: current-based neurons, a loop in a subgraph."""
    assert fuzz(tmp_path, 150) > 40


def test_changed_fields_and_edges_give_clear_errors(tmp_path):
    """Nodes stay nodes: fields of another length, missing or too many, edges to nowhere."""
    assert 50 < fuzz(tmp_path, 150, damage=nir_damage) < 150


INNER = graph({"input": given(6), "lif": lif(6), "output": read(6)}, [("input", "rec.lif"), ("lif", "output")])
WAYS = {"fc1 -> rec": ("rec", "rec"), "by name": ("rec.input", "rec.lif"), "of the output": ("rec", "rec.output")}
GHOSTS = ("q.rec.lif", "rec.q.lif", "rec.lif.lif", "rec.lif.x", "rec.", ".rec", "fc1.rec.lif", "rec.rec.lif", "q.rec")


def test_edges_into_a_graph_name_what_is_there(tmp_path):
    nodes = {"lif1": None, "rec": INNER}
    for into, out in WAYS.values():
        edges = [*chain("input", "fc1", into), *chain(out, "fc2", "lif2", "output")]
        assert load(small(tmp_path / "a.nir", **nodes, edges=edges)).layer("rec.lif").kind == "neuron"
    for ghost in GHOSTS:
        edges = [*chain("input", "fc1", ghost), *chain("rec", "fc2", "lif2", "output")]
        with pytest.raises(InputError, match="does not exist"):
            load(small(tmp_path / "a.nir", **nodes, edges=edges))


def test_the_reader_keeps_nothing_open(tmp_path):
    path = small(tmp_path / "a.nir")
    read_nir(path)
    path.unlink()
    assert not path.exists()
