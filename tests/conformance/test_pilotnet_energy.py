"""One public board measurement against the model: PilotNet LIF of lava-dl, Loihi 2, T = 16, 74 cores.

Measured (stored outputs of lava-dl's own tutorial): 1.094 mJ dynamic per inference, 408.9 inferences per second. The
interval of the target file was fixed before this comparison and its coefficients know nothing of it. What is compared
is one frame, the one shipped with the network; the board's figure is a mean over a drive and holds input, spike
generation and barriers, which the model leaves out.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from snn2chip.api import stream
from snn2chip.frontends.netx import import_netx
from snn2chip.mapping.target_file import load_target
from snn2chip.reports.detail import DetailCounter
from snn2chip.reports.energy import chip_estimates
from snn2chip.reports.workload import Workload, workload

MEASURED_DYNAMIC = 1.094e-3
STEPS = 16


@pytest.fixture(scope="module")
def pilotnet(shipped: Path) -> Workload:
    folder = shipped / "gts" / "pilotnet_lif"
    program = import_netx(folder / "network.net", steps=STEPS)
    counter = DetailCounter(program)
    for trace in stream(program, np.load(folder / "image.npy").transpose(2, 1, 0)[None]):
        counter.add(trace)
    return workload(program, counter.result())


def test_the_measured_energy_lies_inside_the_interval_fixed_before(pilotnet) -> None:
    """0.36..1.27 mJ holds 1.094 mJ; the value in the middle, 0.68 mJ, is too low by a third."""
    found = {e.model: e.joules for e in chip_estimates(load_target("loihi2"), pilotnet)}
    interval = found["interval"]
    assert interval.width <= 4
    assert interval.lo < MEASURED_DYNAMIC < interval.hi
    assert interval.value < 0.7 * MEASURED_DYNAMIC
    # the other surrogates do not hold it: Loihi 1's figures are too high, Hala Point's too low
    assert found["loihi1-range"].lo > MEASURED_DYNAMIC
    assert found["hala-point"].hi < MEASURED_DYNAMIC


def test_the_network_is_the_one_measured(pilotnet) -> None:
    """Sizes of the public network: 158,509 neurons with the input's, all of them served in every step."""
    assert sum(row.neurons for row in pilotnet.layers) == 158_509
    assert pilotnet.updates == STEPS * 158_509
    assert pilotnet.all_synops > 40e6


def test_the_interval_is_no_wider_than_four_for_any_workload() -> None:
    """Each constant of its own has hi <= 4 lo, so has every sum."""
    for fact in load_target("loihi2").energies["interval"].events.values():
        lo, hi = fact.range
        assert lo <= fact.value <= hi <= 4 * lo
