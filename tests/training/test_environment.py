"""What is said of the machine."""

import json
import platform
from dataclasses import asdict, replace

import numba
import numpy as np
import pytest

import minidbp
from minidbp.files.reading import from_json
from minidbp.training import available_cores
from minidbp.training import environment as module
from minidbp.training.environment import Blas, Environment, blas, environment, processor, processor_flags


def test_it_names_what_a_result_depends_on() -> None:
    description = environment()
    assert description.minidbp == minidbp.__version__
    assert description.python == platform.python_version()
    assert description.packages["numpy"] == np.__version__
    assert description.packages["numba"] == numba.__version__
    assert description.cores == available_cores()
    assert description.processor
    values = json.loads(json.dumps(asdict(description)))
    assert from_json(Environment, values, "it", ValueError) == description


@pytest.mark.parametrize("name", ["minidbp", "python", "packages", "processor", "cores", "blas", "variables"])
def test_json_without_a_part_is_none(name: str) -> None:
    values = asdict(environment())
    del values[name]
    with pytest.raises(ValueError, match=f"it lacks {name}"):
        from_json(Environment, values, "it", ValueError)


def test_in_words() -> None:
    blas = [Blas("openblas", "0.3", "Zen", 1), Blas("mkl", None, None, 2)]
    lines = replace(environment(), minidbp="1", blas=blas, variables={"OMP_X": "3"}).in_words().splitlines()
    assert lines[0] == "- minidbp: 1"
    assert lines[-2] == "- BLAS: openblas 0.3, kernel Zen, 1 thread; mkl None, kernel None, 2 threads"
    assert lines[-1] == "- variables: OMP_X=3"
    assert replace(environment(), blas=[], variables={}).in_words().endswith("- BLAS: unknown\n- variables: none")


def test_it_names_the_blas_that_numpy_uses() -> None:
    libraries = blas()
    assert libraries
    for library in libraries:
        assert library.library
        assert library.threads >= 1


def test_variables_that_change_speed_or_bits_are_kept_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("MINIDBP_PLAIN", "1")
    monkeypatch.setenv("SECRET_TOKEN", "x")
    variables = environment().variables
    assert variables["OPENBLAS_CORETYPE"] == "Haswell"
    assert variables["OMP_NUM_THREADS"] == "3"
    assert variables["MINIDBP_PLAIN"] == "1"
    assert "SECRET_TOKEN" not in variables


def test_without_proc_there_is_still_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    class Nowhere:
        def __init__(self, path: str) -> None:
            pass

        def read_text(self) -> str:
            raise FileNotFoundError

    monkeypatch.setattr(module, "Path", Nowhere)
    assert processor() == (platform.processor() or platform.machine())
    assert processor_flags() == set()
