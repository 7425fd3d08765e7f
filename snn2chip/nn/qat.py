"""Quantization-aware training: the integer soma in the forward pass, the float neuron's gradient.

    x_int(t) = floor(x(t)/lsb + 1/2),   lsb = theta / 2^theta_bits          the current in integer units
    LM-HT:     x_int(t) = sum_j w[t,j]*x_int(j),   w = floor(Omega*2^f + 1/2), theta and v in units lsb / 2^f
    m_int = sat24( trunc(v_int*n / 4096) + x_int ),   n = round(4096*leak)
    k = clip(floor(m_int/theta_int), 0, L),   o = k*theta,   v_int = m_int - k*theta_int   (hard reset: 0)

Every float quantity of a step (m, o, v) takes the integer value and keeps the neuron's own backward rule,
straight through, so the surrogate band is read at the integer potential. Weights: see `intweight`.

Behind integer, binary or ternary weights the current itself is the program's: whole numbers a, scaled and shifted by
integers (`qat_feed`), with norms at their running statistics. So in eval mode every payload is the compiled program's,
and compiling takes these integers as they are. In training a norm uses the statistics of its batch, which no
program can; there x_int above is taken. `exact` of a neuron says whether it is so, or why not:

    float weights in front        the compiler rounds them, training did not
    a sum of currents             (residual nets) its branches share one unit that the compiler chooses
    real-valued input             the chip gets it rounded; declare `input_unit` if it is whole multiples of one
"""

from __future__ import annotations

from typing import Any, TypeVar

import attrs
import torch
from torch import Tensor, nn

from snn2chip.errors import InputError, QuantizeError, UnsupportedError
from snn2chip.ir.layers import FloatSoma
from snn2chip.ir.trained import STATE_MAX, TrainedSoma, advance
from snn2chip.nn.base import Neuron
from snn2chip.nn.intweight import IntConv2d, IntLinear, check_bits
from snn2chip.nn.surrogate import straight_through

LEAK_ONE = 4096
UNBOUND = "its network has not run yet"
_RESETS = ("subtract", "zero", "drop")
_Model = TypeVar("_Model", bound=nn.Module)


def _half_up(value: Tensor) -> Tensor:
    return torch.floor(value.double() + 0.5).to(torch.int64)


@attrs.frozen(kw_only=True, eq=False)
class IntegerFields:
    """The integers of one soma, and `lsb`, the float value of one unit of its potential."""

    theta: int
    levels: int
    leak: int
    bias: int
    v_init: int
    reset: str
    window: Tensor | None
    lsb: float


@attrs.frozen(kw_only=True)
class IntegerGrid:
    """The grid a neuron is trained on: theta = 2^theta_bits current units, window step 2^-window_bits.

    `input_unit`: the model's input is whole multiples of it (None: found out on the first input, if that is whole).
    """

    theta_bits: int = attrs.field(default=8, validator=[attrs.validators.ge(1), attrs.validators.le(22)])
    window_bits: int = attrs.field(default=8, validator=[attrs.validators.ge(0), attrs.validators.le(14)])
    input_unit: float | None = attrs.field(
        default=None,
        converter=attrs.converters.optional(float),
        validator=attrs.validators.optional(attrs.validators.gt(0)),
    )

    def fields(self, neuron: Neuron) -> IntegerFields:
        """Return the neuron's constants as integers; UnsupportedError or QuantizeError if there are none."""
        soma = neuron.lower()
        if breaches := _breaches(type(neuron).__name__, soma):
            raise UnsupportedError(breaches)
        fraction = 0 if soma.window is None else self.window_bits
        theta = 2 ** (self.theta_bits + fraction)
        lsb = float(soma.theta) / theta
        fields = IntegerFields(
            theta=theta,
            levels=soma.levels,
            leak=int(_half_up(soma.leak * LEAK_ONE)),
            bias=int(_half_up(soma.bias.double() / lsb)),
            v_init=theta // 2 if soma.v_init_rule == "half-theta" else int(_half_up(soma.v_init.double() / lsb)),
            reset=soma.reset,
            window=None if soma.window is None else _half_up(soma.window * 2**fraction),
            lsb=lsb,
        )
        if soma.levels * theta > STATE_MAX or abs(fields.v_init) > STATE_MAX or abs(fields.leak) > 2**15 - 1:
            raise QuantizeError(
                f"{type(neuron).__name__}: levels*theta = {soma.levels}*{theta}, v_init = {fields.v_init} or "
                f"leak = {fields.leak} exceeds 24 (leak: 16) bits; lower theta_bits or window_bits"
            )
        return fields

    def snap(self, soma: FloatSoma) -> FloatSoma:
        """Return the soma with leak and window on this grid, as the trained forward pass used them."""
        window = soma.window
        if window is not None:
            window = (_half_up(window * 2**self.window_bits) / 2**self.window_bits).to(window.dtype)
        return attrs.evolve(soma, leak=_half_up(soma.leak * LEAK_ONE) / LEAK_ONE, window=window)

    def trained(self, neuron: Neuron) -> TrainedSoma | None:
        """Return the neuron's integers behind its feed; None if it has none or a norm uses its batch's statistics."""
        feed = neuron.feed
        if feed is None or not feed.settled:
            return None
        fields = self.fields(neuron)
        return feed.trained(fields, kappa=1 if fields.window is None else 2**self.window_bits)

    def mix(self, neuron: Neuron, x: Tensor) -> Tensor:
        """Return the integer currents of x `[T,B,...]` (or one step `[B,...]`), mixed by a window."""
        trained, feed = self.trained(neuron), neuron.feed
        if trained is not None and feed is not None:
            steps = x.unsqueeze(0) if neuron.step_mode == "s" else x
            if feed.holds(trained, steps, training=neuron.training):
                scaled = trained.scaled(trained.accumulated(steps))
                return scaled[0] if neuron.step_mode == "s" else scaled
        fields = self.fields(neuron)
        unit = fields.lsb if fields.window is None else fields.lsb * 2**self.window_bits
        integer = _half_up(x.detach().double() / unit).clamp(-STATE_MAX, STATE_MAX)
        if fields.window is None:
            return integer + fields.bias
        window = fields.window.to(integer.device)
        return torch.stack([sum_products(row, integer) for row in window]) + fields.bias

    def initial(self, neuron: Neuron, like: Tensor) -> Tensor:
        """Return the integer potential at the start of a sample, shaped like one step."""
        return torch.full(like.shape, self.fields(neuron).v_init, dtype=torch.int64, device=like.device)

    def advance(
        self, neuron: Neuron, current: Tensor, v: Tensor, integer: Tensor, v_integer: Tensor
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Run one step on integers: (payload value, (v, v_integer)), with the neuron's own gradient."""
        fields = self.fields(neuron)
        m_integer, count, after = advance(
            integer, v_integer, leak=fields.leak, theta=fields.theta, levels=fields.levels, reset=fields.reset
        )
        unit = neuron.threshold().detach()
        m = straight_through(neuron.integrate(current, v), value=_value(m_integer, fields.lsb, current))
        o = straight_through(neuron.fire(m), value=unit * count.to(current.dtype))
        settled = straight_through(neuron.settle(m, o), value=_value(after, fields.lsb, current))
        return o, (settled, after)


def sum_products(weights: Tensor, steps: Tensor) -> Tensor:
    """Return sum_j weights[j]*steps[j] of integers `[T]` and `[T,B,...]`, exactly."""
    return (weights.view(-1, *[1] * (steps.dim() - 1)) * steps).sum(0)


def _value(integer: Tensor, lsb: float, like: Tensor) -> Tensor:
    return (integer.double() * lsb).to(like.dtype)


def _breaches(name: str, soma: FloatSoma) -> list[str]:
    scalars = {"theta": soma.theta, "leak": soma.leak, "bias": soma.bias, "v_init": soma.v_init}
    breaches = [
        f"{name}: {field} of shape {list(value.shape)}; the integer grid needs one value per layer"
        for field, value in scalars.items()
        if value.numel() != 1
    ]
    if soma.fire != "levels" or soma.reset not in _RESETS:
        breaches.append(f"{name}: fire = {soma.fire}, reset = {soma.reset} cannot be trained on the integer grid")
    if soma.gain.numel() != 1 or float(soma.gain) != 1.0:
        breaches.append(f"{name}: a gain other than 1 cannot be trained on the integer grid")
    return breaches


def quantize_neurons(
    model: _Model, *, theta_bits: int = 8, window_bits: int = 8, input_unit: float | None = None
) -> _Model:
    """Let every neuron of `model` run on integers from now on; the model is changed and returned.

    `input_unit`: the model's input is whole multiples of it, (raw*scale - mean)/std with a whole mean/scale has the
    unit scale/std. None: it is 1 if the first input is whole numbers, else unknown. On the first input every neuron
    looks up the layers in front of it (`bind_neurons`). Raises QuantizeError or UnsupportedError for neurons
    without such a form, InputError if there is none.
    """
    grid = IntegerGrid(theta_bits=theta_bits, window_bits=window_bits, input_unit=input_unit)
    neurons = _neurons(model)
    if not neurons:
        raise InputError("quantize_neurons: the model has no neurons from snn2chip.nn")
    for neuron in neurons:
        grid.fields(neuron)
        neuron.qat, neuron.feed, neuron.exact = grid, None, UNBOUND
    if not isinstance(model, Neuron):
        model.register_forward_pre_hook(_bind_first)
    return model


def declare_input_unit(model: nn.Module, unit: float | None) -> None:
    """Say that the model's input is whole multiples of `unit` (None: of none that is known)."""
    for neuron in _neurons(model):
        if neuron.qat is not None:
            neuron.qat = attrs.evolve(neuron.qat, input_unit=unit)
            neuron.feed, neuron.exact = None, UNBOUND


def _neurons(model: nn.Module) -> list[Neuron]:
    return [module for module in model.modules() if isinstance(module, Neuron)]


def _bind_first(model: nn.Module, args: tuple[Any, ...]) -> None:
    """Before a forward: look up what drives the neurons, once."""
    if len(args) != 1 or not isinstance(args[0], Tensor) or all(n.exact != UNBOUND for n in _neurons(model)):
        return
    from snn2chip.frontends.torch_qat import bind_neurons

    bind_neurons(model, args[0])


def quantize_weights(model: _Model, *, bits: int, edge_bits: int | None = 8) -> _Model:
    """Replace every float Linear and Conv2d by its `bits`-bit form; parameters and their names stay.

    The first and the last one get `edge_bits` bits (None: they stay float); binary and ternary layers stay.
    The model is changed and returned. Raises InputError for a width outside 2..8 or a model without any.
    """
    check_bits(bits, owner="quantize_weights")
    if edge_bits is not None:
        check_bits(edge_bits, owner="quantize_weights (edge_bits)")
    found = [
        (model.get_submodule(path.rpartition(".")[0]), path.rpartition(".")[2], child)
        for path, child in model.named_modules(remove_duplicate=False)
        if path and type(child) in (nn.Linear, nn.Conv2d)
    ]
    if not found:
        raise InputError("quantize_weights: the model has no float Linear or Conv2d below its root")
    edges = (found[0][2], found[-1][2])
    twins: dict[nn.Module, nn.Module] = {}  # a shared layer keeps one twin
    for parent, name, child in found:
        width = edge_bits if child in edges else bits
        if width is not None:
            twins[child] = twins.get(child) or _integer_twin(child, bits=width)
            setattr(parent, name, twins[child])
    return model


def _integer_twin(layer: nn.Module, *, bits: int) -> nn.Module:
    twin: IntLinear | IntConv2d
    if isinstance(layer, nn.Linear):
        twin = IntLinear(layer.in_features, layer.out_features, layer.bias is not None, bits=bits, device="meta")
    else:
        assert isinstance(layer, nn.Conv2d)
        twin = IntConv2d(
            layer.in_channels,
            layer.out_channels,
            layer.kernel_size,
            bits=bits,
            stride=layer.stride,
            padding=layer.padding,
            dilation=layer.dilation,
            groups=layer.groups,
            bias=layer.bias is not None,
            padding_mode=layer.padding_mode,
            device="meta",
        )
    twin.weight, twin.bias = layer.weight, layer.bias
    twin.training = layer.training
    return twin
