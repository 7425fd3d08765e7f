"""How each framework runs, settles and exports a module, and which conventions its neurons were given.

`run` gives the outputs `[T, B, ...]` of a sample that is the same at every step, from a fresh state; `settle` gives
parameters one value per neuron, which exporters need; `conventions` are profile options, and what has no form.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, nn

from snn2chip.frontends.nir_profiles import NO_DELAY

Options = dict[str, Any]


def modules_of(net: nn.Module, root: str, *, having: str) -> Iterator[Any]:
    """The neuron layers of a framework: those of its classes that have an attribute."""
    for module in net.modules():
        own = any(kind.__module__.partition(".")[0] == root for kind in type(module).__mro__)
        if own and hasattr(module, having):
            yield module


def _widen(module: Any, keys: tuple[str, ...], shape: tuple[int, ...]) -> None:
    """Scalars become one value per neuron."""
    for key in keys:
        value = getattr(module, key, None)
        if isinstance(value, Tensor) and value.numel() == 1:
            wide = value.detach().reshape(()).expand(shape).clone()
            setattr(module, key, nn.Parameter(wide) if isinstance(value, nn.Parameter) else wide)


def _common(found: list[Options], refused: list[str]) -> Options:
    """Conventions that all neurons share; different ones cannot be told by one profile."""
    for key in {k for row in found for k in row}:
        if len({str(row.get(key)) for row in found}) > 1:
            refused.append(f"neurons differ in {key}: {', '.join(sorted({str(row.get(key)) for row in found}))}")
    return {k: v for k, v in found[0].items() if v is not None} if found and not refused else {}


class Adapter:
    """One framework; the methods are what the module's docstring says."""

    name = ""

    def profile(self) -> str:
        """The profile of its files."""
        return self.name

    def run(self, net: Any, x: Tensor, steps: int) -> Tensor:
        """Outputs of every step."""
        self.fresh(net)
        out = [net(x) for _ in range(steps)]
        return torch.stack([y[0] if isinstance(y, tuple) else y for y in out])

    def fresh(self, net: Any) -> None:
        """Forget every state."""

    def settle(self, net: Any, x: Tensor) -> None:
        """Called after a run, with states in place."""

    def conventions(self, net: Any) -> tuple[Options, list[str]]:
        """Options of the profile, and what cannot be said."""
        return {}, []

    def export(self, net: Any, x: Tensor) -> Any:
        """The graph of the nir package."""
        raise NotImplementedError


class SnnTorch(Adapter):
    """snnTorch: hidden states in buffers; a layer has its own reset."""

    name = "snntorch"

    def fresh(self, net: Any) -> None:
        for module in modules_of(net, "snntorch", having="mem"):
            for key in ("mem", "syn", "spk"):
                if isinstance(getattr(module, key, None), Tensor):
                    setattr(module, key, torch.zeros(0))

    def settle(self, net: Any, x: Tensor) -> None:
        for module in modules_of(net, "snntorch", having="mem"):
            _widen(module, ("beta", "alpha", "threshold"), tuple(module.mem.shape[1:]))

    def conventions(self, net: Any) -> tuple[Options, list[str]]:
        found, refused = [], []
        for module in modules_of(net, "snntorch", having="mem"):
            kind, reset = type(module).__name__, module.reset_mechanism
            late = getattr(module, "reset_delay", True) or kind == "RSynaptic"  # which does not read it
            if reset == "subtract" and not late:
                refused.append(f"{kind}: {NO_DELAY}")
            elif reset == "none" or (reset == "zero" and kind in ("Synaptic", "RSynaptic")):
                refused.append(f"{kind}: reset_mechanism={reset!r} has no form")
            if module.inhibition or module.state_quant or float(module.graded_spikes_factor) != 1.0:
                refused.append(f"{kind}: inhibition, state_quant and graded spikes have no form")
            found.append({"reset": "zero" if reset == "zero" else None})
        return _common(found, refused), list(dict.fromkeys(refused))

    def export(self, net: Any, x: Tensor) -> Any:
        self.fresh(net)
        return import_module("snntorch.export_nir").export_to_nir(net, x[:1], ignore_dims=[0])


class SpikingJelly(Adapter):
    """SpikingJelly, activation_based; a soft reset is v_reset=None."""

    name = "spikingjelly"

    def fresh(self, net: Any) -> None:
        functional = import_module("spikingjelly.activation_based.functional")
        functional.set_step_mode(net, "s")
        functional.reset_net(net)

    def conventions(self, net: Any) -> tuple[Options, list[str]]:
        found: list[Options] = []
        refused: list[str] = []
        for module in modules_of(net, "spikingjelly", having="v_threshold"):
            soft = module.v_reset is None
            found.append({"reset": "subtract" if soft else None})
            if soft:  # the exporter takes no soft reset, the profile does
                module.v_reset = 0.0
        return _common(found, refused), refused

    def export(self, net: Any, x: Tensor) -> Any:
        self.fresh(net)
        return import_module("spikingjelly.activation_based.nir_exchange").export_to_nir(net, x[:1])


class Norse(Adapter):
    """norse: states go in and out of a module."""

    name = "norse"

    def profile(self) -> str:
        major, minor = (int(part) for part in version("norse").split(".")[:2])
        return "norse-1.1" if (major, minor) <= (1, 1) else "norse"

    def run(self, net: Any, x: Tensor, steps: int) -> Tensor:
        state, out = None, []
        for _ in range(steps):
            y, state = net(x, state)
            out.append(y)
        return torch.stack(out)

    def settle(self, net: Any, x: Tensor) -> None:
        shapes: dict[Any, tuple[int, ...]] = {}
        cells = list(modules_of(net, "norse", having="p"))
        hooks = [m.register_forward_hook(lambda m, _, y: shapes.__setitem__(m, tuple(y[0].shape[1:]))) for m in cells]
        net(x, None)
        for hook in hooks:
            hook.remove()
        for cell in cells:
            wide = {
                key: value.reshape(()).expand(shapes[cell]).clone()
                for key in ("tau_mem_inv", "tau_syn_inv", "v_th", "v_leak", "v_reset")
                if isinstance(value := getattr(cell.p, key, None), Tensor) and value.numel() == 1
            }
            cell.p = cell.p._replace(**wide) if hasattr(cell.p, "_replace") else cell.p

    def conventions(self, net: Any) -> tuple[Options, list[str]]:
        refused = [
            f"{type(m).__name__}: a soft reset is lost in the export"
            for m in modules_of(net, "norse", having="p")
            if getattr(getattr(m.p, "reset_method", None), "__name__", "reset_value") != "reset_value"
        ]
        return {}, refused

    def export(self, net: Any, x: Tensor) -> Any:
        return import_module("norse.torch").to_nir(net, x[0])


class Sinabs(Adapter):
    """sinabs: all steps at once, squeezed into the batch or on an axis of their own."""

    name = "sinabs"

    def fresh(self, net: Any) -> None:
        for module in modules_of(net, "sinabs", having="is_state_initialised"):
            if module.is_state_initialised():
                module.reset_states()

    def run(self, net: Any, x: Tensor, steps: int) -> Tensor:
        self.fresh(net)
        squeezed = self._squeeze(net, len(x), steps)
        given = x.repeat_interleave(steps, 0) if squeezed else x[:, None].expand(-1, steps, *x.shape[1:])
        y = net(given)
        return y.reshape(len(x), steps, *y.shape[1 if squeezed else 2 :]).transpose(0, 1)

    def _squeeze(self, net: Any, batch: int, steps: int) -> bool:
        layers = list(modules_of(net, "sinabs", having="num_timesteps"))
        for module in layers:
            module.batch_size, module.num_timesteps = batch, steps
        return bool(layers)

    def settle(self, net: Any, x: Tensor) -> None:
        for module in modules_of(net, "sinabs", having="v_mem"):
            _widen(module, ("tau_mem", "spike_threshold"), tuple(module.v_mem.shape[1:]))

    def conventions(self, net: Any) -> tuple[Options, list[str]]:
        found, refused = [], []
        for module in modules_of(net, "sinabs", having="v_mem"):
            kind, row = type(module).__name__, Options()
            if getattr(module, "tau_syn", None) is not None or hasattr(module, "rec_connect"):
                refused.append(f"{kind}: the export loses synaptic currents and recurrent connections")
            if getattr(module, "spike_fn", None) is not None:
                fires, resets = (getattr(module, key) for key in ("spike_fn", "reset_fn"))
                row["levels"] = {"MultiSpike": None, "SingleSpike": 1}.get(getattr(fires, "__name__", ""), "?")
                row["reset"] = {"MembraneSubtract": None, "MembraneReset": "zero"}.get(type(resets).__name__, "?")
                value = [getattr(resets, key, None) for key in ("subtract_value", "reset_value")]
                if "?" in (row["levels"], row["reset"]) or any(v not in (None, 0.0) for v in value):
                    refused.append(f"{kind}: spike_fn or reset_fn has no form")
                low = module.min_v_mem
                row["floor"] = None if low is None else float(low) / float(module.spike_threshold.flatten()[0])
            row["gain"] = None if getattr(module, "norm_input", True) else "one"
            found.append(row)
        fires_once = _common(
            [{k: v for k, v in row.items() if k != "gain"} for row in found if "levels" in row], refused
        )
        gains = _common([{"gain": row["gain"]} for row in found if hasattr(row, "get") and "gain" in row], refused)
        return {**fires_once, **gains}, list(dict.fromkeys(refused))

    def export(self, net: Any, x: Tensor) -> Any:
        self.fresh(net)
        if self._squeeze(net, 1, 1):
            return import_module("sinabs.nir").to_nir(net, x[:1])
        return import_module("sinabs.nir").to_nir(net, x[:1, None])


ADAPTERS: Mapping[str, Adapter] = {a.name: a for a in (SnnTorch(), SpikingJelly(), Norse(), Sinabs())}
