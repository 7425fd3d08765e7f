"""The known layouts: what a file of each looks like, and what it calls the tensors of a neuron.

    ours                          lm-ht                       qcfs
    leak_raw   a, scalar          alpha
    window_raw M, [T,T]           mask (fc: mask_linear)      leak = sigmoid(a) + 1/2, Omega = 2*sigmoid(M)/T
    theta      scalar             v_threshold, if stored      else 2/L, or neuron_args.theta
    vth        scalar                                         thresh, or up

A neuron may hold both windows; the one it does not use must still be 0, as it started.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType

import attrs

from snn2chip.errors import InputError
from snn2chip.foreign.plan import Plan
from snn2chip.foreign.spelling import Names, lmht_names, qcfs_names, torchvision_names


@attrs.frozen(kw_only=True)
class Leaves:
    """What a layout calls the tensors of a neuron: ours -> theirs, and their tensors that must be unused."""

    names: Mapping[str, str] = attrs.field(factory=dict)
    spare: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class Layout:
    """One layout; `leaves` are variants of (neurons behind convolutions, neurons behind linear layers)."""

    name: str
    looks: str
    activation: str
    marks: tuple[str, ...]  # every pattern occurs in some name of such a file
    spell: Callable[[Plan], Iterator[Names]]
    leaves: tuple[tuple[Leaves, Leaves], ...] = ((Leaves(), Leaves()),)
    defaults: Mapping[str, object] = attrs.field(factory=dict)  # arguments of the model

    def fits(self, names: Iterable[str]) -> bool:
        """Whether names of tensors look like this layout."""
        listed = list(names)
        return all(any(re.search(mark, name) for name in listed) for mark in self.marks)


def _window(name: str, spare: str) -> Leaves:
    return Leaves(names={"leak_raw": "alpha", "window_raw": name, "theta": "v_threshold"}, spare=(spare,))


def _same(leaves: Leaves) -> tuple[Leaves, Leaves]:
    return leaves, leaves


LAYOUTS: Mapping[str, Layout] = MappingProxyType(
    {
        "lm-ht": Layout(
            name="lm-ht",
            looks="neurons with alpha and mask",
            activation="lmht",
            marks=(r"\.alpha$", r"\.mask(_linear)?$"),
            spell=lmht_names,
            leaves=(
                (_window("mask", "mask_linear"), _window("mask_linear", "mask")),
                _same(_window("mask", "mask_linear")),
            ),
        ),
        "qcfs": Layout(
            name="qcfs",
            looks="activations with thresh or up",
            activation="qcfs",
            marks=(r"\.(thresh|up)$",),
            spell=qcfs_names,
            leaves=(_same(Leaves(names={"vth": "thresh"})), _same(Leaves(names={"vth": "up"}))),
        ),
        "torchvision": Layout(
            name="torchvision",
            looks="layer1.0.conv1.weight and fc.weight, or features.0.weight and classifier",
            activation="relu",
            marks=(r"^(layer1\.0\.conv1|features\.0)\.weight$", r"^(fc|classifier(\.\d+)?)\.weight$"),
            spell=torchvision_names,
            defaults={"pool": "max"},
        ),
    }
)


def layout_called(name: str) -> Layout:
    """Return the layout of this name; InputError that lists the known ones."""
    if name not in LAYOUTS:
        raise InputError(f"layout {name!r} is unknown; known: {', '.join(LAYOUTS)}")
    return LAYOUTS[name]


def detect_layout(names: Iterable[str]) -> Layout:
    """Return the one layout that names of tensors look like; InputError when it is none, or more than one."""
    listed = list(names)
    found = [layout for layout in LAYOUTS.values() if layout.fits(listed)]
    if len(found) == 1:
        return found[0]
    if found:
        which = "; ".join(f"{layout.name} ({layout.looks})" for layout in found)
        raise InputError(f"the names fit several layouts: {which}; say which with layout=")
    which = "; ".join(f"{layout.name} ({layout.looks})" for layout in LAYOUTS.values())
    shown = ", ".join(listed[:4]) + (", .." if len(listed) > 4 else "")
    raise InputError(f"the names ({shown}) fit no known layout: {which}; say which it is with layout=")
