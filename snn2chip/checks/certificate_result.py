"""What a certificate says: a row per soma, and one of the predictions."""

from __future__ import annotations

from typing import Any

import attrs

from snn2chip.errors import MismatchError

COUNTS = ("steps", "equal", "certified", "unconditional", "violations")


@attrs.frozen(kw_only=True)
class LayerCertificate:
    """One soma (or the predictions): `steps` neuron-steps (samples), of which so many are equal, certified, violated.

    `kind`: neuron, relay or prediction. `equal`: teacher-forced payloads that are the integer ones.
    `depth`: somas on the longest way from an input.
    """

    soma: str
    layer: str
    kind: str
    depth: int
    steps: int
    equal: int
    certified: int
    unconditional: int
    violations: int

    def plus(self, other: LayerCertificate) -> LayerCertificate:
        """The counts of both rows, which are of one soma."""
        return attrs.evolve(self, **{name: getattr(self, name) + getattr(other, name) for name in COUNTS})

    def as_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return attrs.asdict(self)


@attrs.frozen(kw_only=True)
class Certificate:
    """The certificate of `samples` samples: a row per soma by depth, and one of the predictions (read-out)."""

    samples: int
    layers: tuple[LayerCertificate, ...]

    @property
    def violations(self) -> int:
        """Certified payloads and predictions that differ all the same: more than 0 is a bug."""
        return sum(row.violations for row in self.layers)

    def __add__(self, other: Certificate) -> Certificate:
        """The certificate of the samples of both, which are of one program."""
        layers = tuple(a.plus(b) for a, b in zip(self.layers, other.layers, strict=True))
        return Certificate(samples=self.samples + other.samples, layers=layers)

    def raise_if_violated(self) -> None:
        """Raise MismatchError if anything certified differs: then the bound or a backend is wrong."""
        if bad := [f"{r.layer or r.soma}: {r.violations} of {r.certified}" for r in self.layers if r.violations]:
            raise MismatchError(f"the certificate is violated: certified, and different all the same: {'; '.join(bad)}")

    def as_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        rows = [row.as_dict() for row in self.layers]
        return {"samples": self.samples, "violations": self.violations, "layers": rows}

    def text(self) -> str:
        """A table: shares of the neuron-steps of every soma."""
        head = (
            f"{'depth':>5} {'soma':<28} {'steps':>12} {'equal':>9} {'certified':>9} {'uncond.':>9} {'violations':>10}"
        )
        lines = [head, "-" * len(head)]
        for row in self.layers:
            shares = " ".join(f"{n / row.steps:>9.4f}" for n in (row.equal, row.certified, row.unconditional))
            name = (row.layer or row.soma) + ("" if row.kind == "neuron" else f" ({row.kind})")
            lines.append(f"{row.depth:>5} {name:<28} {row.steps:>12,} {shares} {row.violations:>10}")
        return "\n".join(lines)
