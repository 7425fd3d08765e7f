"""x = (raw*scale - mean)/std, per channel, steps first for event frames; values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from snn2chip.checkpoint import InputSpec
from snn2chip.errors import InputError


def test_normalisation_of_one_number_and_of_a_number_per_channel():
    raw = np.array([[[[0, 8]], [[16, 4]]]], dtype=np.uint8)  # [1, 2, 1, 2]
    one = InputSpec(shape=(2, 1, 2), scale=0.5, mean=2, std=4).apply(raw)
    assert one.tolist() == [[[[-0.5, 0.5]], [[1.5, 0.0]]]]
    each = InputSpec(shape=(2, 1, 2), mean=(0, 4), std=(8, 2)).apply(raw)
    assert each.tolist() == [[[[0.0, 1.0]], [[6.0, 0.0]]]]
    assert one.dtype == torch.float32


def test_event_frames_come_out_with_the_steps_first():
    raw = np.arange(2 * 3 * 1 * 1 * 2).reshape(2, 3, 1, 1, 2)  # [N, T, 1, 1, 2]
    x = InputSpec(shape=(1, 1, 2), time=True).apply(raw)
    assert x.shape == (3, 2, 1, 1, 2)
    assert x[2, 1, 0, 0, 1] == raw[1, 2, 0, 0, 1]


def test_raw_samples_stay_as_they_are():
    raw = np.ones((1, 4), dtype=np.float32)
    InputSpec(shape=(4,), mean=1).apply(raw).add_(5)
    assert (raw == 1).all()


@pytest.mark.parametrize(("time", "shape"), [(False, (3, 2, 5)), (False, (3, 7, 2, 4)), (True, (3, 2, 4))])
def test_samples_of_another_shape_are_refused(time, shape):
    with pytest.raises(InputError, match="expected raw samples"):
        InputSpec(shape=(2, 4), time=time).apply(np.zeros(shape))


def test_all_breaches_together():
    with pytest.raises(InputError) as caught:
        InputSpec(shape=(3, 0), scale=-1, mean=(1, 2), std=(1, 0, 1))
    text = str(caught.value)
    for part in ("shape=[3, 0]", "mean has 2 numbers", "scale=-1.0", "std=[1.0, 0.0, 1.0]"):
        assert part in text


@pytest.mark.parametrize("wrong", [{"mean": 1e308}, {"std": 1e-300}, {"std": 1e39}, {"scale": 1e-300}, {"scale": 1e39}])
def test_numbers_that_models_cannot_hold_are_refused(wrong):
    """As float32 they are infinite, or 0 where that divides or wipes out every sample."""
    with pytest.raises(InputError, match="32 bits"):
        InputSpec(shape=(3,), **wrong)
    assert InputSpec(shape=(3,), mean=3e38, scale=1e-38).unit == pytest.approx(1e-38)  # mean/scale: whole, and huge


def test_arguments_of_compile():
    assert InputSpec(shape=(3,), mean=(1, 2, 3), std=2).normalisation == {"scale": 1.0, "mean": [1, 2, 3], "std": 2}
