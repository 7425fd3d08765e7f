"""NIR files as float graphs: `import_nir(path, profile="snntorch", steps=T)`.

A file does not say what its neurons compute: the profile of the framework that wrote it does (`nir_profiles`), and what
was assumed is kept in the graph's notes. Files that snn2chip wrote carry their own network, which is taken as it is
while the nodes beside it are unchanged (`interop.nir_own`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from snn2chip.errors import InputError, Snn2ChipError, TraceError, UnsupportedError
from snn2chip.frontends.nir_build import Build, Unsound
from snn2chip.frontends.nir_file import NirGraph, read_nir
from snn2chip.frontends.nir_flat import flatten
from snn2chip.frontends.nir_profiles import PROFILES, profile_of
from snn2chip.ir.graph import LayerGraph

READS = ("sum", "mean", "last", "count")
MAX_STEPS = 1 << 16


def import_nir(
    source: str | os.PathLike[str] | NirGraph,
    *,
    profile: str | None = None,
    steps: int | None = None,
    options: Mapping[str, Any] | None = None,
    read: str | None = None,
) -> LayerGraph:
    """Return the float graph of a `.nir` file over `steps` steps, as `profile` computes it.

    `options` override single conventions of the profile (`nir_profiles.OPTIONS`). `read`: sum or mean of the output's
    spikes over the steps, its last step, or count, the steps with a spike (default: sum of spikes, last potential).
    A file of snn2chip holds all of it; what is given beside it has to be the same.
    Raises FileFormatError for a damaged file, InputError for a missing profile and for values that do not fit it,
    UnsupportedError that lists every node without a form; each with everything in it.
    """
    from snn2chip.interop.nir_own import own_network

    name = "the graph" if isinstance(source, NirGraph) else str(source)
    graph = source if isinstance(source, NirGraph) else read_nir(source)
    if profile is None:
        own = own_network(graph, path=name)
        if isinstance(own, LayerGraph):
            return _own(own, name, steps=steps, options=options, read=read)
        if own is not None:
            raise InputError(f"{name}: holds an integer program; load it with import_nir_program, or name a profile")
        raise InputError(f"{name}: {_which(graph)}")
    if steps is None or not 1 <= steps <= MAX_STEPS:
        raise InputError(f"{name}: a .nir file has no number of steps; give steps=T, 1..{MAX_STEPS}, got {steps}")
    if read is not None and read not in READS:
        raise InputError(f"read={read!r} is none of {', '.join(READS)}")
    chosen = profile_of(profile, options)
    try:
        flat = flatten(graph)
    except (InputError, UnsupportedError) as error:
        raise type(error)([f"{name}: {text}" for text in error.breaches]) from None
    build = Build(flat, chosen, steps)
    try:
        return build.graph(read, graph)
    except Unsound as error:
        kind = UnsupportedError if build.refused and not build.bad else InputError
        raise kind([f"{name}: {text}" for text in error.args[0][:40]]) from None
    except TraceError as error:
        raise InputError([f"{name}: {text}" for text in error.breaches]) from error


def _own(
    graph: LayerGraph, name: str, *, steps: int | None, options: Mapping[str, Any] | None, read: str | None
) -> LayerGraph:
    """A network of our own; InputError for steps, options or a read-out that it would not follow."""
    bad = [] if steps in (None, graph.steps) else [f"has {graph.steps} steps, steps={steps} cannot change them"]
    if options:
        bad.append(f"holds every convention itself, leave out the options {', '.join(map(str, options))}")
    if read not in (None, graph.output.reduce):
        bad.append(f"reads the {graph.output.reduce} of its output, read={read} cannot change it")
    if bad:
        advice = "name a profile to read its nodes as those of another file"
        raise InputError([f"{name}: a network of snn2chip that {text}; {advice}" for text in bad])
    return graph


def fitting_profiles(graph: NirGraph) -> list[str]:
    """Profiles that the values of a graph fit; raises InputError and UnsupportedError where there is no network."""
    fits = []
    flat = flatten(graph)
    for name in PROFILES:
        try:
            Build(flat, PROFILES[name], 2).graph(None, graph)
        except (Unsound, TraceError):
            continue
        fits.append(name)
    return fits


def _which(graph: NirGraph) -> str:
    """What to say where no profile was named: those that the values would fit."""
    try:
        fits = fitting_profiles(graph)
    except Snn2ChipError as error:
        return str(error)
    known = f"its values fit {', '.join(fits)}" if fits else "its values fit none of them as they are"
    return (
        "a .nir file does not say how its neurons compute; name the framework that wrote it, profile= or --nir-profile "
        f"{'|'.join(PROFILES)} ({known})"
    )
