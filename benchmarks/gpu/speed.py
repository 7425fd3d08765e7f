"""Seconds of an epoch by neuron: updates on random pictures of one size, same net, same precision, same batch.

    seconds = median over `UPDATES` of one update * updates of an epoch of 50,000 pictures

Augmentation and loading are left out. With `spikingjelly` installed its multi-step LIF stands in our LIF's places.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from statistics import median
from typing import Any

import attrs
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from benchmarks.gpu.slices import Bench
from snn2chip.checkpoint import build_model
from snn2chip.nn.lif import LIF
from snn2chip.train.online import draw_steps, online_losses
from snn2chip.train.optimise import make_optimiser
from snn2chip.train.recipe import Recipe

PICTURES, CLASSES, WARM, UPDATES = 50_000, 10, 5, 20
BINARY = {"preactivation": True, "weights": "binary"}
PAIRS: Mapping[str, tuple[str, Mapping[str, Any]]] = {  # recipe, and the arguments of the LIF net it stands beside
    "LM-HT, L = 2, T = 2": ("lmht-cifar10-resnet18-short", {"T": 2}),
    "EM-PF, T = 4, 1 of 4 steps": ("empf-cifar10-resnet18-short", {"T": 4, **BINARY}),
}


def epoch_times(bench: Bench) -> list[dict[str, Any]]:
    """Return a line per net: seconds of an epoch, and the ratio to the plain LIF on the same net."""
    lines = []
    for name, (source, args) in PAIRS.items():
        recipe = bench.recipe(source)
        size = {key: recipe.args[key] for key in ("channels", "stem_channels") if key in recipe.args}
        plain = attrs.evolve(recipe, method="stbp", model="resnet18", args={"activation": "lif", **args, **size})
        nets = {name: (recipe, False), f"LIF, T = {args['T']}, STBP": (plain, False)}
        if find_spec("spikingjelly") is not None:
            nets[f"SpikingJelly's LIF, T = {args['T']}, STBP"] = (plain, True)
        seconds = {key: _epoch(kind, bench, foreign=foreign) for key, (kind, foreign) in nets.items()}
        base = seconds[f"LIF, T = {args['T']}, STBP"]
        lines += [
            {"net": key, "seconds an epoch": round(value, 2), "of LIF": round(value / base, 2)}
            for key, value in seconds.items()
        ]
    return lines


def _epoch(recipe: Recipe, bench: Bench, *, foreign: bool) -> float:
    shape = (3, 32, 32)
    torch.manual_seed(0)
    model = build_model(recipe.model, args={"input_shape": list(shape), "classes": CLASSES, **recipe.args})
    reset = _with_spikingjelly(model) if foreign else None
    model = model.to(bench.device).train()
    x = torch.randn(recipe.batch, *shape, device=bench.device)
    y = torch.randint(CLASSES, (recipe.batch,), device=bench.device)
    optimiser = make_optimiser(model, recipe)
    autocast = torch.autocast(bench.device, dtype=torch.bfloat16, enabled=recipe.precision == "bf16-mixed")

    def update() -> None:
        optimiser.zero_grad()
        with autocast:
            if recipe.method == "online":
                chosen = draw_steps(int(recipe.args["T"]), count=int(recipe.online_steps))
                for _, loss in online_losses(model, x, y, chosen=chosen):
                    loss.backward()  # type: ignore[no-untyped-call]
            else:
                cross_entropy(model(x), y).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if reset is not None:
            reset()

    warm, counted = (1, 2) if bench.quick else (WARM, UPDATES)
    times = [_timed(update, bench.device) for _ in range(warm + counted)][warm:]
    return median(times) * (PICTURES // recipe.batch)


def _timed(update: Callable[[], None], device: str) -> float:
    wait: Callable[[], Any] = torch.cuda.synchronize if device == "cuda" else lambda: None
    wait()
    started = time.perf_counter()
    update()
    wait()
    return time.perf_counter() - started


def _with_spikingjelly(model: nn.Module) -> Callable[[], None]:
    """Put SpikingJelly's multi-step LIF in the places of ours; returns what forgets the potentials of a batch."""
    functional, neuron = (import_module(f"spikingjelly.activation_based.{part}") for part in ("functional", "neuron"))
    for path, module in list(model.named_modules()):
        if isinstance(module, LIF):
            parent, _, key = path.rpartition(".")
            other = neuron.LIFNode(step_mode="m", v_reset=None, detach_reset=True)
            other.timed = True  # its input keeps the axis of steps
            setattr(model.get_submodule(parent), key, other)
    return lambda: functional.reset_net(model)
