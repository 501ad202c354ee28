"""The Triton programs for cells: one tile of channels and positions of one sample each.

Every value is cast to float32 right after loading; sums are taken in float32 around the mean, merged by Chan, Golub &
LeVeque (1983). No atomics: what programs share a cell write parts that the caller adds. `gate` points to a bool: where
it is false nothing is summed, and x or g is passed on. What a program writes, and what came of that, is dense; x need
not be, and so has strides of its own.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-untyped-call"

import triton
import triton.language as tl


@triton.jit
def moments_program(
    x_ptr,  # (N, C, P)
    mean_ptr,  # (splits, N, C), float32
    m2_ptr,  # (splits, N, C), float32: sums of squares around the mean
    gate_ptr,  # 0-d bool, or anything where GATED is false
    channels,
    positions,
    span,  # positions that a split covers
    by_sample,
    by_channel,
    by_position,
    CENTRED: tl.constexpr,
    GATED: tl.constexpr,
    CHANNELS: tl.constexpr,
    POSITIONS: tl.constexpr,
):
    n, split = tl.program_id(0).to(tl.int64), tl.program_id(2)
    c = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    count = 0.0
    mean = tl.zeros((CHANNELS,), tl.float32)
    m2 = tl.zeros((CHANNELS,), tl.float32)
    first = split * span
    last = tl.minimum(first + span, positions)
    if GATED:
        if tl.load(gate_ptr) == 0:
            last = first
    for start in range(first, last, POSITIONS):
        p = start + tl.arange(0, POSITIONS)
        inside = (c[:, None] < channels) & (p[None, :] < last)
        at = n * by_sample + c[:, None].to(tl.int64) * by_channel + p[None, :].to(tl.int64) * by_position
        x = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
        if CENTRED:
            new = tl.minimum(last - start, POSITIONS).to(tl.float32)
            part = tl.sum(x, 1) / new
            rest = tl.where(inside, x - part[:, None], 0.0)
            total = count + new
            step = part - mean
            m2 += tl.sum(rest * rest, 1) + step * step * (count * new / total)
            mean += step * (new / total)
            count = total
        else:
            m2 += tl.sum(x * x, 1)
    to = (split * tl.num_programs(0) + n) * channels + c
    tl.store(mean_ptr + to, mean, mask=c < channels)
    tl.store(m2_ptr + to, m2, mask=c < channels)


@triton.jit
def apply_program(
    x_ptr,  # (N, C, P)
    y_ptr,  # (N, C, P) in the result's layout
    residual_ptr,  # (N, C, P) in the result's layout
    mean_ptr,  # (N, C), float32
    scale_ptr,  # (N, C), float32
    shift_ptr,  # (N, C), float32
    gate_ptr,  # 0-d bool
    channels,
    positions,
    by_sample,  # of x; so are the next two
    by_channel,
    by_position,
    to_sample,  # of what is in the result's layout; so are the next two
    to_channel,
    to_position,
    RESIDUAL: tl.constexpr,
    RELU: tl.constexpr,
    GATED: tl.constexpr,
    CHANNELS: tl.constexpr,
    POSITIONS: tl.constexpr,
):
    n = tl.program_id(0).to(tl.int64)
    c = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    p = tl.program_id(2) * POSITIONS + tl.arange(0, POSITIONS)
    inside = (c[:, None] < channels) & (p[None, :] < positions)
    at = n * by_sample + c[:, None].to(tl.int64) * by_channel + p[None, :].to(tl.int64) * by_position
    there = n * to_sample + c[:, None].to(tl.int64) * to_channel + p[None, :].to(tl.int64) * to_position
    x = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
    cell = n * channels + c
    mean = tl.load(mean_ptr + cell, mask=c < channels, other=0.0)
    scale = tl.load(scale_ptr + cell, mask=c < channels, other=0.0)
    shift = tl.load(shift_ptr + cell, mask=c < channels, other=0.0)
    y = (x - mean[:, None]) * scale[:, None] + shift[:, None]
    if GATED:
        y = tl.where(tl.load(gate_ptr) != 0, y, x)
    if RESIDUAL:
        y += tl.load(residual_ptr + there, mask=inside, other=0.0).to(tl.float32)
    if RELU:
        y = tl.where(y < 0, 0.0, y)  # a NaN stays one
    tl.store(y_ptr + there, y.to(y_ptr.dtype.element_ty), mask=inside)


@triton.jit
def distances_program(
    x_ptr,  # (N, C, P)
    mean_ptr,  # (N, C), float32
    far_ptr,  # (splits, N, C), float32: sums of |x - mean|
    signs_ptr,  # (splits, N, C), float32: sums of the signs of x - mean
    gate_ptr,  # 0-d bool
    channels,
    positions,
    span,
    by_sample,
    by_channel,
    by_position,
    GATED: tl.constexpr,
    CHANNELS: tl.constexpr,
    POSITIONS: tl.constexpr,
):
    n, split = tl.program_id(0).to(tl.int64), tl.program_id(2)
    c = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    mean = tl.load(mean_ptr + n * channels + c, mask=c < channels, other=0.0)
    far = tl.zeros((CHANNELS,), tl.float32)
    signs = tl.zeros((CHANNELS,), tl.float32)
    first = split * span
    last = tl.minimum(first + span, positions)
    if GATED:
        if tl.load(gate_ptr) == 0:
            last = first
    for start in range(first, last, POSITIONS):
        p = start + tl.arange(0, POSITIONS)
        inside = (c[:, None] < channels) & (p[None, :] < last)
        at = n * by_sample + c[:, None].to(tl.int64) * by_channel + p[None, :].to(tl.int64) * by_position
        x = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
        rest = tl.where(inside, x - mean[:, None], 0.0)
        far += tl.sum(tl.abs(rest), 1)
        signs += tl.sum(tl.where(rest > 0, 1.0, tl.where(rest < 0, -1.0, 0.0)), 1)
    to = (split * tl.num_programs(0) + n) * channels + c
    tl.store(far_ptr + to, far, mask=c < channels)
    tl.store(signs_ptr + to, signs, mask=c < channels)


@triton.jit
def sums_program(
    g_ptr,  # (N, C, P) in the result's layout
    x_ptr,  # (N, C, P)
    y_ptr,  # (N, C, P) in the result's layout: what the relu returned
    mean_ptr,  # (N, C), float32
    plain_ptr,  # (splits, N, C), float32: sums of g
    along_ptr,  # (splits, N, C), float32: sums of g (x - mean)
    gate_ptr,  # 0-d bool
    channels,
    positions,
    span,
    by_sample,  # of x; so are the next two
    by_channel,
    by_position,
    to_sample,  # of what is in the result's layout; so are the next two
    to_channel,
    to_position,
    RELU: tl.constexpr,
    GATED: tl.constexpr,
    CHANNELS: tl.constexpr,
    POSITIONS: tl.constexpr,
):
    n, split = tl.program_id(0).to(tl.int64), tl.program_id(2)
    c = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    mean = tl.load(mean_ptr + n * channels + c, mask=c < channels, other=0.0)
    plain = tl.zeros((CHANNELS,), tl.float32)
    along = tl.zeros((CHANNELS,), tl.float32)
    first = split * span
    last = tl.minimum(first + span, positions)
    if GATED:
        if tl.load(gate_ptr) == 0:
            last = first
    for start in range(first, last, POSITIONS):
        p = start + tl.arange(0, POSITIONS)
        inside = (c[:, None] < channels) & (p[None, :] < last)
        at = n * by_sample + c[:, None].to(tl.int64) * by_channel + p[None, :].to(tl.int64) * by_position
        there = n * to_sample + c[:, None].to(tl.int64) * to_channel + p[None, :].to(tl.int64) * to_position
        g = tl.load(g_ptr + there, mask=inside, other=0.0).to(tl.float32)
        x = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
        if RELU:
            g = tl.where(tl.load(y_ptr + there, mask=inside, other=0.0).to(tl.float32) > 0, g, 0.0)
        plain += tl.sum(g, 1)
        along += tl.sum(tl.where(inside, g * (x - mean[:, None]), 0.0), 1)
    to = (split * tl.num_programs(0) + n) * channels + c
    tl.store(plain_ptr + to, plain, mask=c < channels)
    tl.store(along_ptr + to, along, mask=c < channels)


@triton.jit
def gradient_program(
    g_ptr,  # (N, C, P) in the result's layout
    x_ptr,  # (N, C, P)
    y_ptr,  # (N, C, P) in the result's layout: what the relu returned
    dx_ptr,  # (N, C, P) in the result's layout
    mean_ptr,  # (N, C), float32; so are the next three
    scale_ptr,
    slope_ptr,
    shift_ptr,
    gate_ptr,  # 0-d bool
    channels,
    positions,
    by_sample,  # of x; so are the next two
    by_channel,
    by_position,
    to_sample,  # of what is in the result's layout; so are the next two
    to_channel,
    to_position,
    RELU: tl.constexpr,
    GATED: tl.constexpr,
    SIGNS: tl.constexpr,  # take the sign of x - mean
    CHANNELS: tl.constexpr,
    POSITIONS: tl.constexpr,
):
    n = tl.program_id(0).to(tl.int64)
    c = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    p = tl.program_id(2) * POSITIONS + tl.arange(0, POSITIONS)
    inside = (c[:, None] < channels) & (p[None, :] < positions)
    at = n * by_sample + c[:, None].to(tl.int64) * by_channel + p[None, :].to(tl.int64) * by_position
    there = n * to_sample + c[:, None].to(tl.int64) * to_channel + p[None, :].to(tl.int64) * to_position
    g = tl.load(g_ptr + there, mask=inside, other=0.0).to(tl.float32)
    if RELU:
        g = tl.where(tl.load(y_ptr + there, mask=inside, other=0.0).to(tl.float32) > 0, g, 0.0)
    x = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
    cell = n * channels + c
    mean = tl.load(mean_ptr + cell, mask=c < channels, other=0.0)
    scale = tl.load(scale_ptr + cell, mask=c < channels, other=0.0)
    slope = tl.load(slope_ptr + cell, mask=c < channels, other=0.0)
    shift = tl.load(shift_ptr + cell, mask=c < channels, other=0.0)
    rest = x - mean[:, None]
    if SIGNS:
        rest = tl.where(rest > 0, 1.0, tl.where(rest < 0, -1.0, 0.0))
    dx = g * scale[:, None] + rest * slope[:, None] + shift[:, None]
    if GATED:
        dx = tl.where(tl.load(gate_ptr) != 0, dx, g)
    tl.store(dx_ptr + there, dx.to(dx_ptr.dtype.element_ty), mask=inside)
