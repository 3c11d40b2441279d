"""The diagnosis, on models whose robustness is known in closed form and on models that hide their gradients."""

import json
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from fooling_models import backwards, by_chance, near_binary, rippled, scaled, stairs, whole_answers

from minidbp import nn
from minidbp.autodiff import Tensor, sign
from minidbp.data import Dataset
from minidbp.diagnosis.diagnose import diagnose, labels_of, work
from minidbp.diagnosis.evidence import evidence_passes, gather
from minidbp.diagnosis.judge import masking_figures
from minidbp.diagnosis.trials import Function, LabelledImages
from minidbp.diagnosis.verdict import judge
from minidbp.robust import fgsm
from minidbp.training import Protocol, percent, quickly_trained, workers

PIXELS = 78  # of each class, in the model of blocks
SMALL: dict[str, Any] = {
    "n_tracked": 1, "apgd_steps": 8, "apgd_restarts": 1, "square_queries": 50, "reference_steps": 20
}  # fmt: skip
QUICK = Protocol(eps=0.3, n_test=200, pgd_steps=5, **SMALL)


def linear(w: np.ndarray) -> nn.Linear:
    layer = nn.Linear(*w.shape, np.random.default_rng(0), w.dtype)
    layer.w.data = w
    return layer


def blocks(front: Function | None = None) -> nn.Sequential:
    """f_i is the mean of the i-th block of pixels: robust below half of the brightness of the image's own block."""
    w = np.zeros((784, 10), np.float32)
    for i in range(10):
        w[PIXELS * i : PIXELS * (i + 1), i] = 1 / PIXELS
    return nn.Sequential([*([front] if front else []), nn.Flatten(), linear(w)])


def block_images(brightness: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, 28, 28, 1), black but for their class's block."""
    y = np.arange(len(brightness)) % 10
    x = np.zeros((len(brightness), 784), np.float32)
    for image, label, value in zip(x, y, brightness, strict=True):
        image[PIXELS * label : PIXELS * (label + 1)] = value
    return x.reshape(-1, 28, 28, 1), y


def diagnosed(models: dict[str, nn.Sequential], x: np.ndarray, y: np.ndarray, protocol: Protocol = QUICK) -> Any:
    n = protocol.n_test
    with workers(1) as pool:
        return asdict(diagnose(models, LabelledImages(x[:n], y[:n], pool), protocol))


@pytest.fixture(scope="module")
def fitted(mnist: Dataset) -> np.ndarray:
    """Softmax regression's poor cousin, least squares on 3000 digits: about 80% right, and anything but robust."""
    x = mnist.x_train[:3000].reshape(-1, 784).astype(float)
    w = np.linalg.solve(x.T @ x + 30 * np.eye(784), x.T @ np.eye(10)[mnist.y_train[:3000]])
    return (10 * w).astype(np.float32)


# -- robustness known in closed form ----------------------------------------------------------------------------------


def test_a_robust_linear_model_is_called_robust_and_falls_where_it_must() -> None:
    """Brightness 1 withstands every eps below 1/2 and none above; ||J||_1,1 is 10, one for each class."""
    x, y = block_images(np.ones(200))
    model = diagnosed({"blocks": blocks()}, x, y)["models"]["blocks"]
    assert model["verdict"]["word"] == "robust"
    assert not any(f["holds"] for f in model["verdict"]["findings"])
    assert {name for name, accuracy in model["accuracy"].items() if accuracy != 100} == {"pgd_all"}
    assert model["accuracy"]["pgd_all"] == 0
    assert model["worst_case"] == 100.0
    curve = dict(zip(model["against_eps"]["eps"], model["against_eps"]["pgd"], strict=True))
    assert {eps: a for eps, a in curve.items() if eps != 0.5} == {
        eps: 100.0 if eps < 0.5 else 0.0 for eps in curve if eps != 0.5
    }
    assert len(curve) >= 10
    assert model["gradients"]["jacobian_l1"] == pytest.approx(10, rel=1e-6)
    assert model["gradients"]["jacobian_l1_adv"] == pytest.approx(10, rel=1e-6)
    assert model["gradients"]["zero_gradients"] == pytest.approx(100 * 4 / 784)  # 784 - 10 * 78 pixels are in no block


@pytest.mark.parametrize(
    ("bright", "word"), [(0.7, "robust"), (0.35, "partly robust"), (0.0, "not robust")], ids=lambda v: str(v)
)
def test_as_many_images_withstand_as_are_bright_enough(bright: float, word: str) -> None:
    n = 200
    brightness = np.where(np.arange(n) % 20 < 20 * bright, 0.9, 0.4)  # eps 0.3: 0.9 withstands, 0.4 does not
    found = diagnosed({"blocks": blocks()}, *block_images(brightness))["models"]["blocks"]
    assert found["worst_case"] == found["accuracy"]["pgd"] == found["accuracy"]["fgsm_true"] == 100 * bright
    assert found["verdict"]["word"] == word
    assert f"{100 * bright:.1f}%" in found["verdict"]["sentences"][0]


def test_gradients_of_a_linear_model_are_its_formula() -> None:
    """dL/dx = W (p - y) at x and at x + delta."""
    rng = np.random.default_rng(5)
    w = rng.normal(size=(784, 10)).astype(np.float32) / 10
    x, y = rng.uniform(0, 1, (40, 28, 28, 1)).astype(np.float32), rng.integers(0, 10, 40)
    model = nn.Sequential([nn.Flatten(), linear(w)])

    def gradient(images: np.ndarray) -> np.ndarray:
        z = images.reshape(-1, 784).astype(float) @ w
        p = np.exp(z - z.max(axis=1, keepdims=True))
        return (p / p.sum(axis=1, keepdims=True) - np.eye(10)[y]) @ w.T

    g, h = gradient(x), gradient(fgsm(model, x, y, 0.3))
    cosines = (g * h).sum(1) / np.sqrt((g * g).sum(1) * (h * h).sum(1))
    found = diagnosed({"linear": model}, x, y, Protocol(n_test=40, pgd_steps=1, **SMALL))["models"]["linear"][
        "gradients"
    ]
    assert found["gradient_cosine"] == pytest.approx(cosines.mean(), abs=1e-5)
    assert found["jacobian_l1"] == pytest.approx(np.abs(w).sum(), rel=1e-5)


# -- models that mask, and models that do not -------------------------------------------------------------------------


@pytest.mark.slow
def test_untrained_and_plainly_fitted_models_are_not_robust(mnist: Dataset, fitted: np.ndarray) -> None:
    models = {"untrained": nn.build_model("C", seed=1), "fitted": nn.Sequential([nn.Flatten(), linear(fitted)])}
    found = diagnosed(models, mnist.x_test, mnist.y_test)
    assert {label: m["verdict"]["word"] for label, m in found["models"].items()} == dict.fromkeys(models, "not robust")
    assert found["models"]["fitted"]["accuracy"]["clean"] > 70
    assert found["models"]["fitted"]["worst_case"] < 5
    assert "guesses" in found["models"]["untrained"]["verdict"]["sentences"][0]


def quantised(x: Tensor) -> Tensor:
    """Black or white, and no gradient: sign's derivative is 0."""
    return x * 0.0 + 0.5 * (1.0 + sign(x.detach() - 0.5))


def misleading(x: Tensor) -> Tensor:
    """x, but for the gradient, which is scrambled."""
    signs = np.random.default_rng(1).choice([-1.0, 1.0], x.shape[1:]).astype(x.dtype)
    return x.detach() + (x - x.detach()) * signs


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layers", "sign_of_it"),
    [
        (lambda w: [nn.Flatten(), linear(w), Function(lambda z: z * 1e6)], "no gradient at all"),
        (lambda w: [Function(quantised), nn.Flatten(), linear(w)], "no gradient at all"),
        (lambda w: [Function(misleading), nn.Flatten(), linear(w)], "made on plain are stronger than all"),
    ],
    ids=["saturated", "quantised", "misleading"],
)
def test_a_planted_mask_is_seen(layers: Any, sign_of_it: str, mnist: Dataset, fitted: np.ndarray) -> None:
    models = {"plain": nn.Sequential([nn.Flatten(), linear(fitted)]), "planted": nn.Sequential(layers(fitted))}
    found = diagnosed(models, mnist.x_test, mnist.y_test)["models"]
    plain, planted = found["plain"], found["planted"]
    assert plain["verdict"]["word"] == "not robust"
    assert planted["verdict"]["word"] == "masks"
    assert sign_of_it in planted["verdict"]["sentences"][0]
    # white-box attacks are deceived, the images of the plain model are not
    assert planted["worst_case"] <= planted["transfer"]["plain"] < planted["accuracy"]["pgd"] - 10


def test_a_mask_is_seen_without_a_second_model(mnist: Dataset, fitted: np.ndarray) -> None:
    for layers in (
        [nn.Flatten(), linear(fitted), Function(lambda z: z * 1e6)],
        [Function(misleading), nn.Flatten(), linear(fitted)],
    ):
        found = diagnosed({"planted": nn.Sequential(layers)}, mnist.x_test, mnist.y_test)
        assert found["transfer"] is None
        assert found["models"]["planted"]["verdict"]["word"] == "masks"


# -- models that were built to fool a diagnosis, and one that was not -------------------------------------------------

# Large enough for a verdict, small enough for a test.
FOOLED = Protocol(
    eps=0.2, n_test=200, n_tracked=1, pgd_steps=20, apgd_steps=20, apgd_restarts=1, square_queries=300,
    reference_steps=150,
)  # fmt: skip


@pytest.fixture(scope="module")
def plain(mnist: Dataset) -> nn.Sequential:
    return quickly_trained("C", mnist.x_train, mnist.y_train, 300, threads=2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("build", "word"),
    [
        (whole_answers, "masks"), (stairs, "masks"), (backwards, "masks"), (scaled, "masks"), (by_chance, "masks"),
        (rippled, "not robust"), (None, "masks"),
    ],
)  # fmt: skip
def test_a_model_that_was_built_to_fool_attacks_is_not_called_robust(
    build: Any, word: str, mnist: Dataset, plain: nn.Sequential
) -> None:
    """PGD leaves many images of each, and few withstand all attacks. APGD's ratio of logits undoes the ripples."""
    model = build(plain) if build else near_binary(mnist)
    with workers(2) as pool:
        images = LabelledImages(mnist.x_test[:200], mnist.y_test[:200], pool)
        evidence = gather(Function(model), images, FOOLED, mnist).evidence
    verdict = judge(evidence, 10.0)
    assert percent(evidence.right["clean"]) > 80
    assert percent(evidence.right["pgd"]) > 20 + percent(evidence.worst_case)
    assert percent(evidence.worst_case) < 20
    assert verdict.word == word, verdict


@pytest.mark.slow
def test_plain_training_is_not_called_masking(mnist: Dataset, plain: nn.Sequential) -> None:
    with workers(2) as pool:
        images = LabelledImages(mnist.x_test[:200], mnist.y_test[:200], pool)
        evidence = gather(plain, images, FOOLED, mnist).evidence
    assert judge(evidence, 10.0).word == "not robust"
    assert percent(evidence.unexplained) < 5


def test_saturated_logits_keep_their_accuracy_at_any_eps(mnist: Dataset, fitted: np.ndarray) -> None:
    model = nn.Sequential([nn.Flatten(), linear(fitted), Function(lambda z: z * 1e6)])
    found = diagnosed({"planted": model}, mnist.x_test, mnist.y_test)["models"]["planted"]
    assert found["against_eps"]["pgd"][-1] > 10
    assert found["gradients"]["zero_gradient_images"] > 70
    assert found["accuracy"]["pgd"] > 20 > 5 > found["accuracy"]["pgd_margin"]  # the margin does not saturate


# -- the whole --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_worst_case_transfer_progress_and_json(mnist: Dataset, fitted: np.ndarray) -> None:
    other = nn.build_model("C", seed=4)
    models = {"fitted": nn.Sequential([nn.Flatten(), linear(fitted)]), "C": other}
    x, y = mnist.x_test[:260], mnist.y_test[:260]
    protocol, counted = Protocol(eps=0.05, n_test=260, pgd_steps=3, pgd_restarts=2, **SMALL), []
    found = {}
    for threads in (1, 2):
        with workers(threads) as pool:
            images = LabelledImages(x, y, pool, 7, counted.append)
            found[threads] = asdict(diagnose(models, images, protocol))
    assert found[1] == found[2]
    assert sum(counted) == 2 * work(2, protocol, 10)
    assert json.loads(json.dumps(found[1], allow_nan=False))["models"].keys() == models.keys()
    for i, model in enumerate(found[1]["models"].values()):
        clipped = [a for name, a in model["accuracy"].items() if not name.endswith(("unclipped", "_all"))]
        assert model["worst_case"] <= min(*clipped, *(row[i] for row in found[1]["transfer"]["accuracy"]))
        assert model["accuracy"]["pgd"] <= model["accuracy"]["clean"]
        assert 0.05 in model["against_eps"]["eps"]
        assert model["against_steps"]["steps"] == [1, 2, 3, 6]
    assert found[1]["models"]["C"]["transfer"]["fitted"] == found[1]["transfer"]["accuracy"][0][1]


def test_tables_and_pages_have_one_verdict(mnist: Dataset, fitted: np.ndarray) -> None:
    model = nn.Sequential([nn.Flatten(), linear(fitted)])
    protocol, passes = Protocol(eps=0.02, n_test=300, pgd_steps=4, **SMALL), []
    with workers(2) as pool:
        images = LabelledImages(mnist.x_test[:300], mnist.y_test[:300], pool, 3, passes.append)
        gathered = gather(model, images, protocol, mnist)
        assert sum(passes) == 300 * evidence_passes(protocol, 10)
        page = diagnose({"fitted": model}, images, protocol, mnist).models["fitted"]
    table = masking_figures(gathered, mnist.chance)
    assert (table.word, table.reasons[0]) == (page.verdict.word, page.verdict.sentences[0])
    assert table.noise == page.accuracy["noise_sign"]
    assert table.pgd_margin == page.accuracy["pgd_margin"]
    assert table.worst_case >= page.worst_case > 0
    assert table.jacobian_l1 == page.gradients.jacobian_l1 == pytest.approx(np.abs(fitted).sum(), rel=1e-5)


def test_images_of_other_data_than_the_substitutes_are_refused(mnist: Dataset) -> None:
    with workers(1) as pool:
        images = LabelledImages(np.zeros((2, 8, 8, 1), np.float32), np.array([0, 1]), pool)
        with pytest.raises(ValueError, match=r"the shape \(8, 8, 1\), and those of MNIST \(28, 28, 1\): give the data"):
            diagnose({"m": nn.Sequential([nn.Flatten()])}, images, Protocol(n_test=2, n_tracked=1), mnist)


def test_any_function_can_be_diagnosed(mnist: Dataset, fitted: np.ndarray) -> None:
    found = diagnosed({"f": lambda x: x.reshape((x.shape[0], -1)) @ fitted}, mnist.x_test, mnist.y_test)
    assert found["models"]["f"]["verdict"]["word"] == "not robust"


def test_a_function_without_a_graph_masks(mnist: Dataset, fitted: np.ndarray) -> None:
    models = {"f": lambda x: Tensor(x.data.reshape(len(x.data), -1) @ fitted)}
    verdict = diagnosed(models, mnist.x_test, mnist.y_test)["models"]["f"]["verdict"]
    assert verdict["word"] == "masks"
    assert "no gradient at all (100.0% of the images)" in verdict["sentences"][0]


def test_labels(tmp_path: Any) -> None:
    a, b, same = tmp_path / "a.safetensors", tmp_path / "b.safetensors", tmp_path / "other" / "a.safetensors"
    assert labels_of([a, b]) == ["a", "b"]
    assert len(set(labels_of([a, b, same]))) == 3
    assert labels_of([a, a.with_suffix(".bin")]) == [str(a), str(a.with_suffix(".bin"))]
    assert labels_of([tmp_path / "a\x1b[31m\n.safetensors"]) == ["a?[31m?"]
    with pytest.raises(ValueError, match=r"a\.safetensors is given 2 times"):
        labels_of([a, b, a])
