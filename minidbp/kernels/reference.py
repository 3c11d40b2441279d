"""The kernels as plain NumPy loops, to read and to test the fast ones against.

Nothing in the package calls these.  Each is the definition of its namesake.  Three differ in form: im2col returns a
matrix, col2im takes the number of images, and adam returns m and v beside p.  Images are (N, H, W, I), filters
(kh, kw, I, O), and outputs (N, h, w, O); `geometry` gives stride and padding.
"""

from collections.abc import Iterator

import numpy as np

from minidbp.kernels.patches import ConvGeometry


def _taps(geometry: ConvGeometry) -> Iterator[tuple[int, int, int, int, int, int]]:
    """Each output position (i, j) with each kernel position (a, b) and the pixel (r, c) where they meet."""
    for i in range(geometry.output[0]):
        for j in range(geometry.output[1]):
            for a in range(geometry.kernel[0]):
                for b in range(geometry.kernel[1]):
                    r = i * geometry.stride[0] + a - geometry.pad[0]
                    c = j * geometry.stride[1] + b - geometry.pad[1]
                    if 0 <= r < geometry.image[0] and 0 <= c < geometry.image[1]:
                        yield i, j, a, b, r, c


def conv2d(x: np.ndarray, w: np.ndarray, geometry: ConvGeometry) -> np.ndarray:
    """y[n, i, j] = sum over taps of x[n, r, c] @ w[a, b]."""
    y = np.zeros((x.shape[0], *geometry.output, w.shape[3]), x.dtype)
    for i, j, a, b, r, c in _taps(geometry):
        y[:, i, j] += x[:, r, c] @ w[a, b]
    return y


def conv2d_transpose(g: np.ndarray, w: np.ndarray, geometry: ConvGeometry) -> np.ndarray:
    """The adjoint in x: out[n, r, c] = sum over taps of g[n, i, j] @ w[a, b]^T."""
    x = np.zeros((g.shape[0], *geometry.image, w.shape[2]), g.dtype)
    for i, j, a, b, r, c in _taps(geometry):
        x[:, r, c] += g[:, i, j] @ w[a, b].T
    return x


def conv2d_weight_grad(x: np.ndarray, g: np.ndarray, geometry: ConvGeometry) -> np.ndarray:
    """The adjoint in w: out[a, b] = sum over samples and taps of x[n, r, c]^T g[n, i, j]."""
    w = np.zeros((*geometry.kernel, x.shape[3], g.shape[3]), x.dtype)
    for i, j, a, b, r, c in _taps(geometry):
        w[a, b] += x[:, r, c].T @ g[:, i, j]
    return w


def im2col(x: np.ndarray, geometry: ConvGeometry) -> np.ndarray:
    """One row for each output position, holding the patch of x under the kernel: (N*h*w, kh*kw*I), zeros as padding."""
    rows = np.zeros((x.shape[0], *geometry.output, *geometry.kernel, x.shape[3]), x.dtype)
    for i, j, a, b, r, c in _taps(geometry):
        rows[:, i, j, a, b] = x[:, r, c]
    return rows.reshape(x.shape[0] * geometry.output[0] * geometry.output[1], -1)


def col2im(col: np.ndarray, n: int, geometry: ConvGeometry) -> np.ndarray:
    """The adjoint of im2col: each row of col is added back onto the patch it came from; (n, H, W, I)."""
    channels = col.shape[1] // (geometry.kernel[0] * geometry.kernel[1])
    rows = col.reshape(n, *geometry.output, *geometry.kernel, channels)
    x = np.zeros((n, *geometry.image, channels), col.dtype)
    for i, j, a, b, r, c in _taps(geometry):
        x[:, r, c] += rows[:, i, j, a, b]
    return x


def adam(
    p: np.ndarray, g: np.ndarray, m: np.ndarray, v: np.ndarray, t: int,
    *, lr: float, beta1: float, beta2: float, eps: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """Step t = 1, 2, ... of Adam (Kingma and Ba 2015, algorithm 1): the new p, m and v."""
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g**2
    m_hat, v_hat = m / (1 - beta1**t), v / (1 - beta2**t)
    return p - lr * m_hat / (np.sqrt(v_hat) + eps), m, v
