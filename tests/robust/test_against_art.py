"""The strongest attacks against those of the Adversarial Robustness Toolbox, on the same weights and images.

Skipped where ART is not installed: `pip install adversarial-robustness-toolbox packaging torch`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minidbp as mdb
from minidbp import nn
from minidbp.robust import STRONGEST, strongest
from minidbp.training import percent, predict, quickly_trained

torch = pytest.importorskip("torch")
evasion = pytest.importorskip("art.attacks.evasion")
classification = pytest.importorskip("art.estimators.classification")

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
EPS, N, STEPS, RESTARTS, QUERIES = 0.1, 400, 100, 2, 1000
POINTS = 2.0  # between the two worst cases, in percent of the images


def in_torch(model: nn.Sequential) -> Any:
    """Model C on the same parameters."""
    layers: list[Any] = [torch.nn.Flatten()]
    for w, b in zip(model.parameters()[::2], model.parameters()[1::2], strict=True):
        linear = torch.nn.Linear(*w.shape)
        linear.weight.data, linear.bias.data = torch.tensor(w.data.T), torch.tensor(b.data)
        layers += [linear, torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])


def worst_case_of_art(model: nn.Sequential, x: np.ndarray, y: np.ndarray) -> list[float]:
    """Accuracy in percent: clean, then after each of ART's attacks on what withstood the ones before."""
    torch.set_num_threads(1)
    net = in_torch(model)
    np.testing.assert_allclose(net(torch.tensor(x)).detach().numpy(), model(x).data, rtol=0, atol=1e-4)
    judged = classification.PyTorchClassifier(
        net, torch.nn.CrossEntropyLoss(), x.shape[1:], 10, channels_first=False, clip_values=(0.0, 1.0)
    )
    pgd = {"eps_step": 2 * EPS, "max_iter": STEPS, "nb_random_init": RESTARTS, "batch_size": N, "verbose": False}
    attacks: list[Callable[[], Any]] = [
        lambda: evasion.AutoProjectedGradientDescent(judged, np.inf, EPS, loss_type="cross_entropy", **pgd),
        lambda: evasion.AutoProjectedGradientDescent(judged, np.inf, EPS, loss_type="difference_logits_ratio", **pgd),
        lambda: evasion.SquareAttack(judged, np.inf, eps=EPS, max_iter=QUERIES, batch_size=N, verbose=False),
    ]
    np.random.seed(0)  # noqa: NPY002 - ART draws from it
    right = predict(model, x) == y
    accuracies = [percent(right)]
    for attack in attacks:
        rows = np.flatnonzero(right)
        right[rows] = predict(model, attack().generate(x[rows], y[rows])) == y[rows]
        accuracies.append(percent(right))
    return accuracies


@pytest.mark.parametrize("lam", [0.0, 50.0])
def test_the_worst_case_is_that_of_art(lam: float, mnist: mdb.data.Mnist) -> None:
    steps = 3 * 5000 // 128  # three epochs of 5,000 images
    model = quickly_trained("C", mnist.x_train[:5000], mnist.y_train[:5000], steps, lam=lam, threads=1)
    rows = np.random.default_rng(0).choice(len(mnist.x_test), N, replace=False)
    x, y = mnist.x_test[rows], mnist.y_test[rows]
    ours = strongest(model, x, y, EPS, steps=STEPS, restarts=RESTARTS, queries=QUERIES)
    theirs = worst_case_of_art(model, x, y)
    print(f"\nmodel C, lambda {lam:g}, eps {EPS}, {N} test images, accuracy in percent:")
    for name, a, b in zip(("clean", *STRONGEST), ours.accuracy.values(), theirs, strict=True):
        print(f"  {name:10} minidbp {a:6.2f}   ART {b:6.2f}")
    assert theirs[0] == ours.accuracy["clean"]
    assert abs(ours.accuracy["square"] - theirs[-1]) <= POINTS
