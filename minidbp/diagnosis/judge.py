"""The judge of every run of a table and of `minidbp train`: accuracies under attacks, and a small diagnosis."""

from collections.abc import Callable
from typing import Any

import numpy as np

from minidbp.data import Mnist, random_images
from minidbp.diagnosis.diagnose import CLIP, GRADIENT_PASSES, LabelledImages, Trial, fgsm_trial, noise_trial, pgd_trial
from minidbp.nn import Sequential, fuse
from minidbp.robust import strongest
from minidbp.robust.worst_case import STRONGEST
from minidbp.training import (
    Protocol,
    Tracked,
    Workers,
    correct,
    correct_under_fgsm,
    correct_under_pgd,
    percent,
    percent_by_class,
    track,
)
from minidbp.training.evaluate import FGSM_PASSES, over_shards
from minidbp.training.judgement import AccuracyAt, Judge, Judgement, MaskingFigures, Report

Right = dict[str, np.ndarray]  # which of the judged images a model gets right, bool (n_test,), by attack


def judged_images(mnist: Mnist, protocol: Protocol, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The test images (n_test, 28, 28, 1) for every attack, drawn by the run's seed, with their labels (n_test,)."""
    # `Run` uses the streams 0, 1 and 2 of its seed, and `attacked` the stream 3.
    return random_images(mnist.x_test, mnist.y_test, protocol.n_test, np.random.default_rng([seed, 4]))


def judge_model(
    model: Sequential, mnist: Mnist, protocol: Protocol, seed: int, pool: Workers, report: Report
) -> Judgement:
    """Judge a model on `judged_images`, in percent, with the accuracy of each class, and diagnose it."""
    x, y = judged_images(mnist, protocol, seed)
    right = correct_by_attack(model, x, y, protocol, pool, seed=seed, report=report)
    by_eps = correct_by_eps(model, x, y, protocol, pool, seed=seed, report=report)
    images = LabelledImages(x, y, pool, seed, lambda passes: report(passes, "diagnosis"))
    withstood = np.all([*right.values(), *by_eps[protocol.eps].values()], axis=0)
    figures = masking_figures(model, images, withstood, protocol)
    return Judgement(
        **{name: percent(of_attack) for name, of_attack in right.items()},
        by_eps=[_accuracy_at(eps, of_eps, figures if eps == protocol.eps else None) for eps, of_eps in by_eps.items()],
        per_class={name: percent_by_class(of_attack, y) for name, of_attack in right.items()},
        diagnosis=figures,
    )


def track_model(
    model: Sequential, mnist: Mnist, protocol: Protocol, seed: int, pool: Workers, report: Report
) -> Tracked:
    """`track` the first n_tracked of `judged_images`."""
    x, y = (array[: protocol.n_tracked] for array in judged_images(mnist, protocol, seed))
    return track(model, x, y, protocol, pool, seed=seed, done=lambda n: report(n, "accuracy along the training"))


def correct_by_attack(
    model: Sequential, x: np.ndarray, y: np.ndarray, p: Protocol, pool: Workers, *, seed: int, report: Report
) -> Right:
    """Which of images x (N, ...) with labels y (N,) the model gets right: "clean", under "fgsm" and under "pgd"."""
    passes = _pgd_trial(p).passes
    return {
        "clean": correct(model, x, y, pool, lambda n: report(n, "clean test images")),
        "fgsm": correct_under_fgsm(model, x, y, p, pool, lambda n: report(FGSM_PASSES * n, "FGSM")),
        "pgd": correct_under_pgd(model, x, y, p, pool, seed=seed, done=lambda n: report(passes * n, "PGD")),
    }


def correct_by_eps(
    model: Sequential, x: np.ndarray, y: np.ndarray, p: Protocol, pool: Workers, *, seed: int, report: Report
) -> dict[float, Right]:
    """Which images the model gets right at each of `attack_sizes`: under "fgsm", and after each attack of STRONGEST.

    An image that a smaller attack changed to a wrong one is wrong at a larger eps too, and is not attacked again.
    """
    fused, by_eps, still_right = fuse(model), {}, np.ones(len(x), bool)
    for eps in p.attack_sizes:
        at_eps, rows, passes = p.at(eps), np.flatnonzero(still_right), strongest_passes(p)
        done = _in_passes(report, passes, f"strongest attacks, eps {eps:g}")
        if len(rows) < len(x):
            done(len(x) - len(rows))
        right = {name: np.zeros(len(x), bool) for name in STRONGEST}

        def attack(part: slice, rows: np.ndarray = rows, eps: float = eps) -> np.ndarray:
            some, rng = rows[part], np.random.default_rng([seed, 5, part.start])
            worst = strongest(
                fused, x[some], y[some], eps, steps=p.apgd_steps, restarts=p.apgd_restarts, queries=p.square_queries,
                seed=rng, clip=CLIP if p.clip else None,
            )  # fmt: skip
            return np.array([worst.right[name] for name in STRONGEST])

        if len(rows):
            parts = np.hstack(over_shards(model, x[rows], pool, attack, done))
            for name, values in zip(STRONGEST, parts, strict=True):
                right[name][rows] = values
        still_right = right[STRONGEST[-1]]
        fgsm = correct_under_fgsm(model, x, y, at_eps, pool, _in_passes(report, FGSM_PASSES, "FGSM"))
        by_eps[eps] = {"fgsm": fgsm, **right}
    return by_eps


def _in_passes(report: Report, passes: int, what: str) -> Callable[[int], None]:
    return lambda images: report(images * passes, what)


def strongest_passes(p: Protocol) -> int:
    """The most passes of an image through the model that the strongest attacks make."""
    return 2 * 2 * p.apgd_steps * p.apgd_restarts + p.square_queries


def _accuracy_at(eps: float, right: Right, figures: MaskingFigures | None) -> AccuracyAt:
    """The accuracies of one size; at the protocol's eps, the worst case also counts the attacks of the diagnosis."""
    worst_case = figures.worst_case if figures else percent(np.all([*right.values()], axis=0))
    return AccuracyAt(eps, **{name: percent(of_attack) for name, of_attack in right.items()}, worst_case=worst_case)


def masking_figures(
    model: Sequential, images: LabelledImages, withstood: np.ndarray, protocol: Protocol
) -> MaskingFigures:
    """The small diagnosis, under the protocol's attacks with the true label.

    withstood: which images (N,) withstood earlier attacks, for the worst case.
    """
    fgsm, noise, margin = _masking_trials(protocol)
    by_noise, by_margin = (images.correct(model, images.attacked(model, trial)) for trial in (noise, margin))
    gradients, _ = images.gradient_figures(model, images.attacked(model, fgsm))
    worst_case = percent(withstood & by_noise & by_margin)
    return MaskingFigures(
        **vars(gradients), noise=percent(by_noise), pgd_margin=percent(by_margin), worst_case=worst_case
    )


def _masking_trials(p: Protocol) -> tuple[Trial, Trial, Trial]:
    """FGSM, noise, and PGD on the margin."""
    clip = CLIP if p.clip else None
    return fgsm_trial(p.eps, clip=clip), noise_trial(p.eps, "sign", clip=clip), _pgd_trial(p, clip=clip, loss="margin")


def _pgd_trial(p: Protocol, **options: Any) -> Trial:
    return pgd_trial(p.eps, p.pgd_steps, step=p.pgd_step, restarts=p.pgd_restarts, **options)


def masking_passes(protocol: Protocol) -> int:
    """How many passes of each image `masking_figures` reports."""
    return sum(trial.passes for trial in _masking_trials(protocol)) + GRADIENT_PASSES


def judge_passes(protocol: Protocol) -> float:
    """How many passes of an image `judge_model` reports."""
    p = protocol
    by_eps = len(p.attack_sizes) * (FGSM_PASSES + strongest_passes(p))
    return p.n_test * (1 + FGSM_PASSES + _pgd_trial(p).passes + by_eps + masking_passes(p))


JUDGE = Judge(judge_model, judge_passes, track_model)
