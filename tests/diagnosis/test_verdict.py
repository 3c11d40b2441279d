"""The rules: each held by evidence planted for it alone, none by chance; the errors against simulation."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from minidbp.diagnosis.verdict import Evidence, apply_rules, difference_error, judge, share_error

N = 1000
CHANCE = 10.0


def first(percent: float) -> np.ndarray:
    """The first so many percent of N images."""
    return np.arange(N) < round(N * percent / 100)


def evidence(**changes: object) -> Evidence:
    """A sound evaluation of a model that is robust on 60% of the images."""
    attacks = {
        "clean": 98, "noise_uniform": 97, "noise_sign": 95, "fgsm_true": 63, "fgsm_predicted": 64,
        "fgsm_smoothed": 64, "pgd": 61, "pgd_margin": 60,
    }  # fmt: skip
    sound = Evidence(
        attacks={name: first(a) for name, a in attacks.items()},
        pgd_eps={0.0: first(98), 0.3: first(61), 0.6: first(20), 1.0: first(0)},
        pgd_steps={1: first(70), 40: first(61), 80: first(61)},
        steps=40,
        transfer={"other": first(80)},
        worst_case=first(60),
        no_gradient=first(0),
    )
    attacks_changed = {name: value for name, value in changes.items() if name in attacks}
    rest = {name: value for name, value in changes.items() if name not in attacks}
    return replace(sound, attacks={**sound.attacks, **attacks_changed}, **rest)


def held(found: Evidence) -> list[str]:
    return [f.rule for f in apply_rules(found, CHANCE) if f.holds]


def test_a_sound_evaluation_holds_no_rule() -> None:
    assert held(evidence()) == []
    verdict = judge(evidence(), CHANCE)
    assert verdict.word == "robust"
    assert len(verdict.sentences) == 1
    assert len({f.rule for f in verdict.findings}) == 12


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"fgsm_true": first(55)}, "FGSM is stronger than PGD"),
        ({"noise_uniform": first(50)}, "uniform noise is stronger than PGD"),
        ({"noise_sign": first(50)}, "random signs are stronger than PGD"),
        ({"transfer": {"other": first(50)}}, "images made on other are stronger than PGD on the model itself"),
        ({"pgd_eps": {0.0: first(98), 1.0: first(20)}},
         "PGD does not bring accuracy down to chance at the largest eps"),
        ({"pgd_eps": {0.0: first(98), 0.3: first(40), 0.6: first(60), 1.0: first(0)}},
         "PGD at eps 0.3 is stronger than at eps 0.6"),
        ({"no_gradient": first(10)}, "many images have no gradient at all"),
        ({"pgd_margin": first(40)}, "PGD on the margin is far stronger than on the cross-entropy"),
    ],
)  # fmt: skip
def test_each_sign_of_masking_is_seen(changes: dict, rule: str) -> None:
    found = evidence(**changes)
    if "fgsm_true" in changes:  # the other labels go with it
        found = replace(found, attacks={**found.attacks, "fgsm_predicted": first(56), "fgsm_smoothed": first(56)})
    assert held(found) == [rule]
    verdict = judge(found, CHANCE)
    assert verdict.word == "masks"
    assert rule in verdict.sentences[0]


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"fgsm_true": first(75), "fgsm_predicted": first(75), "fgsm_smoothed": first(75)}, "FGSM overstates"),
        ({"fgsm_predicted": first(90)}, "FGSM with the predicted label overstates"),
        ({"fgsm_smoothed": first(90)}, "FGSM with smoothed labels overstates"),
        ({"pgd_steps": {1: first(70), 40: first(61), 80: first(50)}}, "more steps make PGD stronger"),
    ],
)
def test_a_weak_attack_is_told_of_and_masks_nothing(changes: dict, rule: str) -> None:
    (name,) = held(evidence(**changes))
    verdict = judge(evidence(**changes), CHANCE)
    assert name.startswith(rule)
    assert verdict.word == "robust"
    assert verdict.sentences[1].startswith(rule)


@pytest.mark.parametrize(
    ("worst", "clean", "word"),
    [
        (60, 98, "robust"),
        (30, 98, "partly robust"),
        (11, 98, "not robust"),
        (0, 98, "not robust"),
        (5, 11, "not robust"),
    ],
)
def test_the_word_follows_the_worst_case(worst: float, clean: float, word: str) -> None:
    assert judge(evidence(worst_case=first(worst), clean=first(clean)), CHANCE).word == word


def test_a_model_that_guesses_hides_nothing() -> None:
    """A constant model has no gradient, and nothing to defend."""
    found = evidence(clean=first(11), no_gradient=first(100), worst_case=first(11))
    assert judge(found, CHANCE).word == "not robust"


def test_share_error_is_the_binomials() -> None:
    draws = np.random.default_rng(0).binomial(N, 0.3, 100_000) / N
    assert share_error(first(30)) == pytest.approx(100 * draws.std(), rel=0.02)
    assert 0 < share_error(first(0)) < 0.25  # not the 0 of the plain formula


def test_difference_error_is_that_of_pairs() -> None:
    """4 cells with probabilities .5, .2, .1, .2: n draws of them, the spread of the difference of both margins."""
    rng = np.random.default_rng(0)
    cells = rng.multinomial(N, [0.5, 0.2, 0.1, 0.2], 50_000)
    spread = 100 * ((cells[:, 1] - cells[:, 2]) / N).std()
    order = np.repeat(np.arange(4), [500, 200, 100, 200])
    assert difference_error(order <= 1, (order == 0) | (order == 2)) == pytest.approx(spread, rel=0.02)


@pytest.mark.parametrize("n", [100, 1000])
@pytest.mark.parametrize("p", [0.02, 0.3])
def test_chance_does_not_hold_a_rule(n: int, p: float) -> None:
    """Two attacks of the same strength: one of them looks stronger by more than 3 errors in about 1 of 740 cases."""
    rng = np.random.default_rng(1)
    make: Callable[[], np.ndarray] = lambda: rng.uniform(size=n) < p  # noqa: E731
    pairs = [(make(), make()) for _ in range(3000)]
    alarms = sum(100 * (a.mean() - b.mean()) > 3 * difference_error(a, b) for a, b in pairs)
    assert alarms <= 15
