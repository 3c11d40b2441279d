"""What the tests of bench share."""

from collections.abc import Iterator

import pytest

from minidbp.bench import kernel_times, step


@pytest.fixture(scope="module")
def rates_of_no_machine() -> Iterator[None]:
    """Fixed rates: the tests do not depend on the machine's speed, and measuring it would take most of their time."""
    with pytest.MonkeyPatch.context() as patch:
        for module in step, kernel_times:
            patch.setattr(module, "gemm_gflops_per_s", lambda threads: 100.0)
        patch.setattr(kernel_times, "copy_gb_per_s", lambda: 10.0)
        yield
