"""Faster routes to the three conv functions, and the pool of buffers.

`enabled` is the switch for all of it.  The environment variable MINIDBP_PLAIN=1 turns the switch off when the package
is imported, and `fast.enabled = False` turns it off later, for all threads.  Every product is then made by im2col and
BLAS (`kernels/patches.py`), in arrays from `numpy.empty`.  The results are the same to rounding.
"""

import os

enabled = os.environ.get("MINIDBP_PLAIN", "") in ("", "0")
