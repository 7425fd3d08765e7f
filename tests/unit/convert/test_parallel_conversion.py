"""Networks with QCFS or ReLU activations to parallel neurons: nothing skipped, lossless where it says so."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import snn2chip
from snn2chip.convert import Calibration, GraphNet, convert, to_if, to_parallel
from snn2chip.convert.activations import find
from snn2chip.convert.parallel_calibration import batches, calibrate, relu_ranges, run_layers
from snn2chip.convert.relu_to_parallel import da_qcfs, da_qcfs_network
from snn2chip.errors import InputError, QuantizeError, TraceError, UnsupportedError
from snn2chip.frontends.torch import trace
from snn2chip.ir.graph import LayerGraph
from snn2chip.ir.neuron_layer import NeuronLayer
from snn2chip.nn import IF, QCFS, ParallelNeuron, Repeat, Seq, TimeMean
from snn2chip.passes import run_passes
from snn2chip.quantize.calibrate import calibrate as ranges_of
from snn2chip.quantize.lower import lower


class ResidualNet(nn.Module):
    """Functional ReLUs, a norm, a shortcut, an average pool: nothing about its activations is a module."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(1, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.b = nn.Conv2d(6, 6, 3, padding=1)
        self.fc = nn.Linear(96, 20)
        self.head = nn.Linear(20, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = functional.relu(self.norm(self.a(x)))
        h = (self.b(h) + h).relu()
        h = torch.relu(self.fc(functional.avg_pool2d(h, 2).flatten(1)))
        return self.head(h)


def relu_net() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    net = ResidualNet().double()
    net.norm.running_mean.normal_(std=0.1)
    net.norm.running_var.uniform_(0.2, 1)
    return net.eval(), torch.rand(48, 1, 8, 8, dtype=torch.float64)


def ints(low: int, high: int, *shape: int, seed: int) -> Tensor:
    return torch.randint(low, high + 1, shape, generator=torch.Generator().manual_seed(seed)).double()


def qcfs_net(levels: int = 4) -> nn.Module:
    """Ternary weights, integer thresholds, an average pool of four: every value is a dyadic fraction."""
    conv, linear, head = nn.Conv2d(1, 4, 3, padding=1), nn.Linear(64, 12), nn.Linear(12, 5)
    for i, (m, part) in enumerate(((conv, 2), (linear, 2), (head, 1))):
        m.weight.data = ints(-1, 1, *m.weight.shape, seed=i) / part
        m.bias.data = ints(-4, 4, *m.bias.shape, seed=5 + i)
    neurons = [QCFS(levels=levels, vth=16.0), QCFS(levels=levels, vth=32.0)]
    layers = [Repeat(1), conv, neurons[0], nn.AvgPool2d(2), nn.Flatten(), linear, neurons[1], head, TimeMean()]
    return Seq(*layers).double().eval()


PIXELS = ints(0, 7, 60, 1, 8, 8, seed=31)


def test_every_functional_relu_becomes_a_neuron() -> None:
    net, x = relu_net()
    source = trace(net, x[:4])
    assert [a.kind for a in find(source)] == ["relu"] * 3
    for form, steps in (("graded", 1), ("ladder", 1), ("steps", 16)):
        made = to_parallel(net, x[:4], steps=16, data=x, form=form)
        assert made.steps == steps
        assert not made.of_kind("relu")
        assert len(made.of_kind("neuron")) == 3
        assert run_passes(made).of_kind("relu") == ()


@pytest.mark.parametrize("steps", [4, 16])
def test_the_spiking_network_is_the_da_qcfs_network(steps: int) -> None:
    """Every form gives the payload means of the calibrated ANN, and they approach the ReLU network with T."""
    net, x = relu_net()
    graph = trace(net, x[:4])
    expected = da_qcfs_network(graph, da_qcfs(graph, steps=steps, data=x), x)
    for form in ("graded", "ladder", "steps"):
        got = to_parallel(graph, steps=steps, data=x, form=form).run(x).output
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)


def test_more_steps_come_closer_to_the_relu_network() -> None:
    net, x = relu_net()
    with torch.no_grad():
        want = net(x)
    errors = [
        float((GraphNet(to_parallel(net, x[:4], steps=t, data=x))(x) - want).abs().mean()) for t in (2, 8, 32, 128)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < errors[0] / 20


def test_qcfs_with_its_own_levels_is_lossless_and_needs_no_data() -> None:
    net = qcfs_net()
    with torch.no_grad():
        want = net(PIXELS)
    source = trace(net, PIXELS[:4]).run(PIXELS, collect=True)
    for form in ("graded", "ladder", "steps"):
        made = to_parallel(net, PIXELS[:4], steps=4, form=form)
        run = made.run(PIXELS, collect=True)
        for name in ("neuron1", "neuron2"):
            assert torch.equal(run.values[name].mean(0), source.values[name][0])
            assert source.values[name].unique().numel() >= 4
        assert torch.equal(run.output, want)


def test_the_order_of_the_train_changes_no_output() -> None:
    net = qcfs_net()
    first, last = (to_parallel(net, PIXELS[:4], steps=4, form="steps", order=o) for o in ("first", "last"))
    a, b = first.run(PIXELS, collect=True), last.run(PIXELS, collect=True)
    assert torch.equal(a.output, b.output)
    assert torch.equal(a.values["neuron1"], b.values["neuron1"].flip(0))
    assert not torch.equal(a.values["neuron1"], b.values["neuron1"])


def integers(graph: LayerGraph) -> snn2chip.Program:
    made = run_passes(graph)
    return lower(made, ranges_of(made, PIXELS))


def test_integer_programs_of_the_qcfs_network_and_the_parallel_one_are_equal() -> None:
    """0 mismatches: every payload of the graded program is the level of the QCFS network, and so are the logits."""
    net = qcfs_net()
    data = PIXELS.numpy().astype(np.int64)
    a = snn2chip.run(integers(trace(net, PIXELS[:4])), data, backend="reference")
    b = snn2chip.run(integers(to_parallel(net, PIXELS[:4], steps=4)), data, backend="reference")
    exact = trace(net, PIXELS[:4]).run(PIXELS, collect=True)
    for name, unit in (("neuron1", 4.0), ("neuron2", 8.0)):
        assert np.array_equal(a.payloads[name], b.payloads[name])
        assert np.array_equal(b.payloads[name][0], (exact.values[name][0] / unit).numpy().astype(np.int64))


@pytest.mark.parametrize("levels", [1, 2, 4])
def test_if_and_multi_level_neurons_of_a_constant_current_are_the_qcfs_level(levels: int) -> None:
    net = qcfs_net()
    source = trace(net, PIXELS[:4]).run(PIXELS, collect=True)
    run = to_if(net, PIXELS[:4], steps=4 // levels, levels=levels).run(PIXELS, collect=True)
    assert torch.equal(run.values["neuron1"].mean(0), source.values["neuron1"][0])
    mixed = to_if(net, PIXELS[:4], steps=4 // levels, levels=levels, window=True).run(PIXELS, collect=True)
    assert torch.equal(mixed.output, source.output)
    later = run.values["neuron2"].mean(0) != source.values["neuron2"][0]
    assert bool(later.any()) == (levels < 4)  # uneven currents: lossless in one step or with a window only


def test_module_neurons_are_traced_and_compiled() -> None:
    torch.manual_seed(2)
    layers = [
        nn.Linear(3, 8),
        Repeat(4),
        ParallelNeuron(steps=4, theta=torch.rand(8) + 0.5),
        nn.Linear(8, 4),
        TimeMean(),
    ]
    net = Seq(*layers).eval()
    x = torch.rand(32, 3) * 2
    graph = trace(net, x)
    torch.testing.assert_close(graph.run(x).output, net(x))
    program = snn2chip.compile(net, x, steps=4)
    pred = snn2chip.run(program, x.numpy(), backend="reference").pred
    assert float(np.mean(pred == net(x).argmax(1).numpy())) > 0.8


def one_channel_error(phi: str) -> tuple[float, float, float, float]:
    """Sparse currents of one channel: final phi, mean error, mean normalised rate, mean teacher."""
    graph = trace(nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU()).double(), torch.rand(2, 1, 2, 2).double())
    z = torch.linspace(0, 1, 400).double().pow(6).view(4, 1, 10, 10)
    conv = graph.layer("conv1")
    graph = graph.with_layers(type(conv)(name="conv1", weight=torch.ones(1, 1, 1, 1).double(), bias=None))
    theta = relu_ranges(graph, [z])
    options = Calibration(phi=phi, momentum=0.9, passes=600)
    got = calibrate(graph, [z], steps=4, theta=theta, options=options)["relu1"]
    out = got.apply(z[None])
    teacher = z.clamp(0, 1)
    return (
        float(got.phi),
        float((teacher - out).mean()),
        float((out / (got.theta + got.phi)).mean()),
        float(teacher.mean()),
    )


def test_phi_reaches_the_fixed_points_of_both_rules() -> None:
    """ema: phi = (mean o_t - theta r)/(1 + r), an error shrunk by 1/(1+r) only; integral: no mean error left."""
    phi, error, rate, teacher = one_channel_error("ema")
    assert phi == pytest.approx((teacher - rate) / (1 + rate), rel=1e-6)
    assert error == pytest.approx((teacher - rate) / (1 + rate), rel=1e-6)
    integral, rest, rate, teacher = one_channel_error("integral")
    assert integral == pytest.approx((teacher - rate) / rate, rel=1e-3)
    assert abs(rest) < 1e-5 < abs(error)


def test_psi_is_the_mean_error_that_the_layers_before_leave() -> None:
    """A QCFS source of 8 levels in T = 2: psi converges to mean(z_teacher - z_student), phi lowers the rest."""
    torch.manual_seed(3)
    convs = [nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)]
    net = Seq(Repeat(1), convs[0], QCFS(levels=8, vth=0.5), convs[1], QCFS(levels=8, vth=0.3), nn.Flatten(), TimeMean())
    x = torch.rand(32, 1, 6, 6).pow(2)
    graph = trace(net.eval(), x[:4])
    want = graph.run(x, collect=True).values
    currents, errors = {}, {}
    for passes in (0, 200):
        made = da_qcfs(graph, steps=2, data=x, calibration=Calibration(phi="ema", momentum=0.8, passes=passes))
        outs: dict[str, Tensor] = {}

        def student(name: str, z: Tensor, made=made, outs=outs) -> Tensor:
            currents[name], outs[name] = z, made[name].apply(z)
            return outs[name]

        run_layers(graph, x, student)
        errors[passes] = [float((want[n] - outs[n]).mean((0, 1, 3, 4)).abs().mean()) for n in ("neuron1", "neuron2")]
    left = (want[graph.inputs["neuron2"][0]] - currents["neuron2"]).mean((0, 1, 3, 4))
    torch.testing.assert_close(made["neuron2"].psi, left, rtol=1e-2, atol=5e-5)
    assert float(left.abs().max()) > 5e-4  # ten times the tolerance
    assert not made["neuron1"].psi.any()  # both networks have the same first currents
    assert all(after < before for before, after in zip(errors[0], errors[200], strict=True))


def test_fully_connected_activations_keep_scalars_unless_asked() -> None:
    net, x = relu_net()
    graph = trace(net, x[:4])
    printed, wide = (da_qcfs(graph, steps=4, data=x, calibration=Calibration(fc=fc)) for fc in (False, True))
    assert [c.phi.dim() for c in printed.values()] == [1, 1, 0]
    assert [c.phi.dim() for c in wide.values()] == [1, 1, 1]
    assert all(bool((c.theta + c.phi >= 0).all()) for c in wide.values())


def test_thresholds_of_channels_are_their_maxima_and_dead_ones_are_guarded() -> None:
    net, x = relu_net()
    net.norm.bias.data[2] = -1e3  # never positive
    graph = trace(net, x[:4])
    theta = relu_ranges(graph, batches(x, batch=7))
    current = graph.run(x, collect=True).values[graph.inputs["relu1"][0]]
    want = current.transpose(0, 2).flatten(1).amax(1)
    live = want > 0
    assert torch.equal(theta["relu1"][live], want[live])
    assert float(theta["relu1"][2]) == pytest.approx(1e-3 * float(want.max()))
    lower_theta = relu_ranges(graph, [x], quantile=0.9)["relu1"]
    rows = current.transpose(0, 2).flatten(1)
    share = (rows <= lower_theta[:, None]).double().mean(1)
    assert bool((lower_theta[live] < theta["relu1"][live]).all())
    assert bool((share[live] >= 0.9).all())
    net.norm.bias.data.fill_(-1e3)
    with pytest.raises(InputError, match=r"relu1.*never positive"):
        relu_ranges(trace(net, x[:4]), [x])


def test_nothing_is_skipped_silently() -> None:
    x = torch.rand(4, 3)
    with pytest.raises(TraceError, match="gelu"):
        to_parallel(nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3), nn.GELU()), x, steps=4, data=x)
    spiking = Seq(Repeat(1), nn.Linear(3, 3), QCFS(levels=4, vth=1.0), IF(steps=1, theta=0.1), TimeMean())
    with pytest.raises(UnsupportedError, match="if neuron is neither ReLU nor QCFS"):
        to_parallel(spiking, x, steps=4, data=x)
    with pytest.raises(UnsupportedError, match="build it with T = 1"):
        to_parallel(Seq(Repeat(2), QCFS(steps=2, levels=4, vth=1.0), TimeMean()), x, steps=4)
    with pytest.raises(UnsupportedError, match="nothing to convert"):
        to_parallel(nn.Linear(3, 3), x, steps=4)
    with pytest.raises(UnsupportedError, match="relu activation, this conversion takes qcfs"):
        to_if(nn.Sequential(nn.Linear(3, 3), nn.ReLU()), x, steps=4)


def test_missing_data_and_impossible_arguments_are_named() -> None:
    net, x = relu_net()
    with pytest.raises(InputError, match=r"(?s)3 .*relu1.*relu2.*relu3.*needs calibration data"):
        to_parallel(net, x[:4], steps=4)
    with pytest.raises(InputError, match="QCFS with 4 levels in T = 8 steps needs calibration data"):
        to_parallel(qcfs_net(), PIXELS[:4], steps=8)
    with pytest.raises(InputError, match="sample batch"):
        to_parallel(net, steps=4, data=x)
    with pytest.raises(InputError, match="form='train' is none of"):
        to_parallel(net, x[:4], steps=4, data=x, form="train")
    with pytest.raises(InputError, match="steps=0"):
        to_if(qcfs_net(), PIXELS[:4], steps=0)
    with pytest.raises(InputError, match="phi='ewma' is none of 'integral', 'ema'"):
        Calibration(phi="ewma")
    with pytest.raises(InputError, match="known: parallel, qcfs, ic-snn"):
        convert(net, x[:4], method="magic", steps=4)
    bad = qcfs_net()
    bad[2].vth.data.fill_(-1.0)
    with pytest.raises(QuantizeError, match="vth"):
        to_parallel(bad, PIXELS[:4], steps=4)


@pytest.mark.parametrize("method", ["parallel", "ic-snn"])
def test_conversion_by_name_lowers_to_a_program(method: str) -> None:
    net, x = relu_net()
    loader = [(part, torch.zeros(len(part))) for part in x.split(16)]  # batches with labels, as a loader gives
    made = convert(net, x[:4], method=method, steps=32, data=loader)
    assert all(isinstance(n, NeuronLayer) for n in made.of_kind("neuron"))
    graph = run_passes(made)
    program = lower(graph, ranges_of(graph, x))
    got = snn2chip.run(program, x.numpy(), backend="torch")
    want = graph.run(x).output.argmax(1).numpy()
    assert float((got.pred == want).mean()) > 0.8
