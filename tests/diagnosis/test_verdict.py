"""The rules: each held by evidence planted for it alone, none by chance; the errors against simulation."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from minidbp.diagnosis.verdict import Evidence, apply_rules, difference_error, judge, share_error, stronger
from minidbp.training import percent

N = 1000
CHANCE = 10.0


def first(percent: float) -> np.ndarray:
    """The first so many percent of N images."""
    return np.arange(N) < round(N * percent / 100)


def evidence(**changes: object) -> Evidence:
    """A sound evaluation of a model that is robust on 60% of the images."""
    groups: dict[str, dict[str, float]] = {
        "right": {
            "clean": 98, "noise_uniform": 97, "noise_sign": 95, "fgsm_true": 63, "pgd": 62, "pgd_margin": 61,
            "pgd_half": 80, "pgd_all": 0,
        },
        "strongest": {"apgd_ce": 61, "apgd_dlr": 60, "square": 60},
        "transfer": {"a plain model": 90, "an imitation of it": 80},
    }  # fmt: skip
    arrays = {group: {name: first(a) for name, a in of.items()} for group, of in groups.items()}
    signs = {name: first(0) for name in ("no_gradient", "flattened", "unexplained", "inconsistent")}
    for name, value in changes.items():
        (group,) = [g for g in (*arrays.values(), signs) if name in g]
        group[name] = value
    return Evidence(**arrays, **signs)


def held(found: Evidence) -> list[str]:
    return [f.rule for f in apply_rules(found, CHANCE) if f.holds]


def test_a_sound_evaluation_holds_no_rule() -> None:
    assert held(evidence()) == []
    verdict = judge(evidence(), CHANCE)
    assert verdict.word == "robust"
    assert len(verdict.sentences) == 1
    rules = [f.rule for f in verdict.findings]
    assert len(rules) == len(set(rules))


FREE = "attacks without the model's gradient break images that withstand those with it"


@pytest.mark.parametrize(
    ("changes", "rules"),
    [
        ({"noise_uniform": first(50)}, [FREE, "uniform noise is stronger than all attacks with the gradient"]),
        ({"noise_sign": first(50)}, [FREE, "random signs are stronger than all attacks with the gradient"]),
        ({"square": first(50)}, [FREE]),
        (
            {"an imitation of it": first(50)},
            [FREE, "images made on an imitation of it are stronger than all attacks with the gradient"],
        ),
        ({"a plain model": np.roll(first(90), 200)}, [FREE]),  # no stronger, but on other images
        ({"fgsm_true": first(60), "pgd": first(75), "pgd_margin": first(75)}, ["FGSM is stronger than PGD"]),
        ({"pgd_half": first(55)}, ["PGD of half the size is stronger"]),
        ({"pgd_all": first(20)}, ["PGD that may change every pixel leaves more than chance"]),
        ({"no_gradient": first(10)}, ["many images have no gradient at all"]),
        ({"inconsistent": first(5)}, ["many answers depend on chance or on the batch"]),
        ({"flattened": first(70)}, ["f is flat at most images and steep beside them"]),
        ({"unexplained": first(70)}, ["the gradient does not tell how the margin changes near most images"]),
    ],
)
def test_each_sign_of_masking_is_seen(changes: dict, rules: list[str]) -> None:
    found = evidence(**changes)
    assert [f.rule for f in apply_rules(found, CHANCE) if f.holds and f.kind == "masking"] == rules
    verdict = judge(found, CHANCE)
    assert verdict.word == "masks"
    for rule in rules:
        assert rule in verdict.sentences[0]


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"fgsm_true": first(75)}, "FGSM overstates robustness: PGD is far stronger"),
        ({"fgsm_true": first(75), "pgd": first(74), "noise_sign": first(65)}, "FGSM overstates robustness: random"),
        ({"pgd": first(75), "fgsm_true": first(76)}, "the cross-entropy overstates"),
        ({"pgd": first(70), "pgd_margin": first(70), "fgsm_true": first(71)}, "PGD overstates"),
    ],
)
def test_a_weak_attack_is_told_of_and_masks_nothing(changes: dict, rule: str) -> None:
    assert any(name.startswith(rule) for name in held(evidence(**changes)))
    verdict = judge(evidence(**changes), CHANCE)
    assert verdict.word == "robust"
    assert any(sentence.startswith(rule) for sentence in verdict.sentences[1:])


def test_a_page_adds_weak_attacks_and_no_word() -> None:
    weak = stronger("more steps make PGD stronger", first(40), first(60), "overstated")
    verdict = judge(evidence(), CHANCE, [weak])
    assert (verdict.word, verdict.findings[-1]) == ("robust", weak)
    assert verdict.sentences[1].startswith("more steps")


@pytest.mark.parametrize("sign", ["flattened", "unexplained"])
def test_a_gradient_that_breaks_all_images_hides_nothing(sign: str) -> None:
    """Long training with smoothed labels flattens f at the images too, and PGD still leaves none of them."""
    broken = dict.fromkeys(("pgd", "pgd_margin", "apgd_ce", "apgd_dlr", "square"), first(2))
    verdict = judge(evidence(**broken, **{sign: first(70)}), CHANCE)
    assert verdict.word == "not robust"
    assert len(verdict.sentences) > 1


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
    found = evidence(apgd_dlr=first(worst), square=first(worst), clean=first(clean))
    assert percent(found.worst_case) == worst
    assert judge(found, CHANCE).word == word


def test_a_model_that_guesses_hides_nothing() -> None:
    """A constant model has no gradient, and nothing to defend."""
    found = evidence(clean=first(11), no_gradient=first(100), apgd_dlr=first(11), square=first(11))
    assert judge(found, CHANCE).word == "not robust"


def test_other_attacks_of_a_page_count_for_the_worst_case_alone() -> None:
    found = replace(evidence(), others=[first(40), np.roll(first(98), 20)])
    assert percent(found.worst_case) == 38
    assert held(found) == []


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
