"""The neuron layer of a float graph: a soma with a name and the user's layer path."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import attrs
from torch import Tensor

from snn2chip.ir.channel_layers import ScaleLayer
from snn2chip.ir.float_run import SomaRun, run_soma
from snn2chip.ir.layers import FloatSoma, Layer, Shape, brief
from snn2chip.ir.linear_layers import AffineLayer


@attrs.frozen(kw_only=True, eq=False)
class NeuronLayer(Layer):
    """A neuron population; `soma` holds its dynamics, the value is the payload `s*unit`.

    `feedback`: a linear map of the payloads of the step before (0 in the first step), added to the current; where every
    neuron hears itself alone, a factor.
    """

    kind: ClassVar[str] = "neuron"
    soma: FloatSoma
    feedback: AffineLayer | ScaleLayer | None = None

    @property
    def binary(self) -> bool:
        """Whether a payload is either nothing or one spike."""
        return self.soma.fire in ("levels", "ladder") and self.soma.levels == 1

    def out_shape(self, shapes: Sequence[Shape]) -> tuple[Shape, list[str]]:
        """Return the shape of the current; tensor fields must be scalar, `[C]` or `[T, C or 1]`."""
        channels, steps = (shapes[0][0] if shapes[0] else 1), self.soma.steps
        fine: set[tuple[int, ...]] = {(), (1,), (channels,)}
        fine |= {(t, c) for t in (1, steps) for c in (1, channels)}
        bad = [
            f"{key} has shape {list(value.shape)}, expected 1, [{channels}] or [{steps}, {channels} or 1]"
            for key in ("theta", "unit", "leak", "gain", "bias", "v_init", "syn_leak", "v_min", "v_reset")
            if (value := getattr(self.soma, key)) is not None and tuple(value.shape) not in fine
        ]
        window = self.soma.window
        if window is not None and tuple(window.shape) != (steps, steps):
            bad.append(f"window has shape {list(window.shape)}, expected [{steps}, {steps}]")
        bad += self._ladder_breaches(channels) + self._feedback_breaches(shapes[0])
        return shapes[0], bad + self._state_breaches()

    def _state_breaches(self) -> list[str]:
        """What does not go with a synaptic current, a reset value, a strict compare or a potential that is read."""
        s = self.soma
        bad = [] if (s.reset == "value") == (s.v_reset is not None) else ["v_reset goes with reset=value"]
        if s.strict and (s.fire != "levels" or s.levels != 1):
            bad.append(f"strict goes with fire=levels and one level, got {s.fire} and {s.levels}")
        if s.syn_leak is not None and (s.window is not None or s.reset == "drop"):
            bad.append("a synaptic current goes with a kept potential and without a window")
        return bad

    def _feedback_breaches(self, shape: Shape) -> list[str]:
        if self.feedback is None:
            return []
        made, bad = self.feedback.out_shape([shape])
        if not bad and made != shape:
            bad.append(f"gives {list(made)} back to neurons {list(shape)}")
        bad = [f"what comes back to it: {text}" for text in bad]
        if self.soma.window is not None:
            bad.append("a window needs the whole sample first, so no spikes of a step before can come back")
        if self.soma.trained is not None:
            bad.append("neurons trained on integers cannot feed themselves; leave them out of quantize_neurons")
        return bad

    def simulate(self, current: Tensor, *, sent: Tensor | None = None) -> SomaRun:
        """Return the run over currents `[T or 1, B, *shape]`; `sent` payloads come back instead of its own."""
        layer = self.feedback
        if layer is None:
            return run_soma(self.soma, current)
        return run_soma(self.soma, current, feedback=lambda past: layer.apply([past[None]])[0], sent=sent)

    def _ladder_breaches(self, channels: int) -> list[str]:
        soma = self.soma
        if (soma.ladder is None) != (soma.fire != "ladder"):
            return [f"fire={soma.fire} {'without' if soma.ladder is None else 'with'} a ladder of thresholds"]
        if soma.ladder is None:
            return []
        bad = [] if soma.reset == "drop" else [f"a ladder needs reset=drop, got {soma.reset}"]
        if tuple(soma.ladder.shape) not in ((soma.levels, 1), (soma.levels, channels)):
            bad.append(f"ladder has shape {list(soma.ladder.shape)}, expected [{soma.levels}, {channels} or 1]")
        elif bool((soma.ladder.diff(dim=0) < 0).any()):
            bad.append("the thresholds of the ladder must not decrease")
        return bad

    def apply(self, inputs: Sequence[Tensor]) -> Tensor:
        """Return the payload values of all steps."""
        return self.simulate(inputs[0]).payload

    def details(self) -> list[str]:
        """Return the soma's fields that are not at their defaults."""
        s = self.soma
        head = [f"fire={s.fire}", f"reset={s.reset}"] + (
            [f"levels={s.levels}"] if s.fire in ("levels", "ladder") else []
        )
        head += [] if s.out_max is None else [f"out_max={s.out_max}", f"out_rounding={s.out_rounding}"]
        text = [f"theta={brief(s.theta)}", f"unit={brief(s.unit)}"]
        rest = {"leak": (s.leak, 1.0), "gain": (s.gain, 1.0), "bias": (s.bias, 0.0), "v_init": (s.v_init, 0.0)}
        text += [f"{key}={brief(v)}" for key, (v, default) in rest.items() if bool((v != default).any())]
        kept = {"syn_leak": s.syn_leak, "v_min": s.v_min, "v_reset": s.v_reset}
        text += [f"{key}={brief(v)}" for key, v in kept.items() if v is not None] + ["strict"] * bool(s.strict)
        window = [] if s.window is None else [f"window={brief(s.window)}"]
        window += [] if s.ladder is None else [f"ladder={brief(s.ladder)}"]
        if self.feedback is not None:
            window.append(f"feedback={self.feedback.kind}({', '.join(self.feedback.details())})")
        return ([s.method] if s.method else []) + head + text + window
