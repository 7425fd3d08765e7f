"""Fields of primitives: those that nir has, each with an effect; others, and values beside the profile, are refused."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from nir_files import chain, cuba, given, lif, linear, read, write

from snn2chip.errors import InputError
from snn2chip.frontends.nir import import_nir
from snn2chip.frontends.nir_fields import FIELDS

W = np.random.default_rng(3).normal(size=(4, 6))
KERNEL = np.random.default_rng(4).normal(size=(4, 2, 3, 3))
CONV = {"type": "Conv2d", "weight": KERNEL, "bias": np.zeros(4), "stride": 1, "padding": 0, "dilation": 1, "groups": 1}
POOL = {"type": "AvgPool2d", "kernel_size": 2, "stride": 2, "padding": 0}
DT = 1e-3


def neuron(kind, *shape, **values):
    return {"type": kind, **{key: np.full(shape, value) for key, value in values.items()}}


def rock(tau=4 * DT, **more):
    r = tau * np.exp(-DT / tau) / DT
    return neuron("CubaLIF", 4, **{"tau_mem": tau, "tau_syn": 2 * DT, "r": r, "v_leak": 0, "v_threshold": 1, **more})


def load(path, node=None, profile="generic", *, first=None, shape=(6,), out=(4,), **more):
    nodes = {"input": given(*shape), "map": first or linear(W), "z": node or lif(*out), "output": read(*out)}
    return import_nir(write(path, nodes, chain("input", "map", "z", "output")), profile=profile, steps=3, **more)


def without(node, key):
    return {name: value for name, value in node.items() if name != key}


def plane(first):
    size = (4, 3, 3) if first["type"] == "Conv2d" else (2, 2, 2)
    return {"first": first, "shape": (2, 5, 5), "out": size, "node": neuron("IF", 1, r=1e4, v_threshold=1.0)}


LIF, CUBA = lif(4), cuba(4)
NORSE = {**neuron("CubaLIF", 4, tau_syn=2e-3, tau_mem=4e-3, r=1, v_leak=0, v_threshold=1, w_in=1)}
REFUSED = {
    "a bias of a Linear": (
        {"first": {**linear(W), "bias": np.ones(4)}},
        r"map \(Linear\): bias: no field of this type",
    ),
    "an Affine without": ({"first": without(linear(W, np.ones(4)), "bias")}, r"map \(Affine\): bias is missing"),
    "tau of an IF": (
        {"node": neuron("IF", 4, r=1e4, v_threshold=1, tau=2e-4, v_leak=1)},
        r"z \(IF\): tau, v_leak: no field of this type, which has r, v_threshold, v_reset",
    ),
    "an IF without r": ({"node": neuron("IF", 4, v_threshold=1)}, r"z \(IF\): r is missing"),
    "a threshold of an LI": ({"node": {**LIF, "type": "LI"}}, r"z \(LI\): v_reset, v_threshold: no field"),
    "an unknown field": ({"node": {**LIF, "foo\x1b": 3}}, r"z \(LIF\): foo\\x1b: no field"),
    "w_in of a LIF": ({"node": {**LIF, "w_in": np.full(4, 3.0)}}, r"z \(LIF\): w_in: no field"),
    "a LIF without v_leak": ({"node": without(LIF, "v_leak")}, r"z \(LIF\): v_leak is missing"),
    "a text for tau": ({"node": {**LIF, "tau": "long"}}, r"z \(LIF\): tau is the text 'long', expected numbers"),
    "w_in of norse": ({"node": {**NORSE, "w_in": np.full(4, 7.0)}, "profile": "norse"}, "w_in = 7, and norse writes 1"),
    "w_in of rockpool": ({"node": rock(w_in=7), "profile": "rockpool"}, "w_in = 7, and rockpool writes 1"),
    "r of rockpool and dt": (
        {"node": rock(r=123.0), "profile": "rockpool", "options": {"dt": DT}},
        r"r = 123, and rockpool writes 3\.1152 at dt = 0\.001",
    ),
    "another dt than r tells": (
        {"node": rock(), "profile": "rockpool", "options": {"dt": 2 * DT}},
        r"r = 3\.1152, and rockpool writes 1\.21306 at dt = 0\.002",
    ),
    "ceil_mode": (plane({**POOL, "ceil_mode": 1}), r"map \(AvgPool2d\): ceil_mode = \[1\]; only 0"),
    "a pool without stride": (plane(without(POOL, "stride")), "stride is missing"),
    "padding_mode": (plane({**CONV, "padding_mode": "circular"}), "padding_mode = 'circular'; only zeros"),
    "output_padding": (plane({**CONV, "output_padding": 1}), "output_padding: no field of this type"),
    "another input_shape": (
        plane({**CONV, "input_shape": np.array([9, 9])}),
        r"input_shape \[9, 9\] contradicts what it reads, \[2, 5, 5\]",
    ),
    "another input_type": (
        {"first": {"type": "Flatten", "start_dim": 0, "end_dim": -1, "input_type": np.array([3, 3])}, "out": (6,)},
        r"input_type \[3, 3\] contradicts what it reads, \[6\]",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_change_nothing_is_refused(tmp_path, name):
    how, text = REFUSED[name]
    with pytest.raises(InputError, match=text):
        load(tmp_path / "a.nir", **how)


FINE = {
    "norse": {"node": NORSE, "profile": "norse"},
    "rockpool": {"node": rock(w_in=1), "profile": "rockpool"},
    "rockpool and its dt": {"node": rock(), "profile": "rockpool", "options": {"dt": DT}},
    "ceil_mode off": plane({**POOL, "ceil_mode": 0}),
    "padding of zeros": plane({**CONV, "padding_mode": "zeros", "input_shape": np.array([5, 5])}),
    "a shape with the batch": {
        "first": {"type": "Flatten", "start_dim": 0, "end_dim": -1, "input_type": np.array([1, 6])},
        "out": (6,),
    },
    "current-based": {"node": CUBA, "profile": "snntorch"},
}


@pytest.mark.parametrize("name", FINE)
def test_what_fits_is_read(tmp_path, name):
    assert load(tmp_path / "a.nir", **FINE[name]).steps == 3


def test_all_of_a_node_and_of_others_in_one_error(tmp_path):
    with pytest.raises(InputError) as error:
        load(tmp_path / "a.nir", {**without(LIF, "tau"), "foo": 1}, first={**linear(W), "bias": np.ones(4)})
    assert len(error.value.breaches) == 3


def test_fields_of_maps_on_loops(tmp_path):
    back = {**linear(np.eye(4)), "bias": np.ones(4)}
    nodes = {"input": given(6), "map": linear(W), "z": LIF, "back": back, "output": read(4)}
    path = write(tmp_path / "a.nir", nodes, [*chain("input", "map", "z", "output"), *chain("z", "back", "z")])
    with pytest.raises(InputError, match=r"back \(Linear\): bias: no field"):
        import_nir(path, profile="generic", steps=3)


def test_the_table_is_nir_s_own():
    """Names and what must be there, against the classes of the nir package; what torch adds must be at its default."""
    nir = pytest.importorskip("nir", reason="the nir package is not installed")
    for kind, fields in FIELDS.items():
        theirs = [field for field in dataclasses.fields(getattr(nir, kind)) if field.init and field.name != "metadata"]
        names = {"shape" if kind in ("Input", "Output") else field.name for field in theirs}
        assert names == {*fields.required, *fields.optional} - {"padding_mode", "ceil_mode"}
        needed = {
            f.name for f in theirs if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        }
        assert set(fields.required) <= needed | {"shape"}
