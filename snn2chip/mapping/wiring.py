"""The connections of a program: one per synapse or product factor and population that it feeds."""

from __future__ import annotations

from typing import Any

from scipy import sparse

from snn2chip.errors import InputError
from snn2chip.ir.nodes import Product, Synapse
from snn2chip.ir.program import Edge, Program
from snn2chip.ir.soma import Soma
from snn2chip.mapping.connection import Connection, Window
from snn2chip.mapping.grid import three
from snn2chip.mapping.linear_connection import Linear
from snn2chip.mapping.memory import stored_bits
from snn2chip.mapping.target import Target
from snn2chip.mapping.window_axes import ChannelAxis, SpaceAxis
from snn2chip.schedule import Schedule, schedule


def connections(
    program: Program, target: Target, *, encoding: str | None = None, bits: int | None = None
) -> dict[str, list[Connection]]:
    """Connections into every soma; `encoding` only this list encoding, `bits` store no weight wider than that.

    Raises InputError for an unknown encoding.
    """
    if encoding is not None and encoding not in target.encodings:
        raise InputError(f"encoding must be one of {', '.join(target.encodings)} on {target.name}, got {encoding!r}")
    plan = waits(program, target)
    found: dict[str, list[Connection]] = {}
    for soma in program.somas:
        found[soma.name] = []
        for edge in program.into[soma.name]:
            via = program[edge.src]
            for number, payload in enumerate(program.into[via.name]):
                made = _connection(program, target, payload, soma, plan, encoding=encoding, bits=bits, number=number)
                found[soma.name].append(made)
    return found


def waits(program: Program, target: Target) -> Schedule:
    """The schedule whose waits a mapping stores: the plain one, the balanced one where that waits too long."""
    from snn2chip.schedule_balance import balanced_schedule

    plan = schedule(program)
    most = target.limits.delay_max.value
    if max(plan.buffers.values(), default=0) > target.limits.delay_max_full.value:
        plan = balanced_schedule(program, most=None if most == float("inf") else int(most))
    return plan


def _connection(
    program: Program,
    target: Target,
    payload: Edge,
    soma: Soma,
    plan: Schedule,
    *,
    encoding: str | None,
    bits: int | None,
    number: int,
) -> Connection:
    via = program[payload.dst]
    src, dst = three(program.shapes[payload.src]), three(soma.shape)
    product = isinstance(via, Product)
    width = stored_bits(1, "excitatory", target) if product else stored_bits(via.bits, via.sign, target)  # type: ignore[union-attr]
    if bits is not None:
        width = min(width, stored_bits(bits, "excitatory", target))
    shared: dict[str, Any] = {
        "src": payload.src,
        "via": via.name if not product else f"{via.name}[{number}]",
        "dst": soma.name,
        "src_shape": src,
        "bits": width,
        "delay": plan.wait(payload, soma.name),
        "target": target,
        "encoding": encoding,
    }
    if isinstance(via, Product):
        gate = [SpaceAxis(n_in=a, n_out=b, all_to_all=a != b) for a, b in zip(src[1:], dst[1:], strict=True)]
        return Window(channels=ChannelAxis(src[0], dst[0], dst[0]), rows=gate[0], cols=gate[1], **shared)
    assert isinstance(via, Synapse)
    if via.kind == "linear":
        stored = sparse.csr_matrix(via.weight != 0) if sparse.issparse(via.weight) else None
        stored = stored if stored is None else stored.astype("int64")
        return Linear(outputs=soma.size, stored=stored, **shared)
    groups = via.groups if via.kind == "conv2d" else dst[0]
    if via.kind == "identity":
        axes = [SpaceAxis(n_in=n, n_out=n) for n in dst[1:]]
    else:
        axes = [
            SpaceAxis(
                n_in=src[1 + i],
                n_out=dst[1 + i],
                kernel=via.kernel_size[i],
                stride=via.stride[i],
                padding=via.padding[i],
                dilation=via.dilation[i],
            )
            for i in range(2)
        ]
    return Window(channels=ChannelAxis(src[0], dst[0], groups), rows=axes[0], cols=axes[1], **shared)
