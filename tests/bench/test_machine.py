"""Rates of the machine, and the share of other processes."""

from pathlib import Path

import pytest

from minidbp.bench import machine
from minidbp.bench.machine import blas_name, copy_gb_per_s, gemm_gflops_per_s, peak_rss_mb


def test_rates_and_memory() -> None:
    assert gemm_gflops_per_s(1, n=64, repeats=2) > 0
    assert copy_gb_per_s(megabytes=1, repeats=1) > 0
    assert len(blas_name().split()) >= 2
    assert peak_rss_mb() is None or 20 < peak_rss_mb() < 1e6  # type: ignore[operator]


def test_the_share_of_other_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    busy = iter([100.0, 101.5])
    monkeypatch.setattr(machine, "_busy_seconds", lambda: next(busy))
    monkeypatch.setattr(machine, "_own_seconds", lambda: 7.0)
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    contention = machine.Contention()
    monkeypatch.setattr("time.perf_counter", lambda start=contention._started: start + 3)
    assert contention.share() == pytest.approx(0.5)
    assert "used 50% of this machine" in str(machine.contention_warning(0.5))
    assert machine.contention_warning(0.01) is None
    assert machine.contention_warning(None) is None


def test_a_system_without_proc_stat(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "STAT", tmp_path / "none")
    assert machine.Contention().share() is None
