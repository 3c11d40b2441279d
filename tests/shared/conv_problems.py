"""Random convolutions for the tests of the kernels: all geometries, layouts in memory, dtypes and masks."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from minidbp.kernels import ConvGeometry, reference

REAL = (np.float32, np.float64)
FEW = (1, 2, 3, 4)
AROUND_VECTORS = (1, 2, 3, 8, 16, 17, 40, 64, 70, 130)  # channels around the widths of vectors and register blocks


def numbers(rng: np.random.Generator, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """Normal numbers, complex ones for a complex dtype."""
    values = rng.standard_normal(shape)
    return (values + 1j * rng.standard_normal(shape) if np.issubdtype(dtype, complex) else values).astype(dtype)


@dataclass
class Problem:
    """x (R * M, H, W, I), w (kh, kw, I, O), g (R * M, h, w, O) which is NaN outside the mask (M, h, w, O)."""

    geometry: ConvGeometry
    x: np.ndarray
    w: np.ndarray
    g: np.ndarray
    mask: np.ndarray

    @property
    def on(self) -> np.ndarray:
        """The mask for each image."""
        return np.tile(self.mask, (len(self.x) // max(1, len(self.mask)), 1, 1, 1))

    @property
    def inside(self) -> np.ndarray:
        """g with zeros outside the mask."""
        return np.where(self.on, self.g, self.g.dtype.type(0))

    @property
    def masked_conv2d(self) -> np.ndarray:
        """mask * conv2d(x, w), by the reference."""
        y = reference.conv2d(self.x, self.w, self.geometry)
        return np.where(self.on, y, y.dtype.type(0))

    @property
    def conv2d_transpose(self) -> np.ndarray:
        return reference.conv2d_transpose(self.inside, self.w, self.geometry)

    @property
    def conv2d_weight_grad(self) -> np.ndarray:
        return reference.conv2d_weight_grad(self.x, self.inside, self.geometry)


def in_memory(draw: st.DrawFn, array: np.ndarray) -> np.ndarray:
    """The same array: C-contiguous, with its axes in reverse and gaps between its elements, or read-only."""
    layout = draw(st.sampled_from(["C", "reversed with gaps", "read-only"]))
    if layout == "reversed with gaps":
        return np.stack([array.T, array.T], axis=-1)[..., 0].T
    array.flags.writeable = layout == "C"
    return array


@st.composite
def problems(
    draw: st.DrawFn,
    channels: Sequence[int] = AROUND_VECTORS,
    dtypes: Sequence[type] = REAL,
    rows: Sequence[int] = (1, 2, 5, 7, 10, 11),
    images: Sequence[int] = (1, 3),
) -> Problem:
    kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 4)))
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    side = st.integers(0, 2)
    sides = st.tuples(side, side)
    padding = draw(st.one_of(st.sampled_from(["valid", "same"]), side, sides, st.tuples(sides, sides)))
    extra = draw(st.tuples(st.integers(0, 4), st.integers(0, 4)))
    geometry = ConvGeometry.of((kernel[0] + extra[0], kernel[1] + extra[1]), kernel, stride, padding)
    n_rows, n_images = draw(st.sampled_from(rows)), draw(st.sampled_from(images))
    n_in, n_out = draw(st.sampled_from(channels)), draw(st.sampled_from(channels))
    dtype, share = draw(st.sampled_from(dtypes)), draw(st.sampled_from([0.0, 0.2, 0.7, 1.0]))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    mask = rng.random((n_images, *geometry.output, n_out)) < share
    x = numbers(rng, (n_rows * n_images, *geometry.image, n_in), dtype)
    w = numbers(rng, (*geometry.kernel, n_in, n_out), dtype)
    g = numbers(rng, (n_rows, *mask.shape), dtype)
    g[:, ~mask] = np.nan
    if draw(st.booleans()):  # the layers' own order in memory
        w = np.moveaxis(np.ascontiguousarray(np.moveaxis(w, -1, 0)), 0, -1)
    g = g.reshape(n_rows * n_images, *mask.shape[1:])
    return Problem(geometry, in_memory(draw, x), in_memory(draw, w), in_memory(draw, g), mask)


def assert_close(got: np.ndarray, expected: np.ndarray, terms: int = 4000) -> None:
    """Both add the same products of size about 1, at most `terms` of them, in another order."""
    assert (got.shape, got.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_allclose(got, expected, rtol=0, atol=terms * np.finfo(got.dtype).eps)
