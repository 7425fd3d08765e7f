"""Model checkpoints: one safetensors file with the weights and a JSON header that says how to rebuild the model.

    save_checkpoint(path, model, header)             written beside the target, then renamed
    load_checkpoint(path)              -> (module in eval mode, CheckpointHeader)      zoo models, by name
    load_checkpoint(path, model="pkg.mod:function")    the user's own module and its strict state_dict
    load_model("X.onnx")                               an ordinary network of another framework, to be converted
    save_graph(path, graph, header)                    a converted network: the layers themselves, no class code

Nothing in a checkpoint can execute code: user code enters only through `module:function`, which the caller
names. Weights are never loaded in part: every missing, unexpected and mis-shaped tensor is reported at once.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snn2chip.checkpoint_bounds import no_larger_than
from snn2chip.checkpoint_header import CheckpointHeader, InputSpec
from snn2chip.checkpoint_tensors import read_tensors, strict_load
from snn2chip.errors import FileFormatError, InputError
from snn2chip.stages import staged

if TYPE_CHECKING:
    from torch import Tensor, nn

    from snn2chip.ir.graph import LayerGraph

GRAPH = "graph"
"""What the header of a converted network says as its model; its layers are in the header's `args`."""
SLACK, SLACK_NUMBERS = 4, 1_000_000  # a constructor may make parameters that it exchanges later

__all__ = [
    "CheckpointHeader",
    "InputSpec",
    "build_model",
    "load_checkpoint",
    "load_model",
    "save_checkpoint",
    "save_graph",
]


HALF = 1024
"""Numbers of a tensor from which `half` rounds it."""
ENDS = "ends the process (sys.exit, or argparse, given another's words); put that under if __name__ == '__main__':"
"""What is said of user code that raises SystemExit, which would else decide the exit code."""


def save_checkpoint(
    path: str | os.PathLike[str], model: nn.Module, header: CheckpointHeader, *, half: bool = False
) -> Path:
    """Write the model's state_dict and the header as one safetensors file; equal contents give equal bytes.

    `half` rounds float32 tensors of at least 1,024 numbers to float16: another model then, half as large.
    Raises InputError when the header is not plain JSON or the state_dict holds something else than tensors.
    """
    import torch

    header.to_json()
    state = model.state_dict()
    other = [name for name, value in state.items() if not isinstance(value, torch.Tensor)]
    if other:
        raise InputError([f"{name}: extra state that is no tensor cannot be stored" for name in other])
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}
    if half:
        large = {n: v.half() for n, v in tensors.items() if v.dtype == torch.float32 and v.numel() >= HALF}
        if wide := [name for name, value in large.items() if not bool(value.isfinite().all())]:
            raise InputError([f"{name}: holds numbers beyond float16" for name in wide])
        tensors |= large
    return _write(path, tensors, header)


def save_graph(path: str | os.PathLike[str], graph: LayerGraph, header: CheckpointHeader) -> Path:
    """Write a converted network: its layers in the header's `args`, their tensors by name; nothing of it is code.

    `model`, `args`, `method`, `T` and `L` of the header are the graph's own. Raises InputError as `save_checkpoint`.
    """
    import attrs

    from snn2chip.ir.graph_files import to_parts

    fields, tensors = to_parts(graph)
    return _write(path, tensors, attrs.evolve(header, model=GRAPH, args=fields, **_graph_neurons(graph)))


def _graph_neurons(graph: LayerGraph) -> dict[str, Any]:
    from snn2chip.ir.neuron_layer import NeuronLayer

    somas = [layer.soma for layer in graph.layers if isinstance(layer, NeuronLayer)]
    method = "+".join(sorted({soma.method or soma.fire for soma in somas}))
    return {"method": method, "T": graph.steps, "L": max((soma.levels for soma in somas), default=1)}


def _write(path: str | os.PathLike[str], tensors: dict[str, Tensor], header: CheckpointHeader) -> Path:
    from safetensors.torch import save_file

    from snn2chip.ir.files import replacing

    text, target = header.to_json(), Path(path)
    with replacing(target) as part:
        save_file(tensors, str(part), metadata={"snn2chip": text})
    return target


def load_checkpoint(path: str | os.PathLike[str]) -> tuple[nn.Module, CheckpointHeader]:
    """Rebuild a zoo model from its checkpoint, in eval mode.

    Raises FileFormatError for anything but a whole, sound checkpoint of a zoo model.
    """
    model, header = load_model(path)
    assert header is not None
    return model, header


@staged("load the checkpoint")
def load_model(path: str | os.PathLike[str], *, model: str | None = None) -> tuple[nn.Module, CheckpointHeader | None]:
    """Load weights into a zoo model (by the header or by name) or into the user's `module:function`.

    The header is None when the file is a plain state_dict, which only a named `model` can take.
    Raises FileFormatError for a damaged file or tensors that do not fit, InputError for an unusable `model`.
    """
    if str(path).endswith(".onnx"):
        if model is not None:
            raise InputError(f"{path}: an ONNX file holds the whole network; leave out --model {model}")
        return _from_onnx(path)
    state, text = read_tensors(path)
    header = None if text is None else CheckpointHeader.from_json(text, path=path)
    if model is None and header is None:
        raise FileFormatError(
            f"{path}: a plain state_dict without a header; name its model with --model NAME or --model module:function"
        )
    if header is not None and header.model == GRAPH:
        if model is not None:
            raise InputError(f"{path}: holds a converted network with all its layers; leave out --model {model}")
        return _from_layers(header, state, path), header
    if header is not None and model in (None, header.model):
        if model is None and ":" in header.model:
            raise FileFormatError(
                f"{path}: holds weights of your own model; say --model {header.model} to load that code"
            )
        module = _from_header(header, path, numbers=sum(value.numel() for value in state.values()))
    else:
        assert model is not None
        module = build_model(model)
    strict_load(module, state, path=path)
    if header is not None:
        from snn2chip.nn.qat import declare_input_unit

        _same_neurons(module, header, path)
        declare_input_unit(module, header.input.unit)
    return module.eval(), header


def _from_onnx(path: str | os.PathLike[str]) -> tuple[nn.Module, CheckpointHeader]:
    from snn2chip.convert.activations import GraphNet
    from snn2chip.frontends.onnx import read_onnx

    graph = read_onnx(path)
    names = tuple(map(str, range(graph.shapes[graph.output.name][0])))
    spec = InputSpec(shape=graph.input.shape)
    header = CheckpointHeader(model="onnx", args={}, method="relu", T=1, L=1, input=spec, classes=names)
    return GraphNet(graph).eval(), header


def build_model(name: str, *, args: dict[str, Any] | None = None) -> nn.Module:
    """Build a zoo model, or call the user's `module:function` without arguments.

    Raises InputError for an unknown name, a module that cannot be imported, or a function that returns no module.
    """
    if ":" not in name:
        from snn2chip_models import build

        return build(name, **(args or {}))
    from torch import nn

    function = user_function(name)
    _callable_without_arguments(name, function)
    try:
        module = function()
    except SystemExit as error:
        raise InputError(f"--model {name}: the function {ENDS}") from error
    except Exception as error:
        raise InputError(f"--model {name}: the function fails: {type(error).__name__}: {error}") from error
    if not isinstance(module, nn.Module):
        raise InputError(f"--model {name}: the function must return an nn.Module, it returned {type(module).__name__}")
    return module


def _callable_without_arguments(name: str, function: Callable[..., Any]) -> None:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return  # no signature to ask
    empty = inspect.Parameter.empty
    needed = [
        p.name
        for p in signature.parameters.values()
        if p.default is empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    if needed:
        raise InputError(
            f"--model {name}: is called without arguments, but it needs {', '.join(needed)}; name a function that sets "
            "them and returns the module"
        )


def user_function(name: str) -> Callable[[], Any]:
    """Import `module:function`, also from the current directory; raises InputError saying what is missing."""
    module_name, _, function_name = name.partition(":")
    if not module_name or not function_name.isidentifier():
        raise InputError(f"--model {name!r}: expected a zoo name or module:function")
    here = os.getcwd()
    added = here not in sys.path and "" not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise InputError(
            f"--model {name}: cannot import {module_name} ({error}); run from its folder or install it"
        ) from error
    except SystemExit as error:
        raise InputError(f"--model {name}: importing {module_name} {ENDS}") from error
    except Exception as error:
        raise InputError(f"--model {name}: importing {module_name} fails: {type(error).__name__}: {error}") from error
    finally:
        if added:
            sys.path.remove(here)
    function = getattr(module, function_name, None)
    if not callable(function):
        raise InputError(f"--model {name}: {module_name} has no function {function_name!r}")
    return function


def _from_layers(header: CheckpointHeader, state: dict[str, Tensor], path: str | os.PathLike[str]) -> nn.Module:
    from snn2chip.convert.activations import GraphNet
    from snn2chip.ir.graph_files import from_parts

    graph = from_parts(header.args, state, path=path)
    own = {**_graph_neurons(graph), "input shape": graph.input.shape}
    said = {"method": header.method, "T": header.T, "L": header.L, "input shape": header.input.shape}
    if bad := [f"{key}={said[key]}, its layers {key}={own[key]}" for key in own if own[key] != said[key]]:
        raise FileFormatError(f"{path}: the header says " + "; ".join(bad))
    return GraphNet(graph).eval()


def _from_header(header: CheckpointHeader, path: str | os.PathLike[str], *, numbers: int) -> nn.Module:
    if ":" in header.model:
        return build_model(header.model)
    try:
        with no_larger_than(SLACK * numbers + SLACK_NUMBERS, path=path), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of layers without numbers, which do not fit afterwards
            return build_model(header.model, args=dict(header.args))
    except FileFormatError:
        raise
    except (InputError, TypeError, ValueError, RuntimeError) as error:
        raise FileFormatError(f"{path}: cannot rebuild the model of this checkpoint: {error}") from error


def _same_neurons(module: nn.Module, header: CheckpointHeader, path: str | os.PathLike[str]) -> None:
    from snn2chip.nn.base import Neuron

    found = [m for m in module.modules() if isinstance(m, Neuron)]
    steps, levels = {n.steps for n in found}, max((n.levels for n in found), default=header.L)
    if found and (steps != {header.T} or levels != header.L):
        raise FileFormatError(
            f"{path}: the header says T={header.T}, L={header.L}, but the neurons of {header.model} have "
            f"T={', '.join(map(str, sorted(steps)))}, L={levels}"
        )
