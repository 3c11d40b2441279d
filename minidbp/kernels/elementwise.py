"""Loops over elements for which NumPy would pass over the memory several times."""

import numpy as np

from minidbp.kernels.fast.buffers import axes_in_memory, empty, empty_like
from minidbp.kernels.jit import contiguous, kernel

SMALL = 512  # elements: below this, NumPy is faster than the call of a compiled loop


@kernel
def _absolute(x, out, signs):  # type: ignore[no-untyped-def]
    for i in range(x.size):
        signs[i] = 1 if x[i] > 0 else (-1 if x[i] < 0 else x[i])  # 0 stays 0, and NaN stays NaN
        out[i] = abs(x[i])


def absolute(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`(|x|, sign(x))`, with the axes in memory as those of x."""
    if x.size < SMALL:
        return np.abs(x), np.sign(x)
    out, signs = empty_like(x), empty_like(x)
    order = axes_in_memory(x)
    flat = [array.transpose(order).reshape(-1) for array in (x, out, signs)]
    _absolute(contiguous(flat[0]), flat[1], flat[2])
    return out, signs


@kernel
def _adam(p, g, m, v, step, beta1, rest1, beta2, rest2, scale, eps, out):  # type: ignore[no-untyped-def]
    for i in range(p.size):
        m[i] = beta1 * m[i] + rest1 * g[i]
        v[i] = beta2 * v[i] + rest2 * g[i] * g[i]
        out[i] = p[i] - step * m[i] / (np.sqrt(v[i] * scale) + eps)


def adam(
    p: np.ndarray, g: np.ndarray, m: np.ndarray, v: np.ndarray, t: int,
    *, lr: float, beta1: float, beta2: float, eps: float,
) -> np.ndarray:  # fmt: skip
    """The new p after step t = 1, 2, ... of Adam (Kingma and Ba 2015, algorithm 1); m and v are updated in place.

    All arrays have one shape and dtype; m and v are owned by the optimiser, dense, and in memory as p is.
    """
    out = empty_like(p)
    order = axes_in_memory(out)
    p, g, m_flat, v_flat, out_flat = (array.transpose(order).reshape(-1) for array in (p, g, m, v, out))
    if p.size and not (np.may_share_memory(m_flat, m) and np.may_share_memory(v_flat, v)):
        raise ValueError("adam: m and v must lie in memory as p does; make them with numpy.zeros_like(p)")
    step, scale = lr / (1 - beta1**t), 1 / (1 - beta2**t)
    factors = map(p.dtype.type, (step, beta1, 1 - beta1, beta2, 1 - beta2, scale, eps))
    _adam(contiguous(p), contiguous(g), m_flat, v_flat, *factors, out_flat)
    return out


def masked(g: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """g where the mask is True, 0 elsewhere.  g is `(..., *mask.shape)`: extra leading axes share the mask."""
    if g.shape[g.ndim - mask.ndim :] != mask.shape:
        raise ValueError(f"masked: an array of shape {g.shape} does not end in the mask's shape {mask.shape}")
    if g.size < SMALL:
        return np.positive(g, out=np.zeros(g.shape, g.dtype), where=mask)
    out = empty(g.shape, g.dtype)
    out[...] = g
    mask_in_place(out, mask)
    return out


@kernel
def _mask_in_place(g, mask):  # type: ignore[no-untyped-def]
    for k in range(g.shape[0]):
        for i in range(g.shape[1]):
            g[k, i] = g[k, i] if mask[i] else 0  # without a branch, so that it is vectorised


def mask_in_place(g: np.ndarray, mask: np.ndarray) -> None:
    """Put 0 into g (..., *mask.shape), C-contiguous, where the mask is False."""
    _mask_in_place(g.reshape(g.size // max(1, mask.size), mask.size), contiguous(mask).reshape(mask.size))
