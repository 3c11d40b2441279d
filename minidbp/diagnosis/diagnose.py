"""Is a model robust, or does it only hide its gradients?  All attacks on the same images, and the verdict.

`diagnose` is what the command of that name does, `diagnose_columns` the few figures that every run can afford.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from minidbp.autodiff import no_grad
from minidbp.diagnosis.verdict import Withstood, judge
from minidbp.nn import N_CLASSES, Sequential
from minidbp.robust import fgsm, gradient_cosines, input_gradients, jacobian_l1, pgd, random_noise, zero_shares
from minidbp.training import Protocol, Workers, predict
from minidbp.training.evaluate import attacked, correct, over_shards, percent
from minidbp.training.judgement import MaskingFigures

EPS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.7, 1.0)  # 1 reaches every image there is
STEPS = (1, 2, 5, 10, 20, 50, 100)  # those below the protocol's, which is there, and twice the protocol's
DRAWS = 10  # of noise, for each image
NOISES = ("uniform", "sign")
CHANCE = 100 / N_CLASSES
CLIP = (0.0, 1.0)
GRADIENT_PASSES = 2 * (2 + N_CLASSES)  # a gradient and a Jacobian, at x and at x + delta

Attack = Callable[[Sequential, np.ndarray, np.ndarray, np.random.Generator], np.ndarray]
Done = Callable[[int], None]
Key = tuple[Any, ...]  # ("attack", name), ("eps", name, eps) or ("steps", steps)


def labels_of(weights: Sequence[Path]) -> list[str]:
    """A label for each weights file: its name, or its path where names are the same.  ValueError for a file twice."""
    for path in weights:
        if weights.count(path) > 1:
            raise ValueError(f"every weights file counts once; got {path} {weights.count(path)} times")
    stems = [path.stem for path in weights]
    return stems if len(set(stems)) == len(stems) else [str(path.with_suffix("")) for path in weights]


@dataclass(frozen=True)
class Trial:
    """One attack; how many passes of an image through the model it may take; whether it counts for the worst case.

    It does if its images lie within the protocol's eps and within [0, 1].
    """

    attack: Attack
    passes: int
    counts: bool = True


def trials(p: Protocol) -> dict[Key, Trial]:
    """Every attack on a model by itself: those of the table, then accuracy against eps and against PGD's steps."""
    labels: dict[str, dict[str, Any]] = {
        "true": {},
        "predicted": {"label": "predicted"},
        "smoothed": {"label_smoothing": p.label_smoothing},
    }
    found: dict[Key, Trial] = {("attack", "clean"): Trial(lambda model, x, y, rng: x, 1)}
    for kind in NOISES:
        found["attack", f"noise_{kind}"] = _noise_trial(p.eps, kind)
    for suffix, clip in ("", CLIP), ("_unclipped", None):
        for label, reading in labels.items():
            found["attack", f"fgsm_{label}{suffix}"] = _fgsm_trial(p.eps, clip is not None, clip=clip, **reading)
    for suffix, loss in ("", "cross_entropy"), ("_margin", "margin"):
        found["attack", f"pgd{suffix}"] = _pgd_trial(p.eps, p.pgd_steps, restarts=p.pgd_restarts, loss=loss)
    for eps in sorted({*EPS, p.eps}):
        within = eps <= p.eps
        found["eps", "pgd", eps] = _pgd_trial(eps, p.pgd_steps, within)
        found["eps", "fgsm", eps] = _fgsm_trial(eps, within)
        found["eps", "noise", eps] = _noise_trial(eps, "sign", within)
    for steps in sorted({*(k for k in STEPS if k < p.pgd_steps), p.pgd_steps, 2 * p.pgd_steps}):
        found["steps", steps] = _pgd_trial(p.eps, steps)
    return found


def transfer_trial(p: Protocol) -> Trial:
    """The images for other models: PGD on the margin that goes on after its own model is fooled."""
    return _pgd_trial(p.eps, p.pgd_steps, loss="margin", go_on=True)


def work(models: int, p: Protocol) -> int:
    """How many image passes `diagnose` reports to `done` for so many models."""
    each = sum(trial.passes for trial in trials(p).values()) + GRADIENT_PASSES
    return models * p.n_pgd * (each + (transfer_trial(p).passes if models > 1 else 0))


def diagnose(
    models: Mapping[str, Sequential],
    x: np.ndarray,
    y: np.ndarray,
    protocol: Protocol,
    workers: Workers,
    seed: int = 0,
    done: Done | None = None,
) -> dict[str, Any]:
    """Everything about each model (by label) on the first n_pgd of images x (N, 28, 28, 1) in [0, 1], labels y (N,).

    Of the protocol count eps, in (0, 1], n_pgd, pgd_steps, pgd_restarts and label_smoothing (for FGSM).  Attacks
    take the true label and clip to [0, 1] where their name does not say otherwise; PGD's step is
    2.5 eps / steps (Madry et al. 2018), so that the ball can be crossed, and the curves take one start.
    done(n): n more of the passes that `work` counts.

    Returns, ready for JSON, accuracies in percent: `settings`; `models`, for each label `accuracy` by attack,
    `against_eps`, `against_steps`, `gradients`, `worst_case`, `transfer` (by source) and `verdict`; `transfer`, the
    labels and the matrix of accuracies, made on the row's model and judged on the column's, or None for one model.
    """
    x, y = x[: protocol.n_pgd], y[: protocol.n_pgd]

    def run(model: Sequential, trial: Trial) -> np.ndarray:
        report = None if done is None else (lambda n: done(n * trial.passes))
        return attacked(model, x, y, workers, partial(trial.attack, model), seed=seed, done=report)

    made = {label: run(model, transfer_trial(protocol)) for label, model in models.items()} if len(models) > 1 else {}
    matrix = {
        source: {label: correct(model, images, y, workers) for label, model in models.items()}
        for source, images in made.items()
    }
    found = {}
    for label, model in models.items():
        right, counted = {}, [row[label] for row in matrix.values()]
        for key, trial in trials(protocol).items():
            images = run(model, trial)
            right[key] = correct(model, images, y, workers)
            if trial.counts:
                counted.append(right[key])
            if key == ("attack", "fgsm_true"):
                gradients, no_gradient = _gradient_figures(model, x, images, y, workers, done)
        withstood = Withstood(
            attacks=_series(right, "attack"),
            pgd_eps={0.0: right["attack", "clean"], **_series(right, "eps", "pgd")},
            pgd_steps=_series(right, "steps"),
            steps=protocol.pgd_steps,
            transfer={source: row[label] for source, row in matrix.items() if source != label},
            worst_case=np.all(counted, axis=0),
            no_gradient=no_gradient,
        )
        found[label] = _as_json(withstood, right, gradients)
    return {
        "settings": {
            "eps": protocol.eps,
            "images": len(x),
            "steps": protocol.pgd_steps,
            "restarts": protocol.pgd_restarts,
            "seed": seed,
            "label_smoothing": protocol.label_smoothing,
            "noise_draws": DRAWS,
        },
        "models": found,
        "transfer": {
            "labels": list(models),
            "accuracy": [[percent(r) for r in row.values()] for row in matrix.values()],
        }
        if matrix
        else None,
    }


def diagnose_columns(
    model: Sequential,
    x: np.ndarray,
    y: np.ndarray,
    withstood: np.ndarray,
    protocol: Protocol,
    workers: Workers,
    seed: int = 0,
    done: Done | None = None,
) -> MaskingFigures:
    """A few figures for each run's JSON, on the first n_pgd of images x (N, 28, 28, 1) in [0, 1] with labels y (N,).

    withstood: which of these images (n_pgd,) withstood earlier attacks; worst_case counts them too.
    The true label, the protocol's eps, clip, steps, step and restarts.
    done(n): n more of the n_pgd * column_passes(protocol) image passes.
    """
    x, y = x[: protocol.n_pgd], y[: protocol.n_pgd]
    p, clip = protocol, CLIP if protocol.clip else None
    by_pgd = partial(pgd, eps=p.eps, step=p.pgd_step, steps=p.pgd_steps, restarts=p.pgd_restarts, clip=clip)

    def run(attack: Attack, passes: int) -> np.ndarray:
        report = None if done is None else (lambda n: done(n * passes))
        return attacked(model, x, y, workers, partial(attack, model), seed=seed, done=report)

    noise = correct(model, run(partial(_noise, eps=p.eps, kind="sign", clip=clip), DRAWS), y, workers)
    by_margin = run(lambda model, x, y, rng: by_pgd(model, x, y, seed=rng, loss="margin"), pgd_passes(p))
    margin = correct(model, by_margin, y, workers)
    twins = run(partial(_fgsm, eps=p.eps, clip=clip), 2)
    figures, _ = _gradient_figures(model, x, twins, y, workers, done)
    return MaskingFigures(
        **figures,
        noise=percent(noise),
        pgd_margin=percent(margin),
        worst_case=percent(withstood & noise & margin),
    )


def column_passes(protocol: Protocol) -> int:
    """How many passes of each image through the model `diagnose_columns` may take."""
    return DRAWS + pgd_passes(protocol) + 2 + GRADIENT_PASSES


def pgd_passes(p: Protocol) -> int:
    """How many passes of each image through the model the protocol's PGD may take."""
    return 2 * p.pgd_steps * p.pgd_restarts


def _as_json(withstood: Withstood, right: Mapping[Key, np.ndarray], gradients: dict[str, float]) -> dict[str, Any]:
    verdict, clean = judge(withstood, CHANCE), percent(withstood.attacks["clean"])
    curves = {name: _series(right, "eps", name) for name in ("pgd", "fgsm", "noise")}
    return {
        "accuracy": {name: percent(r) for name, r in withstood.attacks.items()},
        "against_eps": {
            "eps": list(withstood.pgd_eps),
            **{name: [clean, *map(percent, curve.values())] for name, curve in curves.items()},
        },
        "against_steps": {
            "steps": list(withstood.pgd_steps),
            "pgd": [percent(r) for r in withstood.pgd_steps.values()],
        },
        "gradients": gradients,
        "transfer": {source: percent(r) for source, r in withstood.transfer.items()},
        "worst_case": percent(withstood.worst_case),
        "verdict": {
            "word": verdict.word,
            "sentences": verdict.sentences,
            "findings": [{**f._asdict(), "holds": f.holds} for f in verdict.findings],
        },
    }


def _series(right: Mapping[Key, np.ndarray], *prefix: str) -> dict[Any, np.ndarray]:
    """What stands under the keys that begin so, by the rest of the key."""
    return {key[-1]: r for key, r in right.items() if key[:-1] == prefix}


def _gradient_figures(
    model: Sequential, x: np.ndarray, x_adv: np.ndarray, y: np.ndarray, workers: Workers, done: Done | None = None
) -> tuple[dict[str, float], np.ndarray]:
    """The figures about gradients at images x and x_adv, and which images have a gradient of exactly 0 at x."""

    def measured(part: slice) -> np.ndarray:
        g, h = (input_gradients(model, images[part], y[part]) for images in (x, x_adv))
        with no_grad():
            J, J_adv = (jacobian_l1(model, images[part]).item() for images in (x, x_adv))
        same = predict(model, x[part]) == predict(model, x_adv[part])
        rows = zero_shares(g), gradient_cosines(g, h), np.full(len(g), J), np.full(len(g), J_adv), same
        return np.array(rows, np.float64)

    report = None if done is None else (lambda n: done(n * GRADIENT_PASSES))
    zero, cosine, J, J_adv, same = np.hstack(over_shards(model, x, workers, measured, report, rows=N_CLASSES))
    return {
        "zero_gradients": 100 * float(zero.mean()),
        "zero_gradient_images": percent(zero == 1),
        "gradient_cosine": float(cosine.mean()),
        "jacobian_l1": float(J.mean()),
        "jacobian_l1_adv": float(J_adv.mean()),
        "same_prediction": percent(same == 1),
    }, zero == 1


def _pgd_trial(eps: float, steps: int, counts: bool = True, restarts: int = 1, **how: Any) -> Trial:
    def attack(model: Sequential, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return pgd(model, x, y, eps, 2.5 * eps / steps, steps, restarts=restarts, seed=rng, **how)

    return Trial(attack, 2 * steps * restarts, counts)


def _fgsm_trial(eps: float, counts: bool, **how: Any) -> Trial:
    return Trial(partial(_fgsm, eps=eps, **how), 2, counts)


def _noise_trial(eps: float, kind: str, counts: bool = True) -> Trial:
    return Trial(partial(_noise, eps=eps, kind=kind), DRAWS, counts)


def _fgsm(model: Sequential, x: np.ndarray, y: np.ndarray, rng: np.random.Generator, **how: Any) -> np.ndarray:
    return fgsm(model, x, y, **how)


def _noise(model: Sequential, x: np.ndarray, y: np.ndarray, rng: np.random.Generator, **how: Any) -> np.ndarray:
    """For each image the last of DRAWS noisy ones that the model gets wrong, or itself."""
    worst = x.copy()
    for _ in range(DRAWS):
        noisy = random_noise(x, rng=rng, **how)
        wrong = predict(model, noisy) != y
        worst[wrong] = noisy[wrong]
    return worst
