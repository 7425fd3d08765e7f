"""The other counter: every synapse written out as (source, destination, weight), every spike followed by hand."""

from __future__ import annotations

from collections import Counter

import numpy as np

from snn2chip import Product, Program, Soma, Synapse


def stored_synapses(node: Synapse, in_shape, out_shape):
    """Yield (source index, destination index, weight) of everything that is stored, taps on padding left out."""
    if node.kind == "linear":
        w = node.dense()
        for m in range(w.shape[0]):
            for n in range(w.shape[1]):
                if w[m, n] or not node.sparse:
                    yield np.unravel_index(n, in_shape), np.unravel_index(m, out_shape), int(w[m, n])
        return
    if node.kind == "identity":
        w = np.broadcast_to(node.weight.reshape(node.weight.shape + (1,) * (len(in_shape) - node.weight.ndim))
                            if node.weight.ndim == 1 else node.weight, in_shape)  # fmt: skip
        for at in np.ndindex(*in_shape):
            if w[at] or not node.sparse:
                yield at, at, int(w[at])
        return
    pool = node.kind == "sumpool"
    per = 1 if pool else in_shape[0] // node.groups
    for co, y, x in np.ndindex(*out_shape):
        group = co if pool else co // (out_shape[0] // node.groups)
        for ci, i, j in np.ndindex(per, *node.kernel_size):
            r = y * node.stride[0] - node.padding[0] + i * node.dilation[0]
            c = x * node.stride[1] - node.padding[1] + j * node.dilation[1]
            if 0 <= r < in_shape[1] and 0 <= c < in_shape[2]:
                if pool:
                    w = int(node.weight.ravel()[co if node.weight.size > 1 else 0])
                else:
                    w = int(node.weight[co, ci, i, j])
                if w or not node.sparse or pool:
                    yield (group * per + ci, r, c), (co, y, x), w


def brute(program: Program, trace) -> dict:
    """Follow every payload of every sample, step and neuron of a trace recorded with everything."""
    steps, batch = program.steps, trace.samples
    payloads = {**trace.inputs, **trace.payloads}
    out: dict = {"synapses": {}, "sources": {}, "active": {}, "arrivals": {}}
    received = {s.name: np.zeros((steps, batch, *s.shape), bool) for s in program.somas}
    for node in program.nodes:
        if isinstance(node, Synapse):
            (edge,) = program.into[node.name]
            sums: Counter = Counter(dict.fromkeys(("events", "payload", "bits", "effective", "dense"), 0))
            per_step = [0] * steps
            p, shape = payloads[edge.src], program.shapes[node.name]
            arrivals = out["arrivals"][node.name] = np.zeros(shape, int)
            for src, dst, w in stored_synapses(node, program.shapes[edge.src], shape):
                for t in range(max(steps - edge.delay, 0)):
                    for b in range(batch):
                        sums["dense"] += 1
                        value = int(p[(t, b, *src)])
                        if value == 0:
                            continue
                        sums["events"] += 1
                        sums["payload"] += abs(value)
                        sums["bits"] += bin(abs(value)).count("1")
                        sums["effective"] += w != 0
                        per_step[t + edge.delay] += 1
                        arrivals[dst] += 1
                        for onward in program.out_of[node.name]:
                            received[onward.dst][(t + edge.delay, b, *dst)] = True
            out["synapses"][node.name] = (dict(sums), per_step)
        elif isinstance(node, Product):
            for edge in program.into[node.name]:
                p, shape = payloads[edge.src], program.shapes[node.name]
                for t, b, *at in np.ndindex(max(steps - edge.delay, 0), batch, *shape):
                    have = p.shape[2:]
                    src = tuple(i if k < len(have) and have[k] > 1 else 0 for k, i in enumerate(at))[: len(have)]
                    if p[(t, b, *src)]:
                        for onward in program.out_of[node.name]:
                            received[onward.dst][(t + edge.delay, b, *at)] = True
    for soma in program.somas:
        assert isinstance(soma, Soma)
        active = out["active"][soma.name] = np.zeros(soma.shape, int)
        for t, b, *at in np.ndindex(*received[soma.name].shape):
            busy = received[soma.name][(t, b, *at)] or payloads[soma.name][(t, b, *at)]
            active[tuple(at)] += bool(busy)
    for name, p in payloads.items():
        first, values = Counter(), Counter()
        for b, *at in np.ndindex(*p.shape[1:]):
            train = [int(p[(t, b, *at)]) for t in range(steps)]
            values.update(train)
            first[next((t for t, v in enumerate(train) if v), steps)] += 1
        out["sources"][name] = (first, values)
    return out
