"""Foreign module names for the layers of a plan: our path -> theirs, one complete dict per known variant.

    lm-ht         layer{s}.{3k}.0 conv, .1 norm, layer{s}.{3k+1 or 3k+2} neuron; classifier
                  conv1.0/.1, sn1; layer{s}.{b}.conv{i}.0/.1, sn{i}, downsample.0.0/.0.1; fc.0
    qcfs          layer{s}.{4k} conv, {4k+1} norm, {4k+2} activation; classifier
                  conv1.0/.1/.2; conv{s+1}_x.{b}.residual_function.{3i}/{3i+1}/{3i+2}, act, shortcut.0/.1; fc
    torchvision   features.{i} counted through conv, norm, ReLU and pool; classifier.{3i}
                  conv1, bn1; layer{s}.{b}.conv{i}, bn{i}, downsample.0/.1; fc

Stages s and units i of a block count from 1 (residual_function from 0), units k of a stage and blocks b from 0. A
linear classifier is counted through what stands beside its layers (flatten, activation, dropout).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from snn2chip.foreign.plan import Block, Plan, ResNetPlan, Unit, VGGPlan

Names = dict[str, str]


def lmht_names(plan: Plan) -> Iterator[Names]:
    """Yield the spellings of the public LM-HT code."""
    if isinstance(plan, VGGPlan):
        for neuron, head in product((1, 2), _classifiers(plan, suffixes=("", ".0"))):
            made = dict(head)
            for s, stage in enumerate(plan.stages, start=1):
                for k, unit in enumerate(stage):
                    at = f"layer{s}.{3 * k}"
                    made |= _unit(unit, f"{at}.0", f"{at}.1", f"layer{s}.{3 * k + neuron}")
            yield made
        return
    for (conv, norm), fc in product((("conv1.0", "conv1.1"), ("conv1", "bn1")), ("fc.0", "fc")):
        made = _unit(plan.stem, conv, norm, "sn1") | {plan.head: fc}
        for at, block in _blocks(plan, "layer{}.{}", first=1):
            for i, unit in enumerate(block.units, start=1):
                made |= _unit(unit, f"{at}.conv{i}.0", f"{at}.conv{i}.1", f"{at}.sn{i}")
            if block.shortcut is not None:
                made |= _unit(block.shortcut, f"{at}.downsample.0.0", f"{at}.downsample.0.1")
        yield made


def qcfs_names(plan: Plan) -> Iterator[Names]:
    """Yield the spellings of the public QCFS code."""
    if isinstance(plan, VGGPlan):
        for head in _classifiers(plan, suffixes=("",)):
            made = dict(head)
            for s, stage in enumerate(plan.stages, start=1):
                for k, unit in enumerate(stage):
                    made |= _unit(unit, *(f"layer{s}.{4 * k + n}" for n in range(3)))
            yield made
        return
    for last in ("act", "relu"):
        made = _unit(plan.stem, "conv1.0", "conv1.1", "conv1.2") | {plan.head: "fc"}
        for at, block in _blocks(plan, "conv{}_x.{}", first=2):
            for i, unit in enumerate(block.units):
                inner = f"{at}.residual_function.{{}}".format
                act = f"{at}.{last}" if i == len(block.units) - 1 else inner(3 * i + 2)
                made |= _unit(unit, inner(3 * i), inner(3 * i + 1), act)
            if block.shortcut is not None:
                made |= _unit(block.shortcut, f"{at}.shortcut.0", f"{at}.shortcut.1")
        yield made


def torchvision_names(plan: Plan) -> Iterator[Names]:
    """Yield the spellings of torchvision's models, and of CIFAR nets that follow them (one layer `classifier`)."""
    if isinstance(plan, VGGPlan):
        made: Names = {}
        i = 0
        for stage in plan.stages:
            for unit in stage:
                made |= _unit(unit, f"features.{i}", f"features.{i + 1}")
                i += 2 if unit.norm is None else 3
            i += 1
        yield made | _classifier(plan, start=0, step=3, suffix="")
        if not plan.hidden:
            yield made | {plan.head: "classifier"}
        return
    made = _unit(plan.stem, "conv1", "bn1") | {plan.head: "fc"}
    for at, block in _blocks(plan, "layer{}.{}", first=1):
        for i, unit in enumerate(block.units, start=1):
            made |= _unit(unit, f"{at}.conv{i}", f"{at}.bn{i}")
        if block.shortcut is not None:
            made |= _unit(block.shortcut, f"{at}.downsample.0", f"{at}.downsample.1")
    yield made


def _unit(unit: Unit, synapse: str, norm: str, act: str = "") -> Names:
    made = {unit.synapse: synapse}
    if unit.norm is not None:
        made[unit.norm] = norm
    if unit.act is not None and act:
        made[unit.act] = act
    return made


def _blocks(plan: ResNetPlan, pattern: str, *, first: int) -> Iterator[tuple[str, Block]]:
    for s, stage in enumerate(plan.stages, start=first):
        for b, block in enumerate(stage):
            yield pattern.format(s, b), block


def _classifiers(plan: VGGPlan, *, suffixes: tuple[str, ...]) -> Iterator[Names]:
    """Yield linear layers from position 1 (behind a flatten) or 0, with and without dropout between them."""
    steps = (3, 2) if plan.hidden else (3,)
    for start, step, suffix in product((1, 0), steps, suffixes):
        yield _classifier(plan, start=start, step=step, suffix=suffix)


def _classifier(plan: VGGPlan, *, start: int, step: int, suffix: str) -> Names:
    made: Names = {}
    for i, unit in enumerate((*plan.hidden, Unit(synapse=plan.head))):
        at = start + step * i
        made |= _unit(unit, f"classifier.{at}{suffix}", "", f"classifier.{at + 1}")
    return made
