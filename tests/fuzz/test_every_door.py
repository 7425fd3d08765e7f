"""A thousand hostile inputs through every door and 300 through each importer: sound, or one clear error, nothing else.

The same with 100,000 inputs: `python -m snn2chip.testing.fuzz --inputs 100000`.
"""

from __future__ import annotations

import pytest

from snn2chip.testing.fuzz.doors import DOORS
from snn2chip.testing.fuzz.run import Job, run_jobs, table

EACH = 40
IMPORTERS = {"nir": 300, "netx": 300, "onnx": 300}


@pytest.fixture(scope="module")
def tallies():
    """Every door opened by one child process with bounded memory."""
    pytest.importorskip("onnx", reason="needs the onnx package (extra `onnx`)")
    pytest.importorskip("lightning", reason="resume files are Lightning's (extra `train`)")
    jobs = [Job(name, 0, IMPORTERS.get(name, EACH)) for name in DOORS]
    return {tally.door: tally for tally in run_jobs(jobs, seed=5)}


def test_a_thousand_inputs(tallies):
    assert sum(tally.inputs for tally in tallies.values()) == EACH * (len(DOORS) - 3) + 900 >= 1000
    assert not any(tally.defects for tally in tallies.values()), table(list(tallies.values()))


@pytest.mark.parametrize("name", DOORS)
def test_the_damage_reaches_behind_the_door(tallies, name):
    """Some inputs are refused and some are still sound, or the damage would say nothing about what lies behind."""
    assert tallies[name].sound > 0
    assert tallies[name].refused > 0 or name in ("environment", "words")


def test_inputs_follow_from_their_number(tmp_path):
    """A defect that a run reports can be made again from door, seed and number."""
    from snn2chip.testing.fuzz.judge import Bench

    one, two = Bench("s2c", tmp_path / "a", seed=3), Bench("s2c", tmp_path / "b", seed=3)
    assert [one.made(i) for i in range(20)] == [two.made(i) for i in range(20)]
    assert one.made(0) != Bench("s2c", tmp_path / "c", seed=4).made(0)
