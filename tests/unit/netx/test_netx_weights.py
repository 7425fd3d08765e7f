"""Weights as NetX's Dense applies them, and as 8-bit matrices; the rules against lava-dl's and Lava's own functions."""

from __future__ import annotations

import contextlib
import io
import warnings
from importlib.metadata import PackageNotFoundError, distribution

import numpy as np
import pytest
from scipy import sparse

from snn2chip.errors import UnsupportedError
from snn2chip.frontends.netx import import_netx
from snn2chip.frontends.netx_weights import netx_dense_weights, store


@pytest.mark.parametrize(
    ("weights", "effective"),
    [
        ([-256, 254, 3, -1], [-256, 254, 3, -1]),
        ([0, 255, 7], [0, 255, 7]),
        ([-3, -2, -1, 0, 1, 2, 3, 127], [-3, -2, -1, 0, 1, 2, 3, 127]),
        ([300, -300, 5], [254, -256, 5]),
        ([255, -1], [254, -1]),
        ([-3, -5], [-3, -5]),
        ([-1, -1], [0, 0]),
        ([-4, -1], [-3, -1]),
        ([-255, 0, -1], [0, 0, 0]),
        ([-256, 0], [-128, 0]),
        ([0, 0], [0, 0]),
    ],
)
def test_known_cases(weights, effective):
    """Mixed and non-negative matrices are exact or clipped; negative ones with a power of two as extreme are not."""
    found = netx_dense_weights(np.array([weights]))
    assert found.refusal == ""
    assert found.weight.tolist() == [effective]
    assert bool(found.changes) == (weights != effective or not any(weights))


@pytest.mark.parametrize("weights", [[-4, 0, -1], [-8, 0, -3], [300, 2], [-300, -2]])
def test_refused_cases(weights):
    """A rounded sum of half weights, or a shift that loses everything, is no integer matrix."""
    assert netx_dense_weights(np.array([weights])).refusal


def lava_map(weight, dl, nc):
    """The map s -> a of NetX's Dense block, from lava-dl's (`dl`) and Lava's (`nc`) functions alone."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scaled, bits, exponent, _ = dl.optimize_weight_bits(weight.copy())
    mode = nc.determine_sign_mode(scaled)
    used = nc.truncate_weights(nc.clip_weights(scaled, mode, num_bits=8), mode, bits)
    return lambda s: np.left_shift(used @ s, exponent) if exponent > 0 else np.right_shift(used @ s, -exponent)


@pytest.fixture(scope="module")
def lava_functions(load):
    """The two modules with the rules, loaded as single files: importing lava itself would change this process."""
    try:
        dl, nc = distribution("lava-dl"), distribution("lava-nc")
    except PackageNotFoundError as missing:
        pytest.skip(f"{missing} is not installed")
    return load(dl.locate_file("lava/lib/dl/netx/utils.py")), load(nc.locate_file("lava/utils/weightutils.py"))


def matrices(count):
    rng = np.random.default_rng(7)
    tops = [1, 2, 3, 5, 8, 64, 100, 127, 128, 200, 255, 256, 257, 300, 1000]
    forms = [
        lambda w: w,
        np.abs,
        lambda w: -np.abs(w),
        lambda w: -np.abs(w) - 1,
        lambda w: 2 * w,
        lambda w: -4 * np.abs(w),
    ]
    for _ in range(count):
        top = int(rng.choice(tops))
        w = forms[rng.integers(len(forms))](rng.integers(-top, top + 1, rng.integers(1, 5, 2)))
        if w.any():
            yield rng, w


@pytest.mark.lava
@pytest.mark.filterwarnings("ignore")
def test_rules_equal_lavas_own(lava_functions):
    """1500 matrices: what we keep acts as Lava does on every input; what we refuse is no linear map there, or zero."""
    exact = changed = refused = 0
    for rng, w in matrices(1500):
        act, found = lava_map(w, *lava_functions), netx_dense_weights(w)
        probes = [*np.eye(w.shape[1], dtype=int), *rng.integers(0, 2, (12, w.shape[1]))]
        if found.refusal:
            refused += 1
            columns = np.stack([act(s) for s in np.eye(w.shape[1], dtype=int)], axis=1)
            many = [np.full(w.shape[1], k) for k in range(1, 257)]
            assert any((act(s) != columns @ s).any() for s in many) or not columns.any()
            continue
        exact, changed = exact + (not found.changes), changed + bool(found.changes)
        for s in probes:
            assert (act(s) == found.weight @ s).all(), (w, found)
    assert min(exact, changed, refused) > 50


@pytest.mark.parametrize(
    ("weights", "parts"),
    [
        ([[-128, 127]], [("", 0, "mixed")]),
        ([[0, 255]], [("", 0, "excitatory")]),
        ([[0, -255]], [("", 0, "inhibitory")]),
        ([[-256, 254]], [("", 1, "mixed")]),
        ([[512, -1024]], [("", 9, "mixed")]),
        ([[-255, 254]], [("plus", 0, "excitatory"), ("minus", 0, "inhibitory")]),
        ([[-256, 253, -3]], [("plus", 0, "excitatory"), ("minus", 0, "inhibitory"), ("lowest", 1, "mixed")]),
        ([[-510, 508, 6]], [("plus", 1, "excitatory"), ("minus", 1, "inhibitory")]),
        ([[0, 0]], [("", 0, "mixed")]),
    ],
)
def test_stored_forms(weights, parts):
    found = store(np.array(weights))
    assert found is not None
    assert [(p.suffix, p.exponent, p.sign) for p in found] == parts
    total = sum((p.weight.toarray() if sparse.issparse(p.weight) else p.weight) << p.exponent for p in found)
    assert total.tolist() == weights
    stored = [p.weight.toarray() != 0 for p in found if sparse.issparse(p.weight)]
    assert not stored or (np.sum(stored, axis=0) <= 1).all()


@pytest.mark.parametrize("weights", [[[257, 2]], [[-257, 0]], [[1001, -1000]]])
def test_what_no_8_bit_matrix_holds(weights):
    assert store(np.array(weights)) is None


def test_nine_bit_even_weights_keep_eight_bits(net, files):
    synapse = import_netx(net(files.dense([[-256, 254, 2]])))["layer0.weight"]
    assert synapse.weight.tolist() == [[-128, 127, 1]]
    assert (synapse.bits, synapse.exponent, synapse.sign) == (8, 1, "mixed")


def test_excitatory_layer(net, files):
    synapse = import_netx(net(files.dense([[0, 255, 3]])))["layer0.weight"]
    assert (synapse.bits, synapse.exponent, synapse.sign) == (8, 0, "excitatory")


def test_numbers_of_netx_or_of_the_file(net, files):
    """All weights -1: NetX computes with zeros, and the import says so; numbers='file' keeps the file's."""
    path = net(files.dense([[-1, -1]]))
    program = import_netx(path)
    assert program["layer0.weight"].weight.tolist() == [[0, 0]]
    assert program.meta["notes"] == ["/layer/0: NetX changes 2 of 2 weights, first [0, 0]: -1 becomes 0"]
    assert import_netx(path, numbers="file")["layer0.weight"].weight.tolist() == [[-1, -1]]


def test_refused_weights_name_the_way_out(net, files):
    path = net(files.dense([[-4, 0, -1]]))
    with pytest.raises(UnsupportedError, match=r"/layer/0 \(dense\).*turns -4 into -3.5.*numbers='file'"):
        import_netx(path)
    assert import_netx(path, numbers="file")["layer0.weight"].weight.tolist() == [[-4, 0, -1]]


def test_conv_weights_are_never_clipped(net, files):
    """NetX's conv uses the kernel as it stands: 1000 is 125 * 8, stored with an exponent of 3."""
    kernel = np.array([[[[1000.0, -8.0]]]])
    synapse = import_netx(net(files.inputs((1, 1, 2)), files.conv(kernel, (1, 1, 1))))["layer1.weight"]
    assert (synapse.weight.tolist(), synapse.exponent) == ([[[[125, -1]]]], 3)


def test_wide_conv_kernels_are_split_by_sign(net, files):
    kernel = np.array([[[[255, -7], [0, -131]]]])
    program = import_netx(net(files.inputs((1, 2, 2)), files.conv(kernel, (1, 1, 1))))
    parts = program.synapses
    assert [p.name for p in parts] == ["layer1.weight.plus", "layer1.weight.minus"]
    assert sum(p.weight for p in parts).tolist() == kernel.tolist()
    assert all(p.sparse for p in parts)


def test_fractions_are_dropped_as_astype_int_does(net, files):
    path = net(files.dense([[1.9, -0.5]], bias=np.array([2.7])))
    program = import_netx(path)
    assert program["layer0.weight"].weight.tolist() == [[1, 0]]
    assert program["layer0"].bias.tolist() == [[128]]
    assert len(program.meta["notes"]) == 2
    with pytest.raises(UnsupportedError, match="holds fractions"):
        import_netx(path, numbers="file")


def test_one_axis_of_weights_is_one_neuron_or_more(net, files):
    """Old exports store a single output's weights without the first axis."""
    layer = {**files.dense([[1, 2, 3]]), "weight": np.array([1, 2, 3])}
    assert import_netx(net(layer))["layer0.weight"].weight.tolist() == [[1, 2, 3]]
