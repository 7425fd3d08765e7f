"""Hybrid training, its replacement step: a QCFS network becomes LM-HT neurons, to be fine-tuned.

    Omega = 1/T, leak = 1 (both learnable), L levels, T steps, weights copied

    normalised  theta = vth/L, payload theta*s, v(0) = theta/2: nothing else changes        (default)
    printed     theta = vth,   payload theta*s, v(0) = theta/2: every rate is L times larger, so the input, every
                bias and every BN shift (beta, running mean) are multiplied by L
    first-only  as printed in the algorithm: only the first layer's current times L; breaks the premise that the sum of
                the currents is L*T*(W r + b), and differs from QCFS in many neurons

With L*T = T~ (the levels of the QCFS) the first two give the QCFS level exactly, sample by sample, whatever the
currents; in exact arithmetic. Logits of the last two are L times larger, their argmax is not.
Source: Hao et al. NeurIPS 2024 (arXiv 2402.00411), Theorem 4.4.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from snn2chip.errors import InputError, UnsupportedError
from snn2chip.nn.base import Neuron, check_choice
from snn2chip.nn.encode import Repeat
from snn2chip.nn.multilevel import LMHT
from snn2chip.nn.qcfs import QCFS

HybridForm = Literal["normalised", "printed", "first-only"]


def to_hybrid(
    model: nn.Module,
    sample: Tensor,
    *,
    steps: int,
    levels: int,
    form: HybridForm = "normalised",
    learn_window: bool = True,
    learn_leak: bool = True,
) -> nn.Module:
    """Return a copy of a QCFS model (T = 1) with LM-HT neurons of `levels` levels and `steps` steps, to be trained.

    The model takes `[B,...]` with a `Repeat(1)` (whose steps are changed), or `[T,B,...]` itself. `sample` is used to
    trace it: every activation must be a QCFS module, and the layers fed by the input are found from it.
    Raises UnsupportedError that lists everything else that fires, InputError.
    """
    check_choice("to_hybrid", form=(form, get_args(HybridForm)))
    if bad := [f"{k}={v!r}: expected an integer >= 1" for k, v in (("steps", steps), ("levels", levels)) if v < 1]:
        raise InputError(bad)
    first = _check(model, sample)
    made = copy.deepcopy(model)
    for parent, key, child in list(_children(made)):
        if isinstance(child, Repeat):
            child.steps = steps
        elif isinstance(child, QCFS):
            theta = float(child.vth.detach()) / (levels if form == "normalised" else 1)
            neuron = LMHT(
                steps=steps,
                levels=levels,
                theta=theta,
                v_init="half-theta",
                learn_window=learn_window,
                learn_leak=learn_leak,
            )
            setattr(parent, key, neuron.to(child.vth.device, child.vth.dtype).train(child.training))
    if form != "normalised":
        scale_shifts(made, factor=levels, first=first, all_layers=form == "printed")
    return made


@torch.no_grad()
def scale_shifts(model: nn.Module, *, factor: float, first: set[str], all_layers: bool = True) -> None:
    """Multiply every shift of a model by `factor`, in place: biases, BN beta and running mean.

    The layers of `first` (by path) read the input: their weights are multiplied too, so that their whole current is.
    `all_layers` False scales those layers' current alone.
    """
    for path, module in model.named_modules():
        weighted = isinstance(module, (nn.Linear, nn.Conv2d))
        norm = isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d))
        if not weighted and not norm:
            continue
        m: Any = module
        if weighted and path in first:
            m.weight.mul_(factor)
        if all_layers or path in first:
            for value in (m.bias, m.running_mean if norm else None):
                if value is not None:
                    value.mul_(factor)


def _children(model: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Module]]:
    for parent in model.modules():
        for key, child in parent.named_children():
            yield parent, key, child


def _check(model: nn.Module, sample: Tensor) -> set[str]:
    """Check that a model's activations are QCFS modules; return the paths of the layers before the first of them."""
    from snn2chip.convert.activations import find
    from snn2chip.frontends.torch import trace

    graph = trace(model, sample)
    find(graph, kinds=("qcfs",))
    modules = [f"{path}: {type(m).__name__} is no QCFS" for path, m in model.named_modules() if _foreign(m)]
    if modules:
        raise UnsupportedError(modules)
    first, fed = set(), {"input"}
    for layer in graph.layers:
        sources = set(graph.inputs.get(layer.name, ()))
        if layer.kind not in ("neuron", "input") and sources and sources <= fed:
            fed.add(layer.name)
            if layer.kind in ("linear", "conv2d", "batchnorm"):
                first.add(layer.path)
    return first


def _foreign(module: nn.Module) -> bool:
    return isinstance(module, (Neuron, nn.ReLU)) and not isinstance(module, QCFS)
