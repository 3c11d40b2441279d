import os

import pytest
from hypothesis import HealthCheck, settings

from minidbp.data import Mnist, load_mnist

settings.register_profile(
    "ci", deadline=None, derandomize=True, max_examples=50, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(scope="session")
def mnist() -> Mnist:
    return load_mnist()
