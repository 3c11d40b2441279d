import os
import signal
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from chromium import browser  # noqa: F401 - a fixture
from hypothesis import HealthCheck, settings
from sweep_fixtures import copy, made_up, tiny, tiny_sweep, trained  # noqa: F401 - fixtures

from minidbp.data import Dataset, load_mnist

settings.register_profile(
    "ci", deadline=None, derandomize=True, max_examples=50, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # a shell starts its background jobs so, and commands obey that
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def mnist() -> Dataset:
    return load_mnist()


class Faults:
    """Counts damaged files: each must be read as what it was, or be refused in one sentence, within a second."""

    def __init__(self) -> None:
        self.intact = self.refused = 0
        self.slowest = 0.0

    def intact_or_refused(self, read: Callable[[], None], error: type[ValueError]) -> bool:
        """Whether `read`, which asserts that the content is right, went through; `error` is the only other way."""
        started = time.process_time()
        try:
            read()
        except error as refusal:
            assert str(refusal).isprintable()  # noqa: PT017  damage need not be an error
            self.refused += 1
            return False
        finally:
            self.slowest = max(self.slowest, time.process_time() - started)
        self.intact += 1
        return True


@pytest.fixture
def faults(request: pytest.FixtureRequest) -> Iterator[Faults]:
    counted = Faults()
    yield counted
    print(  # for docs/files.md
        f"\n{request.node.nodeid}: {counted.refused} refused, {counted.intact} read intact, "
        f"slowest {1000 * counted.slowest:.0f} ms"
    )
    assert counted.slowest < 1


@pytest.fixture(scope="session")
def mutated() -> Callable[[bytes, np.random.Generator], bytes]:
    """Damage a file's bytes as disks, networks and editors do; what comes out is never what went in."""

    def mutate(raw: bytes, rng: np.random.Generator) -> bytes:
        damaged = bytearray(raw)
        while damaged == raw:
            # half of the time in the first or last 300 bytes, where headers are
            start = int(rng.choice([rng.integers(len(raw)), rng.integers(300), len(raw) - rng.integers(1, 300)]))
            start = min(max(start, 0), len(raw) - 1)
            length = int(rng.choice([1, 2, 4, 16, rng.integers(1, len(raw) + 1)]))
            piece = slice(start, start + length)
            match rng.integers(7):
                case 0:
                    damaged[start] ^= 1 << int(rng.integers(8))
                case 1:
                    damaged[piece] = rng.bytes(len(damaged[piece]))
                case 2:
                    damaged[piece] = bytes(len(damaged[piece]))
                case 3:
                    del damaged[piece]
                case 4:
                    damaged[start:start] = rng.bytes(min(length, 64))
                case 5:  # a number of 16, 32 or 64 bits that is as large as can be
                    damaged[start : start + 2 ** int(rng.integers(1, 4))] = b"\xff" * 2 ** int(rng.integers(1, 4))
                case 6:  # two pieces change places
                    other = int(rng.integers(len(raw)))
                    damaged[piece], damaged[other : other + length] = (
                        damaged[other : other + length],
                        damaged[piece],
                    )
        return bytes(damaged)

    return mutate
