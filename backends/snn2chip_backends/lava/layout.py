"""Which Lava process stands for each node, and why: Lava's own where it is exact, an own one where it is not.

Lava checks nothing: stock models silently clip, truncate, wrap or binarise. Every bound here is proven from
weights and payload ranges before a stock process is chosen.
"""

from __future__ import annotations

import attrs
import numpy as np
from scipy import sparse

from snn2chip.ir.nodes import Product, Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma
from snn2chip.ir.types import V_MAX
from snn2chip.ir.validate import current_ranges, source_range
from snn2chip.schedule import Schedule
from snn2chip_backends.lava.lif import LifSettings, lif_settings

INT32 = (1 << 31) - 1
CONV_WRAP = 1 << 23
"""Stock Conv wraps its output to 24 bits."""
SLOW_CONV_MS = 10.0
"""Stock Conv is passed over where one step of it would take longer than this (unless asked for)."""
STOCK = (False, True, "always")


@attrs.frozen(kw_only=True)
class Choice:
    """The Lava process of one node: `process` as shown to users (`stock Dense`, `own soma`), and the reason.

    `kind` is the plan's kind, `wide` whether its currents need 64 bits, `lif` the settings of a stock LIF.
    """

    node: str
    process: str
    reason: str
    kind: str
    wide: bool = False
    lif: LifSettings | None = None

    @property
    def stock(self) -> bool:
        """Whether this is one of Lava's own processes."""
        return self.process.startswith("stock")


def lava_layout(program: Program, plan: Schedule, *, stock: bool | str = True) -> dict[str, Choice]:
    """Choose a process for every synapse, product and soma of `program`.

    `stock=True` takes Lava's own processes where they are exact (and Conv only where it is not very slow),
    `"always"` also slow ones, `False` none.
    """
    reach = {name: max(-lo, hi) for name, (lo, hi) in current_ranges(program).items()}
    found: dict[str, Choice] = {}
    for node in program.nodes:
        if isinstance(node, Soma):
            found[node.name] = _soma(node, reach[node.name], plan, stock)
        elif isinstance(node, Synapse):
            found[node.name] = _synapse(program, node, stock)
        elif isinstance(node, Product):
            wide = _beyond(source_range(program, node.name), INT32)
            found[node.name] = Choice(
                node=node.name,
                process="own product",
                reason="Lava has no product of two payloads",
                kind="wide-product" if wide else "product",
                wide=wide,
            )
    return found


def _beyond(bounds: tuple[int, int], limit: int) -> bool:
    return max(-bounds[0], bounds[1]) > limit


def _soma(soma: Soma, reach: int, plan: Schedule, stock: bool | str) -> Choice:
    def own(reason: str) -> Choice:
        return Choice(node=soma.name, process="own soma", reason=reason, kind="soma")

    if not stock:
        return own("stock processes are switched off")
    if soma.fire == "none":
        return own("its potential is read, which a stock LIF does not send")
    if _plain_relay(soma, reach):
        return Choice(
            node=soma.name, process="stock GradedVec", reason="a relay without scaling or clipping", kind="GradedVec"
        )
    if plan.stretch != 1:
        return own(f"a logical step takes {plan.stretch} machine steps, LIF advances in each")
    settings = lif_settings(soma, reach, plan.steps)
    if isinstance(settings, str):
        return own(settings)
    return Choice(
        node=soma.name,
        process="stock LIF",
        reason="binary hard-reset neuron, exact on LIF's 6-bit grid",
        kind="LIFReset",
        lif=settings,
    )


def _plain_relay(soma: Soma, reach: int) -> bool:
    """Whether Lava's GradedVec (sends what comes in, keeps nothing) is this soma."""
    if soma.fire != "relay" or soma.window is not None or soma.syn_leak is not None:
        return False
    plain = (
        not soma.bias.any()
        and (soma.gain == np.left_shift(1, soma.gain_shift)).all()
        and (soma.out_gain == np.left_shift(1, soma.out_shift)).all()
    )
    room = min(int(soma.out_max.min()), -int(soma.out_min.max()), V_MAX)
    return bool(plain and reach <= room)


def _synapse(program: Program, node: Synapse, stock: bool | str) -> Choice:
    bounds = source_range(program, node.name)
    wide = _beyond(bounds, INT32)

    def own(reason: str) -> Choice:
        kind = "wide-synapse" if wide else "synapse"
        return Choice(node=node.name, process=f"own {node.kind}", reason=reason, kind=kind, wide=wide)

    if not stock:
        return own("stock processes are switched off")
    # stock Dense and Sparse hold 2W and shift back by one
    if _beyond((2 * bounds[0], 2 * bounds[1]), INT32):
        return own("its current may leave 32 bits, where stock processes wrap")
    if node.kind == "linear":
        if not sparse.issparse(node.weight):
            return Choice(node=node.name, process="stock Dense", reason="exact: all bounds hold", kind="Dense")
        return Choice(node=node.name, process="stock Sparse", reason="exact: all bounds hold", kind="Sparse")
    shape = program.shapes[program.into[node.name][0].src]
    if node.kind == "identity":
        if not node.weight.any():
            return own("stock Sparse cannot hold an empty matrix")
        return Choice(node=node.name, process="stock Sparse", reason="exact: a diagonal matrix", kind="Sparse")
    return _conv(program, node, shape, bounds, stock, own("")) if len(shape) == 3 else own("")


def _conv(
    program: Program,
    node: Synapse,
    shape: tuple[int, ...],
    bounds: tuple[int, int],
    stock: bool | str,
    own: Choice,
) -> Choice:
    groups = shape[0] if node.kind == "sumpool" else node.groups
    numbers = (groups, *node.kernel_size, *node.stride, *node.padding, *node.dilation)
    if max(numbers) > 127:
        return attrs.evolve(own, reason="stock Conv keeps groups, kernel, stride, padding and dilation in 8 bits")
    if _beyond(bounds, CONV_WRAP - 1):
        return attrs.evolve(own, reason="its current may leave 24 bits, where stock Conv wraps")
    cost = conv_ms(node, shape, groups)
    if cost > SLOW_CONV_MS and stock != "always":
        return attrs.evolve(own, reason=f"stock Conv is exact here but would take about {cost:.0f} ms a step")
    return Choice(node=node.name, process="stock Conv", reason="exact: all bounds hold", kind="Conv")


def conv_ms(node: Synapse, shape: tuple[int, ...], groups: int) -> float:
    """Rough time of one step of stock Conv, which runs one full 2-D convolution per pair of channels.

    Fitted to five measured layers: 6.3 us per pair plus 3.6 ns per product of a kernel tap and a source pixel.
    """
    c, h, w = shape
    out = c if node.kind == "sumpool" else int(node.stored.shape[0])
    pairs = out * (c // groups)
    kh, kw = node.kernel_size
    pixels = (h + 2 * node.padding[0]) * (w + 2 * node.padding[1])
    return pairs * (6.3e-3 + 3.6e-6 * pixels * kh * kw)
