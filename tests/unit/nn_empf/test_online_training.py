"""Online training: gradients, random back-propagation, updates, evaluation, and what it refuses."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from snn2chip.errors import InputError, UnsupportedError
from snn2chip.nn import EMPF, LIF, LMHT, Neuron, Repeat, Seq, TimeMean, make_neuron
from snn2chip.train.online import draw_steps, one_step_mode, online_losses, online_step, steps_of, summed_logits


def mlp(*names: str, steps: int = 4, norm: bool = False, mode: Any = "m", **args: Any) -> Seq:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for index, name in enumerate(names):
        layers += [nn.Linear(6 if index == 0 else 8, 8)] + ([nn.BatchNorm1d(8)] if norm else [])
        layers += [Repeat(steps)] if index == 0 and mode == "m" else []
        layers.append(make_neuron(name, steps=steps, channels=8, step_mode=mode, **args))
    tail = [nn.Linear(8, 3), TimeMean()] if mode == "m" else [nn.Linear(8, 3)]
    return Seq(*layers, *tail).double() if mode == "m" else nn.Sequential(*layers, *tail).double()  # type: ignore[return-value]


def batch(count: int = 16) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return 2 * torch.randn(count, 6, dtype=torch.float64, generator=generator), torch.randint(
        0, 3, (count,), generator=generator
    )


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {k: torch.zeros_like(p) if p.grad is None else p.grad.clone() for k, p in model.named_parameters()}


def online_gradients(model: nn.Module, **args: Any) -> dict[str, Tensor]:
    """Gradients summed over the chosen steps, without any update."""
    model.zero_grad()
    for _, loss in online_losses(model, *batch(), **args):
        loss.backward()  # type: ignore[no-untyped-call]
    return gradients(model)


def in_one_graph(model: Seq) -> dict[str, Tensor]:
    """Gradients of sum_t CE(logits(t), y) with all steps in one graph."""
    model.zero_grad()
    x, y = batch()
    last = model[-1]
    assert isinstance(last, TimeMean)
    logits = Seq(*list(model)[:-1])(x)
    torch.stack([cross_entropy(step, y) for step in logits]).sum().backward()  # type: ignore[no-untyped-call]
    return gradients(model)


def assert_same(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    for key, value in a.items():
        torch.testing.assert_close(value, b[key], rtol=1e-12, atol=1e-12, msg=key)


def test_parallel_nets_are_trained_online_without_any_loss() -> None:
    """Version III everywhere: online gradients are those of back-propagation through time."""
    model = mlp("empf-parallel", "empf-parallel", norm=True).eval()
    assert_same(online_gradients(model), in_one_graph(model))


def test_online_is_the_graph_with_the_potential_cut() -> None:
    online = online_gradients(mlp("empf", "empf-norm").eval())
    assert_same(online, in_one_graph(mlp("empf", "empf-norm").eval()))
    full = mlp("empf", "empf-norm", detach="nothing").eval()
    assert_same(online, online_gradients(full))  # whatever the neuron detaches by itself, online cuts
    through_time = in_one_graph(full)
    assert max((online[k] - through_time[k]).abs().max().item() for k in online) > 1e-3


def test_other_neurons_train_online_too() -> None:
    model = mlp("lif", "if")
    online = online_gradients(model)
    for neuron in model.modules():
        if isinstance(neuron, LIF):
            neuron.detach = "state"
    assert_same(online, in_one_graph(model))


def test_a_single_step_model_gives_the_same() -> None:
    multi, single = mlp("empf", "empf"), mlp("empf", "empf", mode="s")
    a, b = online_gradients(multi), online_gradients(single, frames=False)
    assert [v.shape for v in a.values()] == [v.shape for v in b.values()]
    for first, second in zip(a.values(), b.values(), strict=True):
        torch.testing.assert_close(first, second, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_random_back_propagation_is_unbiased_up_to_scale(count: int) -> None:
    """The mean over all equally likely choices is K/T of the full online gradient, norms in training mode."""
    full = online_gradients(mlp("empf", "empf-parallel", norm=True).train())
    choices = list(combinations(range(4), count))
    total = {k: torch.zeros_like(v) for k, v in full.items()}
    for chosen in choices:
        for key, value in online_gradients(mlp("empf", "empf-parallel", norm=True).train(), chosen=chosen).items():
            total[key] += value / len(choices)
    assert_same(total, {k: v * count / 4 for k, v in full.items()})
    assert all(v.abs().max() > 0 for k, v in full.items() if k != "3.leak_raw")


def test_drawn_steps_are_uniform_and_repeatable() -> None:
    generator = torch.Generator().manual_seed(0)
    seen = Counter(draw_steps(4, count=2, generator=generator) for _ in range(6000))
    assert set(seen) == set(combinations(range(4), 2))
    assert all(abs(n - 1000) < 5 * (1000 * 5 / 6) ** 0.5 for n in seen.values())  # five standard deviations
    again = torch.Generator().manual_seed(0)
    assert [draw_steps(5, generator=again) for _ in range(3)] == [
        draw_steps(5, generator=torch.Generator().manual_seed(0)),
        *[draw_steps(5, generator=g) for g in [advanced(5)] for _ in range(2)],
    ]
    assert draw_steps(3, count=3) == (0, 1, 2)
    for count in (0, 4):
        with pytest.raises(InputError, match=f"count={count} of 3"):
            draw_steps(3, count=count)


def advanced(steps: int) -> torch.Generator:
    """The generator of seed 0 after one draw."""
    generator = torch.Generator().manual_seed(0)
    draw_steps(steps, generator=generator)
    return generator


def test_steps_after_the_chosen_one_only_move_statistics() -> None:
    """Stop at t*: forwards 0..t*; refresh: all T. Equal gradients, other running statistics."""
    stop, refresh = (mlp("empf", norm=True).train() for _ in range(2))
    x, y = batch()
    for model, after in ((stop, "stop"), (refresh, "refresh")):
        for t, loss in online_losses(model, x, y, chosen=(1,), after=after):  # type: ignore[arg-type]
            assert t == 1
            loss.backward()  # type: ignore[no-untyped-call]
    assert_same(gradients(stop), gradients(refresh))
    tracked = [int(dict(m.named_buffers())["1.num_batches_tracked"]) for m in (stop, refresh)]
    assert tracked == [2, 4]
    assert not torch.equal(*(dict(m.named_buffers())["1.running_var"] for m in (stop, refresh)))


def test_updates_after_each_step_or_once() -> None:
    """Plain SGD, rate 1/8: `sum` moves by the summed gradient; `each` moves after every step."""
    x, y = batch()
    model = mlp("empf", "empf")
    start = {k: p.detach().clone() for k, p in model.named_parameters()}
    expected = online_gradients(model, chosen=(1, 3))
    optimiser = torch.optim.SGD(model.parameters(), lr=0.125)
    loss = online_step(model, x, y, optimiser=optimiser, chosen=(1, 3), update="sum")
    assert_same({k: p.detach() for k, p in model.named_parameters()}, {k: start[k] - expected[k] / 8 for k in start})
    assert not loss.requires_grad
    each = mlp("empf", "empf")
    by_hand = mlp("empf", "empf")
    online_step(each, x, y, optimiser=torch.optim.SGD(each.parameters(), lr=0.125))
    potentials: list[Tensor] = [torch.zeros(16, 8).double()] * 2
    for t in range(4):  # the loop written out
        neurons = [m for m in by_hand if isinstance(m, EMPF)]
        linears = [m for m in by_hand if isinstance(m, nn.Linear)]
        s = x
        for i in range(2):
            m = neurons[i].leaks()[t] * potentials[i] + linears[i](s)
            s = torch.relu(m - neurons[i].threshold()[t])
            potentials[i] = (m - s).detach()
        by_hand.zero_grad()
        cross_entropy(linears[2](s), y).backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            for p in by_hand.parameters():
                p.sub_(0.125 * (torch.zeros_like(p) if p.grad is None else p.grad))
    assert_same(dict(each.named_parameters()), dict(by_hand.named_parameters()))


def test_mean_loss_and_learning() -> None:
    torch.manual_seed(0)
    x = torch.randn(256, 6).double()
    y = (x[:, 0] > 0).long() + (x[:, 1] > 0.5).long()
    model = mlp("empf", "empf-parallel", norm=True).train()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True)
    generator = torch.Generator().manual_seed(2)
    losses = [
        online_step(model, x, y, optimiser=optimiser, chosen=draw_steps(4, generator=generator)).item()
        for _ in range(60)
    ]
    assert sum(losses[-5:]) < 0.4 * sum(losses[:5])
    accuracy = (summed_logits(model.eval(), x).argmax(1) == y).double().mean().item()
    assert accuracy > 0.85


def test_evaluation_sums_the_logits() -> None:
    model = mlp("empf", "empf-norm").eval()
    x, _ = batch()
    total = summed_logits(model, x)
    torch.testing.assert_close(total, 4 * model(x).detach(), rtol=1e-12, atol=1e-12)
    assert not total.requires_grad
    frames = Seq(nn.Linear(6, 8), EMPF(steps=4), nn.Linear(8, 3)).double()  # [T,B,..] in, [T,B,classes] out
    events = torch.randn(4, 5, 6).double()
    torch.testing.assert_close(summed_logits(frames, events), frames(events).sum(0).detach(), rtol=1e-12, atol=1e-12)
    with pytest.raises(InputError, match=r"expected frames \[T,B,...\] with T = 4, got \[3, 5, 6\]"):
        summed_logits(frames, events[:3])


def test_everything_is_as_before_afterwards() -> None:
    model = mlp("empf", "empf-norm", norm=True).eval()
    x, y = batch()
    before = model(x)
    state = {k: v.clone() for k, v in model.state_dict().items()}
    for _ in online_losses(model, x, y):
        break  # abandoned in the middle
    with pytest.raises(RuntimeError, match="stop here"), one_step_mode(model):
        raise RuntimeError("stop here")
    assert torch.equal(model(x), before)
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    for module in model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
        if isinstance(module, Neuron):
            assert (module.step_mode, module.v) == ("m", None)
    assert model[2].steps == 4


def test_models_that_cannot_be_trained_online_are_refused() -> None:
    with pytest.raises(InputError, match="no neurons"):
        steps_of(nn.Linear(1, 1))
    with pytest.raises(UnsupportedError, match="1: LMHT mixes all steps"):
        steps_of(Seq(nn.Linear(1, 1), LMHT(steps=2)))
    with pytest.raises(InputError) as caught:
        steps_of(Seq(EMPF(steps=2), EMPF(steps=3), EMPF(steps=2, step_mode="s")))
    assert len(caught.value.breaches) == 2
    x, y = batch()
    for chosen in ((), (4,), (-1, 0)):
        with pytest.raises(InputError, match=r"steps 0\.\.3"):
            list(online_losses(mlp("empf"), x, y, chosen=chosen))
    with pytest.raises(InputError, match="after='skip' is none of 'stop', 'refresh'"):
        list(online_losses(mlp("empf"), x, y, after="skip"))  # type: ignore[arg-type]
    model = mlp("empf")
    with pytest.raises(InputError, match="update='batch'"):
        online_step(model, x, y, optimiser=torch.optim.SGD(model.parameters(), lr=0.1), update="batch")  # type: ignore[arg-type]
