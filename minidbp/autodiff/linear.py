"""Products that are linear in each operand: matmul and the conv family.

The conv family is one trilinear form T(x, w, g) = <conv2d(x, w), g>, so the derivatives of each of its three functions
are the other two: three kernels serve every order of differentiation.  x @ w is the same form on images of one pixel.
"""

import math
from functools import partial
from typing import NamedTuple

import numpy as np

from minidbp import kernels
from minidbp.autodiff.elementwise import add, masked
from minidbp.autodiff.reduce import unbroadcast
from minidbp.autodiff.shape import move_axis, reshape, transpose
from minidbp.autodiff.tensor import Tensor, TensorLike, operands, record
from minidbp.kernels import ConvGeometry, Padding
from minidbp.kernels.geometry import ONE_PIXEL, Pair


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
    if b.ndim == 2:
        return _conv(a, b, MATRIX)
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
        again=matmul,
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
    y = _conv(x, w, _images(ConvGeometry.of(x.shape[1:3], w.shape[:2], stride, padding)))
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
    return _conv_transpose(g, w, _images(geometry))


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
    return _weight_grad(x, g, _images(geometry))


def _check(name: str, **tensors: tuple[Tensor, str]) -> None:
    for letter, (tensor, axes) in tensors.items():
        if tensor.ndim != 4:
            raise ValueError(f"{name}: {letter} must have the axes {axes}; got shape {tensor.shape}")


class _Form(NamedTuple):
    """T(x, w, g) with x (*B, *image, I), w (*kernel, I, O) and g (*B, *output, O), where B is the batch.

    names: of what is linear in x, in g, and of what returns w.  A matrix product has no axes of image, kernel, output.
    """

    names: tuple[str, str, str]
    geometry: ConvGeometry
    image: tuple[int, ...]
    kernel: tuple[int, ...]
    output: tuple[int, ...]

    def batch(self, tensor: Tensor) -> tuple[int, ...]:
        """B, from an x or a g."""
        return tensor.shape[: tensor.ndim - len(self.image) - 1]

    def pixels(self, array: np.ndarray, size: Pair) -> np.ndarray:
        """An x, a g or a mask as the kernels take it: (product of B, height, width, channels)."""
        batch = math.prod(array.shape[: array.ndim - len(self.image) - 1])
        return array.reshape(batch, *size, array.shape[-1])

    def filters(self, w: np.ndarray) -> np.ndarray:
        """w as the kernels take it: (kh, kw, I, O)."""
        return w.reshape(*self.geometry.kernel, *w.shape[-2:])

    def mask(self, mask: np.ndarray | None) -> np.ndarray | None:
        """A support as the kernels take it; one of fewer axes than an output has is the same in all places."""
        if mask is None:
            return None
        if mask.ndim <= len(self.output):
            mask = np.broadcast_to(mask, (*self.output, mask.shape[-1]))
        return self.pixels(mask, self.geometry.output)


MATRIX = _Form(("matmul",) * 3, ONE_PIXEL, (), (), ())


def _images(geometry: ConvGeometry) -> _Form:
    names = "conv2d", "conv2d_transpose", "conv2d_weight_grad"
    return _Form(names, geometry, geometry.image, geometry.kernel, geometry.output)


# Below, one of two operands, a cotangent, may have extra leading axes K.  On x and g they are more batch; where they
# cannot be, as T copies only x's or g's, they ride along on the channels, which T only copies too.  A g's support is
# handed to the kernels, which do not look at g outside (it may be loose there); `mask` asks for a result inside only.


def _conv(x: Tensor, w: Tensor, form: _Form, mask: np.ndarray | None = None) -> Tensor:
    if w.ndim > len(form.kernel) + 2:
        lead = w.ndim - len(form.kernel) - 2
        return _unfold_channels(_conv(x, _fold_channels(w, -1, lead), form), -1, w.shape[:lead], w.shape[-1])
    y = kernels.conv2d(form.pixels(x.data, form.geometry.image), form.filters(w.data), form.geometry, form.mask(mask))
    y = y.reshape(*form.batch(x), *form.output, w.shape[-1])

    def inside(g: Tensor) -> Tensor:
        return g if mask is None else masked(g, mask)

    return record(
        form.names[0],
        y,
        (x, w),
        (
            lambda g, out: _conv_transpose(inside(g), w, form),
            lambda g, out: _weight_grad(x, inside(g), form),
        ),
        support=mask,
        again=partial(_conv, form=form, mask=mask),
    )


def _conv_transpose(g: Tensor, w: Tensor, form: _Form) -> Tensor:
    if w.ndim > len(form.kernel) + 2:
        lead = w.ndim - len(form.kernel) - 2
        return _unfold_channels(_conv_transpose(g, _fold_channels(w, -2, lead), form), -1, w.shape[:lead], w.shape[-2])
    x = kernels.conv2d_transpose(
        form.pixels(g._data, form.geometry.output), form.filters(w.data), form.geometry, form.mask(g.support)
    )
    return record(
        form.names[1],
        x.reshape(*form.batch(g), *form.image, w.shape[-2]),
        (g, w),
        (lambda u, out: _conv(u, w, form), lambda u, out: _weight_grad(u, g, form)),
        inside=(lambda u, out: _conv(u, w, form, g.support), None),
        again=partial(_conv_transpose, form=form),
    )


def _weight_grad(x: Tensor, g: Tensor, form: _Form) -> Tensor:
    lead = x.ndim - g.ndim
    if lead > 0:
        return _unfold_channels(_weight_grad(_fold_channels(x, -1, lead), g, form), -2, x.shape[:lead], x.shape[-1])
    if lead < 0:
        return _unfold_channels(_weight_grad(x, _fold_channels(g, -1, -lead), form), -1, g.shape[:-lead], g.shape[-1])
    w = kernels.conv2d_weight_grad(
        form.pixels(x.data, form.geometry.image),
        form.pixels(g._data, form.geometry.output),
        form.geometry,
        form.mask(g.support),
    )
    return record(
        form.names[2],
        w.reshape(*form.kernel, x.shape[-1], g.shape[-1]),
        (x, g),
        (lambda v, out: _conv_transpose(g, v, form), lambda v, out: _conv(x, v, form)),
        inside=(None, lambda v, out: _conv(x, v, form, g.support)),
        again=partial(_weight_grad, form=form),
    )


def _fold_channels(x: Tensor, axis: int, lead: int) -> Tensor:
    """(*K, ..., C, ...) to (..., K * C, ...), K being `lead` axes and C the given one, counted from the end."""
    x = reshape(x, (math.prod(x.shape[:lead]), *x.shape[lead:]))
    x = move_axis(x, 0, axis - 1)
    shape = list(x.shape)
    shape[axis - 1 : x.ndim + axis + 1] = [shape[axis - 1] * shape[axis]]
    return reshape(x, shape)


def _unfold_channels(y: Tensor, axis: int, lead: tuple[int, ...], size: int) -> Tensor:
    """(..., K * C, ...) on `axis` of y back to (*K, ..., C, ...), for K = `lead` and C = `size`."""
    at = y.ndim + axis
    y = move_axis(reshape(y, (*y.shape[:at], math.prod(lead), size, *y.shape[at + 1 :])), at, 0)
    return reshape(y, lead + y.shape[1:])
