"""The parallel neuron's kernel for CUDA: currents are read once, spikes written once.

    S = sum of the currents, step by step;   o(t) = (theta + phi) * 1[S + psi >= (t+1)*theta]      (or in reverse order)

Every product and sum is rounded on its own (`enable_fp_fusion=False`), as in the torch code; S is added up in the order
of the steps, where the torch code on CUDA adds in an order of its own.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["inner", "channels", "steps"])
def spikes(
    x, theta_at, psi_at, phi_at, out, neurons, inner, channels, steps,
    EACH: tl.constexpr, LAST: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Payloads `[T,N]` of currents `[T,N]`; EACH: constants per channel, `inner` neurons of a channel side by side."""
    n = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    here = n < neurons
    at = n * 0
    if EACH:
        at = n // inner % channels
    theta, psi = tl.load(theta_at + at, mask=here, other=1.0), tl.load(psi_at + at, mask=here, other=0.0)
    unit = theta + tl.load(phi_at + at, mask=here, other=0.0)
    total = tl.load(x + n, mask=here, other=0.0).to(tl.float32)
    for t in range(1, steps):
        total = total + tl.load(x + (n + (n * 0 + t) * neurons), mask=here, other=0.0).to(tl.float32)
    total = total + psi
    for t in range(steps):
        k = t + 1
        if LAST:
            k = steps - t
        o = tl.where(total >= (n * 0 + k).to(tl.float32) * theta, unit, 0.0)
        tl.store(out + (n + (n * 0 + t) * neurons), o.to(out.dtype.element_ty), mask=here)
