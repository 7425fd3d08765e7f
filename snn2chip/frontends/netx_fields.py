"""Which fields of a `.net` file are known: those that are read, and those that lava-dl writes and nothing reads.

Anything else may be a mask, noise or another rule that a file's author computed with; it is refused by name.
Sources: lava-dl 0.6.0 (slayer's export_hdf5 and device_params, netx.hdf5, the networks of its tests).
"""

from __future__ import annotations

from collections.abc import Mapping

from snn2chip.frontends.netx_delta import SDNN
from snn2chip.frontends.netx_file import LIF_NUMBERS, READ, LayerSpec

SPATIAL = ("kernelSize", "stride", "padding", "dilation")
DENSE = ("inFeatures", "outFeatures")
BESIDE: Mapping[str, tuple[str, ...]] = {
    "input": (),
    "conv": (*SPATIAL, "groups", "inChannels", "outChannels"),
    "dense": DENSE,
    "dense_rec": DENSE,
    "pool": SPATIAL,
    "average": (),
    "flatten": (),
}
"""What a layer holds beside its type, shape, neuron and the numbers of `READ`."""
TRAINER = ("theta", "tauRho", "scaleRho")
"""The threshold before rounding and the shape of the surrogate gradient, which old versions of slayer note."""
REFUSED_ELSEWHERE = ("messageBits",)
OF_NEURONS: Mapping[str, tuple[str, ...]] = {
    "LOIHI": (*LIF_NUMBERS, *TRAINER, *REFUSED_ELSEWHERE),
    "CUBA": (*LIF_NUMBERS, *TRAINER, *REFUSED_ELSEWHERE),
    SDNN: ("activation", "vThMant", "sigma_output", "weight_exp", *REFUSED_ELSEWHERE),
}


def unknown_fields(layer: LayerSpec) -> tuple[str, ...]:
    """The fields of a layer and of its neurons that are neither read nor known to mean nothing; none of other kinds."""
    if layer.kind not in BESIDE:
        return ()
    known = {"type", "shape", "neuron", *BESIDE[layer.kind], *READ.get(layer.kind, ())}
    found = [key for key in layer.keys if key not in known]
    if layer.neuron is not None and layer.neuron.type in OF_NEURONS:
        known = {"type", *OF_NEURONS[layer.neuron.type]}
        found += [f"neuron/{key}" for key in layer.neuron.keys if key not in known]
    return tuple(found)
