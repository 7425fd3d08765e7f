"""Random programs that are not silent: Hypothesis strategies, and the same programs from plain seeds.

    @given(programs())
    def test_equal(case): ...

Every structural decision is drawn one by one (so that a failure shrinks to a small program); weights and the exact
thresholds follow from one drawn seed and from values that occur (see `snn2chip.testing.draft`).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from snn2chip.errors import BackendUnavailable
from snn2chip.testing.cases import Case, make_case
from snn2chip.testing.draft import Draft
from snn2chip.testing.factors import PROGRAM_FACTORS, SOMA_FACTORS, SYNAPSE_FACTORS, Space

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

T = TypeVar("T")
FACTORS = {
    **{f: PROGRAM_FACTORS[f] for f in ("structure", "magnitude", "steps")},
    **SOMA_FACTORS,
    **SYNAPSE_FACTORS,
}
SPACE = Space(FACTORS)
WITHOUT_CHANGES = Space({f: [v for v in levels if v not in ("delta", "keep")] for f, levels in FACTORS.items()})
"""Neurons without delta coding."""
SHAPES: tuple[tuple[int, ...], ...] = ((5,), (4, 3), (2, 4, 3), (4, 3, 2))


class Choices(Protocol):
    """Where decisions come from."""

    def pick(self, options: Sequence[T]) -> T: ...

    def seed(self) -> int: ...


class Seeded:
    """Decisions from a plain seed."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)

    def pick(self, options: Sequence[T]) -> T:
        """One of the options."""
        return options[self._rng.randrange(len(options))]

    def seed(self) -> int:
        """A seed for bulk values."""
        return self._rng.randrange(1 << 32)


class Drawn:
    """Decisions drawn by Hypothesis."""

    def __init__(self, draw: Callable[[Any], Any], strategies: Any) -> None:
        self._draw, self._st = draw, strategies

    def pick(self, options: Sequence[T]) -> T:
        """One of the options; failures shrink towards the first."""
        return options[0] if len(options) == 1 else options[self._draw(self._st.integers(0, len(options) - 1))]

    def seed(self) -> int:
        """A seed for bulk values."""
        return int(self._draw(self._st.integers(0, (1 << 32) - 1)))


def programs(*, most_blocks: int = 4, wide: bool = False) -> SearchStrategy[Case]:
    """Strategy of random programs with inputs; `wide` also draws currents beyond 24 bits.

    Raises BackendUnavailable when Hypothesis is not installed.
    """
    try:
        from hypothesis import strategies as st
    except ImportError as error:
        raise BackendUnavailable(
            "random programs as strategies need Hypothesis: pip install hypothesis (or 'snn2chip[dev]'); "
            "random_program(seed) works without it"
        ) from error

    @st.composite
    def build(draw: Callable[[Any], Any]) -> Case:
        return grow(Drawn(draw, st), most_blocks=most_blocks, wide=wide)

    return build()


def random_program(seed: int, *, most_blocks: int = 4, wide: bool = False, changes: bool = True) -> Case:
    """The random program of one seed; `changes=False`: none of its neurons sends changes (fire='delta')."""
    space = SPACE if changes else WITHOUT_CHANGES
    return grow(Seeded(seed), most_blocks=most_blocks, wide=wide, name=f"random-{seed}", space=space)


def grow(
    choices: Choices, *, most_blocks: int = 4, wide: bool = False, name: str = "random", space: Space = SPACE
) -> Case:
    """Grow one program from a source of decisions."""
    return _Grower(choices, most_blocks, wide, name, space).case()


class _Grower:
    def __init__(self, choices: Choices, most_blocks: int, wide: bool, name: str, space: Space) -> None:
        self.space = space
        self.pick, self.most, self.wide = choices.pick, most_blocks, wide
        self.steps = self.pick((1, 2, 3, 4, 8))
        self.draft = Draft(
            np.random.default_rng(choices.seed()), steps=self.steps, batch=self.pick((1, 2, 5)), name=name
        )
        self.tips: list[str] = []

    def case(self) -> Case:
        for i in range(self.pick((1, 1, 2))):
            self._input(f"in{i}", self.pick(SHAPES))
        for i in range(self.pick(range(1, self.most + 1))):
            self._block(f"b{i}")
        tip = self.tips[-1]
        if self.pick((True, False)):
            last = self.draft.synapse("last", tip, {"weights": self.pick(("ternary", "int8"))}, units=3)
            self.draft.soma("readout", [last], {"fire": "none", "leak": self.pick(("one", "decay"))})
            self.draft.output("readout")
        for node in [n for n in self.tips if n not in self.draft.raw]:
            if node == tip or self.pick((True, False)):
                self.draft.output(node)
        return make_case(self.draft.name, self.draft, {})

    def _input(self, name: str, shape: tuple[int, ...]) -> str:
        source = self.pick(("graded", "binary", "signed"))
        codings = ("steps", "steps", "repeat") if source == "signed" else ("steps", "steps", "repeat", "rate")
        host = self.pick((False, False, False, True))
        self.tips.append(self.draft.input(name, shape, source=source, coding=self.pick(codings), host=host))
        return self.tips[-1]

    def _block(self, name: str) -> None:
        block = self.pick(("layer", "residual", "recurrent", "loop", "product", "gate", "join", "shared"))
        getattr(self, f"_{block}")(name, self.pick(self.tips))

    def _row(self, **fixed: str) -> dict[str, str]:
        """A legal row of levels that keeps the levels given."""
        magnitudes = ["normal"] * 6 + ["saturate", "wrap"] + (["wide"] if self.wide else [])
        row = {"steps": "1" if self.steps == 1 else "3", "structure": "single", **fixed}
        open_magnitudes = self.space.open_levels(row, "magnitude")
        row["magnitude"] = self.pick([m for m in magnitudes if m in open_magnitudes])
        banned = self.space.banned(row)
        for factor in self.space.factors:
            if factor not in row:
                row[factor] = self.pick(self.space.open_levels(row, factor, banned))
                banned |= self.space.excluded[self.space.index[factor, row[factor]]]
        return row

    def _kind(self, source: str) -> str:
        spatial = len(self.draft.shape(source)) == 3 and min(self.draft.shape(source)[1:]) > 1
        return self.pick(("linear", "identity", "conv2d", "conv2d", "sumpool") if spatial else ("linear", "identity"))

    def _synapse(self, name: str, source: str, row: dict[str, str], *, delay: int = 0, same: bool = False) -> str:
        return self.draft.synapse(name, source, row, delay=delay, **self._geometry(source, row, same))

    def _geometry(self, source: str, row: dict[str, str], same: bool) -> dict[str, Any]:
        """Kernel, stride and so on of the row, as far as the source is large enough; `same` keeps its shape."""
        shape, pick = self.draft.shape(source), self.pick
        if row["kind"] == "linear":
            return {"units": pick((4, 2, 6))}
        if row["kind"] == "identity":
            return {}
        if same:
            return {"kernel": (3, 1), "padding": (1, 0), "units": shape[0]}
        found: dict[str, Any] = {"kernel": (2, 2) if row["kind"] == "sumpool" else pick(((2, 2), (2, 1), (1, 2)))}
        found["stride"] = pick(((2, 1), (1, 2), (2, 2))) if row["stride"] == "strided" else (1, 1)
        found["padding"] = pick(((1, 0), (0, 1), (1, 1))) if row["padding"] == "yes" else (0, 0)
        if row["kind"] == "conv2d":
            found["dilation"] = pick(((2, 1), (1, 2), (2, 2))) if row["dilation"] == "yes" else (1, 1)
            spans = [d * (k - 1) + 1 for d, k in zip(found["dilation"], found["kernel"], strict=True)]
            room = [n + 2 * p for n, p in zip(shape[1:], found["padding"], strict=True)]
            if any(s > r for s, r in zip(spans, room, strict=True)):
                found["dilation"] = (1, 1)
            groups = {"one": 1, "two": 2, "depthwise": shape[0]}[row["groups"]]
            found["groups"] = groups if shape[0] % groups == 0 else 1
            found["units"] = found["groups"] * pick((1, 2))
        return found

    def _soma(self, name: str, sources: list[str], row: dict[str, str]) -> str:
        if self.draft.shape(sources[0])[0] == 1 and row["theta"] == "never":
            row = {**row, "theta": "positive"}
        made = self.draft.soma(name, sources, row)
        self.tips.append(made)
        return made

    def _fires(self, fixed: dict[str, str]) -> dict[str, str]:
        """A row of a soma that fires."""
        return {**fixed, "fire": self.pick(("levels", "excess", "relay", "table", "levels"))}

    def _layer(self, name: str, source: str) -> str:
        row = self._row(kind=self._kind(source))
        delay = self.pick((0, 0, 0, 1, 2))
        return self._soma(name, [self._synapse(f"{name}_syn", source, row, delay=delay)], row)

    def _residual(self, name: str, source: str) -> str:
        spatial = len(self.draft.shape(source)) == 3
        row = self._row(**self._fires({"kind": self.pick(("conv2d", "identity") if spatial else ("identity",))}))
        inner = self._soma(f"{name}_in", [self._synapse(f"{name}_a", source, row, same=True)], row)
        row = self._row(kind="identity")
        long, short = (self._synapse(f"{name}_{x}", s, row) for x, s in (("long", inner), ("short", source)))
        return self._soma(name, [long, short], row)

    def _recurrent(self, name: str, source: str) -> str:
        row = self._row(**self._fires({"kind": self._kind(source), "structure": "recurrent"}))
        soma = self._soma(name, [self._synapse(f"{name}_syn", source, row)], row)
        back = {"weights": self.pick(("ternary", "binary"))}
        self.draft.feedback(f"{name}_back", soma, soma, back, delay=self.pick((1, 2, 3)))
        return soma

    def _loop(self, name: str, source: str) -> str:
        row = self._row(**self._fires({"kind": self._kind(source), "structure": "loop"}))
        first = self._soma(f"{name}_first", [self._synapse(f"{name}_syn", source, row)], row)
        row = self._row(**self._fires({"kind": "identity", "structure": "loop", "weights": "ternary"}))
        second = self._soma(name, [self._synapse(f"{name}_there", first, row)], row)
        back = {"weights": self.pick(("ternary", "binary"))}
        self.draft.feedback(f"{name}_back", second, first, back, delay=self.pick((1, 2)))
        return second

    def _product(self, name: str, source: str) -> str:
        like = [t for t in self.tips if self.draft.shape(t) == self.draft.shape(source)]
        row, partner = self._row(kind="product"), self.pick(like)
        delay = self.pick((0, 0, 1)) if partner != source else self.pick((1, 2))
        made = self.draft.product(
            f"{name}_syn", source, partner, shift=self._product_shift(source, partner), delay=delay
        )
        return self._soma(name, [made], row)

    def _product_shift(self, p: str, q: str) -> int:
        """A shift that keeps the product inside 24 bits."""
        bits = sum(self.draft.node(n).payload_type().bits for n in (p, q))
        return max(0, bits - 22) + self.pick((0, 1, 3))

    def _gate(self, name: str, source: str) -> str:
        shape = self.draft.shape(source)
        if len(shape) == 1:
            return self._product(name, source)
        gate = self.draft.synapse(f"{name}_squeeze", source, {"weights": "int4"}, units=shape[0])
        gate = self.draft.soma(f"{name}_gate", [gate], {"levels": "many", "bias": "yes"})
        made = self.draft.product(f"{name}_syn", source, gate, shift=self._product_shift(source, gate))
        return self._soma(name, [made], self._row(kind="gate"))

    def _join(self, name: str, source: str) -> str:
        row = self._row(kind="linear")
        geometry = self._geometry(source, row, False)
        other = self.pick(self.tips)
        into = [self.draft.synapse(f"{name}_{i}", s, row, **geometry) for i, s in enumerate((source, other))]
        return self._soma(name, into, row)

    def _shared(self, name: str, source: str) -> str:
        row = self._row(kind=self._kind(source))
        current = self._synapse(f"{name}_syn", source, row)
        self._soma(f"{name}_twin", [current], row)
        synaptic = {f: row[f] for f in (*SYNAPSE_FACTORS, "magnitude")}
        return self._soma(name, [current], self._row(**synaptic))
