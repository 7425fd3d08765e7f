"""Modules of other frameworks in `snn2chip.compile`, and our files in their readers.

Each test needs its framework and is skipped without it; the fixtures keep what they computed (`test_nir_frameworks`).
"""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import snn2chip
from snn2chip.errors import InputError, TraceError
from snn2chip.frontends.modules import module_graph

HERE = Path(__file__).parent
T = 8


def framework(name):
    """The framework's module, or a skip with the reason why it is not here."""
    try:
        return importlib.import_module(name)
    except Exception as error:
        pytest.skip(f"{name} is not installed here ({type(error).__name__}: {error})")


def sample(*shape):
    return torch.tensor(np.random.default_rng(4).integers(0, 3, (40, *shape)), dtype=torch.float32)


def agrees(net, x, **more):
    """Compile, and compare the classes of integers and graph; the graph is checked against the module on the way."""
    torch.manual_seed(1)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    graph = module_graph(net, x, steps=T)
    assert graph.run(x).output.sum() > 0
    program = snn2chip.compile(net, x, steps=T, weights="int8", **more)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())  # the model is as it was
    mine = snn2chip.run(program, x.numpy(), backend="torch", record="outputs").outputs
    assert np.abs(np.asarray(mine).reshape(len(x), -1) - graph.run(x).output.flatten(1).numpy()).mean() < 0.1
    return graph


def test_no_framework_is_imported_for_a_plain_model():
    text = (
        "import sys, torch, snn2chip.frontends.modules as m; assert m.framework_of(torch.nn.Linear(2, 2)) is None;"
        "print(sorted({'snntorch', 'spikingjelly', 'norse', 'sinabs', 'nir', 'nirtorch', 'lava'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_snntorch_modules():
    snn = framework("snntorch")
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(6, 20),
        snn.Leaky(beta=0.8, init_hidden=True),
        nn.Linear(20, 4),
        snn.Leaky(beta=0.7, init_hidden=True, output=True),
    )
    agrees(net, sample(6))
    zero = nn.Sequential(nn.Linear(6, 20), snn.Leaky(beta=0.8, init_hidden=True, reset_mechanism="zero"))
    graph = agrees(zero, sample(6))
    assert graph.of_kind("neuron")[0].soma.reset == "zero"
    fast = nn.Sequential(nn.Linear(6, 20), snn.Leaky(beta=0.8, init_hidden=True, reset_delay=False))
    with pytest.raises(TraceError, match="reset_delay=False"):
        snn2chip.compile(fast, sample(6), steps=T)
    with pytest.raises(InputError, match="steps=T"):
        snn2chip.compile(net, sample(6))


def test_spikingjelly_modules():
    neuron = framework("spikingjelly.activation_based.neuron")
    torch.manual_seed(0)
    layers = [nn.Linear(6, 20), neuron.LIFNode(tau=2.0), nn.Linear(20, 4), neuron.IFNode()]
    agrees(nn.Sequential(*layers), sample(6))
    soft = nn.Sequential(nn.Linear(6, 20), neuron.IFNode(v_reset=None), nn.Linear(20, 4), neuron.IFNode(v_reset=None))
    graph = agrees(soft, sample(6))
    assert all(layer.soma.reset == "subtract" for layer in graph.of_kind("neuron"))


def test_norse_modules():
    norse = framework("norse.torch")
    torch.manual_seed(0)
    p = norse.LIFBoxParameters(v_th=torch.tensor(0.1))
    net = norse.SequentialState(nn.Linear(6, 20), norse.LIFBoxCell(p=p), nn.Linear(20, 4), norse.LIFBoxCell(p=p))
    agrees(net, sample(6))


def test_sinabs_modules():
    layers = framework("sinabs.layers")
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(6, 20), layers.IAFSqueeze(batch_size=1), nn.Linear(20, 4), layers.IAFSqueeze(batch_size=1)
    )
    agrees(net, sample(6))
    lif = layers.LIFSqueeze(tau_mem=5.0, batch_size=1, min_v_mem=-1.0, norm_input=False)
    graph = agrees(nn.Sequential(nn.Linear(6, 20), lif), sample(6))
    assert float(graph.of_kind("neuron")[0].soma.v_min) == -1.0


def test_an_export_that_loses_an_addition_is_refused():
    snn = framework("snntorch")

    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1, self.lif1 = nn.Linear(6, 6), snn.Leaky(beta=torch.full((6,), 0.8), init_hidden=True)
            self.fc2, self.lif2 = nn.Linear(6, 6), snn.Leaky(beta=torch.full((6,), 0.8), init_hidden=True)

        def forward(self, x):
            a = self.lif1(self.fc1(x))
            return self.lif2(self.fc2(a + x))

    torch.manual_seed(0)
    with pytest.raises(TraceError, match="exports another network"):
        snn2chip.compile(Residual(), sample(6), steps=T)


def exported(tmp_path, net):
    """One of our own graphs as a file: a plain network of IF neurons with hard resets."""
    from snn2chip.interop.nir_graph import export_graph
    from snn2chip.ir.graph import LayerGraph
    from snn2chip.ir.layers import FloatSoma, InputLayer, OutputLayer
    from snn2chip.ir.linear_layers import LinearLayer
    from snn2chip.ir.neuron_layer import NeuronLayer

    torch.manual_seed(2)
    rows = {"fc1": torch.randn(12, 6), "fc2": torch.randn(4, 12)}
    soma = FloatSoma(steps=T, theta=1.0, unit=1.0, reset="zero", leak=net, strict=True)
    layers = (
        InputLayer(name="input", shape=(6,)),
        LinearLayer(name="fc1", weight=rows["fc1"], bias=torch.zeros(12)),
        NeuronLayer(name="lif1", soma=soma),
        LinearLayer(name="fc2", weight=rows["fc2"], bias=torch.zeros(4)),
        NeuronLayer(name="lif2", soma=soma),
        OutputLayer(name="output", reduce="sum"),
    )
    inputs = {"fc1": ["input"], "lif1": ["fc1"], "fc2": ["lif1"], "lif2": ["fc2"], "output": ["lif2"]}
    graph = LayerGraph(layers=layers, inputs=inputs, steps=T)
    export_graph(graph, tmp_path / "a.nir")
    return graph, tmp_path / "a.nir"


def test_nirtorch_reads_our_files(tmp_path):
    nir, nirtorch = framework("nir"), framework("nirtorch")
    graph, path = exported(tmp_path, 0.9)
    found = nir.read(path)

    def module(node):
        if isinstance(node, (nir.Linear, nir.Affine)):
            layer = nn.Linear(node.weight.shape[1], node.weight.shape[0])
            layer.weight.data = torch.tensor(node.weight)
            return layer
        return nn.Identity()

    net = nirtorch.load(found, module)
    weights = [p for name, p in net.named_parameters() if name.endswith("weight")]
    assert sorted(tuple(w.shape) for w in weights) == [(4, 12), (12, 6)]
    assert any(torch.equal(w, graph.layer("fc1").weight) for w in weights)


def test_spikingjelly_runs_our_files_spike_for_spike(tmp_path):
    exchange = framework("spikingjelly.activation_based.nir_exchange")
    functional = framework("spikingjelly.activation_based.functional")
    graph, path = exported(tmp_path, 0.9)
    net = exchange.import_from_nir(framework("nir").read(path), dt=1e-4)
    x = torch.randn(30, 6, generator=torch.Generator().manual_seed(1))
    functional.reset_net(net)
    out, state = [], None
    with torch.no_grad():
        for _ in range(T):
            y, state = net(x, state)
            out.append(y)
    want = graph.run(x).output
    assert want.sum() > 0
    assert torch.equal(torch.stack(out).sum(0).to(want), want)


def test_snntorch_reads_our_files(tmp_path):
    framework("snntorch")
    reader = framework("snntorch.import_nir")
    graph, path = exported(tmp_path, 0.9)
    net = reader.import_from_nir(framework("nir").read(path))
    weights = [tuple(p.shape) for p in net.parameters() if p.dim() == 2]
    assert sorted(weights) == [(4, 12), (12, 6)]
    betas = [float(b.flatten()[0]) for name, b in net.named_buffers() if name.endswith("beta")]
    assert betas
    assert all(abs(b - 0.9) < 1e-5 for b in betas)
    assert graph.steps == T


def test_norse_and_sinabs_read_our_files(tmp_path):
    nir = framework("nir")
    _, path = exported(tmp_path, 0.9)
    norse = framework("norse.torch")
    net = norse.from_nir(nir.read(path)) if hasattr(norse, "from_nir") else None
    sinabs = framework("sinabs.nir")
    other = sinabs.from_nir(nir.read(path), batch_size=2)
    for made in (net, other):
        if made is not None:
            assert sorted(tuple(p.shape) for p in made.parameters() if p.dim() == 2) == [(4, 12), (12, 6)]
