"""Products: matmul, dot, einsum, and the conv family with its ReLU.

The conv family is one trilinear form with a constant mask m:

    T(x, w, g) = <m * conv(x, w), g>

Here conv is the plain convolution, and m is the mask of the ReLU that follows it, True where a unit is active.  It has
the shape of the outputs.  Without a ReLU, m is True everywhere.  Three functions, which include m, are T's adjoints:

    conv2d(x, w)               the outputs y with <y, g> = T(x, w, g)
    conv2d_transpose(g, w)     the image z with <x, z> = T(x, w, g)
    conv2d_weight_grad(x, g)   the filters v with <w, v> = T(x, w, g)

m does not change when x and w move a little, so it counts as a constant.  T is then linear in each argument, and the
derivatives of each function are the other two, with the same m.  So three kernels serve every order of differentiation,
and at every order they skip what the ReLU turned off.  `linear_relu` and `conv2d_relu` make m and hand it on.

Without a geometry, x (*B, I), w (I, O) and g (*B, O) are matrices, and conv is x @ w.
"""

import math
import string
from typing import Any

import numpy as np

from minidbp import kernels
from minidbp.autodiff.elementwise import masked
from minidbp.autodiff.shapes import moveaxis, reshape, sum, transpose, unbroadcast
from minidbp.autodiff.tensor import COMPLEX, Rule, Tensor, TensorLike, as_operands, locally_constant, operation
from minidbp.kernels import ConvGeometry, Padding, Pair

Mask = np.ndarray | None


def matmul(a: TensorLike, b: TensorLike) -> Tensor:
    """`a @ b` by NumPy's rules: (..., n, m) @ (..., m, p), a vector being a row on the left and a column on the right.

    Raises:
        ValueError: if the shapes do not fit together.
    """
    a, b = as_operands("matmul", (a, b))
    if not a.ndim or not b.ndim or a.shape[-1] != b.shape[-2 if b.ndim > 1 else 0]:
        raise ValueError(f"matmul: shapes {a.shape} and {b.shape} do not fit together")
    if a.ndim == 1:
        product = matmul(reshape(a, 1, a.size), b)
        row_axis = product.ndim - (2 if b.ndim > 1 else 1)
        return reshape(product, product.shape[:row_axis] + product.shape[row_axis + 1 :])
    if b.ndim == 1:
        product = _matmul(a, reshape(b, b.size, 1))
        return reshape(product, product.shape[:-1])
    return _matmul(a, b)


@operation
def _matmul(a: Tensor, b: Tensor) -> Any:
    """`a @ b`; `d = da b + a db`."""
    try:
        value = kernels.matmul(a.data, b.data)
    except ValueError:
        raise ValueError(f"matmul: shapes {a.shape} and {b.shape} do not fit together") from None
    return (
        value,
        lambda g, out: unbroadcast(_matmul(g, _swapped(b)), a, out),
        lambda g, out: unbroadcast(_matmul(_swapped(a), g), b, out),
    )


def _swapped(x: Tensor) -> Tensor:
    return transpose(x, (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))


def dot(a: TensorLike, b: TensorLike) -> Tensor:
    """The sum of products over the last axis of a and the last but one of b, or b's only axis, by NumPy's rules.

    This is `a @ b` if b has one axis or two.  A tensor of shape () multiplies.

    Raises:
        ValueError: if the shapes do not fit together.
    """
    a, b = as_operands("dot", (a, b))
    if not a.ndim or not b.ndim:
        return a * b
    summed = b.ndim - 2 if b.ndim > 1 else 0
    if a.shape[-1] != b.shape[summed]:
        raise ValueError(
            f"dot: shapes {a.shape} and {b.shape} do not fit together: "
            f"the last axis of the first has size {a.shape[-1]}, axis {summed} of the second {b.shape[summed]}"
        )
    if b.ndim <= 2:
        return matmul(a, b)
    columns = moveaxis(b, summed, 0)
    kept = columns.shape[1:]
    product = matmul(reshape(a, math.prod(a.shape[:-1]), a.shape[-1]), reshape(columns, a.shape[-1], math.prod(kept)))
    return reshape(product, a.shape[:-1] + kept)


def einsum(subscripts: str, *xs: TensorLike) -> Tensor:
    """The sum of products that the subscripts describe: `einsum("nij,nj->ni", A, x)` is A[n] @ x[n] for each n.

    Every axis of an operand has a letter.  Axes with the same letter share one index.  The sum is over the letters that
    are not behind "->".  Without "->", the result has the letters that stand once, in the order of the alphabet.

    Raises:
        TypeError: if subscripts is not a string, or the operands differ in dtype.
        ValueError: if subscripts do not fit the operands, have an ellipsis, or have a letter twice in one operand.
    """
    if not isinstance(subscripts, str):
        raise TypeError(f"einsum: the subscripts must be a string; got {type(subscripts).__name__}")
    operands = list(as_operands("einsum", xs))
    letters, result = _letters(subscripts, operands)
    sizes = _sizes(subscripts, letters, operands)
    for i, x in enumerate(operands):  # an axis of size 1 beside a longer one broadcasts
        short = [c for c, n in zip(letters[i], x.shape, strict=True) if n != sizes[c]]
        operands[i], letters[i] = _summed(x, letters[i], short)
    for i, x in enumerate(operands):  # letters of one operand alone: a rule cannot repeat its cotangent over them
        others = set(result).union(*letters[:i], *letters[i + 1 :])
        operands[i], letters[i] = _summed(x, letters[i], [c for c in letters[i] if c not in others])
    return _einsum(*operands, subscripts=f"{','.join(letters)}->{result}")


def _summed(x: Tensor, letters: str, over: list[str]) -> tuple[Tensor, str]:
    """x summed over the axes of these letters, and the letters that remain."""
    axes = tuple([letters.index(c) for c in over])
    return sum(x, axes) if axes else x, "".join(c for c in letters if c not in over)


def _letters(subscripts: str, operands: list[Tensor]) -> tuple[list[str], str]:
    """The letters of each operand, and those of the result."""
    before, arrow, result = subscripts.replace(" ", "").partition("->")
    letters = before.split(",")
    if "." in subscripts:
        raise ValueError(f"einsum: {subscripts!r} has an ellipsis; give every axis a letter")
    if not all(c.isascii() and c.isalpha() for c in "".join(letters) + result):
        raise ValueError(f"einsum: subscripts are letters, commas and one '->'; got {subscripts!r}")
    if len(letters) != len(operands) or any(len(s) != x.ndim for s, x in zip(letters, operands, strict=True)):
        shapes = ", ".join(str(x.shape) for x in operands) or "none"
        raise ValueError(
            f"einsum: {subscripts!r} must have a letter for each axis of the operands; their shapes are {shapes}"
        )
    for s in letters:
        for c in s:
            if s.count(c) > 1:
                raise ValueError(
                    f"einsum: {c!r} stands twice in {s!r}; take the diagonal first, as x[np.arange(n), np.arange(n)]"
                )
    if not arrow:
        result = "".join(c for c in sorted(set("".join(letters))) if "".join(letters).count(c) == 1)
    for c in result:
        if result.count(c) > 1 or c not in before:
            raise ValueError(f"einsum: {c!r} of the result {result!r} must stand there once, and in an operand")
    return letters, result


def _sizes(subscripts: str, letters: list[str], operands: list[Tensor]) -> dict[str, int]:
    """The size of each letter's axes."""
    sizes: dict[str, int] = {}
    for s, x in zip(letters, operands, strict=True):
        for c, n in zip(s, x.shape, strict=True):
            if n != sizes.setdefault(c, n) and n != 1:
                if sizes[c] != 1:
                    raise ValueError(f"einsum: {c!r} has the sizes {sizes[c]} and {n} in {subscripts!r}")
                sizes[c] = n
    return sizes


@operation
def _einsum(*xs: Tensor, subscripts: str) -> Any:
    """`einsum(subscripts, xs)`, where each letter of an operand is also in another or in the result."""
    before, result = subscripts.split("->")
    letters = before.split(",")

    def rule_of(i: int) -> Rule:
        def rule(g: Tensor, out: Tensor) -> Tensor:
            unused = [c for c in string.ascii_letters if c not in subscripts]
            lead = "".join(unused[: g.ndim - out.ndim])  # the letters of g's leading axes
            others = [x for k, x in enumerate(xs) if k != i]
            names = ",".join([lead + result, *(s for k, s in enumerate(letters) if k != i)])
            return _einsum(g, *others, subscripts=f"{names}->{lead}{letters[i]}")

        return rule

    value = np.einsum(subscripts, *[x.data for x in xs], optimize=True)
    return value, *map(rule_of, range(len(xs)))


# -- the conv family ---------------------------------------------------------------------------------------------------


@operation
def _conv2d(x: Tensor, w: Tensor, *, geometry: ConvGeometry | None, mask: Mask = None) -> Any:
    """`conv2d(x, w, geometry, mask)`, 0 where the mask is False."""
    return (
        kernels.conv2d(x.data, w.data, geometry, mask),
        lambda g, out: _transpose_of_many(g, w, geometry, mask),
        lambda g, out: _weight_grad_of_many(x, g, geometry, mask),
    )


@operation
def _conv2d_transpose(g: Tensor, w: Tensor, *, geometry: ConvGeometry | None, mask: Mask = None) -> Any:
    """`conv2d_transpose(g, w, geometry, mask)`, the adjoint of conv2d in x; g counts as 0 where the mask is False."""
    return (
        kernels.conv2d_transpose(g.data, w.data, geometry, mask),
        lambda u, out: _conv2d_of_many(u, w, geometry, mask),
        lambda u, out: _weight_grad_of_many(u, g, geometry, mask),
    )


@operation
def _conv2d_weight_grad(x: Tensor, g: Tensor, *, geometry: ConvGeometry | None, mask: Mask = None) -> Any:
    """`conv2d_weight_grad(x, g, geometry, mask)`, the adjoint in w; g counts as 0 where the mask is False."""
    return (
        kernels.conv2d_weight_grad(x.data, g.data, geometry, mask),
        lambda v, out: _transpose_of_many(g, v, geometry, mask),
        lambda v, out: _conv2d_of_many(x, v, geometry, mask),
    )


# A cotangent may have extra leading axes K.  In a product with w, K on x or g is simply more batch, and m is shared.
# K on w, or on only one of x and g in the weight gradient, cannot be batch.  There K is folded into the channels of
# that operand.  If these are output channels, m is repeated K times.

IN, OUT = -2, -1  # the axes of w (kh, kw, I, O); the channels of x and g are on their last axis


def _conv2d_of_many(x: Tensor, w: Tensor, geometry: ConvGeometry | None, mask: Mask) -> Tensor:
    """conv2d of x (*B, H, W, I) and w (*K, kh, kw, I, O): (*K, *B, h, w, O)."""
    lead = w.ndim - (2 if geometry is None else 4)
    if not lead:
        return _conv2d(x, w, geometry=geometry, mask=mask)
    y = _conv2d(x, _fold_channels(w, OUT, lead), geometry=geometry, mask=_repeat_channels(mask, w.shape[:lead]))
    return _unfold_channels(y, -1, w.shape[:lead], w.shape[OUT])


def _transpose_of_many(g: Tensor, w: Tensor, geometry: ConvGeometry | None, mask: Mask) -> Tensor:
    """conv2d_transpose of g (*B, h, w, O) and w (*K, kh, kw, I, O): (*K, *B, H, W, I)."""
    lead = w.ndim - (2 if geometry is None else 4)
    if not lead:
        return _conv2d_transpose(g, w, geometry=geometry, mask=mask)
    x = _conv2d_transpose(g, _fold_channels(w, IN, lead), geometry=geometry, mask=mask)
    return _unfold_channels(x, -1, w.shape[:lead], w.shape[IN])


def _weight_grad_of_many(x: Tensor, g: Tensor, geometry: ConvGeometry | None, mask: Mask) -> Tensor:
    """conv2d_weight_grad of x (*K, *B, H, W, I) and g (*B, h, w, O), or of x (*B, ...) and g (*K, *B, ...)."""
    lead = x.ndim - g.ndim
    if lead > 0:
        dw = _conv2d_weight_grad(_fold_channels(x, -1, lead), g, geometry=geometry, mask=mask)
        return _unfold_channels(dw, IN, x.shape[:lead], x.shape[-1])
    if lead < 0:
        k = g.shape[:-lead]
        dw = _conv2d_weight_grad(x, _fold_channels(g, -1, -lead), geometry=geometry, mask=_repeat_channels(mask, k))
        return _unfold_channels(dw, OUT, k, g.shape[-1])
    return _conv2d_weight_grad(x, g, geometry=geometry, mask=mask)


def _fold_channels(x: Tensor, axis: int, lead: int) -> Tensor:
    """(*K, ..., C, ...) to (..., K * C, ...), K being `lead` axes and C the given axis, counted from the end."""
    x = moveaxis(reshape(x, (math.prod(x.shape[:lead]), *x.shape[lead:])), 0, axis - 1)
    at = x.ndim + axis
    return reshape(x, (*x.shape[: at - 1], x.shape[at - 1] * x.shape[at], *x.shape[at + 1 :]))


def _unfold_channels(y: Tensor, axis: int, k: tuple[int, ...], c: int) -> Tensor:
    """(..., K * C, ...) on `axis` of y back to (*K, ..., C, ...)."""
    at = y.ndim + axis
    y = moveaxis(reshape(y, (*y.shape[:at], math.prod(k), c, *y.shape[at + 1 :])), at, 0)
    return reshape(y, k + y.shape[1:])


def _repeat_channels(mask: Mask, k: tuple[int, ...]) -> Mask:
    """The mask for K * O channels, in the order of `_fold_channels`; read-only, as every mask in a rule is."""
    if mask is None:
        return None
    repeated = np.tile(mask, math.prod(k))
    repeated.flags.writeable = False
    return repeated


# -- with a ReLU, in one step ------------------------------------------------------------------------------------------


@operation
def linear_relu(x: Tensor, w: Tensor, b: Tensor) -> Any:
    """`max(x @ w + b, 0)` in one step, for x `(*B, I)`, w `(I, O)` and b `(O,)`.

    The mask of the ReLU goes to the products.

    Raises:
        ValueError: if the shapes do not fit.
    """
    if x.ndim < 1 or w.ndim != 2 or x.shape[-1] != w.shape[0] or b.shape != w.shape[1:]:
        raise ValueError(f"linear_relu: x {x.shape}, w {w.shape} and b {b.shape} should be (*B, I), (I, O) and (O,)")
    return _product_bias_relu(x, w, b, geometry=None)


@operation
def _conv2d_relu(x: Tensor, w: Tensor, b: Tensor, *, geometry: ConvGeometry) -> Any:
    """`max(conv2d(x, w, geometry) + b, 0)` in one step."""
    return _product_bias_relu(x, w, b, geometry=geometry)


def _product_bias_relu(x: Tensor, w: Tensor, b: Tensor, geometry: ConvGeometry | None) -> Any:
    """max(y, 0) with y = conv2d(x, w) + b, and the rules, whose mask m is y > 0."""
    y = kernels.conv2d(x.data, w.data, geometry)
    if b.dtype == COMPLEX != y.dtype:  # a complex step in b alone
        y = y.astype(COMPLEX)
    y += b.data
    mask = locally_constant(y.real > 0)
    if y.dtype == COMPLEX:
        y *= mask
    else:
        np.maximum(y, 0, out=y)  # propagates NaN
    return (
        y,
        lambda g, out: _transpose_of_many(g, w, geometry, mask),
        lambda g, out: _weight_grad_of_many(x, g, geometry, mask),
        lambda g, out: sum(masked(g, mask=mask), tuple(range(g.ndim - out.ndim, g.ndim - 1))),
    )


# -- the public functions of images ------------------------------------------------------------------------------------


def conv2d(
    x: TensorLike, w: TensorLike, bias: TensorLike | None = None, stride: int | Pair = 1, padding: Padding = "valid"
) -> Tensor:
    """Cross-correlation of images with filters, which deep learning calls convolution.

    Args:
        x: images (N, H, W, I).
        w: filters (kh, kw, I, O).
        bias: (O,), added to every output position, or None.
        stride: steps of the kernel in pixels, one number or (vertical, horizontal).
        padding: "valid", "same" (TensorFlow's), an int, (vertical, horizontal), or ((top, bottom), (left, right)).

    Returns:
        (N, h, w, O).

    Raises:
        ValueError: if shapes, stride or padding do not fit.
        TypeError: if the dtypes differ.
    """
    if bias is None:
        x, w = as_operands("conv2d", (x, w))
        return _conv2d(x, w, geometry=_geometry("conv2d", x, w, stride, padding))
    x, w, bias = as_operands("conv2d", (x, w, bias))
    geometry = _geometry("conv2d", x, w, stride, padding, bias)
    return _conv2d(x, w, geometry=geometry) + bias


def conv2d_relu(
    x: TensorLike, w: TensorLike, b: TensorLike, stride: int | Pair = 1, padding: Padding = "valid"
) -> Tensor:
    """`relu(conv2d(x, w, b, stride, padding))` in one step; arguments and errors are conv2d's."""
    x, w, b = as_operands("conv2d_relu", (x, w, b))
    return _conv2d_relu(x, w, b, geometry=_geometry("conv2d_relu", x, w, stride, padding, b))


def conv2d_transpose(
    g: TensorLike, w: TensorLike, image: Pair, stride: int | Pair = 1, padding: Padding = "valid"
) -> Tensor:
    """The adjoint of conv2d in x: `<conv2d(x, w), g> = <x, conv2d_transpose(g, w)>`.

    Takes g (N, h, w, O), w (kh, kw, I, O) and image = (H, W); returns (N, H, W, I).  Other arguments and errors are
    conv2d's.
    """
    g, w = as_operands("conv2d_transpose", (g, w))
    _check_axes("conv2d_transpose", g=(g, "(N, h, w, O)"), w=(w, "(kh, kw, I, O)"))
    geometry = ConvGeometry.of(image, w.shape[:2], stride, padding)
    if g.shape[1:] != (*geometry.output, w.shape[3]):
        raise ValueError(
            f"conv2d_transpose: g must have shape (N, {geometry.output[0]}, {geometry.output[1]}, {w.shape[3]}) "
            f"to go with w {w.shape} and image {image}; got {g.shape}"
        )
    return _conv2d_transpose(g, w, geometry=geometry)


def conv2d_weight_grad(
    x: TensorLike, g: TensorLike, kernel: Pair, stride: int | Pair = 1, padding: Padding = "valid"
) -> Tensor:
    """The adjoint of conv2d in w: `<conv2d(x, w), g> = <w, conv2d_weight_grad(x, g)>`.

    Takes x (N, H, W, I), g (N, h, w, O) and kernel = (kh, kw); returns (kh, kw, I, O).  Other arguments and errors are
    conv2d's.
    """
    x, g = as_operands("conv2d_weight_grad", (x, g))
    _check_axes("conv2d_weight_grad", x=(x, "(N, H, W, I)"), g=(g, "(N, h, w, O)"))
    geometry = ConvGeometry.of(x.shape[1:3], kernel, stride, padding)
    if g.shape[:3] != (x.shape[0], *geometry.output):
        raise ValueError(
            f"conv2d_weight_grad: g must have shape ({x.shape[0]}, {geometry.output[0]}, {geometry.output[1]}, O) "
            f"to go with x {x.shape} and a kernel of {kernel}; got {g.shape}"
        )
    return _conv2d_weight_grad(x, g, geometry=geometry)


def _geometry(
    name: str, x: Tensor, w: Tensor, stride: int | Pair, padding: Padding, bias: Tensor | None = None
) -> ConvGeometry:
    """The geometry of conv2d, after all checks of its arguments."""
    _check_axes(name, x=(x, "(N, H, W, I)"), w=(w, "(kh, kw, I, O)"))
    if x.shape[3] != w.shape[2]:
        raise ValueError(f"{name}: x {x.shape} has {x.shape[3]} channels, but w {w.shape} takes {w.shape[2]}")
    if bias is not None and bias.shape != w.shape[3:]:
        raise ValueError(f"{name}: bias must have shape {w.shape[3:]} to go with w {w.shape}; got {bias.shape}")
    return ConvGeometry.of(x.shape[1:3], w.shape[:2], stride, padding)


def _check_axes(name: str, **tensors: tuple[Tensor, str]) -> None:
    for letter, (tensor, axes) in tensors.items():
        if tensor.ndim != 4:
            raise ValueError(f"{name}: {letter} must have the axes {axes}; got shape {tensor.shape}")
