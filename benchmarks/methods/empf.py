"""EM-PF rows: binary weights against full-precision LIF, memory over T, the speed of random back-propagation."""

from __future__ import annotations

import time
from itertools import islice
from statistics import median

from benchmarks.methods.memory import peaks
from benchmarks.methods.nets import Nets
from benchmarks.methods.result import Result
from benchmarks.methods.rows import Row, against_ann, at_least, at_most

BINARY, LIF, TWIN, RANDOM = "fashion-empf", "fashion-empf-lif", "fashion-empf-relu", "fashion-empf-random"
SPEED_BATCHES, SPEED_TURNS = 40, 5


def binary(nets: Nets) -> Result:
    """Fashion-MNIST, T = 4, versions I and III, binary weights: accuracy and bytes against LIF in full precision."""
    from snn2chip_models.params import model_weights, parameter_bytes

    empf, lif, twin = nets.get(BINARY), nets.get(LIF), nets.get(TWIN)
    weights, full = model_weights(empf.model), parameter_bytes(model_weights(lif.model), charge="float32")
    paper, honest = (parameter_bytes(weights, charge=charge) for charge in ("paper", "honest"))
    return Result(
        row="fashion-empf",
        title="EM-PF binary (I+III), Fashion-MNIST, T=4",
        bars=[
            at_most("points behind full-precision STBP LIF on the same net", lif.accuracy - empf.accuracy, 1.5),
            at_most("parameter bytes at 2 bits per weight, of float32", paper / full, 1 / 8, unit="", digits=4),
        ],
        seeds=(0,),
        ann=against_ann(empf.accuracy, twin),
        figures=[
            {"net": "EM-PF binary", "test accuracy": f"{empf.accuracy:.2f}", "bytes, 2 bits": f"{paper:.0f}",
             "bytes, 1 bit": f"{honest:.0f}"},
            {"net": "LIF float32, STBP", "test accuracy": f"{lif.accuracy:.2f}", "bytes": f"{full:.0f}"},
            {"net": "ReLU twin", "test accuracy": f"{twin.accuracy:.2f}"},
        ],
    )  # fmt: skip


def memory(nets: Nets) -> Result:
    """Peak memory of a training step at T = 2 and T = 16, online and STBP, each in a process of its own."""
    found = {(method, steps): peaks(BINARY, method=method, steps=steps) for method in ("online", "stbp")
             for steps in (2, 16)}  # fmt: skip
    ratio = {method: found[method, 16] / found[method, 2] for method in ("online", "stbp")}
    return Result(
        row="empf-memory",
        title="EM-PF peak training memory, T=16 against T=2",
        bars=[at_most("online: peak at T=16 over peak at T=2", ratio["online"], 1.10, unit="x")],
        figures=[
            {
                "training": method,
                "MiB at T=2": f"{found[method, 2] / 2**20:.1f}",
                "MiB at T=16": f"{found[method, 16] / 2**20:.1f}",
                "ratio": f"{ratio[method]:.2f}",
            }
            for method in ratio
        ],
        notes=["peak resident memory of three updates above that of the loaded model, optimiser state and batch"],
    )


def speed(nets: Nets) -> Result:
    """CPU time per epoch, full online against one random step of T = 4; turns alternate."""
    import torch

    from snn2chip.train.modules import Online
    from snn2chip.train.online import online_step
    from snn2chip.train.optimise import make_optimiser
    from snn2chip.train.prepare import batches_of, prepare

    torch.set_num_threads(1)
    seconds: dict[str, list[float]] = {BINARY: [], RANDOM: []}
    count = 5 if nets.quick else SPEED_BATCHES
    ready = {}
    for name in seconds:
        recipe = nets.recipe(name)
        model, header, train, _ = prepare(recipe)
        batches = batches_of(recipe, train, spec=header.input, classes=len(header.classes))
        module = Online(model.train(), recipe, steps_per_epoch=len(batches))
        ready[name] = module, make_optimiser(model, recipe), list(islice(iter(batches), count)), len(batches)
    for turn in range(SPEED_TURNS + 1):
        for name, (module, optimiser, first, _) in ready.items():
            clock = time.process_time()
            for index, (x, y) in enumerate(first):
                chosen = module.chosen(epoch=turn, index=index)
                online_step(module.model, x, y, optimiser=optimiser, chosen=chosen)
            if turn:  # the first turn warms up
                seconds[name].append(time.process_time() - clock)
    epoch = {name: median(found) / count * ready[name][3] for name, found in seconds.items()}
    return Result(
        row="empf-random",
        title="Random back-propagation, EM-PF, T=4",
        bars=[at_least("times faster per epoch than full online", epoch[BINARY] / epoch[RANDOM], 2.0, unit="x")],
        figures=[{"training": name, "CPU seconds per epoch": f"{value:.1f}"} for name, value in epoch.items()],
        notes=[f"median of {SPEED_TURNS} alternated turns of {count} batches, CPU time of one core"],
    )


ROWS = (
    Row(name="fashion-empf", recipes=(BINARY, LIF, TWIN), measure=binary),
    Row(name="empf-memory", recipes=(BINARY,), measure=memory),
    Row(name="empf-random", recipes=(BINARY, RANDOM), measure=speed),
)
