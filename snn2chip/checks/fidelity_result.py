"""What fidelity measures: a row per soma and the whole, as plain values."""

from __future__ import annotations

from typing import Any

import attrs


@attrs.frozen(kw_only=True)
class LayerFidelity:
    """One soma against its float neuron.

    `rate`: share of payloads that fire; `*_equal`: share of payloads whose value is the float one (up to float32's own
    rounding); both None for a read-out, which sends none. `*_potential`:
    root-mean-square difference of the potentials after reset, in thresholds (read-outs: relative to the potential's
    own rms; relays and tables: of the sent values, relative to their rms). `free_spikes`: share of payloads that fire
    or stay silent as the float ones do. `*_by_step`: the free figures at every step. `trained`: of a neuron trained on
    integers "exact", or why its integers are not those; None for all others.
    """

    soma: str
    layer: str
    neurons: int
    rate: float | None
    free_equal: float | None
    forced_equal: float | None
    free_potential: float
    forced_potential: float
    free_spikes: float | None = None
    equal_by_step: tuple[float, ...] | None = None
    spikes_by_step: tuple[float, ...] | None = None
    potential_by_step: tuple[float, ...] = ()
    trained: str | None = None


@attrs.frozen(kw_only=True)
class OutputFidelity:
    """One output against the float model's, read as `read` says: potential, payload or count.

    `agreement`: share of samples with the same largest entry; accuracies are None without labels of this output.
    `error`: root-mean-square difference of the values, relative to the float values' own; None where those are all 0.
    """

    output: str
    read: str
    agreement: float
    float_accuracy: float | None
    integer_accuracy: float | None
    error: float | None


@attrs.frozen(kw_only=True)
class Fidelity:
    """Integer program against float network on `samples` samples; accuracies are None without labels.

    Accuracies and `differing` are those of the first output, `outputs` those of every one.
    """

    samples: int
    float_accuracy: float | None
    integer_accuracy: float | None
    differing: int
    layers: tuple[LayerFidelity, ...]
    outputs: tuple[OutputFidelity, ...] = ()

    @property
    def agreement(self) -> float:
        """Share of samples with the same predicted class."""
        return 1.0 - self.differing / self.samples

    @property
    def spike_agreement(self) -> float | None:
        """Share of all payloads, over layers that send, that fire or stay silent as in the float network."""
        rows = [(r.neurons, r.free_spikes) for r in self.layers if r.free_spikes is not None]
        total = sum(n for n, _ in rows)
        return sum(n * share for n, share in rows) / total if total else None

    def as_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return {**attrs.asdict(self), "agreement": self.agreement, "spike_agreement": self.spike_agreement}
