"""What the tensors of a file say about the arguments of the zoo model, where the caller says nothing.

    activation   the layout's                    T        the side of the windows (lm-ht)
    classes      outputs of the last linear      hidden   outputs of the linears before it (VGG)
    bn, bias     are there running means; have convolutions of a normed net biases
    stem         imagenet for a 7x7 convolution, and for torchvision's VGG
    pool         max for torchvision, whose stem and VGG take maxima

Levels L are in no file: lm-ht and qcfs need args={"L": ..}. Nor is v(0): LM-HT nets from hybrid training start at
theta/2, neuron_args={"v_init": "half-theta"}.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from snn2chip.errors import InputError
from snn2chip.foreign.layouts import Layout

if TYPE_CHECKING:
    from torch import Tensor


def complete(args: Mapping[str, Any], *, model: str, layout: Layout, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the arguments of zoo model `model` for these tensors; what is in `args` stays as it is.

    Raises InputError for a model that is not of the zoo, an activation the layout does not hold, a missing L.
    """
    from snn2chip_models.registry import MODELS

    if model not in MODELS:
        nets = sorted(name for name, (_, _, kind) in MODELS.items() if kind in ("VGG", "ResNet"))
        raise InputError(f"model {model!r} is unknown; foreign layouts fit {', '.join(nets)}")
    vgg, resnet = (MODELS[model][2] == kind for kind in ("VGG", "ResNet"))
    if not (vgg or resnet):
        raise InputError(f"{model}: foreign layouts have names for VGG and ResNet nets, not for {MODELS[model][2]}")
    found: dict[str, Any] = {**layout.defaults, "activation": layout.activation, **_norms(tensors)}
    linear = [value for name, value in sorted(tensors.items(), key=_natural) if _is_weight(name) and value.dim() == 2]
    if linear:
        found["classes"] = linear[-1].shape[0]
    if vgg and len(linear) > 1:
        found["hidden"] = [value.shape[0] for value in linear[:-1]]
    if _stem_is_wide(tensors) or (vgg and layout.name == "torchvision"):
        found["stem"] = "imagenet"
    if layout.activation == "lmht" and (side := _window_side(tensors)):
        found["T"] = side
    made = {**found, **args}
    breaches = []
    if made["activation"] != layout.activation:
        breaches.append(
            f"{model}: layout {layout.name} holds activation={layout.activation!r}, asked for {made['activation']!r}"
        )
    if layout.activation != "relu" and made.get("L") is None:
        breaches.append(f"{model}: a file of layout {layout.name} does not say its levels; give args={{'L': ..}}")
    if made.get("qat"):
        breaches.append(f"{model}: other people's nets are loaded in float; leave out qat, quantise after loading")
    if breaches:
        raise InputError(breaches)
    return made


def _norms(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    normed = any(name.endswith(".running_mean") for name in tensors)
    convs = [name for name, value in tensors.items() if _is_weight(name) and value.dim() == 4]
    biased = any(name.removesuffix("weight") + "bias" in tensors for name in convs)
    return {"bn": normed, **({"bias": biased} if biased == normed else {})}


def _window_side(tensors: Mapping[str, Tensor]) -> int:
    sizes = [value.numel() for name, value in tensors.items() if re.search(r"\.mask(_linear)?$", name)]
    return math.isqrt(sizes[0]) if sizes else 0


def _stem_is_wide(tensors: Mapping[str, Tensor]) -> bool:
    return any(value.dim() == 4 and tuple(value.shape[2:]) == (7, 7) for value in tensors.values())


def _is_weight(name: str) -> bool:
    return name.endswith(".weight")


def _natural(item: tuple[str, Tensor]) -> list[tuple[int, int | str]]:
    return [(0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"[.]", item[0])]
