"""minidbp bench: what it prints and writes, and what bad input gets: one sentence, exit code 2."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from minidbp.bench import kernel_times, scaling, step
from minidbp.bench.startup import StartupTimes
from minidbp.cli import app

runner = CliRunner()
TINY = ("--batch", "4", "--steps", "1", "--warm", "0")


def bench(*arguments: str | Path) -> Any:
    result = runner.invoke(app, ["bench", *map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture(autouse=True)
def quick_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's rates are measured in one test, not in all."""
    for module in step, kernel_times:
        monkeypatch.setattr(module, "gemm_gflops_per_s", lambda threads: 100.0)
    monkeypatch.setattr(kernel_times, "copy_gb_per_s", lambda: 10.0)


@pytest.fixture
def tiny_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "BATCHES", "CLASSES", "LAMBDAS":
        monkeypatch.setattr(scaling, name, (2, 3))
    monkeypatch.setattr(scaling, "ACTIVE_SHARES", (0.5,))


@pytest.mark.parametrize("command", ["step", "gemm", "kernels", "scaling", "startup"])
def test_every_command_has_help_and_json(command: str) -> None:
    result = bench(command, "--help")
    assert result.exit_code == 0
    assert "--json" in result.stdout
    assert command in bench("--help").stdout


@pytest.mark.slow
def test_step_prints_one_json_object() -> None:
    result = bench("step", "--model", "C", "--penalty", "jacobian_l1", *TINY, "--threads", "1", "--json")
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert {
        "median_ms", "min_ms", "model", "penalty", "batch", "threads", "blas", "lam", "steps", "warm", "active_share",
        "gflop", "gflops_per_s", "gemm_gflops_per_s", "efficiency", "peak_rss_mb",
    } <= found.keys()  # fmt: skip
    assert (found["model"], found["penalty"], found["batch"], found["threads"]) == ("C", "jacobian_l1", 4, 1)
    assert isinstance(found["blas"], str)


@pytest.mark.slow
def test_step_in_words() -> None:
    result = bench("step", "--penalty", "none", *TINY)
    assert result.exit_code == 0
    for word in ("median", "penalty none", "lambda 0,", "GFLOP/s", "active share"):
        assert word in result.stdout


def test_gemm() -> None:
    found = json.loads(bench("gemm", "--size", "64", "--threads", "2", "--json").stdout)
    assert list(found["gflops_per_s"]) == ["1", "2"]
    assert found["n"] == 64
    assert isinstance(found["blas"], str)
    found = json.loads(bench("gemm", "--size", "64", "--threads", "1", "--json").stdout)
    assert list(found["gflops_per_s"]) == ["1"]
    assert "1 thread:" in bench("gemm", "--size", "64").stdout


@pytest.mark.slow
def test_kernels_write_a_picture(tmp_path: Path) -> None:
    out = tmp_path / "new" / "folder"
    result = bench("kernels", *TINY, "--out", out, "--json")
    assert json.loads(result.stdout) == json.loads((out / "kernels.json").read_text(encoding="utf-8"))
    assert (out / "roofline.png").stat().st_size > 1000
    assert "linear 1" in bench("kernels", *TINY).stdout


@pytest.mark.usefixtures("tiny_sizes")
@pytest.mark.slow
def test_scaling_writes_a_picture(tmp_path: Path) -> None:
    result = bench("scaling", "--steps", "1", "--out", tmp_path, "--json")
    assert json.loads(result.stdout) == json.loads((tmp_path / "scaling.json").read_text(encoding="utf-8"))
    assert (tmp_path / "scaling.png").stat().st_size > 1000
    assert "straight line" in bench("scaling", "--steps", "1").stdout


def test_startup_names_what_it_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    times = StartupTimes(import_s=0.1, help_s=0.2, first_step_s=1.0, compile_s=9.0)
    monkeypatch.setattr("minidbp.bench.startup.time_startup", lambda repeats, advance: times)
    assert json.loads(bench("startup", "--json").stdout) == dataclasses.asdict(times)
    assert "0.20 s  minidbp --help" in bench("startup").stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("step", "--model", "D"), "--model must be one of A, B, C; got 'D'"),
        (("step", "--batch", "0"), "--batch must be at least 1"),
        (("step", "--batch", "70000"), "--batch must be from 1 to 60000; got 70000"),
        (("step", "--threads", "0"), "--threads must be at least 1"),
        (("step", "--steps", "0"), "--steps must be at least 1"),
        (("step", "--warm", "-1"), "--warm must be at least 0"),
        (("step", "--penalty", "l0"), "--penalty must be one of"),
        (("step", "--lambda", "-1"), "--lambda must be a number of at least 0"),
        (("step", "--lambda", "nan"), "--lambda must be a number of at least 0"),
        (("gemm", "--size", "0"), "--size must be at least 1"),
        (("gemm", "--size", "10000000"), "half of the memory; got 10000000"),
        (("gemm", "--threads", "100000"), "--threads must be at most 1024; got 100000"),
        (("kernels", "--model", "D"), "--model must be one of A, B, C; got 'D'"),
        (("scaling", "--threads", "0"), "--threads must be at least 1"),
        (("startup", "--repeats", "0"), "--repeats must be at least 1"),
    ],
)
def test_bad_input_gets_one_sentence(arguments: tuple[str, ...], words: str) -> None:
    result = bench(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert words in line


@pytest.mark.slow
def test_a_file_in_the_way_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = bench("kernels", *TINY, "--out", tmp_path / "file")
    assert result.exit_code == 2
    assert "cannot be written to" in result.stderr
