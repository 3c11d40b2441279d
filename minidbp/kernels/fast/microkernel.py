"""A block of sums that stays in the processor's vector registers while it walks through a list of products.

    tile   out[out_at[r] + l] += sum over k of a[a_row[r] + a_at[k]] * w[w_at[k] + l]      a list of scaled rows
    dots   out[out_at[r] + out_unit[u]] += sum over l of x[x_at[r] + l] * w[w_at[u] + l]   many inner products

The lists say where things are, so nothing has to be laid out as a matrix first: whatever is left out of a list costs
nothing.  On dense lists both run at about the rate of BLAS.  Numba does not keep a loop's sums in registers, so what is
here speaks to LLVM directly; everything built on it is Numba's Python.
"""

from typing import Any

import numpy as np

from minidbp.kernels.jit import AVX512, Kernel, intrinsic, kernel

VECTOR_BYTES = 64 if AVX512 else 32
# A block of sums, with VECTORS + 1 operands, fills the registers: AVX-512 has 32, AVX2 has 16.  5 divides ten classes.
ROWS, VECTORS = 5, (4 if AVX512 else 2)
TILE_BYTES = VECTORS * VECTOR_BYTES  # the widest tile


def takes(*arrays: np.ndarray) -> bool:
    """Whether these are arrays that the tiles are made for: of one dtype, float32 or float64."""
    return {array.dtype for array in arrays} in ({np.dtype(np.float32)}, {np.dtype(np.float64)})


# -- vectors of numbers, in LLVM's words ----------------------------------------------------------------------------


def _vector(dtype: Any) -> Any:
    """LLVM's type of a vector of this dtype, as wide as the processor's."""
    from llvmlite import ir

    element = ir.FloatType() if dtype.bitwidth == 32 else ir.DoubleType()
    return ir.VectorType(element, VECTOR_BYTES * 8 // dtype.bitwidth)


class _Emitter:
    """Emits loads, stores and multiply-adds of vectors; positions count elements of the arrays."""

    def __init__(self, context: Any, builder: Any, signature: Any, args: Any) -> None:
        from llvmlite import ir
        from numba import types

        self.ir, self.builder = ir, builder
        self.vector = _vector(signature.args[0].dtype)
        self.values = [  # an array's data pointer, or the number itself
            context.make_array(kind)(context, builder, value).data if isinstance(kind, types.Array) else value
            for kind, value in zip(signature.args, args, strict=True)
        ]

    def number(self, n: int) -> Any:
        return self.ir.Constant(self.ir.IntType(64), n)

    def at(self, array: Any, position: Any) -> Any:
        """The single element at a position."""
        return self.builder.load(self.builder.gep(array, [position]))

    def _place(self, array: Any, position: Any) -> Any:
        return self.builder.bitcast(self.builder.gep(array, [position]), self.vector.as_pointer())

    def load(self, array: Any, position: Any) -> Any:
        loaded = self.builder.load(self._place(array, position))
        loaded.align = 4  # positions are any element's, so no more than an element's own alignment is promised
        return loaded

    def store(self, value: Any, array: Any, position: Any) -> None:
        self.builder.store(value, self._place(array, position)).align = 4

    def repeat(self, scalar: Any) -> Any:
        """A vector of one scalar."""
        nothing = self.ir.Constant(self.vector, self.ir.Undefined)
        first = self.builder.insert_element(nothing, scalar, self.ir.Constant(self.ir.IntType(32), 0))
        everywhere = self.ir.Constant(self.ir.VectorType(self.ir.IntType(32), self.vector.count), None)
        return self.builder.shuffle_vector(first, nothing, everywhere)

    def multiply_add(self, a: Any, b: Any, c: Any) -> Any:
        """a * b + c."""
        suffix = f"v{self.vector.count}f{32 if isinstance(self.vector.element, self.ir.FloatType) else 64}"
        return self.builder.call(self._llvm(f"llvm.fma.{suffix}", self.vector, [self.vector] * 3), [a, b, c])

    def total(self, a: Any) -> Any:
        """The sum of a vector's elements, in any order."""
        suffix = f"v{self.vector.count}f{32 if isinstance(self.vector.element, self.ir.FloatType) else 64}"
        element = self.vector.element
        add = self._llvm(f"llvm.vector.reduce.fadd.{suffix}", element, [element, self.vector])
        return self.builder.call(add, [self.ir.Constant(element, 0.0), a], fastmath=("reassoc",))

    def _llvm(self, name: str, result: Any, arguments: list[Any]) -> Any:
        from numba.core import cgutils

        return cgutils.get_or_insert_function(self.builder.module, self.ir.FunctionType(result, arguments), name)


@intrinsic
def lanes_of(context, array):  # type: ignore[no-untyped-def]
    """How many of this array's elements a vector holds."""
    from numba import types

    def emit(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return context.get_constant(types.intp, _vector(array.dtype).count)

    return types.intp(array), emit


def _tile_of(rows: int, vectors: int) -> Kernel:
    """A kernel tile(out, out_at, w, w_at, a, a_row, a_at, first, n, shift) on a block of rows x vectors sums:

    out[out_at[r] + shift + l] += sum over k < n of a[a_row[r] + a_at[k]] * w[w_at[k] + shift + l]

    for first <= r < first + rows and l < vectors * lanes.  All arrays are flat; the sums stay in registers until
    they are stored.
    """

    def tile(context, out, out_at, w, w_at, a, a_row, a_at, first, n, shift):  # type: ignore[no-untyped-def]
        from numba import types
        from numba.core import cgutils

        def emit(context, builder, signature, args):  # type: ignore[no-untyped-def]
            e = _Emitter(context, builder, signature, args)
            out, out_at, w, w_at, a, a_row, a_at, first, n, shift = e.values
            steps = [e.number(v * e.vector.count) for v in range(vectors)]
            block = [builder.add(first, e.number(r)) for r in range(rows)]
            starts = [builder.add(e.at(out_at, r), shift) for r in block]
            rows_at = [e.at(a_row, r) for r in block]
            sums = [
                [cgutils.alloca_once_value(builder, e.load(out, builder.add(start, step))) for step in steps]
                for start in starts
            ]
            with cgutils.for_range(builder, n) as loop:
                start = builder.add(e.at(w_at, loop.index), shift)
                operands = [e.load(w, builder.add(start, step)) for step in steps]
                at = e.at(a_at, loop.index)
                for row_at, row in zip(rows_at, sums, strict=True):
                    factor = e.repeat(e.at(a, builder.add(row_at, at)))
                    for place, operand in zip(row, operands, strict=True):
                        builder.store(e.multiply_add(factor, operand, builder.load(place)), place)
            for start, row in zip(starts, sums, strict=True):
                for place, step in zip(row, steps, strict=True):
                    e.store(builder.load(place), out, builder.add(start, step))
            return context.get_dummy_value()

        return types.void(out, out_at, w, w_at, a, a_row, a_at, first, n, shift), emit

    return intrinsic(tile)


_tile = _tile_of(ROWS, VECTORS)
_narrow_tile = _tile_of(ROWS, 1)
_row_tile = _tile_of(1, VECTORS)
_narrow_row_tile = _tile_of(1, 1)


@intrinsic
def copy_tile(context, x, x_at, out, out_at):  # type: ignore[no-untyped-def]
    """out[out_at + l] = x[x_at + l] for as many l as a tile is wide: with whole vectors, as they will be read."""
    from numba import types

    def emit(context, builder, signature, args):  # type: ignore[no-untyped-def]
        e = _Emitter(context, builder, signature, args)
        x, x_at, out, out_at = e.values
        for v in range(VECTORS):
            step = e.number(v * e.vector.count)
            e.store(e.load(x, builder.add(x_at, step)), out, builder.add(out_at, step))
        return context.get_dummy_value()

    return types.void(x, x_at, out, out_at), emit


def _dots_of(rows: int, units: int) -> Kernel:
    """A kernel dots(x, x_at, w, w_at, out, out_at, out_unit, first, count, pieces, x_step, w_step, length):

    out[out_at[r] + out_unit[u]] += sum over p < pieces and l < length of
                                   x[x_at[r] + p * x_step + l] * w[w_at[u] + p * w_step + l]

    for first <= r < first + rows and u < count <= units.  All arrays are flat; the sums stay in registers until
    they are stored.
    """

    def dots(context, x, x_at, w, w_at, out, out_at, out_unit, first, count, pieces, x_step, w_step, length):  # type: ignore[no-untyped-def]
        from numba import types
        from numba.core import cgutils

        def emit(context, builder, signature, args):  # type: ignore[no-untyped-def]
            e = _Emitter(context, builder, signature, args)
            x, x_at, w, w_at, out, out_at, out_unit, first, count, pieces, x_step, w_step, length = e.values
            nothing = e.ir.Constant(e.vector, None), e.ir.Constant(e.vector.element, 0.0)
            sums, rests = (
                [[cgutils.alloca_once_value(builder, zero) for _ in range(units)] for _ in range(rows)]
                for zero in nothing
            )
            block = [builder.add(first, e.number(r)) for r in range(rows)]
            x_from = [e.at(x_at, r) for r in block]
            w_from = [e.at(w_at, e.number(u)) for u in range(units)]
            lanes = e.number(e.vector.count)
            whole = builder.mul(builder.sdiv(length, lanes), lanes)
            with cgutils.for_range(builder, pieces) as piece:
                x_piece, w_piece = builder.mul(piece.index, x_step), builder.mul(piece.index, w_step)
                with cgutils.for_range_slice(builder, e.number(0), whole, lanes) as (at, _):
                    x_l, w_l = builder.add(x_piece, at), builder.add(w_piece, at)
                    factors = [e.load(w, builder.add(start, w_l)) for start in w_from]
                    for start, row in zip(x_from, sums, strict=True):
                        operand = e.load(x, builder.add(start, x_l))
                        for place, factor in zip(row, factors, strict=True):
                            builder.store(e.multiply_add(operand, factor, builder.load(place)), place)
                with cgutils.for_range_slice(builder, whole, length, e.number(1)) as (at, _):
                    x_l, w_l = builder.add(x_piece, at), builder.add(w_piece, at)
                    for start, row in zip(x_from, rests, strict=True):
                        operand = e.at(x, builder.add(start, x_l))
                        for place, w_start in zip(row, w_from, strict=True):
                            product = builder.fmul(operand, e.at(w, builder.add(w_start, w_l)))
                            builder.store(builder.fadd(product, builder.load(place)), place)
            rows_at = [e.at(out_at, r) for r in block]
            for u in range(units):
                with builder.if_then(builder.icmp_signed("<", e.number(u), count), likely=True):
                    unit = e.at(out_unit, e.number(u))
                    for r in range(rows):
                        place = builder.gep(out, [builder.add(rows_at[r], unit)])
                        value = builder.fadd(e.total(builder.load(sums[r][u])), builder.load(rests[r][u]))
                        builder.store(builder.fadd(builder.load(place), value), place)
            return context.get_dummy_value()

        return types.void(
            x, x_at, w, w_at, out, out_at, out_unit, first, count, pieces, x_step, w_step, length
        ), emit  # fmt: skip

    return intrinsic(dots)


dots = _dots_of(ROWS, VECTORS)
row_dots = _dots_of(1, VECTORS)


@kernel
def add_products(out, out_at, w, w_at, a, a_row, a_at, first, last, n, start, stop):  # type: ignore[no-untyped-def]
    """What `_tile` says, for first <= r < last and start <= l < stop."""
    lanes = lanes_of(w)
    wide = VECTORS * lanes
    shift = start
    while shift < stop:
        step = wide if shift + wide <= stop else (lanes if shift + lanes <= stop else 1)
        r = first
        while r < last:
            many = r + ROWS <= last
            if step == wide:
                if many:
                    _tile(out, out_at, w, w_at, a, a_row, a_at, r, n, shift)
                else:
                    _row_tile(out, out_at, w, w_at, a, a_row, a_at, r, n, shift)
            elif step == lanes and lanes > 1:
                if many:
                    _narrow_tile(out, out_at, w, w_at, a, a_row, a_at, r, n, shift)
                else:
                    _narrow_row_tile(out, out_at, w, w_at, a, a_row, a_at, r, n, shift)
            else:
                many = False
                for k in range(n):
                    out[out_at[r] + shift] += a[a_row[r] + a_at[k]] * w[w_at[k] + shift]
            r += ROWS if many else 1
        shift += step
