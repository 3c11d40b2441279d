"""The three conv functions on arrays: one trilinear form T(x, w, g) = <mask * conv(x, w), g> and its adjoints.

    conv2d(x, w)             <conv2d(x, w), g> = T(x, w, g)
    conv2d_transpose(g, w)   <x, conv2d_transpose(g, w)> = T(x, w, g)
    conv2d_weight_grad(x, g) <w, conv2d_weight_grad(x, g)> = T(x, w, g)

Shapes: images x (*B, H, W, I), filters w (kh, kw, I, O), outputs g (*B, h, w, O), with any batch axes B.  Without a
geometry the product is one of matrices: x (*B, I), w (I, O), g (*B, O).  All arrays have one dtype.

A mask is a Boolean array of the outputs.  It may have fewer batch axes than they have; the leading ones then share it:
(*B', h, w, O), or (*B', O) for matrices, where B' is the end of B.  With one batch axis, a mask of M images may also
serve N = K * M images: image n has the mask of image n mod M.  `conv2d` gives 0 where the mask is False, and the other
two take g as 0 there.

`_route` decides how a product is made.  All routes give the same to rounding; `reference.py` has plain loops.
"""

import math
from types import ModuleType
from typing import NamedTuple

import numpy as np

from minidbp.kernels import fast, patches
from minidbp.kernels.elementwise import mask_in_place, masked
from minidbp.kernels.fast import direct, sparse
from minidbp.kernels.fast.microkernel import LANES, ROWS
from minidbp.kernels.patches import ONE_PIXEL, ConvGeometry


class Route(NamedTuple):
    """A module with the three functions.

    If a route takes no mask, this file applies it: to g before the two adjoints, to the result after conv2d.
    """

    module: ModuleType
    takes_mask: bool


PLAIN = Route(patches, False)  # im2col and BLAS
DIRECT = Route(direct, True)  # from the pixels where they are, for few channels
SPARSE = Route(sparse, True)  # along lists of the outputs that the mask lets through
DENSE_LISTS = Route(sparse, False)  # along lists of all outputs

SMALL = 1 << 14  # multiply-adds: below this, the calls of a fast route take longer than its arithmetic
LISTS_FROM = 1 << 18  # multiply-adds: from here on, making the lists takes less time than it saves


def _route(
    function: str, a: np.ndarray, b: np.ndarray, channels: tuple[int, int], geo: ConvGeometry, mask: np.ndarray | None
) -> Route:
    """The fastest route, as measured (benchmarks/NOTES.md); a is the operand with the batch axis, b the other.

    A vector register holds `lanes` numbers, and the microkernels compute ROWS rows at once.
    """
    n, (n_in, n_out), lanes = len(a), channels, LANES.get(a.dtype)
    outputs = n * geo.positions * n_out
    products = outputs * geo.taps * n_in
    if not fast.enabled or lanes is None or a.dtype != b.dtype or products < SMALL:
        return PLAIN
    many = n >= ROWS and products >= LISTS_FROM
    shared = many and mask is not None and outputs >= ROWS * mask.size  # ROWS images or more have the same mask
    long_in, long_out = n_in >= lanes, n_out >= lanes  # the channels of a pixel fill a vector
    # fmt: off
    table = (  # the first line for this function whose condition holds; PLAIN if there is none
        ("conv2d",             shared and long_in,                             SPARSE),
        ("conv2d",             long_out and not long_in,                       DIRECT),
        ("conv2d",             long_out and geo.output[1] % ROWS == 0,        DIRECT),
        ("conv2d",             many and long_in,                               DENSE_LISTS),
        ("conv2d_transpose",   shared,                                         SPARSE),
        ("conv2d_transpose",   many and geo.positions > 1,                    DENSE_LISTS),
        ("conv2d_weight_grad", shared and long_in,                             SPARSE),
        ("conv2d_weight_grad", long_out and not long_in,                       DIRECT),
        ("conv2d_weight_grad", many and long_in and geo.image != (1, 1),      DENSE_LISTS),
    )
    # fmt: on
    for name, holds, route in table:
        if holds and name == function:
            return route
    return PLAIN


def conv2d(
    x: np.ndarray, w: np.ndarray, geometry: ConvGeometry | None = None, mask: np.ndarray | None = None
) -> np.ndarray:
    """Cross-correlation ("convolution"): x and w to `(*B, h, w, O)`.  It is 0 where the mask is False."""
    n_in, n_out = w.shape[-2:]
    outputs = (*x.shape[:-1], n_out) if geometry is None else (*x.shape[:-3], *geometry.output, n_out)
    if mask is not None:
        mask = _images_of_mask("conv2d", mask, outputs, geometry)
    if not x.size or not w.size:
        return np.zeros(outputs, np.result_type(x, w))
    geo = geometry or ONE_PIXEL
    x, w = x.reshape(-1, *geo.image, n_in), w.reshape(*geo.kernel, n_in, n_out)
    route = _route("conv2d", x, w, (n_in, n_out), geo, mask)
    if route is PLAIN and geometry is None:
        y = x.reshape(-1, n_in) @ w[0, 0]
    else:
        y = route.module.conv2d(x, w, geo, *([mask] if route.takes_mask else []))
    if mask is not None and not route.takes_mask:
        mask_in_place(y, mask)
    return y.reshape(outputs)


def conv2d_transpose(
    g: np.ndarray, w: np.ndarray, geometry: ConvGeometry | None = None, mask: np.ndarray | None = None
) -> np.ndarray:
    """The adjoint of conv2d in x: g and w to `(*B, H, W, I)`.  g counts as 0 where the mask is False."""
    n_in, n_out = w.shape[-2:]
    images = (*g.shape[:-1], n_in) if geometry is None else (*g.shape[:-3], *geometry.image, n_in)
    if mask is not None:
        mask = _images_of_mask("conv2d_transpose", mask, g.shape, geometry)
    if not g.size or not w.size:
        return np.zeros(images, np.result_type(g, w))
    geo = geometry or ONE_PIXEL
    g, w = g.reshape(-1, *geo.output, n_out), w.reshape(*geo.kernel, n_in, n_out)
    route = _route("conv2d_transpose", g, w, (n_in, n_out), geo, mask)
    if mask is not None and not route.takes_mask:
        g = masked(g.reshape(-1, *mask.shape), mask).reshape(g.shape)
    if route is PLAIN and geometry is None:
        x = g.reshape(-1, n_out) @ w[0, 0].T
    else:
        x = route.module.conv2d_transpose(g, w, geo, *([mask] if route.takes_mask else []))
    return x.reshape(images)


def conv2d_weight_grad(
    x: np.ndarray, g: np.ndarray, geometry: ConvGeometry | None = None, mask: np.ndarray | None = None
) -> np.ndarray:
    """The adjoint of conv2d in w: x and g to `(kh, kw, I, O)`.  g counts as 0 where the mask is False.

    Each filter of the result is contiguous in memory, like the filters of the layers, except on the direct route.
    """
    n_in, n_out = x.shape[-1], g.shape[-1]
    filters = (n_in, n_out) if geometry is None else (*geometry.kernel, n_in, n_out)
    if mask is not None:
        mask = _images_of_mask("conv2d_weight_grad", mask, g.shape, geometry)
    if not x.size or not g.size:
        return np.zeros(filters, np.result_type(x, g))
    geo = geometry or ONE_PIXEL
    x, g = x.reshape(-1, *geo.image, n_in), g.reshape(-1, *geo.output, n_out)
    route = _route("conv2d_weight_grad", x, g, (n_in, n_out), geo, mask)
    if mask is not None and not route.takes_mask:
        g = masked(g.reshape(-1, *mask.shape), mask).reshape(g.shape)
    if route is PLAIN and geometry is None:
        w = (g.reshape(-1, n_out).T @ x.reshape(-1, n_in)).T  # so that each filter is contiguous
    else:
        w = route.module.conv2d_weight_grad(x, g, geo, *([mask] if route.takes_mask else []))
    return w.reshape(filters)


def _images_of_mask(
    function: str, mask: np.ndarray, outputs: tuple[int, ...], geometry: ConvGeometry | None
) -> np.ndarray:
    """A mask as (M, h, w, O).  One that does not fit is refused, because the compiled loops check no bounds."""
    axes = 1 if geometry is None else 3
    n, n_masks = math.prod(outputs[:-axes]), math.prod(mask.shape[:-axes])
    is_end = mask.shape == outputs[max(0, len(outputs) - mask.ndim) :]
    repeats = mask.ndim == axes + 1 and n_masks > 0 and n % n_masks == 0
    if mask.dtype != bool or mask.shape[-axes:] != outputs[-axes:] or not (is_end or repeats):
        raise ValueError(
            f"{function}: the mask must be Boolean, and its shape the end of the outputs' shape {outputs} from "
            f"{outputs[-axes:]} on; got {mask.dtype} of shape {mask.shape}"
        )
    return mask.reshape(n_masks, *(geometry or ONE_PIXEL).output, outputs[-1])
