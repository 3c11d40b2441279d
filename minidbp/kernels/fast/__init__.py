"""Faster routes to the three conv functions, and the pool of buffers.

`enabled` is the switch for all of it.  The environment variable MINIDBP_PLAIN=1 turns the switch off when the package
is imported, and `fast.enabled = False` turns it off later, for all threads.  Every product is then made by im2col and
BLAS (`kernels/patches.py`), in arrays from `numpy.empty`.  The results are the same to rounding.  NUMBA_DISABLE_JIT=1
turns it off too, because the fast routes hold LLVM code that only the compiler understands.
"""

import os

enabled = all(os.environ.get(name, "") in ("", "0") for name in ("MINIDBP_PLAIN", "NUMBA_DISABLE_JIT"))
