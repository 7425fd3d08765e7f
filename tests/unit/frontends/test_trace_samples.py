"""What the sample tells: which axis is steps, which is batch, how many steps; and what fails in the user's own code."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from snn2chip.errors import InputError, TraceError
from snn2chip.frontends.torch import trace
from snn2chip.nn import IF

HERE = Path(__file__)


class Net(nn.Module):
    """Takes `[T,B,6]` with T = 4, or what `way` makes of its input and of its output."""

    def __init__(self, *, before: Callable[[Tensor], Tensor] | None = None, after: str = "mean") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.spikes, self.last = nn.Linear(6, 8), IF(steps=4), nn.Linear(8, 3)
        self.before, self.after = before, after

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.before is None else self.before(x)
        y = self.last(self.spikes(self.first(x)))  # forward line
        return y.mean(0) if self.after == "mean" else y[0]


class StepsFirst(Net):
    def __init__(self) -> None:
        super().__init__(before=lambda x: x.transpose(0, 1))


class TimeLast(nn.Module):
    """`[B,T,6]`, a loop over the steps."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net, self.spikes = nn.Linear(6, 5), IF(steps=4, step_mode="s")

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.spikes(self.net(x[:, t])) for t in range(4)]).mean(0)


@pytest.mark.parametrize(
    ("model", "shape", "layout"),
    [(Net, (4, 5, 6), "TB"), (StepsFirst, (5, 4, 6), "BT"), (StepsFirst, (4, 4, 6), "BT"), (TimeLast, (3, 4, 6), "BT")],
)
def test_the_layout_of_the_sample_is_found_and_kept(
    model: Callable[[], nn.Module], shape: tuple[int, ...], layout: str
) -> None:
    graph = trace(model(), torch.rand(shape))
    assert (graph.input.layout, graph.steps, graph.input.shape) == (layout, 4, (6,))


@pytest.mark.parametrize(("model", "shape"), [(Net, (4, 1, 6)), (StepsFirst, (1, 4, 6)), (TimeLast, (1, 4, 6))])
def test_a_single_sample_gives_the_graph_of_many(model: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    many = tuple(3 if n == 1 else n for n in shape)
    assert trace(model(), torch.rand(shape)).text() == trace(model(), torch.rand(many)).text()


def test_a_single_frame_of_one_channel() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(18, 4))
    assert trace(net, torch.rand(1, 1, 5, 5)).text() == trace(net, torch.rand(3, 1, 5, 5)).text()


def test_one_step_on_an_axis_is_a_step() -> None:
    class One(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.spikes = nn.Linear(6, 3), IF(steps=1)

        def forward(self, x: Tensor) -> Tensor:
            return self.spikes(self.net(x)).mean(0)

    graph = trace(One(), torch.rand(1, 5, 6))
    assert (graph.input.layout, graph.steps, graph.input.shape) == ("TB", 1, (6,))


def test_returning_the_first_step_is_refused_as_such() -> None:
    with pytest.raises(TraceError, match=r"Net: the returned value: is step 0 of 4; return all steps"):
        trace(Net(after="first"), torch.rand(4, 5, 6))


def test_a_net_without_steps_takes_the_steps_it_is_given() -> None:
    net = nn.Sequential(nn.Linear(6, 3))
    assert trace(net, torch.rand(5, 6), steps=4).steps == 4
    with pytest.raises(TraceError, match="runs 4 steps, expected 2"):
        trace(Net(), torch.rand(4, 5, 6), steps=2)


@pytest.mark.parametrize(
    "before", [lambda x: torch.stack([x[3 - t] for t in range(4)]), lambda x: x.flip(0)], ids=["stack", "flip"]
)
def test_reversed_time_is_named(before: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(TraceError, match=r"turns (time|an axis) around.*reverse"):
        trace(Net(before=before), torch.rand(4, 5, 6))


def test_a_failing_forward_is_the_users_own_error_with_layer_and_line() -> None:
    line = next(
        i for i, text in enumerate(HERE.read_text(encoding="utf-8").splitlines(), 1) if "# forward line" in text
    )
    with pytest.raises(InputError) as caught:
        trace(Net(), torch.rand(4, 5, 7))
    text = str(caught.value)
    assert text.startswith("first (Linear) at ")
    assert f"{HERE.name}:{line}" in text
    assert "sample [4, 5, 7]" in text
    assert "shapes cannot be multiplied" in text


def test_a_neuron_that_refuses_the_sample_is_named_by_its_path() -> None:
    with pytest.raises(InputError, match=r"spikes \(IF\) at .*expected \[T,B,\.\.\.\] with T = 4, got \[3, 5, 8\]"):
        trace(Net(), torch.rand(3, 5, 6))


def test_a_forward_that_fails_by_the_data_is_no_defect() -> None:
    class Once(Net):
        used = False

        def forward(self, x: Tensor) -> Tensor:
            if self.used:
                raise KeyError("unseen")
            self.used = True
            return super().forward(x)

    with pytest.raises(TraceError, match=r"Once: .*KeyError.*unseen"):
        trace(Once(), torch.rand(4, 5, 6))


def test_a_forward_that_swallows_an_error_does_not_take_the_blame_of_another_layer() -> None:
    class Tries(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wrong, self.right = nn.Linear(7, 3), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            with contextlib.suppress(RuntimeError):
                self.wrong(x)
            raise ValueError("here")

    with pytest.raises(InputError, match=r"^Tries at .*ValueError: here"):
        trace(Tries(), torch.rand(5, 6))


class Broken(nn.Module):
    """Weights that diverged in training, and a buffer of infinities that nothing reads."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.norm, self.act = nn.Linear(4, 5), nn.BatchNorm1d(5), IF(steps=1, step_mode="s")
        self.register_buffer("unused", torch.full((3,), float("-inf")))

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.norm(self.fc(x)))


def test_every_tensor_that_is_not_finite_is_named_at_once() -> None:
    model = Broken()
    trace(model, torch.rand(3, 4) + 1.0, replay=False)
    with torch.no_grad():
        model.fc.weight[0, :2] = float("nan")
        model.norm.running_var[1] = float("inf")
    with pytest.raises(InputError) as error:
        trace(model, torch.tensor([[1.0, 2.0, float("inf"), 0.0]]))
    assert [text.split(";")[0] for text in error.value.breaches] == [
        "the sample: 1 of 4 values are NaN or infinite",
        "fc.weight: 2 of 20 values are NaN or infinite",
        "norm.running_var: 1 of 5 values are NaN or infinite",
    ]
