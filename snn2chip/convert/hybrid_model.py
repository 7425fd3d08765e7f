"""The replacement step of hybrid training on checkpoints: a QCFS zoo model as the same zoo model with LM-HT neurons.

Weights, norms and names stay; L and T are new; each threshold (vth/L in the normalised form, with v(0) half of it)
lies in the state_dict, so that the checkpoint is trained on by `snn2chip train RECIPE --init CKPT`.
"""

from __future__ import annotations

import inspect
from typing import Any

import attrs
from torch import Tensor, nn

from snn2chip.checkpoint import GRAPH, CheckpointHeader, build_model
from snn2chip.checkpoint_tensors import strict_load
from snn2chip.convert.hybrid import HybridForm, to_hybrid
from snn2chip.errors import UnsupportedError


def hybrid_model(
    model: nn.Module,
    header: CheckpointHeader | None,
    sample: Tensor,
    *,
    steps: int,
    levels: int,
    form: HybridForm = "normalised",
    learn_window: bool = True,
    learn_leak: bool = True,
) -> tuple[nn.Module, CheckpointHeader]:
    """Return the zoo model with LM-HT neurons in eval mode and its header; `sample` is a batch of the model's input.

    Raises UnsupportedError for anything but a zoo model whose activations are all QCFS with T = 1.
    """
    header, key = _zoo_header(header)
    learn: dict[str, Any] = {"learn_window": learn_window, "learn_leak": learn_leak}
    replaced = to_hybrid(model, sample, steps=steps, levels=levels, form=form, **learn)
    args = {**header.args, key: "lmht", "L": levels, "T": steps, "neuron_args": {"v_init": "half-theta", **learn}}
    if header.input.time and key == "activation" and args.get("frames") is None:
        args["frames"] = "mean"  # what the source does without being told; a spiking net would take every frame
    made = build_model(header.model, args=args)
    strict_load(made, replaced.state_dict(), path=f"{header.model} with lmht neurons")
    return made.eval(), attrs.evolve(header, args=args, method="lmht", T=steps, L=levels)


def _zoo_header(header: CheckpointHeader | None) -> tuple[CheckpointHeader, str]:
    """The header of a zoo model, and the name of the argument that says its activation."""
    if header is None or ":" in header.model or header.model == GRAPH:
        what = "a state_dict" if header is None else "a converted network" if header.model == GRAPH else header.model
        raise UnsupportedError(
            f"hybrid needs the checkpoint of a zoo model, which is rebuilt with LM-HT neurons; this is {what}. "
            "For a module of your own use snn2chip.convert.to_hybrid in Python"
        )
    from snn2chip_models.registry import MODELS

    module_name, _, class_name = MODELS[header.model]
    module = __import__(f"snn2chip_models.{module_name}", fromlist=[class_name])
    known = inspect.signature(getattr(module, class_name)).parameters
    key = next((key for key in ("activation", "neuron") if key in known), None)
    if key is None or header.args.get(key) != "qcfs" or header.args.get("qat"):
        shown = ", ".join(f"{k}={header.args.get(k)!r}" for k in (key or "activation", "qat"))
        raise UnsupportedError(f"{header.model} ({shown}): hybrid training starts from a QCFS network without qat")
    return header, key
