"""What calibration samples say and do not say: layout, steps, ranges, and when they say nothing."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import snn2chip
from snn2chip.errors import InputError
from snn2chip.nn import IF

RNG = np.random.default_rng(3)


class Net(nn.Module):
    """Steps first, or batch first."""

    def __init__(self, *, batch_first: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.spikes, self.last = nn.Linear(6, 8), IF(steps=4), nn.Linear(8, 3)
        self.batch_first = batch_first

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(0, 1) if self.batch_first else x
        return self.last(self.spikes(self.first(x))).mean(0)


def frames(n: int) -> Tensor:
    """`[T,n,6]`"""
    return torch.from_numpy(RNG.random((4, n, 6)).astype(np.float32))


def compiled(x: Tensor, **options: object) -> snn2chip.Program:
    return snn2chip.compile(Net(), x, **options)


def outputs(program: snn2chip.Program, x: Tensor) -> list[list[int]]:
    return snn2chip.run(program, x, time_axis=True).outputs.tolist()


def test_a_model_that_takes_its_batch_first_is_the_same_program() -> None:
    x, given = frames(5), frames(32)
    want = snn2chip.compile(Net(), x, calibration=given)
    for calibration, extra in (
        (given.transpose(0, 1), {}),
        (given, {"batch_first": False}),
        (given.transpose(0, 1), {"batch_first": True}),
    ):
        got = snn2chip.compile(Net(batch_first=True), x.transpose(0, 1), calibration=calibration, **extra)
        assert got.digest() == want.digest()
    assert (
        snn2chip.compile(Net(batch_first=True), x.transpose(0, 1)).digest() == snn2chip.compile(Net(), x).digest()
    )  # the default is the sample itself


def test_as_many_samples_as_steps_are_no_riddle() -> None:
    x = frames(4)
    swapped = snn2chip.compile(Net(batch_first=True), x.transpose(0, 1))
    assert swapped.digest() == snn2chip.compile(Net(), x).digest()


def test_calibration_with_its_axes_the_other_way_round_is_refused_with_what_fits() -> None:
    with pytest.raises(InputError, match=r"\[T, N, \.\.\.\] with T=32, but the model runs 4 steps.*batch_first=True"):
        snn2chip.compile(Net(), frames(5), calibration=frames(32).transpose(0, 1))
    with pytest.raises(InputError, match=r"shape \[32, 7\], expected \[N, 6\] or \[T, N, 6\] or \[N, T, 6\]"):
        snn2chip.compile(Net(), frames(5), calibration=torch.rand(32, 7))


def test_a_network_without_steps_needs_to_be_told_t() -> None:
    net, x = nn.Sequential(nn.Linear(6, 3)), torch.rand(5, 6)
    with pytest.raises(InputError, match="pass steps=T"):
        snn2chip.compile(net, x)
    for steps in (1, 4):
        program = snn2chip.compile(net, x, steps=steps)
        assert program.steps == steps
        got = snn2chip.run(program, x).outputs * program.meta["units"]["potential"]["readout"][0] / steps
        assert np.abs(got - net(x).detach().numpy()).max() < 0.05


@pytest.mark.parametrize("value", [0.0, 1.0, 0.3])
def test_samples_that_are_all_one_number_are_refused(value: float) -> None:
    with pytest.raises(InputError, match=rf"all 192 values of the calibration samples are {value:g}"):
        compiled(frames(5), calibration=torch.full((4, 8, 6), value))


def test_the_same_sample_over_and_over_is_refused() -> None:
    with pytest.raises(InputError, match="all 8 calibration samples are the same"):
        compiled(frames(5), calibration=frames(1).expand(4, 8, 6))


def test_text_and_complex_samples_are_refused() -> None:
    for wrong in (np.full((4, 8, 6), "a"), torch.rand(4, 8, 6) * 1j):
        with pytest.raises(InputError, match=r"real numbers, got (<U1|(torch\.)?complex64)"):
            compiled(frames(5), calibration=wrong)


def test_zeros_and_ones_are_spikes() -> None:
    spikes = (frames(16) > 0.5).float()
    (node,) = compiled(spikes).inputs
    assert (node.lo, node.hi, node.scale) == (0, 1, 1.0)


@pytest.mark.parametrize(
    ("largest", "hi"), [(1, 1), (2, 3), (3, 7), (4, 7), (5, 15), (16, 31), (100, 255), (127, 255), (200, 255)]
)
def test_whole_numbers_leave_room_for_half_as_much_again_and_bytes_end_at_255(largest: int, hi: int) -> None:
    x = torch.randint(0, largest + 1, (4, 16, 6)).float()
    x[0, 0, 0] = largest
    (node,) = compiled(x).inputs
    assert (node.lo, node.hi, node.scale) == (0, hi, 1.0)


def test_features_without_bounds_have_room_for_twice_what_was_seen_at_the_same_resolution() -> None:
    x = torch.randn(4, 64, 6, generator=torch.Generator().manual_seed(1))
    (node,) = compiled(x).inputs
    reach = float(x.abs().max())
    assert node.scale == pytest.approx(reach / 127)
    assert node.hi * node.scale == pytest.approx(2 * float(x.max()), abs=node.scale)
    assert node.lo * node.scale == pytest.approx(2 * float(x.min()), abs=node.scale)
    program = compiled(x)
    snn2chip.run(program, 1.9 * x, time_axis=True)
    with pytest.raises(InputError, match="input_range"):
        snn2chip.run(program, 2.5 * x, time_axis=True)


def test_values_that_reach_exactly_one_are_bounded() -> None:
    x = frames(16)
    x[0, 0, 0] = 1.0
    (node,) = compiled(x).inputs
    assert (node.lo, node.hi, node.scale) == (0, 255, 1 / 255)


def test_a_declared_range_sets_range_and_grid() -> None:
    x = torch.randn(4, 64, 6, generator=torch.Generator().manual_seed(1)).clamp(-3, 3)
    (node,) = compiled(x, input_range=(-4, 8)).inputs
    assert node.scale == pytest.approx(8 / 127)
    assert (node.lo, node.hi) == (-63, 127)  # floor(-4*127/8 + 1/2)
    (node,) = compiled(torch.randint(0, 4, (4, 16, 6)).float(), input_range=(0, 40)).inputs
    assert (node.lo, node.hi, node.scale) == (0, 40, 1.0)


@pytest.mark.parametrize(
    ("given", "text"),
    [((0, 0.5), "outside of input_range"), ((1, 0), "lo < hi"), ((0, float("inf")), "finite"), (3, "a pair")],
)
def test_a_range_that_cannot_be_is_refused(given: object, text: str) -> None:
    with pytest.raises(InputError, match=text):
        compiled(frames(16), input_range=given)


def test_fractions_cannot_be_normalised_as_raw_integers() -> None:
    with pytest.raises(InputError, match=r"whole numbers.*fractions"):
        snn2chip.compile(Net(), frames(5), calibration=frames(16), normalise={"scale": 1.0, "mean": 0.7, "std": 0.5})


def test_a_compiled_program_takes_its_own_calibration_data_without_a_word() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for x in (frames(16), torch.randint(0, 256, (4, 16, 6)).float(), (frames(16) > 0.5).float()):
            snn2chip.run(compiled(x), x, time_axis=True)
