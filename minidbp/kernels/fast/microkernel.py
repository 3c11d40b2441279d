"""Microkernels: blocks of sums that stay in the processor's vector registers during a long loop of products.

    add_products  out[out_at[r] + l] += sum over k of a[a_row[r] + a_at[k]] * w[w_at[k] + l]      scaled rows
    dot_block     out[out_at[r] + out_unit[u]] += sum over l of x[x_at[r] + l] * w[w_at[u] + l]   inner products

The index lists say where the operands are, so nothing has to be copied into a matrix first, and what a list leaves out
costs nothing.  On dense lists both run at about the rate of BLAS.  Numba does not keep a loop's sums in registers, so
this module emits LLVM code; everything built on it is Numba's Python.
"""

from typing import Any

import numpy as np

from minidbp.kernels.jit import AVX512, Kernel, intrinsic, kernel

VECTOR_BYTES = 64 if AVX512 else 32
# A block of ROWS x VECTORS sums and its VECTORS + 1 operands fill the registers: AVX-512 has 32 of them, AVX2 has 16.
# Ten classes are two times 5 rows.
ROWS, VECTORS = 5, (4 if AVX512 else 2)
BLOCK_BYTES = VECTORS * VECTOR_BYTES  # the width of the widest register block
# The dtypes that the microkernels support, with their SIMD lanes: how many elements a vector holds.
LANES = {np.dtype(np.float32): VECTOR_BYTES // 4, np.dtype(np.float64): VECTOR_BYTES // 8}


def _vector(dtype: Any) -> Any:
    """LLVM's type of a vector of this dtype, as wide as the processor's registers."""
    from llvmlite import ir

    element = ir.FloatType() if dtype.bitwidth == 32 else ir.DoubleType()
    return ir.VectorType(element, VECTOR_BYTES * 8 // dtype.bitwidth)


class _Emitter:
    """Emits loads, stores and multiply-adds of vectors.  Positions count elements of the arrays."""

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

    def _pointer(self, array: Any, position: Any) -> Any:
        return self.builder.bitcast(self.builder.gep(array, [position]), self.vector.as_pointer())

    def load(self, array: Any, position: Any) -> Any:
        loaded = self.builder.load(self._pointer(array, position))
        loaded.align = 4  # a position is that of any element, so only an element's alignment is certain
        return loaded

    def store(self, value: Any, array: Any, position: Any) -> None:
        self.builder.store(value, self._pointer(array, position)).align = 4

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
    """The SIMD lanes of this array's dtype: how many of its elements a vector holds."""
    from numba import types

    def emit(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return context.get_constant(types.intp, _vector(array.dtype).count)

    return types.intp(array), emit


def _register_block(rows: int, vectors: int) -> Kernel:
    """A kernel block(out, out_at, w, w_at, a, a_row, a_at, first, n, shift) of rows x vectors sums:

    out[out_at[r] + shift + l] += sum over k < n of a[a_row[r] + a_at[k]] * w[w_at[k] + shift + l]

    for first <= r < first + rows and l < vectors * lanes.  All arrays are flat.  The sums stay in registers until they
    are stored.
    """

    def register_block(context, out, out_at, w, w_at, a, a_row, a_at, first, n, shift):  # type: ignore[no-untyped-def]
        from numba import types
        from numba.core import cgutils

        def emit(context, builder, signature, args):  # type: ignore[no-untyped-def]
            e = _Emitter(context, builder, signature, args)
            out, out_at, w, w_at, a, a_row, a_at, first, n, shift = e.values
            steps = [e.number(v * e.vector.count) for v in range(vectors)]
            members = [builder.add(first, e.number(r)) for r in range(rows)]
            starts = [builder.add(e.at(out_at, r), shift) for r in members]
            rows_at = [e.at(a_row, r) for r in members]
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
                    for total, operand in zip(row, operands, strict=True):
                        builder.store(e.multiply_add(factor, operand, builder.load(total)), total)
            for start, row in zip(starts, sums, strict=True):
                for total, step in zip(row, steps, strict=True):
                    e.store(builder.load(total), out, builder.add(start, step))
            return context.get_dummy_value()

        return types.void(out, out_at, w, w_at, a, a_row, a_at, first, n, shift), emit

    return intrinsic(register_block)


_block = _register_block(ROWS, VECTORS)
_block_of_one_vector = _register_block(ROWS, 1)
_row = _register_block(1, VECTORS)
_row_of_one_vector = _register_block(1, 1)


@intrinsic
def copy_block(context, x, x_at, out, out_at):  # type: ignore[no-untyped-def]
    """out[out_at + l] = x[x_at + l] for the width of a register block, in whole vectors, as they will be read."""
    from numba import types

    def emit(context, builder, signature, args):  # type: ignore[no-untyped-def]
        e = _Emitter(context, builder, signature, args)
        x, x_at, out, out_at = e.values
        for v in range(VECTORS):
            step = e.number(v * e.vector.count)
            e.store(e.load(x, builder.add(x_at, step)), out, builder.add(out_at, step))
        return context.get_dummy_value()

    return types.void(x, x_at, out, out_at), emit


def _dot_block(rows: int, units: int) -> Kernel:
    """A kernel dot_block(x, x_at, w, w_at, out, out_at, out_unit, first, count, parts, x_step, w_step, length):

    out[out_at[r] + out_unit[u]] += sum over p < parts and l < length of
                                   x[x_at[r] + p * x_step + l] * w[w_at[u] + p * w_step + l]

    for first <= r < first + rows and u < count <= units.  All arrays are flat.  The sums stay in registers until they
    are stored.
    """

    def dot_block(context, x, x_at, w, w_at, out, out_at, out_unit, first, count, parts, x_step, w_step, length):  # type: ignore[no-untyped-def]
        from numba import types
        from numba.core import cgutils

        def emit(context, builder, signature, args):  # type: ignore[no-untyped-def]
            e = _Emitter(context, builder, signature, args)
            x, x_at, w, w_at, out, out_at, out_unit, first, count, parts, x_step, w_step, length = e.values
            nothing = e.ir.Constant(e.vector, None), e.ir.Constant(e.vector.element, 0.0)
            sums, rests = (
                [[cgutils.alloca_once_value(builder, zero) for _ in range(units)] for _ in range(rows)]
                for zero in nothing
            )
            members = [builder.add(first, e.number(r)) for r in range(rows)]
            x_from = [e.at(x_at, r) for r in members]
            w_from = [e.at(w_at, e.number(u)) for u in range(units)]
            lanes = e.number(e.vector.count)
            whole = builder.mul(builder.sdiv(length, lanes), lanes)
            with cgutils.for_range(builder, parts) as part:
                x_part, w_part = builder.mul(part.index, x_step), builder.mul(part.index, w_step)
                with cgutils.for_range_slice(builder, e.number(0), whole, lanes) as (at, _):
                    x_l, w_l = builder.add(x_part, at), builder.add(w_part, at)
                    factors = [e.load(w, builder.add(start, w_l)) for start in w_from]
                    for start, row in zip(x_from, sums, strict=True):
                        operand = e.load(x, builder.add(start, x_l))
                        for total, factor in zip(row, factors, strict=True):
                            builder.store(e.multiply_add(operand, factor, builder.load(total)), total)
                with cgutils.for_range_slice(builder, whole, length, e.number(1)) as (at, _):
                    x_l, w_l = builder.add(x_part, at), builder.add(w_part, at)
                    for start, row in zip(x_from, rests, strict=True):
                        operand = e.at(x, builder.add(start, x_l))
                        for total, w_start in zip(row, w_from, strict=True):
                            product = builder.fmul(operand, e.at(w, builder.add(w_start, w_l)))
                            builder.store(builder.fadd(product, builder.load(total)), total)
            rows_at = [e.at(out_at, r) for r in members]
            for u in range(units):
                with builder.if_then(builder.icmp_signed("<", e.number(u), count), likely=True):
                    unit = e.at(out_unit, e.number(u))
                    for r in range(rows):
                        target = builder.gep(out, [builder.add(rows_at[r], unit)])
                        value = builder.fadd(e.total(builder.load(sums[r][u])), builder.load(rests[r][u]))
                        builder.store(builder.fadd(builder.load(target), value), target)
            return context.get_dummy_value()

        return types.void(
            x, x_at, w, w_at, out, out_at, out_unit, first, count, parts, x_step, w_step, length
        ), emit  # fmt: skip

    return intrinsic(dot_block)


dot_block = _dot_block(ROWS, VECTORS)
dot_row = _dot_block(1, VECTORS)


@kernel
def add_products(out, out_at, w, w_at, a, a_row, a_at, first, last, n, start, stop):  # type: ignore[no-untyped-def]
    """The sums of `_register_block`, for first <= r < last and start <= l < stop, with no shift."""
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
                    _block(out, out_at, w, w_at, a, a_row, a_at, r, n, shift)
                else:
                    _row(out, out_at, w, w_at, a, a_row, a_at, r, n, shift)
            elif step == lanes and lanes > 1:
                if many:
                    _block_of_one_vector(out, out_at, w, w_at, a, a_row, a_at, r, n, shift)
                else:
                    _row_of_one_vector(out, out_at, w, w_at, a, a_row, a_at, r, n, shift)
            else:
                many = False
                for k in range(n):
                    out[out_at[r] + shift] += a[a_row[r] + a_at[k]] * w[w_at[k] + shift]
            r += ROWS if many else 1
        shift += step
