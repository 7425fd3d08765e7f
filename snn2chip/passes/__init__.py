"""Passes from LayerGraph to LayerGraph, and the default pipeline to the normal form of `snn2chip.ir.graph`.

lift-rows           networks over one axis `[C, L]` become planes `[C, 1, L]`
remove-identities   dropout, identity and flatten go
split-concat        joined channels are read source by source
spike-pools         maximum pooling over binary spikes becomes a sum and neurons
fold-batchnorm      norms go into weights (signs flipped where negative) or somas
compose-linear      linear maps in a row become one
fold-input-norm     mean and std of the input go into the first layer
host-prefix         an ordinary stem (conv, ReLU, pool) becomes work of the host
expand-attention    channel attention becomes a sum, a linear map, a sigmoid and a product
leak-range          merged leaks beyond 16 bits change the unit per step
insert-relays       one synapse on every edge into a soma, none behind another
steady-windows      (repeated input only) windows over a constant current become gains per step
"""

from __future__ import annotations

from collections.abc import Iterable

from snn2chip.ir.graph import LayerGraph
from snn2chip.passes.base import Pass, apply_passes
from snn2chip.passes.compose_linear import ComposeLinear
from snn2chip.passes.expand_attention import ExpandAttention
from snn2chip.passes.fold_batchnorm import FoldBatchNorm
from snn2chip.passes.fold_input_norm import FoldInputNorm
from snn2chip.passes.host_prefix import HostPrefix
from snn2chip.passes.insert_relays import InsertRelays
from snn2chip.passes.leak_range import LeakRange
from snn2chip.passes.lift_rows import LiftRows
from snn2chip.passes.remove_identities import RemoveIdentities
from snn2chip.passes.spike_pools import SpikePools
from snn2chip.passes.split_concat import SplitConcat
from snn2chip.passes.steady_windows import SteadyWindows

DEFAULT: tuple[Pass, ...] = (
    LiftRows(),
    RemoveIdentities(),
    SplitConcat(),
    SpikePools(),
    FoldBatchNorm(),
    ComposeLinear(),
    FoldInputNorm(),
    HostPrefix(),
    ExpandAttention(),
    LeakRange(),
    InsertRelays(),
)
PASSES: dict[str, type[Pass]] = {type(step).name: type(step) for step in (*DEFAULT, SteadyWindows())}


def run_passes(graph: LayerGraph, *, passes: Iterable[Pass] = DEFAULT, normal_form: bool = True) -> LayerGraph:
    """Return the graph after the passes, verified after each; by default in normal form.

    Raises UnsupportedError that lists every layer that keeps it from the normal form.
    """
    return apply_passes(graph, passes, normal_form=normal_form)


__all__ = [
    "DEFAULT",
    "PASSES",
    "ComposeLinear",
    "ExpandAttention",
    "FoldBatchNorm",
    "FoldInputNorm",
    "HostPrefix",
    "InsertRelays",
    "LeakRange",
    "LiftRows",
    "Pass",
    "RemoveIdentities",
    "SpikePools",
    "SplitConcat",
    "SteadyWindows",
    "run_passes",
]
