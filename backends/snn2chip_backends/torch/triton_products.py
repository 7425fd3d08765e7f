"""Convolutions and linear maps as products on matrix units: payloads gathered tile by tile, exact integers out.

    out[(n, y, x), o] = 2^exponent * sum over (i, j, c) of w[o, (i, j, c)] * p[n, y*stride - pad + i*dilation, .., c]

Operands are int8, bfloat16 or float16, sums int32 or float32: `tensor_cores` says when that is exact. Weights
`[groups, outputs, terms]` are padded with zeros to whole tiles, channels innermost; one program computes BLOCK_M
positions of BLOCK_N outputs of one group.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

INT8, BFLOAT16, FLOAT16 = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)


@triton.jit
def operand(x, UNIT: tl.constexpr):
    """Payloads in the type of the matrix unit, which holds them exactly."""
    if UNIT == INT8:
        y = x.to(tl.int8)
    elif UNIT == BFLOAT16:
        y = x.to(tl.float32).to(tl.bfloat16)
    else:
        y = x.to(tl.float32).to(tl.float16)
    return y


@triton.jit(do_not_specialize=["positions", "height", "width", "out_height", "out_width", "exponent"])
def convolve(
    p,
    w,
    out,
    positions,
    height,
    width,
    out_height,
    out_width,
    p_n,
    p_c,
    p_y,
    p_x,
    w_group,
    w_out,
    out_position,
    outputs,
    exponent,
    STRIDE_Y: tl.constexpr,
    STRIDE_X: tl.constexpr,
    PAD_Y: tl.constexpr,
    PAD_X: tl.constexpr,
    DILATION_Y: tl.constexpr,
    DILATION_X: tl.constexpr,
    KERNEL_Y: tl.constexpr,
    KERNEL_X: tl.constexpr,
    CHANNELS: tl.constexpr,
    TERMS: tl.constexpr,
    UNIT: tl.constexpr,
    WIDE: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Currents `[positions, groups * outputs]`; `CHANNELS` of one group, `TERMS` with the zeros behind them."""
    tiles = (outputs + BLOCK_N - 1) // BLOCK_N
    tile_m, tile_n, group = tl.program_id(0) // tiles, tl.program_id(0) % tiles, tl.program_id(1)
    zero = group.to(tl.int64) * 0
    m = tile_m * BLOCK_M + tl.arange(0, BLOCK_M)
    o = tile_n * BLOCK_N + tl.arange(0, BLOCK_N)
    inside = m < positions
    x0 = (m % out_width) * STRIDE_X - PAD_X
    y0 = (m // out_width % out_height) * STRIDE_Y - PAD_Y
    n = m // (out_width * out_height)
    base = (zero + n) * p_n + (zero + group) * CHANNELS * p_c
    k = tl.arange(0, BLOCK_K)
    rows = (zero + group) * w_group + o * w_out
    if UNIT == INT8:
        total = tl.full((BLOCK_M, BLOCK_N), 0, tl.int32)
    else:
        total = tl.full((BLOCK_M, BLOCK_N), 0.0, tl.float32)
    for first in range(0, TERMS, BLOCK_K):
        if CHANNELS % BLOCK_K == 0:  # one tap of the kernel for the whole tile
            tap = first // CHANNELS
            y = y0 + tap // KERNEL_X * DILATION_Y
            x = x0 + tap % KERNEL_X * DILATION_X
            there = inside & (y >= 0) & (y < height) & (x >= 0) & (x < width)
            at = (base + y * p_y + x * p_x)[:, None] + ((first % CHANNELS + k) * p_c)[None, :]
            values = tl.load(p + at, mask=there[:, None], other=0)
        else:
            term = first + k
            tap = term // CHANNELS
            y = y0[:, None] + (tap // KERNEL_X * DILATION_Y)[None, :]
            x = x0[:, None] + (tap % KERNEL_X * DILATION_X)[None, :]
            there = inside[:, None] & (tap < KERNEL_Y * KERNEL_X)[None, :]
            there = there & (y >= 0) & (y < height) & (x >= 0) & (x < width)
            at = base[:, None] + y * p_y + x * p_x + (term % CHANNELS * p_c)[None, :]
            values = tl.load(p + at, mask=there, other=0)
        weights = tl.load(w + (rows[None, :] + (first + k)[:, None]))
        if UNIT == INT8:
            total = tl.dot(operand(values, UNIT), weights, total, out_dtype=tl.int32)
        else:
            total = tl.dot(operand(values, UNIT), weights, total, out_dtype=tl.float32)
    if WIDE:
        current = total.to(tl.int64) << exponent
    else:
        current = total.to(tl.int32) << exponent
    place = out + (((zero + m) * out_position)[:, None] + (group * outputs + o)[None, :])
    tl.store(place, current.to(out.dtype.element_ty), mask=inside[:, None] & (o < outputs)[None, :])
