"""One side of a training comparison in a process of its own: builds a net or a neuron, then takes one step per line.

    python -m benchmarks.training_child '{"who": "spikingjelly", "what": "net", ...}'

Lines in: `step` answers with seconds, `save PATH` with the outcome of one step from the start in a .npz file.
LIF as all sides have it: m = v/2 + I, spike where m >= 1, v = m - spike; surrogate max(1 - |m - 1|, 0).
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from snn2chip.nn import LIF, Repeat, TimeMean

STEPS = 4
LEAK = 0.5
SHAPE = (64, 32, 32)  # of the neuron alone, per sample


def lif() -> nn.Module:
    """Our neuron, as it is."""
    return LIF(steps=STEPS, leak=LEAK, surrogate="triangular")


def spikingjelly_lif(backend: str = "torch") -> nn.Module:
    """SpikingJelly's multi-step node with one of its backends."""
    from spikingjelly.activation_based import functional, neuron, surrogate

    node = neuron.LIFNode(
        tau=1 / (1 - LEAK), decay_input=False, v_reset=None, surrogate_function=surrogate.PiecewiseQuadratic(alpha=1.0)
    )
    functional.set_step_mode(node, "m")
    functional.set_backend(node, backend)
    return _Fresh(node, functional.reset_net)


def snntorch_lif() -> nn.Module:
    """snnTorch's leaky neuron in a loop over the steps, reset in the same step."""
    import snntorch

    cell = snntorch.Leaky(beta=LEAK, reset_delay=False, spike_grad=snntorch.surrogate.fast_sigmoid())
    return _Loop(lambda x, mem: cell(x, torch.zeros_like(x) if mem is None else mem))


def norse_lif() -> nn.Module:
    """Norse's box neuron in a loop over the steps; its reset goes to zero."""
    from norse.torch import LIFBoxCell, LIFBoxParameters

    return _Loop(LIFBoxCell(p=LIFBoxParameters(tau_mem_inv=torch.tensor(500.0)), dt=1e-3))


SIDES: dict[str, Callable[[], nn.Module]] = {
    "snn2chip": lif,
    "snn2chip-plain": lif,
    "spikingjelly": spikingjelly_lif,
    "spikingjelly-cupy": partial(spikingjelly_lif, "cupy"),
    "snntorch": snntorch_lif,
    "norse": norse_lif,
}


class _Fresh(nn.Module):
    def __init__(self, node: nn.Module, reset: Callable[[nn.Module], Any]) -> None:
        super().__init__()
        self.node, self.reset = node, reset

    def forward(self, x: Tensor) -> Tensor:
        """Return the spikes `[T,B,...]` from a new state."""
        self.reset(self.node)
        return self.node(x)


class _Loop(nn.Module):
    def __init__(self, cell: Callable[..., tuple[Tensor, Any]]) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: Tensor) -> Tensor:
        """Return the spikes `[T,B,...]`, step by step."""
        spikes, state = [], None
        for current in x:
            spike, state = self.cell(current, state)
            spikes.append(spike)
        return torch.stack(spikes)


class _Folded(nn.Module):
    """Layers without state on `[T,B,...]` as on one batch: SpikingJelly's SeqToANNContainer, for all sides."""

    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Return the layers' output at every step."""
        return torch.unflatten(self.layers(x.flatten(0, 1)), 0, x.shape[:2])


def vgg11(neuron: Callable[[], nn.Module]) -> nn.Module:
    """VGG-11 for 32x32 pixels of the zoo with other neurons in it: the same layers, weights and order."""
    from snn2chip_models import build

    net = build("vgg11", activation="lif", T=STEPS)
    parts: list[nn.Module] = []
    run: list[nn.Module] = []
    folded = False
    for layer in [*net.layers, None]:
        timed = isinstance(layer, (LIF, Repeat, TimeMean)) or layer is None
        if timed and run:
            parts.append(_Folded(run) if folded else nn.Sequential(*run))
            run = []
        if layer is not None and not timed:
            run.append(layer)
        elif layer is not None:
            folded = folded or isinstance(layer, Repeat)
            parts.append(neuron() if isinstance(layer, LIF) else layer)
    return nn.Sequential(*parts)


class Side:
    """What one line of input does, from a description of the side."""

    def __init__(self, given: dict[str, Any]) -> None:
        self.given = given
        torch.set_num_threads(given["threads"])
        torch.manual_seed(0)
        self.net = vgg11(SIDES[given["who"]]) if given["what"] == "net" else SIDES[given["who"]]()
        self.plain = given["who"] == "snn2chip-plain"
        self.device, self.bf16 = given["device"], given["precision"] == "bf16"
        order = torch.channels_last if given["memory"] == "channels_last" else torch.contiguous_format
        self.net.to(self.device, memory_format=order)  # type: ignore[call-overload]
        samples = given["batch"] * (1 if given["what"] == "net" else STEPS)
        x = torch.randn(samples, *((3, 32, 32) if given["what"] == "net" else SHAPE), device=self.device)
        x = x.contiguous(memory_format=order)
        self.x = x if given["what"] == "net" else torch.unflatten(x, 0, (STEPS, given["batch"])).requires_grad_()
        self.y = torch.randint(0, 10, (given["batch"],), device=self.device)
        self.g = torch.randn(self.x.shape, device=self.device) if given["what"] != "net" else torch.zeros(())
        if given["what"] != "net":
            self.g = torch.empty_like(self.x).copy_(self.g).detach()
        self.weights = list(self.net.parameters())
        self.start = {key: value.clone() for key, value in self.net.state_dict().items()}
        self.sgd = torch.optim.SGD(self.weights, lr=0.01, momentum=0.9) if self.weights else None

    def step(self) -> tuple[Tensor, float]:
        """Take one step; return the output and its seconds."""
        from snn2chip.nn.fused import plain_neurons

        began = time.perf_counter()
        with plain_neurons(self.plain) if self.plain else nullcontext():
            out = self._step()
        if self.device == "cuda":
            torch.cuda.synchronize()
        return out, time.perf_counter() - began

    def _step(self) -> Tensor:
        self.x.grad = None
        if self.sgd is not None:
            self.sgd.zero_grad()
        with torch.autocast(self.device, dtype=torch.bfloat16, enabled=self.bf16):
            out: Tensor = self.net(self.x)
        if self.sgd is None:
            out.backward(self.g.to(out.dtype))  # type: ignore[no-untyped-call]
        else:
            cross_entropy(out.float(), self.y).backward()  # type: ignore[no-untyped-call]
            self.sgd.step()
        return out.detach()

    def megabytes(self, measured: Callable[[Callable[[], Any]], float]) -> float:
        """Megabytes at most that one step takes, of the GPU where it runs there; libraries are loaded before."""
        Side({**self.given, "batch": 1}).step()
        if self.device != "cuda":
            return measured(self.step)
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        self.step()
        return (torch.cuda.max_memory_allocated() - before) / 2**20

    def save(self, path: Path) -> None:
        """Write the spikes of every neuron, the output and the gradients of the first step."""
        self.net.load_state_dict(self.start)
        spikes: list[Tensor] = []
        kinds = (LIF, _Fresh, _Loop)
        hooks = [m.register_forward_hook(_noter(spikes)) for m in self.net.modules() if isinstance(m, kinds)]
        out = self.step()[0]
        for hook in hooks:
            hook.remove()
        grads = [w.grad for w in self.weights] or [self.x.grad]
        arrays = {f"grad{i}": g.float().cpu().numpy() for i, g in enumerate(grads) if g is not None}
        arrays |= {f"spike{i}": (s != 0).cpu().numpy() for i, s in enumerate(spikes)}
        np.savez(path, out=out.float().cpu().numpy(), **arrays)


def _noter(spikes: list[Tensor]) -> Callable[..., None]:
    return lambda module, args, out: spikes.append(out.detach())


def main() -> None:
    """Answer lines until there are no more."""
    side = Side(json.loads(sys.argv[1]))
    from benchmarks.peak import extra_megabytes

    print("ready", flush=True)
    for line in sys.stdin:
        word, _, rest = line.strip().partition(" ")
        if word == "save":
            side.save(Path(rest))
            print("saved", flush=True)
        elif word == "memory":
            print(side.megabytes(extra_megabytes), flush=True)
        else:
            print(side.step()[1], flush=True)


if __name__ == "__main__":
    main()
