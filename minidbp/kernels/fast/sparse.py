"""The sparse route: only the outputs that a mask lets through are computed.

A ReLU gives the mask.  Each row of a Jacobian has the same mask, and much of it is False.  The result is exact, because
only products with zero are skipped.  Without a mask these are the dense products, made along lists of every output.

Shapes: mask (M, h, w, O); x (R * M, H, W, I) and g (R * M, h, w, O), where the R rows of each image share its mask.
The filters are transposed to (O, kh, kw, I), so that the weights of one active unit are contiguous.
"""

import numpy as np

from minidbp.kernels.fast.buffers import empty
from minidbp.kernels.fast.microkernel import (
    BLOCK_BYTES,
    LANES,
    ROWS,
    VECTORS,
    add_products,
    copy_block,
    dot_block,
    dot_row,
    lanes_of,
)
from minidbp.kernels.jit import contiguous, kernel
from minidbp.kernels.patches import ONE_PIXEL, ConvGeometry, col2im

# How much the loops take at a time, so that it stays in the cache:
PATCH = 1152  # elements of a patch: ten rows of it, and the part of the filters that it meets, fit L1 and L2
CHANNELS = 128  # channels of the filters
RESULT_BYTES = 1 << 15  # bytes of a result: as much as L1 holds, measured as the best of 4 KiB to 1 MiB
LINES_BYTES = 1 << 19  # bytes of x, in whole lines of output positions: they and a block of the result fit L2


@kernel
def _list_active(mask, starts, active):  # type: ignore[no-untyped-def]
    """For mask (P, O): the active indices at position p are active[starts[p]:starts[p + 1]]."""
    positions, width = mask.shape
    count = 0
    starts[0] = 0
    for p in range(positions):
        for o in range(width):
            active[count] = o  # the next one overwrites this if it is off: a branch would be mispredicted
            count += mask[p, o]
        starts[p + 1] = count


@kernel
def _gather(g, starts, active, out):  # type: ignore[no-untyped-def]
    """out[s * R + r] = g[r] at the s-th active index, for g (R, positions, O)."""
    rows, positions, _ = g.shape
    for p in range(positions):
        for s in range(starts[p], starts[p + 1]):
            for r in range(rows):
                out[s * rows + r] = g[r, p, active[s]]


@kernel
def _masked_conv2d(x, w, mask, active, stride_r, stride_c, top, left, kh, kw, out):  # type: ignore[no-untyped-def]
    """out[r, n, i, j, o] = <patch (i, j) of x[r, n], w[o]> where mask[n, i, j, o], 0 elsewhere."""
    rows, images, height, width, channels = x.shape
    positions_r, positions_c, filters = mask.shape[1:]
    positions = positions_r * positions_c
    flat_x, flat_w, flat_out = x.reshape(x.size), w.reshape(w.size), out.reshape(out.size)
    flat_out[:] = 0
    starts = np.empty(images * positions + 1, np.intp)
    _list_active(mask.reshape(images * positions, filters), starts, active)
    x_at, out_at = np.empty(rows, np.intp), np.empty(rows, np.intp)
    w_at, out_unit = np.empty(VECTORS, np.intp), np.empty(VECTORS, np.intp)
    # a part of all patches at a time, some lines or a part of one line, so that what it meets of w stays in the cache
    run = kw * channels
    lines, lanes = max(1, PATCH // run), lanes_of(x)
    part = -(-run // -(-run // PATCH) // lanes) * lanes  # equal parts, in whole vectors
    for a_first in range(0, kh, lines):
        for l_first in range(0, run, part):
            for n in range(images):
                for p in range(positions):
                    y, c = p // positions_c * stride_r - top, p % positions_c * stride_c - left
                    a0, a1 = max(a_first, -y), min(kh, height - y, a_first + lines)
                    l0, l1 = max(l_first, -c * channels), min(run, (width - c) * channels, l_first + part)
                    if a0 >= a1 or l0 >= l1:
                        continue
                    for r in range(rows):
                        x_at[r] = (((r * images + n) * height + y + a0) * width + c) * channels + l0
                        out_at[r] = ((r * images + n) * positions + p) * filters
                    end = starts[n * positions + p + 1]
                    for s in range(starts[n * positions + p], end, VECTORS):
                        count = min(VECTORS, end - s)
                        for u in range(VECTORS):  # a last block that is not full repeats an index, and does not add it
                            unit = active[s + min(u, count - 1)]
                            w_at[u] = (unit * kh + a0) * run + l0
                            out_unit[u] = unit
                        r = 0
                        while r < rows:
                            if r + ROWS <= rows:
                                dot_block(flat_x, x_at, flat_w, w_at, flat_out, out_at, out_unit, r, count,
                                      a1 - a0, width * channels, run, l1 - l0)  # fmt: skip
                                r += ROWS
                            else:
                                dot_row(flat_x, x_at, flat_w, w_at, flat_out, out_at, out_unit, r, count,
                                          a1 - a0, width * channels, run, l1 - l0)  # fmt: skip
                                r += 1


@kernel
def _masked_conv2d_transpose(g, w, mask, active, stride_r, stride_c, top, left, kh, kw, out):  # type: ignore[no-untyped-def]
    """out[r, n, y, x] = sum over the patches (i, j) that hold pixel (y, x), and the indices o active there, of
    g[r, n, i, j, o] * w[o, tap of the pixel in that patch]."""
    rows, images, height, width, channels = out.shape
    positions_r, positions_c, filters = mask.shape[1:]
    positions = positions_r * positions_c
    flat_g, flat_w, flat_out = g.reshape(g.size), w.reshape(w.size), out.reshape(out.size)
    starts = np.empty(images * positions + 1, np.intp)
    _list_active(mask.reshape(images * positions, filters), starts, active)
    most = filters * (-(-kh // stride_r)) * (-(-kw // stride_c))
    w_at, g_at = np.empty(most, np.intp), np.empty(most, np.intp)
    out_at, g_row = np.empty(rows, np.intp), np.arange(rows) * mask.size
    for first in range(0, channels, CHANNELS):  # so that a part of w stays in the cache
        length = min(CHANNELS, channels - first)
        for phase in range(stride_r * stride_c):  # pixels a stride apart meet the same taps, which stay in the cache
            for n in range(images):
                for y in range(phase // stride_c, height, stride_r):
                    for x in range(phase % stride_c, width, stride_c):
                        count = 0
                        for a in range((y + top) % stride_r, kh, stride_r):
                            i = (y + top - a) // stride_r
                            if i < 0 or i >= positions_r:
                                continue
                            for b in range((x + left) % stride_c, kw, stride_c):
                                j = (x + left - b) // stride_c
                                if j < 0 or j >= positions_c:
                                    continue
                                p = (n * positions_r + i) * positions_c + j
                                for s in range(starts[p], starts[p + 1]):
                                    w_at[count] = ((active[s] * kh + a) * kw + b) * channels + first
                                    g_at[count] = p * filters + active[s]
                                    count += 1
                        for r in range(rows):
                            out_at[r] = (((r * images + n) * height + y) * width + x) * channels + first
                            flat_out[out_at[r] : out_at[r] + length] = 0
                        add_products(flat_out, out_at, flat_w, w_at, flat_g, g_row, g_at, 0, rows, count, 0, length)


@kernel
def _masked_conv2d_weight_grad(x, g, mask, active, values, panels, stride_r, stride_c, top, left, kh, kw, out):  # type: ignore[no-untyped-def]
    """out[o, a, b] = sum of g[r, n, i, j, o] * x[r, n, pixel (a, b)] over r, n and the (i, j) where o is active.

    out has one filter more than there are, which receives the products that fill up the last block of rows.
    """
    rows, images, height, width, channels = x.shape
    positions_r, positions_c, filters = mask.shape[1:]
    positions = positions_r * positions_c
    flat_x, flat_out = x.reshape(x.size), out.reshape(out.size)
    flat_out[:] = 0
    starts = np.empty(images * positions + 1, np.intp)
    _list_active(mask.reshape(images * positions, filters), starts, active)
    _gather(g.reshape(rows, images * positions, filters), starts, active, values)
    # The active indices again, in whole blocks of rows: position p has those from blocks[p] to blocks[p + 1].
    blocks = np.empty(images * positions + 1, np.intp)
    blocks[0] = 0
    for p in range(images * positions):
        blocks[p + 1] = blocks[p] + -(-(starts[p + 1] - starts[p]) // ROWS) * ROWS
    out_at, a_row = np.empty(blocks[-1], np.intp), np.empty(blocks[-1], np.intp)
    size = kh * kw * channels
    for p in range(images * positions):
        for k in range(blocks[p + 1] - blocks[p]):
            s = starts[p] + k
            exists = s < starts[p + 1]
            out_at[blocks[p] + k] = (active[s] if exists else filters) * size
            a_row[blocks[p] + k] = s * rows if exists else 0
    block = VECTORS * lanes_of(x)  # the width of a register block
    # A few lines of positions at a time, so that their part of x stays in the cache, and a part of out at a time, for
    # the same reason.  Rows that lie a power of two apart would push each other out of the cache, so the panels of x
    # that these positions need are packed first.
    lines, group = images * positions_r, panels.size // (positions_c * rows * block)
    parts = max(1, filters * block * x.itemsize // RESULT_BYTES)
    panel_at, a_at = np.empty(rows, np.intp), np.arange(rows)
    for line0 in range(0, lines, group):
        for first in range(0, size, block):
            for a in range(first // (kw * channels), min(kh, -(-(first + block) // (kw * channels)))):
                for part in range(-1, parts):  # -1: pack the panels
                    for line in range(line0, min(lines, line0 + group)):
                        n, i = line // positions_r, line % positions_r
                        y = i * stride_r + a - top
                        if y < 0 or y >= height:
                            continue
                        for j in range(positions_c):
                            c, p = j * stride_c - left, line * positions_c + j
                            l0 = max(first, (a * kw + max(0, -c)) * channels)
                            l1 = min(first + block, (a * kw + min(kw, width - c)) * channels)
                            start, end = blocks[p], blocks[p + 1]
                            if l0 >= l1 or start == end:
                                continue
                            at = (p - line0 * positions_c) * rows * block
                            if part < 0:
                                x_at = ((n * height + y) * width + c - a * kw) * channels + l0
                                for _ in range(rows):
                                    if l1 - l0 == block:
                                        copy_block(flat_x, x_at, panels, at)
                                    else:
                                        for k in range(l1 - l0):
                                            panels[at + k] = flat_x[x_at + k]
                                    x_at += images * height * width * channels
                                    at += block
                            else:
                                for r in range(rows):
                                    panel_at[r] = at + r * block - l0
                                count = (end - start) // ROWS
                                end = start + count * (part + 1) // parts * ROWS
                                start += count * part // parts * ROWS
                                add_products(flat_out, out_at, panels, panel_at, values, a_row,
                                              a_at, start, end, rows, l0, l1)  # fmt: skip


def _transposed_filters(w: np.ndarray) -> np.ndarray:
    """(..., O) to (O, ...), flat.  Filters that lie one after the other in memory, as the layers' do, are not moved."""
    return contiguous(w.reshape(-1, w.shape[-1]).T)


def _rows(array: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(R * M, ...) as (R, M, ...), where M is the number of the mask's images."""
    return array.reshape(-1, len(mask), *array.shape[1:])


def _mask_and_room(mask: np.ndarray | None, geometry: ConvGeometry, filters: int) -> tuple[np.ndarray, np.ndarray]:
    """A mask, by default the full mask of one image that all images share, and room for its active indices."""
    if mask is None:
        mask = np.ones((1, *geometry.output, filters), bool)
    return contiguous(mask), empty((mask.size + 1,), np.int32)


def conv2d(x: np.ndarray, w: np.ndarray, geometry: ConvGeometry, mask: np.ndarray | None = None) -> np.ndarray:
    """mask * conv2d(x, w): images (R * M, H, W, I) to (R * M, h, w, O)."""
    mask, active = _mask_and_room(mask, geometry, w.shape[3])
    y = empty((len(x), *geometry.output, w.shape[3]), x.dtype)
    _masked_conv2d(
        _rows(contiguous(x), mask), _transposed_filters(w), mask, active, *geometry.layout, _rows(y, mask)
    )  # fmt: skip
    return y


def conv2d_transpose(
    g: np.ndarray, w: np.ndarray, geometry: ConvGeometry, mask: np.ndarray | None = None
) -> np.ndarray:
    """conv2d_transpose(mask * g, w): outputs (R * M, h, w, O) back to images (R * M, H, W, I)."""
    channels, filters = w.shape[2:]
    x = empty((len(g), *geometry.image, channels), g.dtype)
    mask, active = _mask_and_room(mask, geometry, filters)
    lanes = LANES[g.dtype]
    if channels >= lanes:
        _masked_conv2d_transpose(
            _rows(contiguous(g), mask), _transposed_filters(w), mask, active, *geometry.layout, _rows(x, mask)
        )
        return x
    # A pixel is shorter than a vector, but a patch, filled up to whole vectors, is not: make patches, then col2im.
    taps = geometry.taps * channels
    wide = np.zeros((1, 1, -(-taps // lanes) * lanes, filters), w.dtype)
    wide[0, 0, :taps] = w.reshape(taps, filters)
    col = conv2d_transpose(
        g.reshape(-1, 1, 1, filters), wide, ONE_PIXEL, mask.reshape(-1, 1, 1, filters)
    )  # fmt: skip
    return col2im(col.reshape(*g.shape[:3], -1), geometry, out=x)


def conv2d_weight_grad(
    x: np.ndarray, g: np.ndarray, geometry: ConvGeometry, mask: np.ndarray | None = None
) -> np.ndarray:
    """conv2d_weight_grad(x, mask * g): images (R * M, H, W, I) and outputs (R * M, h, w, O) to (kh, kw, I, O).

    In memory, the result is (O, kh, kw, I).
    """
    channels, filters = x.shape[3], g.shape[3]
    mask, active = _mask_and_room(mask, geometry, filters)
    x, g = _rows(contiguous(x), mask), _rows(contiguous(g), mask)
    w = empty((filters + 1, *geometry.kernel, channels), x.dtype)
    lines = max(1, LINES_BYTES // (len(x) * geometry.kernel[0] * geometry.image[1] * channels * x.itemsize))
    panels = empty((lines * geometry.output[1] * len(x) * BLOCK_BYTES,), np.uint8).view(x.dtype)
    values = empty((g.size + 1,), g.dtype)
    _masked_conv2d_weight_grad(x, g, mask, active, values, panels, *geometry.layout, w)
    return w[:filters].transpose(1, 2, 3, 0)
