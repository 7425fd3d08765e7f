"""The comparison of training steps: sides in processes of their own, agreement asserted before anything is timed."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.training import agreement, child, sides


def test_without_peers_our_own_ways_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNN2CHIP_PEERS", str(tmp_path))
    chosen = sides("neuron", batch=1, device="cpu", precision="32")
    assert list(chosen) == ["snn2chip, torch code", "snn2chip", "snn2chip, channels last"]
    (tmp_path / "spikingjelly").mkdir()
    assert len(sides("net", batch=1, device="cpu", precision="32")) == 5
    names = ["snn2chip, torch code", "snn2chip"]
    with child(names[0], **chosen[names[0]]) as plain, child(names[1], **chosen[names[1]]) as ours:
        notes = agreement(dict(zip(names, (plain, ours), strict=True)))
        ours.step()
        assert ours.seconds > 0
    assert notes == {f"equal spikes, {name}": 1.0 for name in names}


def test_a_side_that_ends_is_told(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="peer ended"), child("peer", who="nobody"):
        pass
