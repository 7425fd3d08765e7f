"""The plain NumPy loop that an engine has to beat: the same integers, float32 matrix products, nothing recorded.

Float32 products are exact here (|partial sums| < 2^24) and several times faster than NumPy's integer ones, so
this is the strongest plain loop, not a straw man.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma


class NumpyLoop:
    """An MLP of integrate-and-fire layers with soft reset and a silent read-out, step by step.

    `reuse_first`: compute the first layer's current once, since the same frame is shown at every step.
    """

    def __init__(self, program: Program, *, reuse_first: bool) -> None:
        self.steps, self.reuse_first = program.steps, reuse_first
        self.weights = [synapse.weight.T.astype(np.float32) for synapse in program.synapses]
        self.thetas = [None if s.theta is None else np.float32(s.theta[0, 0]) for s in program.somas]
        for soma in program.somas:
            plain = Soma(soma.name, soma.shape, theta=soma.theta, fire=soma.fire)
            assert all(np.array_equal(getattr(soma, f), getattr(plain, f)) for f in ("leak", "bias", "v_init", "gain"))

    def __call__(self, samples: NDArray[np.int64]) -> NDArray[np.int64]:
        """Potentials of the read-out after the last step, `[B, classes]`."""
        frame = samples.reshape(len(samples), -1).astype(np.float32)
        potentials = [np.zeros((len(frame), w.shape[1]), np.float32) for w in self.weights]
        first = frame @ self.weights[0] if self.reuse_first else None
        for _ in range(self.steps):
            x = frame
            for i, (weight, theta, v) in enumerate(zip(self.weights, self.thetas, potentials, strict=True)):
                v += first if i == 0 and first is not None else x @ weight
                if theta is not None:
                    x = (v >= theta).astype(np.float32)
                    v -= x * theta
        return potentials[-1].astype(np.int64)
