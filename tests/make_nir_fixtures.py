"""Train small networks on scikit-learn's digits with other frameworks, export them with the frameworks' own exporters,
and keep what the frameworks themselves computed: `python tests/make_nir_fixtures.py [NAME ...]`.

Needs snntorch, spikingjelly, norse, sinabs, nir, nirtorch and scikit-learn in one environment; the tests need none of
them. Every network runs T = 16 steps on the raw pixels 0..16, the same at every step. Written beside the tests, per
network: NAME.nir, and NAME.npz with `spikes/<node>` of 100 test samples `[T, 100, ...]` (packed bits, or bytes where a
neuron sends several), `counts` of them and `pred` of all 597 test samples.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nir
import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

T, SAMPLES, TRAIN = 16, 100, 1200
HERE = Path(__file__).parent / "unit" / "nir" / "fixtures"


def digits():
    x, y = load_digits(return_X_y=True)
    return torch.tensor(x, dtype=torch.float32), torch.tensor(y)


def trained(net, forward, shape, *, epochs=25, rate=2e-3):
    """Cross-entropy on the spike counts of the last layer; weights of the first layer are for pixels 0..16."""
    torch.manual_seed(0)
    x, y = digits()
    first = next(m for m in net.modules() if isinstance(m, (nn.Linear, nn.Conv2d)))
    with torch.no_grad():
        first.weight /= 8
    optimiser = torch.optim.Adam(net.parameters(), lr=rate)
    for _ in range(epochs):
        for part in torch.randperm(TRAIN).split(100):
            optimiser.zero_grad()
            counts = forward(net, x[part].reshape(-1, *shape)).sum(0)
            nn.functional.cross_entropy(counts.flatten(1), y[part]).backward()
            optimiser.step()
    return net


def whole(shape, **values):
    """Parameters of one value per neuron: the exporter takes no scalars."""
    return {key: torch.full(shape, value) for key, value in {**values, "threshold": 1.0}.items()}


def snntorch_forward(net, x):
    from snntorch import utils

    utils.reset(net)
    for module in net.modules():  # hidden states keep the batch of before
        for key in ("mem", "syn", "spk"):
            if isinstance(getattr(module, key, None), torch.Tensor):
                setattr(module, key, torch.zeros(0))
    return torch.stack([net(x) for _ in range(T)])


def snntorch_mlp():
    import snntorch as snn
    from snntorch import surrogate

    grad = surrogate.fast_sigmoid(slope=10)
    lif = [snn.Leaky(**whole((n,), beta=0.85), spike_grad=grad, init_hidden=True) for n in (32, 10)]
    return nn.Sequential(nn.Linear(64, 32), lif[0], nn.Linear(32, 10), lif[1]), snntorch_forward, (64,)


def snntorch_conv():
    import snntorch as snn
    from snntorch import surrogate

    grad = surrogate.fast_sigmoid(slope=10)
    lif = [snn.Leaky(**whole(s, beta=0.9), spike_grad=grad, init_hidden=True) for s in ((6, 6, 6), (10,))]
    layers = [nn.Conv2d(1, 6, 3), lif[0], nn.AvgPool2d(2), nn.Flatten(), nn.Linear(54, 10), lif[1]]
    return nn.Sequential(*layers), snntorch_forward, (1, 8, 8)


def snntorch_recurrent():
    """As in the NIR paper's Braille network: recurrent current-based neurons, then plain ones."""
    import snntorch as snn
    from snntorch import surrogate

    grad = surrogate.fast_sigmoid(slope=10)
    more = {"spike_grad": grad, "init_hidden": True}
    rec = snn.RSynaptic(**whole((24,), alpha=0.6, beta=0.8), linear_features=24, **more)
    out = snn.Synaptic(**whole((10,), alpha=0.5, beta=0.75), **more)
    return nn.Sequential(nn.Linear(64, 24), rec, nn.Linear(24, 10), out), snntorch_forward, (64,)


def spikingjelly_forward(net, x):
    from spikingjelly.activation_based import functional

    functional.reset_net(net)
    return torch.stack([net(x) for _ in range(T)])


def spikingjelly_mlp():
    from spikingjelly.activation_based import neuron, surrogate

    def lif(**more):
        return neuron.LIFNode(tau=2.5, surrogate_function=surrogate.ATan(), detach_reset=True, **more)

    return nn.Sequential(nn.Linear(64, 32), lif(), nn.Linear(32, 10), lif(v_reset=-0.25)), spikingjelly_forward, (64,)


def spikingjelly_conv():
    from spikingjelly.activation_based import neuron, surrogate

    nodes = [neuron.IFNode(surrogate_function=surrogate.ATan(), detach_reset=True) for _ in range(2)]
    layers = [nn.Conv2d(1, 6, 3, padding=1), nodes[0], nn.AvgPool2d(2), nn.Flatten(), nn.Linear(96, 10), nodes[1]]
    return nn.Sequential(*layers), spikingjelly_forward, (1, 8, 8)


def norse_forward(net, x):
    state, out = None, []
    for _ in range(T):
        y, state = net(x, state)
        out.append(y)
    return torch.stack(out)


def norse_mlp():
    import norse.torch as norse

    def p(n, tau):
        return norse.LIFBoxParameters(
            tau_mem_inv=torch.full((n,), 1 / tau),
            v_th=torch.full((n,), 0.5),
            v_leak=torch.zeros(n),
            v_reset=torch.zeros(n),
            alpha=torch.tensor(10.0),
        )

    layers = [nn.Linear(64, 32), norse.LIFBoxCell(p=p(32, 5e-3)), nn.Linear(32, 10), norse.LIFBoxCell(p=p(10, 8e-3))]
    return norse.SequentialState(*layers), norse_forward, (64,)


def norse_conv():
    """norse 1.1 exports neither pools nor Flatten: three convolutions down to one pixel."""
    import norse.torch as norse

    def iaf(*shape):
        return norse.IAFCell(
            p=norse.IAFParameters(v_th=torch.full(shape, 1.0), v_reset=torch.zeros(shape), alpha=torch.tensor(10.0))
        )

    layers = [nn.Conv2d(1, 6, 4, 2), iaf(6, 3, 3), nn.Conv2d(6, 10, 3), iaf(10, 1, 1)]
    return norse.SequentialState(*layers), norse_forward, (1, 8, 8)


def sinabs_forward(net, x):
    for module in net.modules():
        if hasattr(module, "is_state_initialised") and module.is_state_initialised():
            module.reset_states()
    batch = len(x)
    flat = x.repeat_interleave(T, 0)  # [B*T, ...], the squeeze layers' order
    for module in net.modules():
        if hasattr(module, "batch_size") and hasattr(module, "num_timesteps"):
            module.batch_size, module.num_timesteps = batch, T
    y = net(flat)
    return y.reshape(batch, T, *y.shape[1:]).transpose(0, 1)


def sinabs_mlp():
    import sinabs.layers as sl

    layers = [nn.Linear(64, 32), sl.IAFSqueeze(batch_size=1), nn.Linear(32, 10), sl.IAFSqueeze(batch_size=1)]
    return nn.Sequential(*layers), sinabs_forward, (64,)


def sinabs_lif():
    import sinabs.layers as sl

    lif = [
        sl.LIFSqueeze(tau_mem=torch.full((n,), tau), spike_threshold=torch.full((n,), 0.5), batch_size=1)
        for n, tau in ((32, 6.0), (10, 9.0))
    ]
    return nn.Sequential(nn.Linear(64, 32), lif[0], nn.Linear(32, 10), lif[1]), sinabs_forward, (64,)


def sinabs_conv():
    import sinabs.layers as sl

    layers = [nn.Conv2d(1, 6, 3), sl.IAFSqueeze(batch_size=1), sl.SumPool2d(2), nn.Flatten(), nn.Linear(54, 10)]
    return nn.Sequential(*layers, sl.IAFSqueeze(batch_size=1)), sinabs_forward, (1, 8, 8)


def exported(name, net, x):
    """The graph as the framework's own exporter makes it."""
    if name.startswith("snntorch"):
        from snntorch.export_nir import export_to_nir

        for module in net.modules():
            for key in ("mem", "syn", "spk"):
                if isinstance(getattr(module, key, None), torch.Tensor):
                    setattr(module, key, torch.zeros(0))
        return export_to_nir(net, x[:1], ignore_dims=[0])
    if name.startswith("spikingjelly"):
        from spikingjelly.activation_based import functional
        from spikingjelly.activation_based.nir_exchange import export_to_nir

        functional.reset_net(net)
        return export_to_nir(net, x[:1])
    if name.startswith("norse"):
        import norse.torch as norse

        return norse.to_nir(net, x[0])  # one sample, without a batch
    import sinabs.nir

    sinabs_forward(net, x[:1])
    for module in net.modules():
        if hasattr(module, "batch_size") and hasattr(module, "num_timesteps"):
            module.batch_size, module.num_timesteps = 1, 1
    graph = sinabs.nir.to_nir(net, x[:1])
    return graph


NEURONS = ("Leaky", "RSynaptic", "Synaptic", "LIFNode", "IFNode", "LIFBoxCell", "IAFCell", "IAFSqueeze", "LIFSqueeze")


def recorded(net, forward, x):
    """Spikes of every neuron layer `[T, B, ...]`, in the order of the layers."""
    seen = {}

    def hook(module, _, out):
        seen.setdefault(module, []).append((out[0] if isinstance(out, tuple) else out).detach())

    hooks = [m.register_forward_hook(hook) for m in net.modules() if type(m).__name__ in NEURONS]
    with torch.no_grad():
        out = forward(net, x)
    for handle in hooks:
        handle.remove()
    spikes = []
    for parts in seen.values():
        whole = (
            torch.stack(parts) if len(parts) == T else parts[0].reshape(len(x), T, *parts[0].shape[1:]).transpose(0, 1)
        )
        spikes.append(whole.numpy())
    return spikes, out


def make(name):
    torch.manual_seed(1)
    net, forward, shape = globals()[name]()
    trained(net, forward, shape)
    net.eval()
    x, y = digits()
    test = x[TRAIN:].reshape(-1, *shape)
    spikes, _ = recorded(net, forward, test[:SAMPLES])
    with torch.no_grad():
        pred = forward(net, test).sum(0).flatten(1).argmax(1)
    graph = exported(name, net, test)
    for (
        node
    ) in graph.nodes.values():  # norse and sinabs leave the input of a convolution untyped, which cannot be saved
        if isinstance(node, nir.Input) and node.input_type["input"] is None:
            node.input_type, node.output_type = {"input": np.array(shape)}, {"output": np.array(shape)}
    if name in ("norse_conv", "sinabs_conv"):
        graph.infer_types()
    nir.write(str(HERE / f"{name}.nir"), graph)
    found = {"pred": pred.numpy().astype(np.uint8)}
    for i, s in enumerate(spikes):
        assert (s == np.rint(s)).all()
        found[f"shape{i}"] = np.array(s.shape)
        found[f"spikes{i}"] = np.packbits(s.astype(bool)) if s.max() <= 1 else s.astype(np.uint8)
    np.savez_compressed(HERE / f"{name}.npz", **found)
    rates = ", ".join(f"{s.mean():.3f}" for s in spikes)
    sizes = [(HERE / f"{name}.{end}").stat().st_size for end in ("nir", "npz")]
    accuracy = (pred == y[TRAIN:]).float().mean()
    print(
        f"{name}: accuracy {accuracy:.3f}, spikes per step {rates}, bytes {sizes}, nodes {list(graph.nodes)}",
        flush=True,
    )


NAMES = (
    "snntorch_mlp",
    "snntorch_conv",
    "snntorch_recurrent",
    "spikingjelly_mlp",
    "spikingjelly_conv",
    "norse_mlp",
    "norse_conv",
    "sinabs_mlp",
    "sinabs_lif",
    "sinabs_conv",
)

if __name__ == "__main__":
    torch.set_num_threads(1)
    for wanted in sys.argv[1:] or NAMES:
        make(wanted)
