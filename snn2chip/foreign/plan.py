"""The layers of a zoo net by role, as paths in its state_dict: what a foreign layout has to give names to.

VGG       stages of units, hidden units, head         unit = (synapse, norm, activation)
ResNet    stem unit, stages of blocks, head           block = (units, shortcut unit without activation)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from snn2chip.errors import InputError

if TYPE_CHECKING:
    from torch import nn


@attrs.frozen(kw_only=True)
class Unit:
    """A convolution or linear layer with its norm and its activation, as paths; None where there is none."""

    synapse: str
    norm: str | None = None
    act: str | None = None


@attrs.frozen(kw_only=True)
class Block:
    """A residual block: its units in order, and the shortcut's convolution where it has one."""

    units: tuple[Unit, ...]
    shortcut: Unit | None = None


@attrs.frozen(kw_only=True)
class VGGPlan:
    """A VGG: stages of convolution units, hidden linear units, the head's path."""

    stages: tuple[tuple[Unit, ...], ...]
    hidden: tuple[Unit, ...]
    head: str

    @property
    def linear_acts(self) -> frozenset[str]:
        """The paths of activations behind linear layers."""
        return frozenset(unit.act for unit in self.hidden if unit.act)


@attrs.frozen(kw_only=True)
class ResNetPlan:
    """A standard ResNet: stem unit, stages of blocks, the head's path."""

    stem: Unit
    stages: tuple[tuple[Block, ...], ...]
    head: str

    @property
    def linear_acts(self) -> frozenset[str]:
        """No activation stands behind a linear layer."""
        return frozenset()


Plan = VGGPlan | ResNetPlan


def plan_of(model: nn.Module, *, name: str) -> Plan:
    """Return the plan of a zoo model; InputError for models no foreign layout has names for."""
    from snn2chip_models.resnet import ResNet
    from snn2chip_models.vgg import VGG

    if isinstance(model, VGG):
        return _vgg(model)
    if isinstance(model, ResNet):
        if model.preactivation:
            raise InputError(f"{name}: foreign layouts know the standard residual block, not preactivation=true")
        if model.hidden:
            raise InputError(
                f"{name}: foreign layouts have no names for hidden={list(model.hidden)} of a ResNet; "
                "a net with one linear head takes hidden=[]"
            )
        return _resnet(model)
    raise InputError(f"{name}: foreign layouts have names for VGG and ResNet nets, not for {type(model).__name__}")


def _vgg(model: nn.Module) -> VGGPlan:
    from snn2chip_models.vgg import VGG

    assert isinstance(model, VGG)
    have = {path for path, _ in model.named_modules()}

    def unit(tag: str) -> Unit:
        norm = f"layers.norm{tag}"
        return Unit(synapse=f"layers.conv{tag}", norm=norm if norm in have else None, act=f"layers.act{tag}")

    return VGGPlan(
        stages=tuple(
            tuple(unit(f"{s}_{c}") for c in range(1, len(stage) + 1)) for s, stage in enumerate(model.stages, start=1)
        ),
        hidden=tuple(Unit(synapse=f"layers.fc{i}", act=f"layers.act_fc{i}") for i in range(1, len(model.hidden) + 1)),
        head="layers.head",
    )


def _resnet(model: nn.Module) -> ResNetPlan:
    from snn2chip_models.resnet import ResidualBlock, ResNet

    assert isinstance(model, ResNet)
    modules = dict(model.named_modules())

    def unit(path: str, act: str | None) -> Unit:
        norm = f"{path}.norm"
        return Unit(synapse=f"{path}.conv", norm=norm if norm in modules else None, act=act)

    def block(path: str) -> Block:
        found = modules[path]
        assert isinstance(found, ResidualBlock)
        return Block(
            units=tuple(unit(f"{path}.synapse{i}", f"{path}.act{i}") for i in range(1, found.depth + 1)),
            shortcut=None if found.shortcut is None else unit(f"{path}.shortcut", None),
        )

    return ResNetPlan(
        stem=unit("stem", "stem.act"),
        stages=tuple(
            tuple(block(f"stages.stage{s}.{b}") for b in range(count)) for s, count in enumerate(model.blocks, start=1)
        ),
        head="head.head",
    )
