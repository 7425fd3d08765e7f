"""The host prefix in integers: averaged event frames, and stems of convolution, ReLU and pools."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from snn2chip_backends.lava.emission import input_record
from snn2chip_backends.lava.net.encode import encode as emitted
from torch import Tensor, nn
from torch.nn import functional as F

import snn2chip
from snn2chip.api import coded_inputs
from snn2chip.compiler import compile_graph
from snn2chip.data import find_data
from snn2chip.errors import InputError, UnsupportedError
from snn2chip.ir.channel_layers import SumPoolLayer
from snn2chip.ir.files import read, write
from snn2chip.ir.host_layer import HostLayer
from snn2chip.ir.layers import ReluLayer
from snn2chip.ir.nodes import Host
from snn2chip.ir.program import Program
from snn2chip.nn import MHT, QCFS, Repeat, Seq, TimeMean
from snn2chip.quantize.hosts import _operations


def host_of(program: Program) -> Host:
    (node,) = program.inputs
    assert isinstance(node, Host)
    return node


def unit_of(program: Program) -> float:
    found: list[float] = program.meta["units"]["payload"][host_of(program).name]
    assert len(found) == 1
    return found[0]


def equal(program: Program, x: Any) -> None:
    first, second = (snn2chip.run(program, x, backend=name) for name in ("reference", "torch"))
    assert set(first.payloads) == set(second.payloads)
    for name, payload in first.payloads.items():
        assert np.array_equal(payload, second.payloads[name]), name


class Averaged(nn.Module):
    def __init__(self, axis: int = 0, steps: int = 2) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.axis, self.T = axis, steps
        body = [nn.Conv2d(2, 4, 3, padding=1), Repeat(steps), MHT(steps=steps, levels=3), nn.Flatten()]
        self.body = Seq(*body, nn.Linear(4 * 25, 3), TimeMean())

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x.mean(self.axis))
        return out


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("steps", [1, 2])
def test_whole_frames_are_summed_exactly(axis: int, steps: int) -> None:
    """A unit is 1/F of a count: the mean of the frames without any rounding, whatever T is."""
    frames = torch.randint(0, 4, (6, 5, 2, 5, 5)).float()  # [N,F,..], as a program takes them
    given = frames if axis == 1 else frames.transpose(0, 1)
    program, graph = compile_graph(Averaged(axis, steps), given)
    host = host_of(program)
    assert (host.raw_shape, host.shape, host.coding) == ((5, 2, 5, 5), (2, 5, 5), "repeat")
    assert unit_of(program) == 1 / 5
    coded = coded_inputs(program, frames.numpy())[host.name]
    assert (coded == frames.sum(1).long().numpy()[None]).all()
    assert coded.shape == (steps, 6, 2, 5, 5)
    equal(program, frames.numpy())
    logits = np.asarray(snn2chip.run(program, frames.numpy()).outputs)
    expected = graph.run(frames.transpose(0, 1)).output.numpy()
    assert np.corrcoef(logits.ravel(), expected.ravel())[0, 1] > 0.95


def test_normalised_frames() -> None:
    """x = (mean(raw)/16 - mean)/std: the offset leaves the sum F times, per channel."""
    raw = torch.randint(0, 64, (8, 5, 2, 5, 5)).float()
    scaled = {"scale": 1 / 16, "mean": [1.5, 0.25], "std": [0.5, 2.0]}
    mean, std = (torch.tensor(scaled[k]).view(2, 1, 1) for k in ("mean", "std"))
    model = Averaged()
    sample = ((raw / 16 - mean) / std).transpose(0, 1)
    program, _ = compile_graph(model, sample, calibration=raw.transpose(0, 1).numpy(), normalise=scaled)
    coded = coded_inputs(program, raw.numpy().astype(np.int64))[host_of(program).name][0]
    offset = np.array([24, 4]).reshape(2, 1, 1)  # 16 * mean
    assert (coded == raw.sum(1).long().numpy() - 5 * offset).all()
    equal(program, raw.numpy())


def test_frames_of_another_number_are_refused() -> None:
    program, _ = compile_graph(Averaged(), torch.randint(0, 4, (5, 6, 2, 5, 5)).float())
    with pytest.raises(InputError, match=r"expected samples \[B, 5, 2, 5, 5\], got \[6, 4, 2, 5, 5\]"):
        snn2chip.run(program, np.zeros((6, 4, 2, 5, 5)))
    with pytest.raises(InputError, match="frames of a sample go together, the batch first"):
        snn2chip.run(program, np.zeros((5, 6, 2, 5, 5)))


class Stem(nn.Module):
    """Convolution, norm, ReLU, maximum, on the host; neurons behind it."""

    def __init__(self, pool: str = "max", levels: int = 4) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.T, self.pool = 1, pool
        self.conv, self.norm = nn.Conv2d(3, 5, 5, stride=2, padding=2, bias=False), nn.BatchNorm2d(5)
        assert self.norm.running_mean is not None
        nn.init.normal_(self.norm.bias)
        nn.init.uniform_(self.norm.weight, 0.5, 2.0)
        self.act, self.head = QCFS(levels=levels, vth=2.0), nn.Linear(5 * 9, 4)
        self.inner = nn.Conv2d(5, 5, 3, padding=1)

    def stem(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.conv(x)))
        return F.max_pool2d(x, 3, 2, 1) if self.pool == "max" else x

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x if self.pool == "max" else F.avg_pool2d(x, 2)
        out: Tensor = self.head(self.act(self.inner(x).unsqueeze(0)).squeeze(0).flatten(1))
        return out


@pytest.mark.parametrize("pool", ["max", "avg"])
def test_a_stem_runs_on_the_host_in_integers(pool: str) -> None:
    """Payloads are the float stem's values on a grid: within half a unit and the rounding of its 14-bit weights."""
    model = Stem(pool).eval()
    pixels = torch.randint(0, 256, (8, 3, 12, 12))
    program, graph = compile_graph(model, pixels.float())
    host = host_of(program)
    kinds = ["conv2d", "bias", "relu", *(["maxpool"] if pool == "max" else []), "rescale"]
    assert [op.kind for op in host.ops] == kinds
    assert [layer.kind for layer in graph.layers].count("relu") == 0
    assert (host.lo, host.hi) == (0, 511)
    with torch.no_grad():
        expected = model.stem(pixels.float()).numpy()
    coded = coded_inputs(program, pixels.numpy())[host.name][0]
    unit = unit_of(program)
    assert unit == pytest.approx(expected.max() / 255, rel=1e-6)
    largest = float(graph.of_kind("host")[0].parts[0].weight.abs().max())  # type: ignore[attr-defined]
    slack = 75 * 255 * largest / (1 << 14) + expected.max() / (1 << 14)  # every tap, and the gain of 15 bits
    assert np.abs(coded * unit - expected).max() <= unit / 2 + slack
    assert (coded > 0).mean() > 0.2
    equal(program, pixels.numpy())


def test_what_is_larger_than_twice_the_calibration_is_clipped() -> None:
    model = Stem().eval()
    pixels = torch.randint(0, 32, (8, 3, 12, 12))
    program, _ = compile_graph(model, pixels.float(), input_range=(0, 255))
    coded = coded_inputs(program, np.full((1, 3, 12, 12), 255))[host_of(program).name]
    assert coded.max() == 511


@pytest.mark.parametrize("axis", [0, 1])
def test_fidelity_of_averaged_frames(axis: int) -> None:
    frames = torch.randint(0, 4, (12, 5, 2, 5, 5)).float()
    model = Averaged(axis)
    program, graph = compile_graph(model, frames if axis else frames.transpose(0, 1))
    by_graph, by_module = (snn2chip.fidelity(program, side, frames.numpy()) for side in (graph, model))
    assert by_graph.as_dict() == by_module.as_dict()
    assert by_graph.samples == 12
    assert by_graph.agreement >= 11 / 12
    neuron = next(layer for layer in by_graph.layers if layer.soma == "neuron1")
    assert neuron.forced_equal is not None
    assert neuron.forced_equal > 0.97  # the sums are exact, and what is left are 8-bit weights


def test_a_file_of_frames_is_read_as_whole_samples(tmp_path: Path) -> None:
    from snn2chip.cli.feed import make_feed

    frames = np.random.default_rng(0).integers(0, 4, (6, 5, 2, 5, 5))
    program, _ = compile_graph(Averaged(), torch.as_tensor(frames).float().transpose(0, 1))
    np.savez(tmp_path / "x.npz", x=frames)
    feed = make_feed(program, data=None, path=tmp_path / "x.npz")
    ((inputs, _),) = feed.blocks(10)
    assert not feed.time_axis
    assert np.array_equal(inputs[host_of(program).name], frames)
    assert host_of(program).frames == 5


def test_emitted_packages_code_alike() -> None:
    frames = np.random.default_rng(0).integers(0, 4, (6, 5, 2, 5, 5))
    pixels = np.random.default_rng(1).integers(0, 256, (6, 3, 12, 12))
    for model, x, sample in (
        (Averaged(), frames, frames.swapaxes(0, 1)),
        (Stem().eval(), pixels, pixels),
    ):
        program, _ = compile_graph(model, torch.as_tensor(sample).float())
        arrays: dict[str, Any] = {}
        record = input_record(host_of(program), arrays)

        def loaded(value: Any, arrays: dict[str, Any] = arrays) -> Any:
            return arrays[value["array"]] if isinstance(value, dict) and "array" in value else value

        record = {key: loaded(value) for key, value in record.items()}
        record["ops"] = [{key: loaded(value) for key, value in op.items()} for op in record["ops"]]
        assert np.array_equal(emitted(record, x, program.steps), coded_inputs(program, x)[host_of(program).name])


def test_files_keep_the_prefix(tmp_path: Path) -> None:
    program, _ = compile_graph(Averaged(), torch.randint(0, 4, (5, 6, 2, 5, 5)).float())
    path = tmp_path / "p.s2c"
    write(path, program)
    again = read(path)[0]
    assert again.digest() == program.digest()
    assert host_of(again).ops[0].kind == "sumframes"


class Both(Stem):
    """The input goes around its stem."""

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = super().forward(x) + F.linear(x.flatten(1), torch.ones(4, 3 * 144))
        return out


class Deep(Stem):
    """Two convolutions, each with its ReLU, before the maximum; `signed` leaves the first ReLU out."""

    def __init__(self, signed: bool = False) -> None:
        super().__init__()
        self.signed = signed
        self.second = nn.Conv2d(5, 5, 3, padding=1, stride=2 if signed else 1)

    def first(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        return F.max_pool2d(x, 2, 1) if self.signed else F.relu(x)

    def stem(self, x: Tensor) -> Tensor:
        x = F.relu(self.second(self.first(x)))
        return F.max_pool2d(x, 3, 1 if self.signed else 2, 1)


def on_the_host(host: Host, x: Any) -> list[Any]:
    """The host's operations in exact rationals of Python, one sample `[C, H, W]`: what is behind each of them."""
    found = [x.astype(object)]
    for op in host.ops:
        found.append(_operation(op, found[-1]))
    return found


def _operation(op: Any, x: Any) -> Any:
    per_channel = (-1, 1, 1)
    if op.kind == "relu":
        return np.maximum(x, 0)
    if op.kind == "bias":
        return x + op.weight.astype(object).reshape(per_channel)
    if op.kind == "rescale":
        half = (1 << op.shift) >> 1
        gain = np.broadcast_to(op.gain, x.shape[:1]).astype(object).reshape(per_channel)
        return np.clip((x * gain + half) >> op.shift, op.lo, op.hi)
    kernel = op.weight.shape[2:] if op.kind == "conv2d" else op.kernel_size
    (ph, pw), (sh, sw) = op.padding, op.stride
    low = -(1 << 80) if op.kind == "maxpool" else 0
    padded = np.pad(x, [(0, 0), (ph, ph), (pw, pw)], constant_values=low)
    rows, columns = ((padded.shape[1 + a] - kernel[a]) // (sh, sw)[a] + 1 for a in (0, 1))
    shape = (op.weight.shape[0] if op.kind == "conv2d" else x.shape[0], rows, columns)
    out = np.zeros(shape, dtype=object)
    for i in range(rows):
        for j in range(columns):
            part = padded[:, i * sh : i * sh + kernel[0], j * sw : j * sw + kernel[1]]
            if op.kind == "conv2d":
                out[:, i, j] = [(part * w).sum() for w in op.weight.astype(object)]
            else:
                out[:, i, j] = part.reshape(len(part), -1).max(1)
    return out


@pytest.mark.parametrize("signed", [False, True], ids=["relu-between", "signed"])
def test_a_stem_of_two_convolutions(signed: bool) -> None:
    """Between them 16 bits; the integers are those of the operations, the values those of the float stem."""
    model = Deep(signed).eval()
    pixels = torch.randint(0, 256, (8, 3, 12, 12))
    program, graph = compile_graph(model, pixels.float())
    host = host_of(program)
    kinds = [op.kind for op in host.ops if op.kind != "bias"]
    first = ["conv2d", "maxpool"] if signed else ["conv2d", "relu"]
    assert kinds == [*first, "rescale", "conv2d", "relu", "maxpool", "rescale"]
    inner = next(op for op in host.ops if op.kind == "rescale")
    assert (inner.lo, inner.hi) == (-131071 if signed else 0, 131071)
    coded = coded_inputs(program, pixels.numpy())[host.name][0]
    for sample, got in zip(pixels.numpy()[:2], coded, strict=False):
        assert (on_the_host(host, sample)[-1] == got).all()
    with torch.no_grad():
        between, expected = model.first(pixels.float()), model.stem(pixels.float()).numpy()
    unit, step = unit_of(program), float(between.abs().max()) / 65535
    assert unit == pytest.approx(expected.max() / 255, rel=1e-6)
    parts = graph.of_kind("host")[0].parts  # type: ignore[attr-defined]
    w1, w2 = (np.abs(part.weight.double().numpy()) for part in parts if part.kind == "conv2d")
    off = step / 2 + 75 * 255 * w1.max() / (1 << 14) + float(between.abs().max()) / (1 << 14)  # of the values between
    slack = w2.reshape(5, -1).sum(1).max() * off + 45 * w2.max() * float(between.abs().max()) / (1 << 14)
    assert np.abs(coded * unit - expected).max() <= unit / 2 + slack + expected.max() / (1 << 14)
    assert np.abs(coded * unit - expected).mean() < unit  # most of that bound is never used
    assert (coded > 0).mean() > 0.2
    equal(program, pixels.numpy())


def test_a_deep_stem_stays_ordinary_when_a_network_is_converted() -> None:
    """ReLUs and a maximum in a row lead the network; the rest becomes neurons, the stem work of the host."""
    from snn2chip.compiler import compile_float_graph
    from snn2chip.convert import to_parallel
    from snn2chip.passes import run_passes

    class Plain(Deep):
        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.head(F.relu(self.inner(self.stem(x))).flatten(1))
            return out

    model = Plain().eval()
    pixels = torch.randint(0, 256, (24, 3, 12, 12)).float()
    made = to_parallel(model, pixels[:4], steps=64, data=pixels)
    assert len(made.of_kind("relu")) == 2
    assert len(made.of_kind("neuron")) == 1
    program = compile_float_graph(run_passes(made), pixels.numpy())
    assert [op.kind for op in host_of(program).ops].count("conv2d") == 2
    equal(program, pixels.numpy())
    with torch.no_grad():
        logits = model(pixels).numpy()
    assert np.corrcoef(snn2chip.run(program, pixels.numpy()).outputs.ravel(), logits.ravel())[0, 1] > 0.98


def test_what_stays_refused() -> None:
    x = torch.randint(0, 256, (4, 3, 12, 12)).float()
    with pytest.raises(UnsupportedError, match="relu has no integer form"):
        compile_graph(Both().eval(), x)


@pytest.mark.data
@pytest.mark.skipif(find_data("nmnist") is None, reason="needs nmnist: set SNN2CHIP_DATA")
def test_a_checkpoint_of_averaged_events_compiles_and_runs(tmp_path: Path) -> None:
    """The recipe's five frames of N-MNIST, two steps: data, calibration and feed agree on what a sample is."""
    from snn2chip_models import build

    from snn2chip.checkpoint import save_checkpoint
    from snn2chip.checkpoint_compile import compile_checkpoint
    from snn2chip.checkpoint_header import CheckpointHeader, InputSpec
    from snn2chip.cli.feed import make_feed

    torch.manual_seed(0)
    args: dict[str, Any] = {"stages": [[4, 4], [6]], "stem": "nmnist", "frames": "mean", "T": 2, "L": 2}
    model = build("small-vgg", **args)
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.constant_(norm.weight, 4.0)
            nn.init.constant_(norm.bias, 0.5)
    header = CheckpointHeader(
        model="small-vgg",
        args=args,
        method="lmht",
        T=2,
        L=2,
        input=InputSpec(shape=(2, 34, 34), time=True),
        classes=tuple(map(str, range(10))),
        provenance={"data": "nmnist", "recipe": {"frames": 5}},
    )
    save_checkpoint(tmp_path / "m.safetensors", model, header)
    program = compile_checkpoint(tmp_path / "m.safetensors")
    assert host_of(program).raw_shape == (5, 2, 34, 34)
    ((inputs, labels),) = make_feed(program, data=None, path=None, samples=4).blocks(10)
    equal(program, inputs)
    assert len(labels) == 4


def test_a_pool_on_the_host_scales_the_unit() -> None:
    """Sums of 2 x 2 integers worth 2 each are worth 2 * 0.25 each."""
    pool = SumPoolLayer(name="p", kernel=2, stride=2, factor=torch.tensor(0.25))
    layer = HostLayer(name="h", parts=(pool, ReluLayer(name="r")))
    ops, delta, records = _operations(layer, np.array([2.0]), [1.0, 1.0], node="h")
    assert [op.kind for op in ops] == ["sumpool", "relu"]
    assert delta.tolist() == [0.5]
    assert records == []
