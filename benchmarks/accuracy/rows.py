"""The rows of the accuracy table: a trained net, how it is quantized, and what it may lose.

points   float accuracy minus integer accuracy on the whole test set; a gain is no loss
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
from snn2chip_models.shipped import FOLDER

TRAINED = Path(__file__).parents[2] / "tests" / "data" / "trained"
FOLDERS = (TRAINED, FOLDER)
"""Where trained nets lie: those of the tests, and those that come with the zoo."""
EIGHT, FOUR, BINARY = 0.3, 2.0, 0.2
"""What 8-bit weights, 8-bit payloads, 4-bit and binary weights may lose, in points."""


@attrs.frozen(kw_only=True)
class Row:
    """One row: `net` is a trained checkpoint, `bar` the points it may lose (None: shown, not judged).

    `options` and `choices` go to `compile`; `same_payloads`: the float network has the program's own payload codes.
    """

    name: str
    net: str
    what: str
    bar: float | None = None
    options: Mapping[str, Any] = attrs.field(factory=dict)
    choices: Mapping[str, Any] = attrs.field(factory=dict)
    same_payloads: bool = False


FITTED = {"rounding": "fitted"}
NETS = {
    "fashion-lmht": "LM-HT (2,2), Fashion-MNIST",
    "cifar10-small-hybrid": "LM-HT (2,2) hybrid, CIFAR-10",
    "cifar10-small-qcfs": "QCFS L=4, CIFAR-10",
}


def _rows() -> list[Row]:
    rows = []
    for net, title in NETS.items():
        rows += [
            Row(name=f"{net}-int8", net=net, what=f"{title}: int8", bar=EIGHT, options={"weights": "int8", **FITTED}),
            Row(name=f"{net}-int8-nearest", net=net, what=f"{title}: int8", options={"weights": "int8"}),
            Row(name=f"{net}-int4", net=net, what=f"{title}: int4", bar=FOUR, options={"weights": "int4", **FITTED}),
        ]
    qcfs, title = "cifar10-small-qcfs", "QCFS L=4 as T=4 sorted spikes, CIFAR-10"
    spikes = {"parallel": "spikes"}
    rows += [
        Row(name=f"{qcfs}-parallel-int8", net=qcfs, what=f"{title}: int8", bar=EIGHT, choices=spikes,
            options={"weights": "int8", **FITTED}),
        Row(name=f"{qcfs}-parallel-int4", net=qcfs, what=f"{title}: int4", bar=FOUR, choices=spikes,
            options={"weights": "int4", **FITTED}),
    ]  # fmt: skip
    empf, title = "fashion-empf", "EM-PF, binary weights, Fashion-MNIST"
    for bits, bar in ((8, EIGHT), (4, None)):
        rows.append(Row(name=f"{empf}-payload{bits}", net=empf, what=f"{title}: {bits}-bit payload", bar=bar,
                        options=FITTED, choices={"payload_bits": bits}, same_payloads=True))  # fmt: skip
    for net, title, options in (
        ("fashion-lmht-binary", "LM-HT (2,2), binary weights, Fashion-MNIST", FITTED),
        ("fashion-qcfs-binary", "QCFS L=4, binary weights, Fashion-MNIST", FITTED),
        ("cifar10-resnet20-lmht", "LM-HT (2,2), ResNet-20, binary weights, CIFAR-10", {}),  # as it is shipped
    ):
        rows.append(Row(name=net, net=net, what=title, bar=BINARY, options=options))
    return rows


ROWS = {row.name: row for row in _rows()}
