"""Figure 1 from a real run: f at an image x and at its adversarial twin x + eps v, while adversarial training goes on.

The paper draws the ideal by hand: Delta = |f(x + eps v) - f(x)| and the gradients at both points shrink to almost 0.
Here one test image is watched through two trainings of section 4.2, one with the penalty and one without.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minidbp.autodiff import Tensor, jacobian, no_grad, softmax
from minidbp.data import Mnist
from minidbp.nn import Sequential
from minidbp.robust import fgsm
from minidbp.sweeps.runs import Run
from minidbp.training import Protocol, Workers, train
from minidbp.training.environment import environment
from minidbp.training.protocol import attack_reading

N_TEST = 10_000
POINTS = ("x", "x_adv")
PENALTIES = ("summed_jacobian_l1", "jacobian_l1")  # what section 4.2 used, and the norm it stands for
T = np.arange(81) / 64  # places on the line x + t (x_adv - x), exact in float32; 0 is x and 1 is x_adv
BETWEEN = T <= 1

# epochs and training images by preset and model; batches are the paper's in all of them
PRESETS: Mapping[str, Mapping[str, tuple[int, int]]] = {
    "smoke": {"A": (2, 1280), "B": (2, 640), "C": (2, 12_800)},
    "laptop": {"A": (4, 19_200), "B": (3, 12_800), "C": (10, 55_000)},
    "paper": {"A": (100, 55_000), "B": (100, 55_000), "C": (100, 55_000)},
}


@dataclass(frozen=True, eq=False)
class Observation:
    """What f does at x and x_adv after `step` steps of training.  Arrays have x in row 0, x_adv in row 1."""

    step: int
    label: int  # y
    x_adv: np.ndarray  # (28, 28, 1)
    logits: np.ndarray  # (2, 10): f
    probabilities: np.ndarray  # (2, 10): softmax of f
    gradient_l1: np.ndarray  # (2, 10): ||grad_x f_i||_1 = sum_j |J_ij|, per unit of pixel value
    summed_jacobian_l1: np.ndarray  # (2,): sum_j |sum_i J_ij|, what Table 3 penalises
    along: np.ndarray  # (len(T),): f_y(x + t (x_adv - x)) for t in T
    predicted_along: np.ndarray  # (len(T),): the class with the largest logit there
    slopes: np.ndarray  # (2,): d/dt of that at t = 0 and t = 1

    @property
    def delta(self) -> float:
        """Delta = |f_y(x_adv) - f_y(x)|."""
        at_x, at_x_adv = self.logits[:, self.label]
        return abs(float(at_x_adv) - float(at_x))

    @property
    def span(self) -> float:
        """Largest minus smallest f_y between x and x_adv: Delta alone does not say that f is flat between them."""
        between = self.along[BETWEEN]
        return float(between.max()) - float(between.min())

    @property
    def norms(self) -> np.ndarray:
        """(2,): ||grad_x f_y||_1 at x and at x_adv."""
        return self.gradient_l1[:, self.label]

    def penalised(self, penalty: str) -> np.ndarray:
        """(2,): what the penalty sums up at x and at x_adv, before the protocol's reduction."""
        return self.gradient_l1.sum(axis=1) if penalty == "jacobian_l1" else self.summed_jacobian_l1

    @property
    def predicted(self) -> np.ndarray:
        """(2,): the class with the largest logit, at x and at x_adv."""
        return np.argmax(self.logits, axis=1)


@dataclass(frozen=True, eq=False)
class Watched:
    """A run and what was seen of it, the first observation before the first step."""

    run: Run
    observations: list[Observation]


@dataclass(frozen=True, eq=False)
class Study:
    """What Figure 1 is drawn from: the test image x with its label, and the runs; `stopped` by Ctrl-C, perhaps."""

    image: int
    x: np.ndarray  # (28, 28, 1)
    label: int
    watched: list[Watched]
    stopped: bool


def plan_runs(preset: str, model: str, lam: float, penalty: str, seed: int) -> list[Run]:
    """The run with the penalty and the same without (just that one for lambda = 0).

    Raises ValueError for an unknown preset, model or penalty, and for what `Run` refuses.
    """
    for what, value, choices in ("preset", preset, PRESETS), ("penalty", penalty, PENALTIES):
        if value not in choices:
            raise ValueError(f"unknown {what} {value!r}: choose one of {', '.join(choices)}")
    small = Run(model, lam, seed, Protocol(adversarial_training=True, penalty=penalty, stop_rule="none"))  # checks all
    epochs, images = PRESETS[preset][model]
    run = dataclasses.replace(small, protocol=dataclasses.replace(small.protocol, max_epochs=epochs, n_train=images))
    return [run, dataclasses.replace(run, lam=0.0)] if lam else [run]


def check_image(image: int) -> None:
    """Raise ValueError unless MNIST has a test image of this number."""
    if not 0 <= image < N_TEST:
        raise ValueError(f"--image must be the number of a test image, 0 to {N_TEST - 1}; got {image}")


def steps_of(run: Run) -> tuple[int, int]:
    """How many steps the run's training takes, and how many of them make an epoch."""
    per_epoch = -(-run.protocol.n_train // run.protocol.batch_size)
    return run.protocol.max_epochs * per_epoch, per_epoch


def observed_steps(total: int, per_epoch: int) -> list[int]:
    """0, 1, then each about sqrt(2) times the last, and the end of every epoch."""
    geometric = {round(2 ** (k / 2)) for k in range(2 * total.bit_length())}
    return sorted({0, *(s for s in geometric if s <= total), *range(per_epoch, total + 1, per_epoch)})


def observe(model: Sequential, x: np.ndarray, y: int, protocol: Protocol, step: int) -> Observation:
    """Look at the model around the image x (28, 28, 1) with label y; x_adv is what the protocol's FGSM makes of x now.

    The model is only read: a training that is observed gives the same bits as one that is not.
    """
    x_adv = fgsm(model, x[None], np.array([y]), protocol.eps, **attack_reading(protocol))[0]
    both, way = np.stack([x, x_adv]), x_adv - x
    line = x + T.astype(x.dtype)[:, None, None, None] * way
    J = jacobian(model, both).data
    with no_grad():
        logits, along = model(Tensor(both)), model(Tensor(line))
        return Observation(
            step, y, x_adv,
            logits=logits.data,
            probabilities=softmax(logits).data,
            gradient_l1=np.abs(J).sum(axis=(2, 3, 4)),
            summed_jacobian_l1=np.abs(J.sum(axis=1)).sum(axis=(1, 2, 3)),
            along=along.data[:, y],
            predicted_along=np.argmax(along.data, axis=1),
            slopes=(J[:, y] * way).sum(axis=(1, 2, 3)),
        )  # fmt: skip


def watch(
    run: Run, mnist: Mnist, image: int, workers: Workers, see: Callable[[Observation], None], done: Callable[[], None]
) -> Sequential:
    """Train as `run` says and give `see` what `observe` finds at test image `image`; done() is called at every step.

    Returns the trained model.  Raises DivergenceError.
    """
    state, x, y = run.start(), mnist.x_test[image], int(mnist.y_test[image])
    wanted = set(observed_steps(*steps_of(run)))

    def on_step(epoch: int, step: int, steps: int) -> None:
        taken = (epoch - 1) * steps + step
        if taken in wanted:
            see(observe(state.model, x, y, run.protocol, taken))
        done()

    see(observe(state.model, x, y, run.protocol, 0))
    train(state, run.split(mnist), workers, on_step)
    return state.model


def watch_all(runs: Sequence[Run], mnist: Mnist, image: int, workers: Workers, done: Callable[[], None]) -> Study:
    """Watch the runs one after the other; Ctrl-C ends that with what was seen.  Raises DivergenceError."""
    watched: list[Watched] = []
    stopped = False
    try:
        for run in runs:
            seen: list[Observation] = []
            watched.append(Watched(run, seen))
            watch(run, mnist, image, workers, seen.append, done)
    except KeyboardInterrupt:
        stopped = True
    watched = [w for w in watched if w.observations]
    return Study(image, mnist.x_test[image], int(mnist.y_test[image]), watched, stopped)


def as_json(study: Study) -> dict[str, Any]:
    """All series, for figure1.json: the same for the same seed, whatever the number of threads."""
    run = study.watched[0].run
    return {
        "model": run.model,
        "seed": run.seed,
        "image": study.image,
        "label": study.label,
        "finished": not study.stopped,
        "protocol": run.protocol.as_dict(),
        "steps_per_epoch": steps_of(run)[1],
        "t": T.tolist(),
        "runs": [
            {"lambda": w.run.lam, "observations": [_observation_as_json(o) for o in w.observations]}
            for w in study.watched
        ],
        "environment": environment(),
    }


def _observation_as_json(o: Observation) -> dict[str, Any]:
    points = {
        point: {
            "predicted": int(o.predicted[i]),
            "logits": _decimals(o.logits[i]),
            "probabilities": _decimals(o.probabilities[i]),
            "gradient_l1": _decimals(o.gradient_l1[i]),
            "jacobian_l1": float(o.gradient_l1[i].sum(dtype=np.float64)),
            "summed_jacobian_l1": _decimals(o.summed_jacobian_l1[i]),
            "slope": _decimals(o.slopes[i]),
        }
        for i, point in enumerate(POINTS)
    }
    return {
        "step": o.step,
        "delta": o.delta,
        "span": o.span,
        **points,
        "f_y": _decimals(o.along),
        "predicted": o.predicted_along.tolist(),
    }


def _decimals(values: np.ndarray | np.floating) -> Any:
    """Numbers as a list (or one number), each in the fewest decimals that tell it from its neighbours in its dtype."""
    return np.asarray(values).astype(str).astype(float).tolist()
