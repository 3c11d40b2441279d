"""Times of a start, measured in processes of their own."""

import pytest

from minidbp.bench import startup


@pytest.mark.slow
def test_startup_is_measured_in_other_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(startup, "FIRST_STEP", "started -= 1000")
    is_empty = "import os; assert os.listdir(os.environ['NUMBA_CACHE_DIR']) == []; kernels.warm_up"
    monkeypatch.setattr(startup, "COMPILE", is_empty)
    measured: list[int] = []
    times = startup.time_startup(1, lambda: measured.append(1))
    assert len(measured) == startup.N_MEASUREMENTS
    assert 1000 < times.first_step_s < 1060
    assert 0 < times.import_s < times.help_s + 60
    assert 0 < times.compile_s < 10


@pytest.mark.slow
@pytest.mark.parametrize("program", [startup.FIRST_STEP, startup.COMPILE])
def test_the_programs_run(program: str) -> None:
    assert startup._seconds(program, "from minidbp import kernels") > 0


def test_a_process_that_fails_says_why() -> None:
    with pytest.raises(OSError, match="failed: ValueError: no"):
        startup._seconds("raise ValueError('no')")
