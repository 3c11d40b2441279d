"""benchmarks/against_art.py: the worst case of `robust.strongest` is that of the Adversarial Robustness Toolbox.

Skipped where ART is not installed: `pip install adversarial-robustness-toolbox packaging torch==2.13.0`.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minidbp
from minidbp.data import Dataset, random_images
from minidbp.nn import save_model
from minidbp.training import quickly_trained

pytest.importorskip("torch")
pytest.importorskip("art.attacks.evasion")

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
POINTS = 2.0  # between the two worst cases, in percent of the images


@pytest.fixture
def against_art(script: Any) -> Any:
    """The script, as a module."""
    return script("against_art")


@pytest.mark.parametrize("lam", [0.0, 50.0])
def test_the_worst_case_is_that_of_art(against_art: Any, lam: float, mnist: Dataset) -> None:
    steps = 3 * 5000 // 128  # three epochs of 5,000 images
    model = quickly_trained("C", mnist.x_train[:5000], mnist.y_train[:5000], steps, lam=lam, threads=1)
    x, y = random_images(mnist.x_test, mnist.y_test, 400, np.random.default_rng(0))
    np.testing.assert_allclose(
        against_art.in_torch(model)(against_art.torch.tensor(x)).detach().numpy(), model(x).data, atol=1e-4
    )
    sizes = {"steps": 100, "restarts": 2, "queries": 1000}
    ours, theirs = against_art.compare(model, x, y, 0.1, sizes).values()
    assert theirs["clean"] == ours["clean"]
    assert abs(ours["square"] - theirs["square"]) <= POINTS


def test_the_script_prints_a_table(against_art: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = tmp_path / "C.safetensors"
    save_model(weights, minidbp.nn.build_model("C", seed=0), "C")
    sizes = ("--images", "20", "--steps", "2", "--restarts", "1", "--queries", "2")
    against_art.main([str(weights), *sizes, "--json", str(tmp_path / "art.json")])
    kept = json.loads((tmp_path / "art.json").read_text())
    assert kept["images"] == 20
    assert set(kept["results"][0]) == {"weights", "eps", "minidbp", "ART"}
    assert "| C.safetensors | 0.1 | ART |" in capsys.readouterr().out
