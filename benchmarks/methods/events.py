"""Event data: LM-HT and EM-PF on N-MNIST frames, a thousand training samples."""

from __future__ import annotations

from benchmarks.methods.nets import Nets
from benchmarks.methods.result import Result
from benchmarks.methods.rows import Row, against_ann, at_least

LMHT, EMPF, TWIN = "nmnist-vgg-lmht", "nmnist-vgg-empf", "nmnist-vgg-relu"


def nmnist(nets: Nets) -> Result:
    """Small VGG-SNN on 5 frames: accuracy on the 100 test samples of the small set."""
    lmht, empf, twin = (nets.get(name) for name in (LMHT, EMPF, TWIN))
    return Result(
        row="nmnist",
        title="Event data: small VGG-SNN on N-MNIST, 1,000 training samples",
        bars=[
            at_least("LM-HT on 100 test samples", lmht.accuracy, 90.0, digits=1),
            at_least("EM-PF on 100 test samples", empf.accuracy, 90.0, digits=1),
        ],
        seeds=(0,),
        ann=against_ann(lmht.accuracy, twin),
        figures=[{"net": n.recipe.name, "test accuracy": f"{n.accuracy:.1f}"} for n in (lmht, empf, twin)],
        notes=["the ReLU twin sees the mean frame"],
    )


ROWS = (Row(name="nmnist", recipes=(LMHT, EMPF, TWIN), measure=nmnist),)
