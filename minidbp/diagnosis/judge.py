"""The judge of every run of a table and of `minidbp train`: the paper's accuracies, and a small diagnosis."""

from typing import Any

import numpy as np

from minidbp.data import Mnist
from minidbp.diagnosis.diagnose import CLIP, GRADIENT_PASSES, LabelledImages, Trial, fgsm_trial, noise_trial, pgd_trial
from minidbp.nn import Sequential
from minidbp.training import (
    Protocol,
    Workers,
    correct,
    correct_under_fgsm,
    correct_under_pgd,
    percent,
    percent_by_class,
)
from minidbp.training.judgement import Judge, Judgement, MaskingFigures, Report

FGSM_PASSES = 3  # forward, backward, and the forward pass that judges


def judge_model(
    model: Sequential, mnist: Mnist, protocol: Protocol, seed: int, pool: Workers, report: Report
) -> Judgement:
    """`correct_by_attack` in percent, by class too, and `masking_figures`."""
    right, n = correct_by_attack(model, mnist, protocol, seed, pool, report), protocol.n_pgd
    withstood = np.all([of_attack[:n] for of_attack in right.values()], axis=0)
    images = LabelledImages(mnist.x_test[:n], mnist.y_test[:n], pool, seed, lambda passes: report(passes, "diagnosis"))
    return Judgement(
        **{name: percent(of_attack) for name, of_attack in right.items()},
        per_class={name: percent_by_class(r, mnist.y_test[: len(r)]) for name, r in right.items()},
        diagnosis=masking_figures(model, images, withstood, protocol),
    )


def correct_by_attack(
    model: Sequential, mnist: Mnist, protocol: Protocol, seed: int, pool: Workers, report: Report
) -> dict[str, np.ndarray]:
    """Which of the first n_test images the model gets right: "clean", under "fgsm", and of the first n_pgd "pgd"."""
    p, x, y = protocol, mnist.x_test[: protocol.n_test], mnist.y_test[: protocol.n_test]
    passes = _pgd_trial(p).passes
    return {
        "clean": correct(model, x, y, pool, lambda n: report(n, "clean test images")),
        "fgsm": correct_under_fgsm(model, x, y, p, pool, lambda n: report(FGSM_PASSES * n, "FGSM")),
        "pgd": correct_under_pgd(model, x, y, p, pool, seed=seed, done=lambda n: report(passes * n, "PGD")),
    }


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
    return p.n_test * (1 + FGSM_PASSES) + p.n_pgd * (_pgd_trial(p).passes + masking_passes(p))


JUDGE = Judge(judge_model, judge_passes)
