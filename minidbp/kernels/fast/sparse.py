"""The conv family when it is known where g is zero: only what a mask lets through is computed.

    conv2d              mask * conv2d(x, w)
    conv2d_transpose    conv2d_transpose(mask * g, w)
    conv2d_weight_grad  conv2d_weight_grad(x, mask * g)

These are the three adjoints of one trilinear form, T(x, w, g) = <mask * conv2d(x, w), g>.  A ReLU gives the mask: all
rows of a Jacobian share it, and much of it is off.  The result is exact; skipped are only products with zero.  With the
mask of one image that lets all through, its rows being the images, these are the dense products.

mask (N, h, w, O) bool; x (R * N, H, W, I) and g (R * N, h, w, O), the R rows of each image sharing its mask.  Inside,
w is turned around to (O, kh, kw, I), so that what belongs to one active unit is contiguous.
"""

import numpy as np

from minidbp.kernels.fast.buffers import empty
from minidbp.kernels.fast.microkernel import (
    ROWS,
    TILE_BYTES,
    VECTOR_BYTES,
    VECTORS,
    add_products,
    copy_tile,
    dots,
    lanes_of,
    row_dots,
    takes,
)
from minidbp.kernels.geometry import ConvGeometry
from minidbp.kernels.jit import contiguous, kernel

PATCH = 1152  # elements of a patch in one go: ten rows of it, and the filters' part that meets it, fit L1 and L2
CHANNELS = 128  # of the filters in one go
TILES_BYTES = 1 << 15  # of a result in one go: as much as L1 holds, measured best of 4 KiB to 1 MiB
LINES_BYTES = 1 << 19  # of x in one go, in whole lines of places: they and a tile of the result fit L2


@kernel
def _active(mask, starts, units):  # type: ignore[no-untyped-def]
    """For mask (P, O): the active units of place p are units[starts[p]:starts[p + 1]]."""
    places, width = mask.shape
    count = 0
    starts[0] = 0
    for p in range(places):
        for o in range(width):
            units[count] = o  # overwritten by the next one if this is off: cheaper than a branch that nobody can guess
            count += mask[p, o]
        starts[p + 1] = count


@kernel
def _gather(g, starts, units, out):  # type: ignore[no-untyped-def]
    """out[s * R + r] = g[r] at the s-th active unit, for g (R, places, O)."""
    rows, places, _ = g.shape
    for p in range(places):
        for s in range(starts[p], starts[p + 1]):
            for r in range(rows):
                out[s * rows + r] = g[r, p, units[s]]


@kernel
def _masked_conv2d(x, w, mask, units, stride_r, stride_c, top, left, kh, kw, out):  # type: ignore[no-untyped-def]
    """out[r, n, i, j, o] = <patch (i, j) of x[r, n], w[o]> where mask[n, i, j, o], 0 elsewhere."""
    rows, images, height, width, channels = x.shape
    places_r, places_c, filters = mask.shape[1:]
    places = places_r * places_c
    flat_x, flat_w, flat_out = x.reshape(x.size), w.reshape(w.size), out.reshape(out.size)
    flat_out[:] = 0
    starts = np.empty(images * places + 1, np.intp)
    _active(mask.reshape(images * places, filters), starts, units)
    x_at, out_at = np.empty(rows, np.intp), np.empty(rows, np.intp)
    w_at, out_unit = np.empty(VECTORS, np.intp), np.empty(VECTORS, np.intp)
    # a part of all patches at a time, some lines or some of one, so that what it meets of w stays in the cache
    run = kw * channels
    lines, lanes = max(1, PATCH // run), lanes_of(x)
    part = -(-run // -(-run // PATCH) // lanes) * lanes  # all parts alike, in whole vectors
    for a_first in range(0, kh, lines):
        for l_first in range(0, run, part):
            for n in range(images):
                for p in range(places):
                    y, c = p // places_c * stride_r - top, p % places_c * stride_c - left
                    a0, a1 = max(a_first, -y), min(kh, height - y, a_first + lines)
                    l0, l1 = max(l_first, -c * channels), min(run, (width - c) * channels, l_first + part)
                    if a0 >= a1 or l0 >= l1:
                        continue
                    for r in range(rows):
                        x_at[r] = (((r * images + n) * height + y + a0) * width + c) * channels + l0
                        out_at[r] = ((r * images + n) * places + p) * filters
                    end = starts[n * places + p + 1]
                    for s in range(starts[n * places + p], end, VECTORS):
                        count = min(VECTORS, end - s)
                        for u in range(VECTORS):  # a last block that is not full repeats a unit, and does not add it
                            unit = units[s + min(u, count - 1)]
                            w_at[u] = (unit * kh + a0) * run + l0
                            out_unit[u] = unit
                        r = 0
                        while r < rows:
                            if r + ROWS <= rows:
                                dots(flat_x, x_at, flat_w, w_at, flat_out, out_at, out_unit, r, count,
                                      a1 - a0, width * channels, run, l1 - l0)  # fmt: skip
                                r += ROWS
                            else:
                                row_dots(flat_x, x_at, flat_w, w_at, flat_out, out_at, out_unit, r, count,
                                          a1 - a0, width * channels, run, l1 - l0)  # fmt: skip
                                r += 1


@kernel
def _masked_conv2d_transpose(g, w, mask, units, stride_r, stride_c, top, left, kh, kw, out):  # type: ignore[no-untyped-def]
    """out[r, n, y, x] = sum over the patches (i, j) that hold pixel (y, x), and the units o active there, of
    g[r, n, i, j, o] * w[o, tap of the pixel in that patch]."""
    rows, images, height, width, channels = out.shape
    places_r, places_c, filters = mask.shape[1:]
    places = places_r * places_c
    flat_g, flat_w, flat_out = g.reshape(g.size), w.reshape(w.size), out.reshape(out.size)
    starts = np.empty(images * places + 1, np.intp)
    _active(mask.reshape(images * places, filters), starts, units)
    most = filters * (-(-kh // stride_r)) * (-(-kw // stride_c))
    w_at, g_at = np.empty(most, np.intp), np.empty(most, np.intp)
    out_at, g_row = np.empty(rows, np.intp), np.arange(rows) * mask.size
    for first in range(0, channels, CHANNELS):  # so that the part of w that is at work stays in the cache
        length = min(CHANNELS, channels - first)
        for phase in range(stride_r * stride_c):  # pixels a stride apart meet the same taps, which stay in the cache
            for n in range(images):
                for y in range(phase // stride_c, height, stride_r):
                    for x in range(phase % stride_c, width, stride_c):
                        count = 0
                        for a in range((y + top) % stride_r, kh, stride_r):
                            i = (y + top - a) // stride_r
                            if i < 0 or i >= places_r:
                                continue
                            for b in range((x + left) % stride_c, kw, stride_c):
                                j = (x + left - b) // stride_c
                                if j < 0 or j >= places_c:
                                    continue
                                p = (n * places_r + i) * places_c + j
                                for s in range(starts[p], starts[p + 1]):
                                    w_at[count] = ((units[s] * kh + a) * kw + b) * channels + first
                                    g_at[count] = p * filters + units[s]
                                    count += 1
                        for r in range(rows):
                            out_at[r] = (((r * images + n) * height + y) * width + x) * channels + first
                            flat_out[out_at[r] : out_at[r] + length] = 0
                        add_products(flat_out, out_at, flat_w, w_at, flat_g, g_row, g_at, 0, rows, count, 0, length)


@kernel
def _masked_conv2d_weight_grad(x, g, mask, units, values, pieces, stride_r, stride_c, top, left, kh, kw, out):  # type: ignore[no-untyped-def]
    """out[o, a, b] = sum over r, n and the places (i, j) where o is active of g[r, n, i, j, o] * x[r, n, pixel (a, b)].

    out has one filter more than there are: what fills the last block of rows up goes there, and means nothing.
    """
    rows, images, height, width, channels = x.shape
    places_r, places_c, filters = mask.shape[1:]
    places = places_r * places_c
    flat_x, flat_out = x.reshape(x.size), out.reshape(out.size)
    flat_out[:] = 0
    starts = np.empty(images * places + 1, np.intp)
    _active(mask.reshape(images * places, filters), starts, units)
    _gather(g.reshape(rows, images * places, filters), starts, units, values)
    # the units again, in whole blocks: place p has those from blocks[p] to blocks[p + 1]
    blocks = np.empty(images * places + 1, np.intp)
    blocks[0] = 0
    for p in range(images * places):
        blocks[p + 1] = blocks[p] + -(-(starts[p + 1] - starts[p]) // ROWS) * ROWS
    out_at, a_row = np.empty(blocks[-1], np.intp), np.empty(blocks[-1], np.intp)
    size = kh * kw * channels
    for p in range(images * places):
        for k in range(blocks[p + 1] - blocks[p]):
            s = starts[p] + k
            active = s < starts[p + 1]
            out_at[blocks[p] + k] = (units[s] if active else filters) * size
            a_row[blocks[p] + k] = s * rows if active else 0
    tile = VECTORS * lanes_of(x)
    # A few lines of places at a time, so that what they see of x stays in the cache, and of those a tile of out at a
    # time, so that it does too.  Ten rows that lie a power of two apart would push each other out: the pieces that
    # these places need are copied together first.
    lines, group = images * places_r, pieces.size // (places_c * rows * tile)
    parts = max(1, filters * tile * x.itemsize // TILES_BYTES)
    pieces_at, a_at = np.empty(rows, np.intp), np.arange(rows)
    for line0 in range(0, lines, group):
        for first in range(0, size, tile):
            for a in range(first // (kw * channels), min(kh, -(-(first + tile) // (kw * channels)))):
                for part in range(-1, parts):  # -1: copy the pieces
                    for line in range(line0, min(lines, line0 + group)):
                        n, i = line // places_r, line % places_r
                        y = i * stride_r + a - top
                        if y < 0 or y >= height:
                            continue
                        for j in range(places_c):
                            c, p = j * stride_c - left, line * places_c + j
                            l0 = max(first, (a * kw + max(0, -c)) * channels)
                            l1 = min(first + tile, (a * kw + min(kw, width - c)) * channels)
                            start, end = blocks[p], blocks[p + 1]
                            if l0 >= l1 or start == end:
                                continue
                            at = (p - line0 * places_c) * rows * tile
                            if part < 0:
                                x_at = ((n * height + y) * width + c - a * kw) * channels + l0
                                for _ in range(rows):
                                    if l1 - l0 == tile:
                                        copy_tile(flat_x, x_at, pieces, at)
                                    else:
                                        for k in range(l1 - l0):
                                            pieces[at + k] = flat_x[x_at + k]
                                    x_at += images * height * width * channels
                                    at += tile
                            else:
                                for r in range(rows):
                                    pieces_at[r] = at + r * tile - l0
                                count = (end - start) // ROWS
                                end = start + count * (part + 1) // parts * ROWS
                                start += count * part // parts * ROWS
                                add_products(flat_out, out_at, pieces, pieces_at, values, a_row,
                                              a_at, start, end, rows, l0, l1)  # fmt: skip


@kernel
def _transpose(w, out):  # type: ignore[no-untyped-def]
    """out = w's transpose, in blocks that fit the cache."""
    for i in range(0, w.shape[0], 32):
        for j in range(0, w.shape[1], 32):
            for b in range(j, min(j + 32, w.shape[1])):
                for a in range(i, min(i + 32, w.shape[0])):
                    out[b, a] = w[a, b]


def pays(mask: np.ndarray, images: int, channels: int, *arrays: np.ndarray) -> bool:
    """Whether skipping beats a dense product, as measured (benchmarks/NOTES.md): for several rows and long pixels."""
    return takes(*arrays) and images >= ROWS * len(mask) and channels * arrays[0].itemsize >= VECTOR_BYTES


def rows_of(array: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(R * N, ...) as (R, N, ...), N being the mask's."""
    return array.reshape(len(array) // max(1, len(mask)), len(mask), *array.shape[1:])


def _turn(w: np.ndarray) -> np.ndarray:
    """(..., O) to (O, ...), flat; no work for filters that lie in memory one after the other, as the layers' do."""
    turned = w.reshape(-1, w.shape[-1]).T
    if not turned.flags.c_contiguous:
        turned = empty(turned.shape, w.dtype)
        _transpose(contiguous(w.reshape(-1, w.shape[-1])), turned)
    return contiguous(turned)


def _units(mask: np.ndarray) -> np.ndarray:
    """Room for the list of active units."""
    return empty((mask.size + 1,), np.int32)


def conv2d(x: np.ndarray, w: np.ndarray, geometry: ConvGeometry, mask: np.ndarray) -> np.ndarray:
    """mask * conv2d(x, w): images (R * N, H, W, I) to (R * N, h, w, O)."""
    out = empty((len(x), *geometry.output, w.shape[3]), x.dtype)
    _masked_conv2d(
        rows_of(contiguous(x), mask), _turn(w), contiguous(mask), _units(mask), *geometry.layout, rows_of(out, mask)
    )
    return out


def conv2d_transpose(g: np.ndarray, w: np.ndarray, geometry: ConvGeometry, mask: np.ndarray) -> np.ndarray:
    """conv2d_transpose(mask * g, w): outputs (R * N, h, w, O) back to images (R * N, H, W, I)."""
    out = empty((len(g), *geometry.image, w.shape[2]), g.dtype)
    _masked_conv2d_transpose(
        rows_of(contiguous(g), mask), _turn(w), contiguous(mask), _units(mask), *geometry.layout, rows_of(out, mask)
    )
    return out


def conv2d_weight_grad(x: np.ndarray, g: np.ndarray, geometry: ConvGeometry, mask: np.ndarray) -> np.ndarray:
    """conv2d_weight_grad(x, mask * g): images (R * N, H, W, I) and outputs (R * N, h, w, O) to (kh, kw, I, O).

    In memory, the result is (O, kh, kw, I).
    """
    (kh, kw), channels, filters = geometry.kernel, x.shape[3], g.shape[3]
    out = empty((filters + 1, kh, kw, channels), x.dtype)
    if not len(mask):
        return np.zeros((kh, kw, channels, filters), x.dtype)
    rows = len(x) // len(mask)
    lines = max(1, LINES_BYTES // (rows * kh * geometry.image[1] * channels * x.itemsize))
    pieces = empty((lines * geometry.output[1] * rows * TILE_BYTES,), np.uint8).view(x.dtype)
    values = empty((g.size + 1,), g.dtype)
    _masked_conv2d_weight_grad(
        rows_of(contiguous(x), mask), rows_of(contiguous(g), mask), contiguous(mask), _units(mask), values, pieces,
        *geometry.layout, out,
    )  # fmt: skip
    return out[:filters].transpose(1, 2, 3, 0)
