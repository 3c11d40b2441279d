"""Products that are linear in each operand: matmul and the conv family.

The conv family is one trilinear form T(x, w, g) = <conv2d(x, w), g>, so the derivatives of each of its three functions
are the other two: three kernels serve every order of differentiation.
"""

import math

import numpy as np

from minidbp import kernels
from minidbp.autodiff.elementwise import add
from minidbp.autodiff.reduce import unbroadcast
from minidbp.autodiff.shape import move_axis, reshape, transpose
from minidbp.autodiff.tensor import Tensor, TensorLike, operands, record
from minidbp.kernels import ConvGeometry, Padding
from minidbp.kernels.geometry import Pair


def matmul(a: TensorLike, b: TensorLike) -> Tensor:
    """a @ b, by NumPy's rules: (..., n, m) @ (..., m, p), a vector being a row on the left and a column on the right.

    d = da b + a db.  Raises ValueError if the shapes do not agree.
    """
    a, b = operands("matmul", a, b)
    if not a.ndim or not b.ndim or a.shape[-1] != b.shape[-2 if b.ndim > 1 else 0]:
        raise ValueError(f"matmul: shapes {a.shape} and {b.shape} do not fit together")
    if a.ndim == 1:
        product = matmul(reshape(a, (1, a.size)), b)
        at = max(0, product.ndim - 2)  # behind the batch; a vector b leaves no column axis
        return reshape(product, product.shape[:at] + product.shape[at + 1 :])
    if b.ndim == 1:
        product = matmul(a, reshape(b, (b.size, 1)))
        return reshape(product, product.shape[:-1])
    if a.ndim > 2 and b.ndim == 2:  # one large product instead of many small ones
        rows = math.prod(a.shape[:-1])
        return reshape(matmul(reshape(a, (rows, a.shape[-1])), b), a.shape[:-1] + b.shape[1:])
    try:
        data = np.matmul(a.data, b.data)
    except ValueError:
        raise ValueError(f"matmul: shapes {a.shape} and {b.shape} do not fit together") from None
    return record(
        "matmul",
        data,
        (a, b),
        (
            lambda g, out: unbroadcast(matmul(g, _swap(b)), a.shape, g.ndim - out.ndim),
            lambda g, out: unbroadcast(matmul(_swap(a), g), b.shape, g.ndim - out.ndim),
        ),
    )


def _swap(x: Tensor) -> Tensor:
    return transpose(x, (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))


def conv2d(
    x: TensorLike,
    w: TensorLike,
    bias: TensorLike | None = None,
    stride: int | Pair = 1,
    padding: Padding = "valid",
) -> Tensor:
    """Cross-correlation of images with filters, as deep learning calls convolution.

    x: (N, H, W, I); w: (kh, kw, I, O); bias: (O,) or None; result: (N, h, w, O).
    padding: "valid", "same" (TensorFlow's), an int, (vertical, horizontal), or ((top, bottom), (left, right)).
    Raises ValueError if shapes, stride or padding do not fit, and TypeError if the dtypes differ.
    """
    x, w, *biases = operands("conv2d", x, w, *([] if bias is None else [bias]))
    _check("conv2d", x=(x, "(N, H, W, I)"), w=(w, "(kh, kw, I, O)"))
    if x.shape[3] != w.shape[2]:
        raise ValueError(f"conv2d: x {x.shape} has {x.shape[3]} channels, but w {w.shape} takes {w.shape[2]}")
    y = _conv(x, w, ConvGeometry.of(x.shape[1:3], w.shape[:2], stride, padding))
    for b in biases:
        if b.shape != w.shape[3:]:
            raise ValueError(f"conv2d: bias must have shape {w.shape[3:]} to go with w {w.shape}; got {b.shape}")
        y = add(y, b)
    return y


def conv2d_transpose(
    g: TensorLike, w: TensorLike, image: Pair, stride: int | Pair = 1, padding: Padding = "valid"
) -> Tensor:
    """The adjoint of conv2d in x: g (N, h, w, O) and w (kh, kw, I, O) to (N, H, W, I), where (H, W) = `image`.

    <conv2d(x, w), g> = <x, conv2d_transpose(g, w)>.  Raises ValueError and TypeError as conv2d does.
    """
    g, w = operands("conv2d_transpose", g, w)
    _check("conv2d_transpose", g=(g, "(N, h, w, O)"), w=(w, "(kh, kw, I, O)"))
    geometry = ConvGeometry.of(image, w.shape[:2], stride, padding)
    if g.shape[1:] != (*geometry.output, w.shape[3]):
        raise ValueError(
            f"conv2d_transpose: g must have shape (N, {geometry.output[0]}, {geometry.output[1]}, {w.shape[3]}) "
            f"to go with w {w.shape} and image {image}; got {g.shape}"
        )
    return _conv_transpose(g, w, geometry)


def conv2d_weight_grad(
    x: TensorLike, g: TensorLike, kernel: Pair, stride: int | Pair = 1, padding: Padding = "valid"
) -> Tensor:
    """The adjoint of conv2d in w: x (N, H, W, I) and g (N, h, w, O) to (kh, kw, I, O), where (kh, kw) = `kernel`.

    <conv2d(x, w), g> = <w, conv2d_weight_grad(x, g)>.  Raises ValueError and TypeError as conv2d does.
    """
    x, g = operands("conv2d_weight_grad", x, g)
    _check("conv2d_weight_grad", x=(x, "(N, H, W, I)"), g=(g, "(N, h, w, O)"))
    geometry = ConvGeometry.of(x.shape[1:3], kernel, stride, padding)
    if g.shape[:3] != (x.shape[0], *geometry.output):
        raise ValueError(
            f"conv2d_weight_grad: g must have shape ({x.shape[0]}, {geometry.output[0]}, {geometry.output[1]}, O) "
            f"to go with x {x.shape} and a kernel of {kernel}; got {g.shape}"
        )
    return _weight_grad(x, g, geometry)


def _check(name: str, **tensors: tuple[Tensor, str]) -> None:
    for letter, (tensor, axes) in tensors.items():
        if tensor.ndim != 4:
            raise ValueError(f"{name}: {letter} must have the axes {axes}; got shape {tensor.shape}")


# Below, one of the two operands, a cotangent, may have extra leading axes K.  T is linear in it, so those axes can
# ride along on an axis that T only copies: the batch where x and g share it, the channels of the filters elsewhere.


def _conv(x: Tensor, w: Tensor, geometry: ConvGeometry) -> Tensor:
    if x.ndim > 4:
        return _unfold_batch(_conv(_fold_batch(x), w, geometry), x)
    if w.ndim > 4:
        return _unfold_channels(_conv(x, _fold_channels(w, -1), geometry), -1, like=w, of=-1)
    return record(
        "conv2d",
        kernels.conv2d(x.data, w.data, geometry),
        (x, w),
        (lambda g, out: _conv_transpose(g, w, geometry), lambda g, out: _weight_grad(x, g, geometry)),
    )


def _conv_transpose(g: Tensor, w: Tensor, geometry: ConvGeometry) -> Tensor:
    if g.ndim > 4:
        return _unfold_batch(_conv_transpose(_fold_batch(g), w, geometry), g)
    if w.ndim > 4:
        return _unfold_channels(_conv_transpose(g, _fold_channels(w, -2), geometry), -1, like=w, of=-2)
    return record(
        "conv2d_transpose",
        kernels.conv2d_transpose(g.data, w.data, geometry),
        (g, w),
        (lambda u, out: _conv(u, w, geometry), lambda u, out: _weight_grad(u, g, geometry)),
    )


def _weight_grad(x: Tensor, g: Tensor, geometry: ConvGeometry) -> Tensor:
    if x.ndim > 4:
        return _unfold_channels(_weight_grad(_fold_channels(x, -1), g, geometry), -2, like=x, of=-1)
    if g.ndim > 4:
        return _unfold_channels(_weight_grad(x, _fold_channels(g, -1), geometry), -1, like=g, of=-1)
    return record(
        "conv2d_weight_grad",
        kernels.conv2d_weight_grad(x.data, g.data, geometry),
        (x, g),
        (lambda v, out: _conv_transpose(g, v, geometry), lambda v, out: _conv(x, v, geometry)),
    )


def _fold_batch(x: Tensor) -> Tensor:
    """(*K, N, ...) to (K * N, ...)."""
    return reshape(x, (math.prod(x.shape[:-3]), *x.shape[-3:]))


def _unfold_batch(y: Tensor, x: Tensor) -> Tensor:
    """(K * N, ...) back to x's (*K, N, ...)."""
    return reshape(y, x.shape[:-3] + y.shape[1:])


def _fold_channels(x: Tensor, axis: int) -> Tensor:
    """(*K, ..., C, ...) to (..., K * C, ...), C being the given axis, counted from the end."""
    k = math.prod(x.shape[:-4])
    x = move_axis(reshape(x, (k, *x.shape[-4:])), 0, axis - 1)
    shape = list(x.shape)
    shape[axis - 1 : x.ndim + axis + 1] = [shape[axis - 1] * shape[axis]]
    return reshape(x, shape)


def _unfold_channels(y: Tensor, axis: int, like: Tensor, of: int) -> Tensor:
    """(..., K * C, ...) on `axis` of y back to (*K, ..., C, ...), where K and C (its axis `of`) are those of `like`."""
    k, at = math.prod(like.shape[:-4]), y.ndim + axis
    y = move_axis(reshape(y, (*y.shape[:at], k, like.shape[of], *y.shape[at + 1 :])), at, 0)
    return reshape(y, like.shape[:-4] + y.shape[1:])
