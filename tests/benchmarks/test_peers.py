"""benchmarks/peers.py: the peers compute what minidbp computes, and the page gets its tables."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minidbp.data import Dataset
from minidbp.nn import build_model
from minidbp.training import Protocol, accuracy, batch_gradient, correct_under_fgsm, percent, workers

FORMULATIONS = [(name, j, name == "A") for name in "AC" for j in ("loop", "batched", "expanded")]


def assert_same_step(script: Any, peer: Any, name: str, lam: float, mnist: Dataset) -> None:
    """The loss and the gradients before and after a step of training; then accuracy, clean and under FGSM."""
    model, p = build_model(name, 1), Protocol()
    x, y = mnist.x_train[:6], mnist.y_train[:6]
    with workers(1) as pool:
        ours = batch_gradient(model, x, y, lam, p, pool)
        found = peer.gradient(*peer.load(x, y))
        script("peers").agree(peer.variant, *found, ours.loss, ours.gradients)
        peer.step(*peer.load(x, y))
        assert peer.gradient(*peer.load(x, y))[0] < ours.loss
        x, y = mnist.x_test[:50], mnist.y_test[:50]
        peer = type(peer)(model, 0.0, p, "loop", *[False] * (peer.name == "torch"))
        assert peer.right(*peer.load(x, y), 0.0) == round(accuracy(model, x, y, pool) / 2)
        assert abs(peer.right(*peer.load(x, y), 0.3) - percent(correct_under_fgsm(model, x, y, p, pool)) / 2) < 1.5


@pytest.mark.parametrize(("name", "jacobian", "channels_last"), FORMULATIONS)
def test_pytorch_computes_the_same(script: Any, name: str, jacobian: str, channels_last: bool, mnist: Dataset) -> None:
    pytest.importorskip("torch")
    peer = script("torch_peer").TorchPeer(build_model(name, 1), 10.0, Protocol(), jacobian, channels_last)
    assert_same_step(script, peer, name, 10.0, mnist)


@pytest.mark.parametrize(("name", "jacobian", "lam"), [("C", "vmap", 10.0), ("C", "loop", 10.0), ("A", "vmap", 0.0)])
def test_jax_computes_the_same(script: Any, name: str, jacobian: str, lam: float, mnist: Dataset) -> None:
    pytest.importorskip("jax")
    peer = script("jax_peer").JaxPeer(build_model(name, 1), lam, Protocol(), jacobian)
    assert_same_step(script, peer, name, lam, mnist)


def test_another_answer_stops_the_comparison(script: Any) -> None:
    ones = [np.ones(3)]
    script("peers").agree("x", 1.0, ones, 1.00001, ones)
    with pytest.raises(SystemExit, match="has the loss 1, minidbp 2"):
        script("peers").agree("x", 1.0, ones, 2.0, ones)
    with pytest.raises(SystemExit, match=r"differ by 1\.0e-01 in the gradient of parameter 0"):
        script("peers").agree("x", 1.0, [1.1 * ones[0]], 1.0, ones)
    with pytest.raises(SystemExit, match="parameter 0"):
        script("peers").agree("x", 1.0, [np.full(3, np.nan)], 1.0, ones)


def test_the_best_formulation_of_each_peer_is_compared(script: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    peers = script("peers")
    speeds = {"": 0.1, "slow": 0.4, "quick": 0.2, "only": 0.05}
    clock = 0.0

    def run(variant: str) -> None:
        nonlocal clock
        clock += speeds[variant]

    monkeypatch.setattr(peers.time, "perf_counter", lambda: clock)
    monkeypatch.setattr(peers.time, "sleep", lambda seconds: None)
    names = {"": "minidbp", "slow": "torch", "quick": "torch", "only": "jax"}
    entries = [peers.Entry(name, variant, lambda v=variant: run(v)) for variant, name in names.items()]
    found = peers.compare(entries, 3)
    assert found["minidbp_ms"] == pytest.approx(100)
    assert found["peers"]["torch"]["variant"] == "quick"
    assert found["peers"]["torch"]["ratio"] == pytest.approx([2, 2, 2])
    assert found["peers"]["torch"]["tried_ms"] == pytest.approx({"slow": 400, "quick": 200})
    assert found["peers"]["jax"]["ratio"] == pytest.approx([0.5] * 3)
    assert peers.compare(entries[:1], 3)["peers"] == {}


def test_the_page_gets_its_tables(script: Any, tmp_path: Path) -> None:
    page = script("page")
    torch = {"variant": "loop", "ms": 20.0, "ratio": [1.9, 2.0, 2.1], "pairs": 9, "tried_ms": {"loop": 20.0}}
    results = {
        "environment": {"processor": "P", "cores": 2},
        "blas": "openblas",
        "gemm_gflops_per_s": {"1": 100.0, "2": 200.0},
        "peers": {"torch": "2", "jax": "0"},
        "threads": 2,
        "batch": 128,
        "made_by": "a command",
        "models": {
            "C": {
                "warm": 3,
                "active_share": [0.5],
                "gflop": {"plain": 1.0, "exact": 2.0},
                "exact": {"minidbp_ms": 10.0, "peers": {"torch": torch}},
                "processes": {"one_ms": 5.0, "throughput": [1.8, 1.9, 1.95]},
            }
        },
    }
    path = tmp_path / "page.md"
    path.write_text(f"before\n{page.BEGIN}\nold\n{page.END}\nafter\n", encoding="utf-8")
    assert page.has_place(path)
    page.write(path, results)
    text = path.read_text(encoding="utf-8")
    assert "| C | 10 ms | 20 ms (loop) | not run | 2.00 (1.90 to 2.10) |  |" in text
    assert "| C | 5.0 ms | 1.90 (1.80 to 1.95) |" in text
    assert "Made by `a command`" in text
    assert "old" not in text
    assert text.endswith("after\n")
    assert not page.has_place(tmp_path / "none.md")
