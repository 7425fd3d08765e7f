"""Before training: data, model, header and batches of a recipe, and whether they fit together."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from snn2chip.data.labels import check_labels
from snn2chip.errors import InputError
from snn2chip.train.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from snn2chip.checkpoint_header import CheckpointHeader, InputSpec
    from snn2chip.data import Samples
    from snn2chip.nn.base import Neuron
    from snn2chip.train.batches import Batches

RELU = "relu"
"""What the header of a checkpoint without neurons says as its method; its T and L are 1."""


def start(model: nn.Module, recipe: Recipe, *, spec: InputSpec, init: str | os.PathLike[str] | None) -> None:
    """Load the weights a recipe starts from into its model; they are converted first where the recipe says so.

    Raises InputError when the recipe starts from weights and none are given, FileFormatError when they do not fit.
    """
    import torch

    from snn2chip.checkpoint import load_model
    from snn2chip.checkpoint_tensors import strict_load
    from snn2chip.convert.hybrid_model import hybrid_model
    from snn2chip.nn.base import Neuron
    from snn2chip.train.start_check import check_start

    if init is None:
        if recipe.init:
            raise InputError(
                f"recipe {recipe.name!r} starts from a trained network: train {recipe.init['recipe']} first "
                "and give its checkpoint with --init CKPT"
            )
        return
    source, header = load_model(init)
    if recipe.init.get("convert") == "hybrid" and header is not None and header.method == "qcfs":
        neuron = next(m for m in model.modules() if isinstance(m, Neuron))
        raw = np.zeros((2, recipe.frames or 1, *spec.shape) if spec.time else (2, *spec.shape), np.float32)
        sample = spec.apply(torch.from_numpy(raw))
        source, _ = hybrid_model(source, header, sample, steps=neuron.steps, levels=neuron.levels)
    check_start(model, source, header, spec=spec, path=init)
    strict_load(model, source.state_dict(), path=init)


def batches_of(recipe: Recipe, train: Samples, *, spec: InputSpec, classes: int) -> Batches:
    """Return the recipe's batches of the training samples; a set too large for memory is read row by row."""
    import torch

    from snn2chip.train.batches import Batches
    from snn2chip.train.rows import rows_of

    return Batches(
        rows_of(train),
        torch.from_numpy(np.asarray(train.labels)),
        spec=spec,
        batch=recipe.batch,
        seed=recipe.seed,
        augment=recipe.augment,
        classes=classes,
    )


def prepare(recipe: Recipe) -> tuple[nn.Module, CheckpointHeader, Samples, Samples]:
    """Return the untrained model (a function of the seed), its header, and the training and test samples.

    Raises InputError when model and data do not fit together.
    """
    import torch

    from snn2chip.checkpoint import CheckpointHeader, InputSpec, build_model
    from snn2chip.data import open_data
    from snn2chip.nn.base import Neuron
    from snn2chip.nn.qat import declare_input_unit

    own_code = ":" in recipe.model
    if own_code and recipe.args:
        raise InputError(f"recipe {recipe.name!r}: {recipe.model} is called without arguments; remove model.args")
    args = dict(recipe.args)
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        model = build_model(recipe.model) if own_code else None
        steps = recipe.frames or (recipe.steps if model is None else _steps(model))
        train = open_data(recipe.data, split="train", steps=steps).take(recipe.train_samples)
        test = open_data(recipe.data, split="test", steps=steps).take(recipe.test_samples)
        shape = train.shapes["x"][1:] if train.time_axis else train.shapes["x"]
        if train.labels is None or test.labels is None:
            raise InputError(f"{train.name}: holds no labels 'y' [N]; training needs the class of every sample")
        classes = tuple(train.classes) or tuple(map(str, range(int(train.labels.max()) + 1)))
        for part in (train, test):
            check_labels(part.labels, len(classes), name=part.name)
        if model is None:
            args = {"input_shape": list(shape), "classes": len(classes), **args}
            model = build_model(recipe.model, args=args)
    neurons = [module for module in model.modules() if isinstance(module, Neuron)]
    check_method(recipe, model, neurons)
    spec = InputSpec(shape=shape, scale=recipe.scale, mean=recipe.mean, std=recipe.std, time=train.time_axis)
    header = CheckpointHeader(
        model=recipe.model,
        args=args,
        method="+".join(sorted({neuron.method for neuron in neurons})) or RELU,
        T=neurons[0].steps if neurons else 1,
        L=max((neuron.levels for neuron in neurons), default=1),
        input=spec,
        classes=classes,
        provenance={"recipe": attrs.asdict(recipe), "data": recipe.data, "seed": recipe.seed, "versions": versions()},
    )
    declare_input_unit(model, spec.unit)
    check_fit(model, spec, train, classes=len(classes), name=recipe.model)
    return model, header, train, test


def check_method(recipe: Recipe, model: nn.Module, neurons: Sequence[Neuron]) -> None:
    """Raise InputError unless the recipe's method trains a network of this kind."""
    from snn2chip.train.online import steps_of

    kinds = {neuron.method for neuron in neurons}
    start = f"recipe {recipe.name!r}: "
    if recipe.method == "ann" and kinds - {"qcfs"}:
        raise InputError(
            f"{start}method 'ann' is for ReLU and QCFS nets; {recipe.model} has {', '.join(kinds)} neurons"
        )
    if recipe.method != "ann" and not neurons:
        raise InputError(f'{start}{recipe.model} has no spiking neurons; train a ReLU net with method = "ann"')
    if recipe.method == "online":
        steps = steps_of(model)
        if recipe.online_steps != "all" and int(recipe.online_steps) > steps:
            raise InputError(f"{start}online.steps={recipe.online_steps}, but {recipe.model} has T={steps}")


def check_fit(model: nn.Module, spec: InputSpec, samples: Samples, *, classes: int, name: str) -> None:
    """Raise InputError unless one sample goes through the model and comes out as `[1, classes]`."""
    from snn2chip.train.accuracy import predict

    arrays, _ = next(samples.blocks(1))
    try:
        logits = predict(model, arrays["x"], spec=spec)
    except RuntimeError as error:
        raise InputError(
            f"{name} does not take samples {list(arrays['x'].shape[1:])} of {samples.name}: {error}"
        ) from error
    if logits.shape != (1, classes):
        raise InputError(
            f"{name} returned {list(logits.shape)} for one sample of {samples.name}; expected averaged logits "
            f"[1, {classes}]"
        )


def versions() -> dict[str, str]:
    """Versions of what a trained result depends on."""
    import torch

    from snn2chip import __version__

    return {
        "snn2chip": __version__,
        "lightning": _version("lightning"),
        "numba": _version("numba"),  # the compiled neurons add up gradients in their own order
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"


def _steps(model: Any) -> int | None:
    from snn2chip.nn.base import Neuron

    return next((module.steps for module in model.modules() if isinstance(module, Neuron)), None)
