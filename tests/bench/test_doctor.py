"""The examination: facts, warnings and problems."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import minidbp
from minidbp.bench import doctor
from minidbp.bench.doctor import examine
from minidbp.training.environment import Blas


def test_a_healthy_machine_has_no_problems() -> None:
    found = examine()
    assert found.problems == []
    facts = " ".join([*found.facts, *found.facts.values()])
    for word in (minidbp.__version__, np.__version__, "cores", "BLAS", "threads", "60000", "10000"):
        assert word in facts
    assert "compiled" in found.facts["kernels"]


def test_missing_data_are_a_problem(tmp_path: Path) -> None:
    found = examine(tmp_path / "none")
    (problem,) = found.problems
    assert "missing" in problem
    assert str(tmp_path / "none") in problem
    assert "data" not in found.facts


def test_a_forced_narrow_kernel_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    blas = [Blas("openblas", "0", "Haswell", 2)]
    here = replace(doctor.environment(), variables={"OPENBLAS_CORETYPE": "Haswell"}, blas=blas)
    monkeypatch.setattr(doctor, "environment", lambda: here)
    monkeypatch.setattr(doctor, "processor_flags", lambda: {"avx2", "avx512f"})
    assert any("OPENBLAS_CORETYPE" in warning for warning in examine().warnings)
    monkeypatch.setattr(doctor, "processor_flags", lambda: {"avx2"})  # nothing is lost there
    assert not any("OPENBLAS_CORETYPE" in warning for warning in examine().warnings)


def test_no_blas_and_no_cache_are_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    here = replace(doctor.environment(), blas=[])
    monkeypatch.setattr(doctor, "environment", lambda: here)
    monkeypatch.setattr(doctor.jit, "cache_folders", lambda: set())
    found = examine()
    assert any("BLAS" in warning for warning in found.warnings)
    assert any("cache" in warning for warning in found.warnings)
    assert found.problems == []
