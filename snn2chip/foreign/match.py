"""Tables of foreign names, the one that fits a file best, and everything that does not fit.

A table is complete: every tensor of our model has exactly one foreign name. A file fits when all its tensors are
named and have the shape (scalars and windows: up to axes of length 1) and a type that loses no digits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import attrs

from snn2chip.errors import InputError
from snn2chip.foreign.layouts import Layout, Leaves
from snn2chip.foreign.plan import Plan
from snn2chip.foreign.spelling import Names

if TYPE_CHECKING:
    from torch import Tensor

SQUEEZED = ("leak_raw", "window_raw", "theta", "vth")
POSITIVE = ("theta", "vth")
MAY_MISS = ("num_batches_tracked",)  # files from before torch 0.4.1
ALL_OR_NONE = ("theta",)  # a constant of the network: stored by every neuron, or by none


@attrs.frozen(kw_only=True, eq=False)
class Table:
    """Our tensor names -> theirs, and foreign names that may stand unused beside them, when they are 0."""

    names: Mapping[str, str]
    spare: frozenset[str]


def tables(plan: Plan, layout: Layout, own: Mapping[str, Tensor], *, name: str) -> Iterator[Table]:
    """Yield a complete table for every known variant of a layout; `own` is our state_dict.

    Raises InputError that lists every tensor the layout has no name for.
    """
    for modules in layout.spell(plan):
        for maps, linear in layout.leaves:
            yield _table(modules, own, layout, {True: linear, False: maps}, plan.linear_acts, name)


def _table(
    modules: Names,
    own: Mapping[str, Tensor],
    layout: Layout,
    leaves: Mapping[bool, Leaves],
    linear_acts: frozenset[str],
    name: str,
) -> Table:
    found: dict[str, str] = {}
    nameless: list[str] = []
    spare: set[str] = set()
    for path in own:
        parent, _, leaf = path.rpartition(".")
        neuron = leaves[parent in linear_acts]
        if parent not in modules or (leaf in SQUEEZED and leaf not in neuron.names):
            nameless.append(f"{name}: layout {layout.name} has no name for {path}")
            continue
        found[path] = f"{modules[parent]}.{neuron.names.get(leaf, leaf)}"
        if leaf in neuron.names:
            spare |= {f"{modules[parent]}.{extra}" for extra in neuron.spare}
    if nameless:
        raise InputError(nameless)
    return Table(names=found, spare=frozenset(spare))


def best(found: Iterator[Table], own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> tuple[Table, list[str]]:
    """Return the table with the fewest misfits, the first of equals, and its misfits."""
    chosen: tuple[Table, list[str]] | None = None
    for table in found:
        bad = misfits(table, own, given)
        if chosen is None or len(bad) < len(chosen[1]):
            chosen = table, bad
    assert chosen is not None
    return chosen


def misfits(table: Table, own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> list[str]:
    """Return one line for everything that does not fit: missing, unexpected, other shape, type or value."""
    import torch

    stored = {leaf for leaf in ALL_OR_NONE if any(f in given for p, f in table.names.items() if _leaf(p) == leaf)}
    bad: list[str] = []
    for path, foreign in table.names.items():
        mine, leaf = own[path], _leaf(path)
        value = given.get(foreign)
        if value is None:
            if leaf not in MAY_MISS and (leaf not in ALL_OR_NONE or leaf in stored):
                bad.append(f"missing {foreign} {list(mine.shape)} ({path})")
        elif not fits(mine, value, squeezed=leaf in SQUEEZED):
            bad.append(f"shape of {foreign}: the file has {list(value.shape)}, {path} is {list(mine.shape)}")
        elif (
            mine.is_floating_point() != value.is_floating_point()
            or torch.promote_types(mine.dtype, value.dtype) != mine.dtype
        ):
            bad.append(f"type of {foreign}: {_type(value)} does not fit into {_type(mine)} without losing digits")
        elif leaf in POSITIVE and not bool((value > 0).all()):
            bad.append(f"value of {foreign}: {value.reshape(-1).tolist()}, a threshold must be positive")
    known = set(table.names.values())
    for foreign, value in given.items():
        if foreign in known:
            continue
        if foreign not in table.spare:
            bad.append(f"unexpected {foreign} {list(value.shape)}")
        elif bool(value.any()):
            bad.append(f"unexpected {foreign} {list(value.shape)}: trained, but this neuron uses its other window")
    return bad


def fits(mine: Tensor, value: Tensor, *, squeezed: bool) -> bool:
    """Whether a tensor has our shape, `squeezed`: up to axes of length 1."""
    if not squeezed:
        return mine.shape == value.shape
    return [n for n in mine.shape if n != 1] == [n for n in value.shape if n != 1]


def renamed(table: Table, own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a file's tensors under our names, in our shapes; what the file may leave out keeps our value."""
    return {
        path: given[foreign].reshape(own[path].shape) if foreign in given else own[path]
        for path, foreign in table.names.items()
    }


def _leaf(path: str) -> str:
    return path.rpartition(".")[2]


def _type(value: Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")
