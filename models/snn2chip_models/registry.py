"""The zoo by name: `build("digits-cnn", T=2)`. Adding a model is one file and one line here.

A factory is imported on first use. Its arguments are JSON values: a checkpoint stores (name, args) and rebuilds
the model without any class code of the user.
"""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from snn2chip.errors import InputError

if TYPE_CHECKING:
    from torch import nn

# name -> (module, factory, class whose constructor names the arguments)
MODELS: dict[str, tuple[str, str, str]] = {
    "cnn": ("cnn", "ConvNet", "ConvNet"),
    "digits-cnn": ("cnn", "digits_cnn", "ConvNet"),
    "mlp": ("mlp", "MLP", "MLP"),
    "mnist-cnn": ("cnn", "mnist_cnn", "ConvNet"),
    "nmnist-cnn": ("cnn", "nmnist_cnn", "ConvNet"),
    "resnet101": ("resnet", "resnet101", "ResNet"),
    "resnet101-empf": ("resnet_empf", "resnet101", "EMPFResNet"),
    "resnet18": ("resnet", "resnet18", "ResNet"),
    "resnet18-empf": ("resnet_empf", "resnet18", "EMPFResNet"),
    "resnet19": ("resnet", "resnet19", "ResNet"),
    "resnet19-empf": ("resnet_empf", "resnet19", "EMPFResNet"),
    "resnet20": ("resnet", "resnet20", "ResNet"),
    "resnet20-empf": ("resnet_empf", "resnet20", "EMPFResNet"),
    "resnet34": ("resnet", "resnet34", "ResNet"),
    "resnet34-empf": ("resnet_empf", "resnet34", "EMPFResNet"),
    "resnet50": ("resnet", "resnet50", "ResNet"),
    "resnet50-empf": ("resnet_empf", "resnet50", "EMPFResNet"),
    "small-vgg": ("vgg", "small_vgg", "VGG"),
    "vgg-snn": ("vgg", "vgg_snn", "VGG"),
    "vgg11": ("vgg", "vgg11", "VGG"),
    "vgg13": ("vgg", "vgg13", "VGG"),
    "vgg13-standard": ("vgg", "vgg13_standard", "VGG"),
    "vgg16": ("vgg", "vgg16", "VGG"),
}


def build(name: str, **args: Any) -> nn.Module:
    """Build the zoo model `name`.

    Raises InputError that lists the known names, or every argument that is unknown or not a JSON value.
    """
    if name not in MODELS:
        raise InputError(f"model {name!r} is unknown; known: {', '.join(sorted(MODELS))}")
    module_name, factory_name, class_name = MODELS[name]
    module = importlib.import_module(f"snn2chip_models.{module_name}")
    known = list(inspect.signature(getattr(module, class_name)).parameters)
    breaches = [f"{name}: no argument {key!r}; known: {', '.join(known)}" for key in args if key not in known]
    breaches += [f"{name}: {key}={value!r} is not a JSON value" for key, value in args.items() if not _is_json(value)]
    if breaches:
        raise InputError(breaches)
    factory = cast("Callable[..., nn.Module]", getattr(module, factory_name))
    return factory(**args)


def _is_json(value: object) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True
