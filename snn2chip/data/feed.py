"""From a data set or a file to blocks that fit a program's inputs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from snn2chip.data.catalog import ENV, PLACES, open_data, roots
from snn2chip.data.labels import check_labels
from snn2chip.data.samples import Samples, read_samples
from snn2chip.errors import InputError

if TYPE_CHECKING:
    from snn2chip.ir.program import Program

DEFAULT = "digits"
"""The data set of a program that names none."""
READ = 1024
"""Samples read at a time, about."""


@attrs.frozen(kw_only=True)
class Feed:
    """Samples that fit a program: `blocks(size)` yields what `snn2chip.run` takes, and labels."""

    samples: Samples
    program: Program

    @property
    def time_axis(self) -> bool:
        """Whether the arrays hold every step, `[T, B, ...]`."""
        return self.samples.time_axis

    def blocks(self, size: int, *, start: int = 0, stop: int | None = None) -> Iterator[tuple[dict[str, Any], Any]]:
        """Inputs by name, `[n, ...]` or `[T, n, ...]`, and labels `[n]` or None, of samples `start` to `stop`."""
        for arrays, labels in self.samples.blocks(size, start=start, stop=stop):
            found = {}
            for node in self.program.inputs:
                x = arrays[node.name]
                several = len(self.program.inputs) > 1
                by_step = node.coding == "steps" if several and not self.time_axis else self.time_axis
                found[node.name] = np.moveaxis(x, 1, 0) if by_step else x
            yield found, labels


@attrs.frozen(kw_only=True)
class FeedSpec:
    """Which samples, in words that another process understands: arguments of `make_feed`, paths from the root.

    `root` is where named data sets lie (None: they come with a package).
    """

    data: str | None = None
    path: str | None = None
    samples: int | None = None
    steps_in_input: bool = False
    root: str | None = None

    @classmethod
    def of(
        cls, program: Program, *, data: str | None, path: Path | None, samples: int, steps_in_input: bool
    ) -> FeedSpec:
        """The samples of `make_feed` with the same arguments, `samples` of them."""
        root = None
        if path is None:
            data = data or str(program.meta.get("data", DEFAULT))
            data = str(Path(data).resolve()) if data.endswith(".npz") else data
            here = [folder for folder in roots() for place in PLACES.get(data, ()) if (folder / place.path).exists()]
            root = str(here[0].resolve()) if here else None
        file = None if path is None else str(path.resolve())
        return cls(data=data, path=file, samples=samples, steps_in_input=steps_in_input, root=root)

    def open(self, program: Program) -> Feed:
        """The feed; raises what `make_feed` raises."""
        before = os.environ.get(ENV)
        if self.root is not None:
            os.environ[ENV] = self.root
        try:
            return make_feed(
                program,
                data=self.data,
                path=None if self.path is None else Path(self.path),
                samples=self.samples,
                steps_in_input=self.steps_in_input,
            )
        finally:
            if before is not None:
                os.environ[ENV] = before
            elif self.root is not None:
                del os.environ[ENV]


def make_feed(
    program: Program,
    *,
    data: str | None,
    path: Path | None,
    samples: int | None = None,
    default_samples: int | None = None,
    steps_in_input: bool = False,
) -> Feed:
    """Open the samples asked for: a file, a named data set, else the program's own data set, else digits.

    `default_samples` limits a named data set when `samples` is None. Raises InputError when they do not fit.
    """
    if data is not None and path is not None:
        raise InputError("give either --data or --input, not both")
    if path is not None:
        names = [node.name for node in program.inputs]
        by_step = steps_in_input or all(node.coding == "steps" for node in program.inputs)
        wanted = {
            n.name: (program.steps, *n.raw_shape) if by_step or n.coding == "steps" else n.raw_shape
            for n in program.inputs
        }
        found = read_samples(path, inputs=names, steps_in_input=by_step, wanted=wanted)
        _check_axes(program, found, by_step=by_step)
        return _feed(program, found.take(samples))
    if steps_in_input:
        raise InputError("--steps-in-input speaks about the file given with --input X.npz")
    own = str(program.meta.get("data", DEFAULT))
    if data is None and own.endswith(".npz") and not Path(own).is_file():
        raise InputError(f"{program.name} was calibrated on {own}, which is not here; name samples with --input X.npz")
    frames = next((count for node in program.inputs if (count := getattr(node, "frames", None))), program.steps)
    found = open_data(data or own, steps=frames)
    if samples is None and default_samples is not None:
        samples = min(default_samples, found.total)
    return _feed(program, _fitted(program, found).take(samples))


def _feed(program: Program, found: Samples) -> Feed:
    """The samples for a program; InputError for labels that are no class of its first output."""
    if found.labels is not None and program.outputs:
        check_labels(found.labels, prod(program.shapes[program.outputs[0].name]), name=found.name)
    return Feed(samples=found, program=program)


def _check_axes(program: Program, found: Samples, *, by_step: bool) -> None:
    """Refuse a file whose samples hold every step when only one frame is expected, or the other way round."""

    bad = []
    for node in program.inputs:
        raw = node.raw_shape
        own = by_step or node.coding == "steps"
        shape, want = found.shapes[node.name], (program.steps, *raw) if own else raw
        if shape == want:
            continue
        hint = ""
        if len(program.inputs) > 1:
            hint = f" (one sample each; T={program.steps})"
        elif not by_step and shape[1:] == raw:
            hint = f"; if its first axis is steps, say --steps-in-input (the program runs {program.steps})"
        elif by_step and node.coding != "steps" and shape == raw:
            hint = "; leave out --steps-in-input"
        if hint:  # what else does not fit is said when the samples are coded
            bad.append(f"{found.name}: {node.name} takes samples {list(want)}, the file has {list(shape)}{hint}")
    if bad:
        raise InputError(bad)


def _fitted(program: Program, found: Samples) -> Samples:
    """A named data set for a program with one input; flattened when only the layout of the sample differs."""

    if len(program.inputs) != 1:
        names = ", ".join(node.name for node in program.inputs)
        raise InputError(f"the program has several inputs ({names}); give an array of each name with --input X.npz")
    (node,) = program.inputs
    raw = node.raw_shape
    shape = found.shapes["x"]
    if found.time_axis and getattr(node, "frames", None):  # the host sums the frames: they are one sample
        found = attrs.evolve(found, time_axis=False)
    frame = shape[1:] if found.time_axis else shape
    if node.coding == "steps" and not found.time_axis:
        raise InputError(f"{node.name} takes a frame per step, but {found.name} has one frame per sample")
    if raw not in (frame, (prod(frame),)):
        raise InputError(
            f"{node.name} takes samples {list(raw)}, but {found.name} has {list(frame)}; "
            "name the program's own data set with --data, or give --input X.npz"
        )
    want = (*shape[: len(shape) - len(frame)], *raw)

    def read(size: int, start: int, stop: int) -> Iterator[Mapping[str, Any]]:
        return ({node.name: arrays["x"].reshape(-1, *want)} for arrays in found.read(size, start, stop))

    return attrs.evolve(found, shapes={node.name: want}, read=read)
