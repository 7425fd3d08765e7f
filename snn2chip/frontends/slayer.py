"""lava-dl's slayer modules as integer programs: their blocks' own `export_hdf5`, read by our NetX importer.

A file of blocks says nothing of the module's forward. So a copy of the module answers the sample, and the program has
to give the same integers: every spike of the last block, or every potential (slayer's float times its `s_scale`), a
constant number of steps earlier (slayer's blocks send a step late, those of a program do not).
"""

from __future__ import annotations

import copy
import re
import tempfile
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from snn2chip.errors import FileFormatError, InputError, TraceError, UnsupportedError
from snn2chip.ir.program import Edge, Program
from snn2chip.ir.soma import Soma

Blocks = dict[str, Any]
"""The blocks of a module by their names in it, in order."""
ADVICE = (
    "forward may only run the blocks, one behind the other, and return what the last one sends. What lava-dl's NetX "
    "makes of the blocks alone is in the file that export_hdf5 writes: snn2chip compile X.net"
)


def slayer_program(model: nn.Module, sample: Any, *, steps: int | None = None, input_range: Any = None) -> Program:
    """The program of a module of slayer blocks (`model.blocks`, or its children), held against the module's forward.

    `sample [B, ..., T]` is what the module itself takes, with every step on the last axis; `steps`: default T.
    `input_range` of a network that starts with a synapse: what its payloads may be (default: spikes, 0 and 1).
    Raises TraceError where lava-dl cannot run or export the module or where forward computes something else than the
    blocks, InputError for a sample that shows nothing, and what `import_netx` raises.
    """
    from snn2chip.frontends.netx import import_netx

    name = type(model).__name__
    x = _sample(sample, name)
    if input_range is not None:
        lo_hi = np.asarray(input_range, dtype=float).ravel()
        if lo_hi.shape != (2,) or (lo_hi != np.rint(lo_hi)).any():
            raise InputError(f"{name}: input_range is two whole numbers, got {input_range!r}")
        input_range = (int(lo_hi[0]), int(lo_hi[1]))
    blocks, want = _answered(model, x, name)
    with tempfile.TemporaryDirectory(prefix="snn2chip-slayer-") as folder:
        path = Path(folder) / f"{name}.net"
        _export(blocks, path, name)
        options: dict[str, Any] = {"input_shape": tuple(x.shape[1:-1]), "input_range": input_range or (0, 1)}
        try:
            made = import_netx(path, steps=x.shape[-1], **options)
            program = made if steps in (None, made.steps) else import_netx(path, steps=steps, **options)
        except FileFormatError as error:
            raise FileFormatError(_placed(str(error), path, blocks, name)) from error
        except (UnsupportedError, InputError) as error:
            raise type(error)([_placed(text, path, blocks, name) for text in error.breaches]) from error
    values, every = _fed(made, blocks, x, name)
    answer = _integers(want, made, blocks, name)
    for late in (False, True):
        lag = _lag(_in_slayer_time(made) if late else made, values, every, answer)
        if lag is not None:
            program = _in_slayer_time(program) if late else program
            text = f"equal to {name} on {len(x)} samples of {x.shape[-1]} steps; it answers {lag} steps later"
            return attrs.evolve(program, meta={**program.meta, "notes": [*program.meta["notes"], text]})
    raise TraceError(f"{name}: its blocks in their order do not give what forward gives on the sample; {ADVICE}")


def _sample(sample: Any, name: str) -> Tensor:
    if not isinstance(sample, Tensor) or not sample.is_floating_point() or sample.dim() < 3:
        got = list(sample.shape) if isinstance(sample, Tensor) else type(sample).__name__
        raise InputError(f"{name}: the sample is what the module itself takes, a float tensor [B, ..., T]; got {got}")
    return sample.detach().cpu()


@torch.no_grad()
def _answered(model: nn.Module, x: Tensor, name: str) -> tuple[Blocks, Tensor]:
    """The blocks of a copy that forgot its states, and its answer to the sample."""
    try:
        net = copy.deepcopy(model).eval().cpu()
    except RuntimeError as error:  # weight norm keeps tensors with their history
        raise TraceError(f"{name}: cannot be copied ({error}); run it once under torch.no_grad() before") from error
    blocks = _blocks(net, name)
    for module in net.modules():
        for key, value in module._buffers.items():
            if key.endswith("_state") and value is not None:
                module._buffers[key] = torch.zeros(1)
        if hasattr(module, "delay_buffer"):
            vars(module)["delay_buffer"] = None
    try:
        want = net(x)
    except Exception as error:  # anything of theirs: the message says whose it is
        raise TraceError(f"{name} cannot run the sample {list(x.shape)}: {type(error).__name__}: {error}") from error
    want = want[0] if isinstance(want, (tuple, list)) and want else want
    if not isinstance(want, Tensor):
        raise TraceError(f"{name}: forward gives {type(want).__name__}, no tensor; {ADVICE}")
    return blocks, want


def _blocks(net: nn.Module, name: str) -> Blocks:
    """The blocks by name; TraceError for what is no block, computes beside them, or has not drawn its numbers yet."""
    own = getattr(net, "blocks", None)
    inner = {f"blocks.{key}": block for key, block in own.named_children()} if isinstance(own, nn.Module) else {}
    blocks: Blocks = inner or dict(net.named_children())
    strange = [f"{name}.{key} ({type(b).__name__})" for key, b in blocks.items() if not hasattr(b, "export_hdf5")]
    if strange or not blocks:
        raise TraceError(f"{', '.join(strange) or name}: expected slayer blocks alone, in {name}.blocks")
    inside = {id(p) for block in blocks.values() for p in block.parameters()}
    beside = dict.fromkeys(key.rpartition(".")[0] for key, p in net.named_parameters() if id(p) not in inside)
    found = {key: net.get_submodule(key) for key in beside}
    bad = [
        f"{name}{'.' if key else ''}{key} ({type(module).__name__}): has parameters outside of the blocks, which no "
        "file of blocks holds"
        for key, module in found.items()
    ]
    bad += [
        f"{name}.{key}: its neurons draw their own decays when they first run (shared_param=False); run the module once"
        for key, block in blocks.items()
        if any(hasattr(module, "current_decay_min") for module in block.modules())
    ]
    if bad:
        raise TraceError(bad)
    return blocks


def _export(blocks: Blocks, path: Path, name: str) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        layers = file.create_group("layer")
        for i, (key, block) in enumerate(blocks.items()):
            try:
                block.export_hdf5(layers.create_group(f"{i}"))
            except Exception as error:  # anything of theirs: the message says whose it is
                kind = type(block).__name__
                raise TraceError(
                    f"lava-dl cannot export {name}.{key} ({kind}): {type(error).__name__}: {error}"
                ) from error


def _placed(text: str, path: Path, blocks: Blocks, name: str) -> str:
    """A message of the importer with the module's names in place of the file's."""
    keys = list(blocks)
    text = re.sub(r"/layer/(\d+)", lambda found: f"{name}.{keys[int(found[1])]}", text)
    return text.removeprefix(f"{path}: ").replace(str(path), name)


def _fed(program: Program, blocks: Blocks, x: Tensor, name: str) -> tuple[NDArray[np.int64], bool]:
    """The sample as the program takes it, and whether it holds every step."""
    given, first = program.inputs[0], next(iter(blocks.values()))
    kind = given.payload_type()
    if program.meta["input_transform"] is not None:  # the mantissas that the module itself makes of raw values
        z = first.pre_hook_fx(x)
        z = z if first.weight is None else z * first.pre_hook_fx(first.weight)
        z = z if first.bias is None else z + first.pre_hook_fx(first.bias)
        values = np.trunc(z.detach().double().numpy() * first.neuron.w_scale)
        if given.coding == "repeat":
            if (values != values[..., :1]).any():
                text = f"{name}: its input layer has neurons, whose input is a bias that holds for a whole sample"
                raise InputError(f"{text}; this sample changes from step to step")
            return values[..., 0].astype(np.int64).reshape(len(x), *given.shape), False
    else:
        values = x.double().numpy()
        if (values != np.rint(values)).any() or values.min() < kind.lo or values.max() > kind.hi:
            text = f"{name}: reads whole numbers {kind.lo}..{kind.hi}, the sample has values {values.min():g}.."
            raise InputError(f"{text}{values.max():g}; give spikes, or the range of whole payloads as input_range")
    steps = np.moveaxis(values, -1, 0).astype(np.int64)
    return steps.reshape(*steps.shape[:2], *given.shape), True


def _integers(want: Tensor, program: Program, blocks: Blocks, name: str) -> NDArray[np.float64]:
    """The module's answer `[T, B, *shape]` in the integers of the program's last soma."""
    shape, T = program.shapes[program.outputs[0].name], program.steps
    samples = want.shape[0] if want.dim() else 0
    if want.dim() < 2 or want.shape[-1] != T or want.numel() != samples * T * int(np.prod(shape)):
        made = f"[B, {', '.join(map(str, shape))}, T={T}]"
        raise TraceError(f"{name}: forward gives {list(want.shape)}, its last block {made}; {ADVICE}")
    if program.outputs[0].read == "count" and not bool(want.any()):
        raise InputError(f"{name}: answers the sample with no spike at all; give a sample that the module answers")
    scale = list(blocks.values())[-1].neuron.s_scale if program.outputs[0].read == "potential" else 1
    found = want.detach().double().numpy() * scale
    return np.moveaxis(found, -1, 0).reshape(T, samples, *shape)


def _lag(program: Program, values: NDArray[np.int64], every: bool, want: NDArray[np.float64]) -> int | None:
    """How many steps later the module answers the same; None: it does not."""
    from snn2chip.api import run

    trace = run(program, values, time_axis=every)
    (edge,) = program.into[program.outputs[0].name]
    got = (trace.potentials if program.outputs[0].read == "potential" else trace.payloads)[edge.src]
    T = program.steps
    for lag in range(min(len(program.somas) + 1, T)):
        if not want[:lag].any() and want[lag:].any() and np.array_equal(got[: T - lag], want[lag:]):
            return lag
    return None


def _in_slayer_time(program: Program) -> Program:
    """The program with a step between layers, in which they integrate their biases before their first input."""
    somas = {node.name for node in program.nodes if isinstance(node, Soma)}
    late = {
        (src, dst)
        for src, dst, _ in program.edges
        if src in somas and any(edge.dst != src for edge in program.out_of[dst])
    }
    edges = [Edge(src, dst, delay + ((src, dst) in late)) for src, dst, delay in program.edges]
    return attrs.evolve(program, edges=edges)
