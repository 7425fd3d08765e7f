"""How a run is captured: buffers, rows of the tape and moves between them, node by node in the order data flows."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from snn2chip.ir.nodes import Host, Input, Node, Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma
from snn2chip_backends.torch import int8
from snn2chip_backends.torch import layout as at
from snn2chip_backends.torch.capture_counts import Counting
from snn2chip_backends.torch.capture_parts import ARRAYS, Array, LibraryMove, NotCaptured, Sent, logical, view_of
from snn2chip_backends.torch.captured import Captured, Frames
from snn2chip_backends.torch.exact import exact_arithmetic
from snn2chip_backends.torch.fused import CODES, channels_last, compiled_pass
from snn2chip_backends.torch.linear import Columns, LinearMove, Source, from_rows, in_bytes, in_rows, library_cost
from snn2chip_backends.torch.plan import Plan
from snn2chip_backends.torch.somas import BINARY, tensor_type


class _Capture:
    """One run while it is captured."""

    def __init__(self, program: Program, plan: Plan, kind: Frames, shared: dict[Any, Any]) -> None:
        self.program, self.plan, self.shared = program, plan, shared
        self.batch, self.steps = kind[0], program.steps
        self.tape = np.zeros((8 * len(program.nodes), at.LENGTH), np.int64)
        self.used = self.cut_at = 0
        self.sent: dict[str, Sent] = {}
        self.moves: list[Callable[[], None]] = []
        self.zeroed: list[Array] = []
        self.outputs: dict[str, Callable[[], Array]] = {}
        self.exact = False
        self.kept: list[Any] = []
        self.digits: dict[int, Array] = {}
        self.last: dict[str, Array] = {}
        self.counting = Counting(program, self.batch)
        play = compiled_pass()
        looped = any(feedback for _, feedback in plan.components) or any(edge.delay for edge in program.edges)
        apart = any(name not in plan.inlined for name in plan.currents)
        if play is None or looped or apart:
            raise NotCaptured
        self.play = play
        for node, frames in zip(program.inputs, kind[1:], strict=True):
            self._input(node, frames)
        self.cut_at = self.used
        for (name,), _ in plan.components:
            soma = program[name]
            if isinstance(soma, Soma):
                self._soma(soma)
        self.counts = self.counting.finish(self.row)
        self.cut()

    def row(self, op: int) -> Array:
        """The next row of the tape."""
        d: Array = self.tape[self.used]
        d[at.OP] = op
        self.used += 1
        return d

    def cut(self) -> None:
        """Let the rows since the last cut be one move."""
        if self.used > self.cut_at:
            self.moves.append(partial(self.play, self.tape[self.cut_at : self.used]))
            self.cut_at = self.used

    def _input(self, node: Input | Host, frames: int) -> None:
        kind = tensor_type(self.plan.payloads[node.name])
        size, turned, repeat = int(np.prod(node.shape)), channels_last(node.shape), self.steps // frames
        d, array = self.row(at.INPUT), np.zeros((self.batch, frames, size), ARRAYS[kind])
        channels = node.shape[0] if turned else 1
        d[at.FRAMES], d[at.SAMPLES], d[at.CHANNELS], d[at.POSITIONS] = frames, self.batch, channels, size // channels
        d[at.PAYLOAD], d[at.PAYLOAD_CODE] = array.ctypes.data, CODES[kind]
        binary = self.plan.payloads[node.name] in BINARY
        d[at.IN_SPIKES], d[at.IN_TOTAL] = self.counting.source(
            node.name, size, binary=binary, repeat=repeat, turned=False, saturated=int
        )
        self.sent[node.name] = Sent(array, d, view_of(array, node.shape))

    def _soma(self, soma: Soma) -> None:
        kernel, program = self.plan.somas[soma.name], self.program
        fused, edges = kernel.fused, program.into[soma.name]
        if fused is None or (soma.window is not None and not fused.mixes):
            raise NotCaptured
        arriving = [[self._from(e.src) for e in program.into[edge.src]] for edge in edges]
        steady = soma.window is None and all(s.array.shape[1] == 1 for sources in arriving for s in sources)
        keeps = not kernel.stateless
        spoken = 1 if kernel.silent or (not keeps and steady and not kernel.per_step) else self.steps
        late: list[tuple[int, LinearMove | LibraryMove]] = []
        fields: list[Source] = []
        extra: list[Source] = []
        for edge, sources in zip(edges, arriving, strict=True):
            made = self._current(soma, program[edge.src], sources)
            if isinstance(made, (LinearMove, LibraryMove)):
                late.append((len(fields), made))
            fields.append(made if isinstance(made, tuple) else (0, 0, 0, 0, 0))
        for _, move in late:
            extra += [(0, 0, 0, 0, 0)] * (move.targets_wanted - 1)
        if len(fields) + len(extra) > at.MOST_SOURCES:
            raise NotCaptured
        d = self.row(at.SOMA)
        d[:] = fused.described
        d[at.OP], d[at.LAST], d[at.SOURCES] = at.SOMA, self.batch, len(fields) + len(extra)
        d[at.STEPS] = d[at.END] = self.steps if keeps else spoken
        targets = [d[f : f + 5] for f in range(at.SOURCE, at.SOURCE + at.FIELDS * at.MOST_SOURCES, at.FIELDS)]
        for target, source in zip(targets, fields, strict=False):
            target[:] = source
        behind = len(fields)
        for first, move in late:
            more = move.targets_wanted - 1
            move.targets = [targets[first], *targets[behind : behind + more]]
            behind += more
        factor = self.steps if not keeps and spoken == 1 else 1
        d[at.SPIKES], d[at.TOTAL] = self.counting.source(
            soma.name,
            soma.size,
            binary=kernel.binary,
            repeat=self.steps // spoken if not kernel.silent else 1,
            turned=channels_last(soma.shape),
            saturated=lambda: int(d[at.SATURATED]) * factor,
        )
        if not kernel.silent:
            kind = kernel.payload_type
            array = np.zeros((self.batch, spoken, soma.size), ARRAYS[kind])
            d[at.OUT], d[at.OUT + 1], d[at.OUT + 2] = array.ctypes.data, soma.size, spoken * soma.size
            d[at.OUT_CODE] = CODES[kind]
            self.sent[soma.name] = Sent(array, d, view_of(array, soma.shape))
        self._read(soma, d, self.steps // spoken, keeps=keeps)

    def _from(self, name: str) -> Sent:
        if name not in self.sent:
            raise NotCaptured
        return self.sent[name]

    def _current(self, soma: Soma, node: Node, sources: list[Sent]) -> Source | LinearMove | LibraryMove:
        """What brings the current of one edge: a place where it will lie, or a move that says where."""
        if node.name in self.plan.scaled:
            return sources[0].fields
        made = self._linear(soma, node, sources[0]) if isinstance(node, Synapse) else None
        if isinstance(made, tuple):
            return made
        move = made or LibraryMove(self.plan.currents[node.name], [sent.view for sent in sources])
        self.exact = self.exact or made is None
        self.cut()
        self.moves.append(move)
        return move

    def _linear(self, soma: Soma, synapse: Synapse, sent: Sent) -> Source | LinearMove | None:
        """A linear synapse by events and in bytes, or by events alone where that never costs more."""
        if synapse.kind != "linear" or channels_last(soma.shape):
            return None
        (edge,) = self.program.into[synapse.name]
        payload, shape = self.plan.payloads[edge.src], self.program.shapes[edge.src]
        if synapse.name not in self.shared:
            columns = Columns.of(synapse, payload, shape)
            made = columns, [] if columns is None else in_bytes(synapse, payload, shape)
            self.shared.setdefault(synapse.name, made)
        columns, products = self.shared[synapse.name]
        if columns is None:
            return None
        rows, code = sent.array.shape[0] * sent.array.shape[1], CODES[sent.view.dtype]
        library = library_cost(columns, rows, len(products))
        if columns.cost(rows, sent.array.size) <= library:
            d = self.row(at.FEW_ROWS)
            out = columns.describe(d, sent.array, code)
            self.kept += [out, columns]  # the row holds addresses only
            return from_rows(out, sent.array.shape[1])
        digits = self._digits(sent, len(products))
        if digits is None:
            return None
        pairs = list(zip(products, digits, strict=True))
        return LinearMove(self.play, columns, sent.array, code, lambda: int(sent.row[at.FIRED]), pairs)

    def _digits(self, sent: Sent, count: int) -> list[Tensor] | None:
        """The 7-bit digits of payloads as rows of bytes; those of an input come with its payloads."""
        if count == 1:
            return [in_rows(sent.array)] if sent.array.itemsize == 1 else None
        if count != int8.MOST_DIGITS or sent.row[at.OP] != at.INPUT:
            return None
        if sent.row[at.DIGITS] == 0:
            made = np.zeros((count, *sent.array.shape), np.int8)
            self.kept.append(made)
            self.digits[sent.row.ctypes.data] = made
            sent.row[at.DIGITS : at.DIGITS + 2] = made[0].ctypes.data, made[1].ctypes.data
        return [in_rows(digit) for digit in self.digits[sent.row.ctypes.data]]

    def _read(self, soma: Soma, d: Array, repeat: int, *, keeps: bool) -> None:
        """Outputs that read this soma."""
        kernel = self.plan.somas[soma.name]
        for output in self.program.outputs:
            if self.program.into[output.name][0].src != soma.name:
                continue
            array = np.zeros((self.batch, soma.size), np.int32)
            if output.read == "potential":
                if keeps and not d[at.LAST_V]:
                    d[at.LAST_V] = array.ctypes.data
                    self.last[soma.name] = array
                self.outputs[output.name] = partial(logical, self.last.get(soma.name, array), soma.shape, 1)
                continue
            if kernel.silent or kernel.fused is None or self.steps * kernel.fused.highest >= 1 << 31:
                raise NotCaptured
            field = at.PER_SAMPLE + (output.read == "payload")
            if d[field]:
                raise NotCaptured
            d[field] = array.ctypes.data
            self.zeroed.append(array)
            self.outputs[output.name] = partial(logical, array, soma.shape, repeat)


def capture(program: Program, plan: Plan, kind: Frames, shared: dict[Any, Any]) -> Captured | None:
    """The captured run of `program` for a batch and frames per input, or None where there is none."""
    try:
        with exact_arithmetic(torch.device("cpu")):
            made = _Capture(program, plan, kind, shared)
    except NotCaptured:
        return None
    order = [made.outputs[output.name] for output in program.outputs]
    names = [output.name for output in program.outputs]
    counts = made.counts
    return Captured(
        play=made.play,
        inputs=made.tape[: len(program.inputs)],
        moves=made.moves,
        counts=made.counting.sums,
        zeroed=made.zeroed,
        answer=lambda: ({name: output() for name, output in zip(names, order, strict=True)}, counts()),
        exact=made.exact,
        kept=[made.kept, made.sent, made.counting.kept, made.last, plan],
    )
