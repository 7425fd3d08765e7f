"""A neuron recorded on Loihi 2 itself (the NIR paper's published data: 1000 steps of input, voltage, spike).

The neuron: weight 10, current decay 4096 of 4096, voltage decay 163, threshold mantissa 25; an input of step t - 1
reaches the register of step t. All 4 spikes and 996 of 1000 voltages come out equal; the other four are the steps of
the spikes, where the chip's register shows 128 (a refractory code) and the model the reset potential 0.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest

import snn2chip
from snn2chip.frontends.netx import import_netx
from snn2chip.registry import get_backend

HELPER = Path(__file__).resolve().parents[1] / "unit" / "netx" / "netx_files.py"


@pytest.fixture(scope="module")
def recorded():
    """Columns input, voltage, spike."""
    folder = os.environ.get("SNN2CHIP_DATA")
    if not folder or not (path := Path(folder) / "loihi2_lif_trace.csv").is_file():
        pytest.skip("SNN2CHIP_DATA does not name a folder with loihi2_lif_trace.csv")
    columns = np.loadtxt(path, delimiter=",")
    assert columns.shape == (1000, 3)
    return columns.astype(np.int64).T


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """The neuron as a one-layer `.net` file, imported."""
    spec = importlib.util.spec_from_file_location("netx_trace_files", HELPER)
    assert spec is not None
    assert spec.loader is not None
    files = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(files)
    neuron = files.neuron(iDecay=4096, vDecay=163, vThMant=25)
    path = files.write_net(tmp_path_factory.mktemp("trace") / "lif.net", [files.dense([[10]], neuron=neuron)])
    return import_netx(path, steps=1000)


def ready(name, **options):
    """The backend, or a skip with the reason why it cannot run here."""
    backend = get_backend(name, **options)
    reason = backend.missing()
    if reason:
        pytest.skip(reason)
    return backend


LAVA = pytest.param("lava", {"stock": False}, marks=pytest.mark.lava, id="lava, own process")


@pytest.mark.data
@pytest.mark.parametrize(("backend", "options"), [("reference", {}), ("torch", {}), LAVA])
def test_voltages_and_spikes(recorded, program, backend, options):
    sent, voltage, spike = recorded
    trace = snn2chip.run(program, sent[:, None, None], backend=ready(backend, **options))
    ours = np.concatenate([[0], trace.potentials["layer0"][:-1, 0, 0]])
    fired = np.concatenate([[0], trace.payloads["layer0"][:-1, 0, 0]])
    assert (fired == spike).all()
    assert spike.sum() == 4
    assert (ours == voltage).sum() == 996
    assert (voltage[spike != 0] == 128).all()
    assert (ours[spike != 0] == 0).all()
    assert np.unique(voltage).size > 100


@pytest.mark.data
@pytest.mark.lava
def test_spikes_of_lavas_own_lif(recorded, program):
    """The imported neuron is one that Lava's stock LIF expresses, so the backend uses it."""
    sent, _, spike = recorded
    backend = ready("lava")
    assert backend.layout(program)["layer0"].process == "stock LIF"
    trace = snn2chip.run(program, sent[:, None, None], backend=backend)
    assert (trace.payloads["layer0"][:-1, 0, 0] == spike[1:]).all()
