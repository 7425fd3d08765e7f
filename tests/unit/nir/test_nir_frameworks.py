"""Networks that snnTorch, SpikingJelly, norse and sinabs trained and exported, against their own forward passes.

The fixtures are made by `tests/make_nir_fixtures.py`. Every spike of every layer must be the framework's own: all are,
on all 100 samples and 16 steps, so that no tolerance is left here.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

import snn2chip
from snn2chip.compiler import compile_float_graph
from snn2chip.errors import InputError, UnsupportedError
from snn2chip.frontends.nir import import_nir
from snn2chip.frontends.nir_profiles import PROFILES
from snn2chip.passes import run_passes

FIXTURES = Path(__file__).parent / "fixtures"
T, TRAIN, SAMPLES = 16, 1200, 100
PROFILE = {"snntorch": "snntorch", "spikingjelly": "spikingjelly", "norse": "norse-1.1", "sinabs": "sinabs"}
NETS = sorted(path.stem for path in FIXTURES.glob("*.nir"))


def imported(name, **more):
    profile = PROFILE[name.split("_")[0]]
    return import_nir(FIXTURES / f"{name}.nir", **{"profile": profile, "steps": T, **more})


@lru_cache
def digits():
    return load_digits(return_X_y=True)


def recorded(name):
    """The framework's spikes by layer `[T, 100, ...]`, and its classes of all test samples."""
    with np.load(FIXTURES / f"{name}.npz") as file:
        layers = []
        for i in range(sum(key.startswith("shape") for key in file.files)):
            shape, spikes = tuple(file[f"shape{i}"]), file[f"spikes{i}"]
            whole = np.unpackbits(spikes)[: np.prod(shape)].reshape(shape) if spikes.ndim == 1 else spikes
            layers.append(whole)
        return layers, file["pred"]


def samples(graph, part):
    return digits()[0][part].reshape(-1, *graph.input.shape)


def spikes_of(graph, x):
    run = graph.run(torch.tensor(x, dtype=torch.float32), collect=True)
    return [run.values[layer.name].numpy() for layer in graph.of_kind("neuron")]


def test_there_is_a_perceptron_and_a_convolution_of_every_framework():
    assert {f"{framework}_{kind}" for framework in PROFILE for kind in ("mlp", "conv")} <= set(NETS)
    assert "snntorch_recurrent" in NETS
    assert all(path.stat().st_size <= 150_000 for path in FIXTURES.iterdir())


@pytest.mark.parametrize("name", NETS)
def test_every_spike_is_the_framework_s_own(name):
    graph = imported(name)
    want, _ = recorded(name)
    got = spikes_of(graph, samples(graph, slice(TRAIN, TRAIN + SAMPLES)))
    assert len(got) == len(want)
    for mine, theirs in zip(got, want, strict=True):
        assert theirs.mean() > 0.01
        assert np.array_equal(mine, theirs.reshape(mine.shape))


@pytest.mark.parametrize("name", NETS)
def test_integers_are_within_a_point_of_the_framework(name):
    graph = imported(name)
    labels = digits()[1][TRAIN:]
    program = compile_float_graph(
        run_passes(graph), samples(graph, slice(0, 200)), weights="int8", time_axis=False, meta={}
    )
    found = snn2chip.run(program, samples(graph, slice(TRAIN, None)), backend="torch", record="outputs").pred
    _, pred = recorded(name)
    accuracy, theirs = float((found.ravel() == labels).mean()), float((pred == labels).mean())
    assert theirs > 0.75
    assert accuracy >= theirs - 0.01, f"{accuracy:.4f} against {theirs:.4f}"


WRONG = {
    "snntorch_mlp": ("norse", "norse-1.1", "sinabs"),
    "snntorch_recurrent": ("norse", "norse-1.1", "sinabs"),
    "spikingjelly_mlp": ("snntorch", "sinabs"),
    "spikingjelly_conv": ("snntorch", "norse", "norse-1.1", "sinabs"),
    "norse_mlp": ("snntorch", "norse"),
    "norse_conv": ("snntorch", "spikingjelly"),
    "sinabs_mlp": ("snntorch", "spikingjelly"),
    "sinabs_lif": ("snntorch",),
    "sinabs_conv": ("snntorch", "spikingjelly"),
}


@pytest.mark.parametrize(("name", "profile"), [(name, p) for name in WRONG for p in WRONG[name]])
def test_values_that_do_not_fit_a_profile_are_refused(name, profile):
    with pytest.raises((InputError, UnsupportedError), match=r"writes|shorter than dt|tau"):
        imported(name, profile=profile)


def test_a_wrong_profile_that_fits_gives_other_spikes():
    """Why a profile is asked for: the same values, read otherwise, are another network."""
    want, _ = recorded("snntorch_mlp")
    graph = imported("snntorch_mlp", profile="spikingjelly")
    got = spikes_of(graph, samples(graph, slice(TRAIN, TRAIN + SAMPLES)))
    assert (got[0] != want[0]).mean() > 0.01


@pytest.mark.parametrize("name", NETS)
def test_a_profile_must_be_named_and_the_error_says_which_fit(name):
    with pytest.raises(InputError, match="does not say how its neurons compute") as error:
        imported(name, profile=None)
    text = str(error.value)
    assert all(profile in text for profile in PROFILES)
    fits = text.split("its values fit ")[1]
    assert PROFILE[name.split("_")[0]] in fits.rstrip(")").split(", ")


def test_what_was_assumed_is_kept():
    graph = imported("sinabs_mlp", options={"floor": "-1", "levels": 7})
    text = "\n".join(note.text for note in graph.notes)
    assert "profile sinabs" in text
    assert "floor(v/theta) spikes, at most 7" in text
    assert "never below -1 * theta" in text
    neuron = graph.of_kind("neuron")[0]
    assert float(neuron.soma.v_min) == -float(neuron.soma.theta)


@pytest.mark.parametrize("backend", ["torch", pytest.param("lava", marks=pytest.mark.lava)])
def test_a_recurrent_current_based_network_is_equal_on_every_backend(backend):
    graph = imported("snntorch_recurrent")
    (loop,) = (layer for layer in graph.of_kind("neuron") if layer.feedback is not None)
    assert loop.soma.syn_leak is not None
    program = compile_float_graph(run_passes(graph), samples(graph, slice(0, 200)), weights="int8", time_axis=False)
    assert any(edge.delay == 1 for edge in program.edges)
    reason = snn2chip.registry.get_backend(backend).missing()
    if reason:
        pytest.skip(reason)
    x = samples(graph, slice(TRAIN, TRAIN + (100 if backend == "torch" else 6)))
    snn2chip.check(program, x, backends=["reference", backend]).raise_if_different()
