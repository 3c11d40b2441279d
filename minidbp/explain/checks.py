"""The numbers of a step beside their finite differences, none of which goes across a kink."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from minidbp.autodiff import NotDifferentiableError, Tensor, no_grad
from minidbp.checking.finite_differences import directional_difference
from minidbp.explain.step import Arrays, Part, Step, Weighted, distance, forward, kept, norm, relative
from minidbp.nn import N_CLASSES, Sequential

Function = Callable[[list[Tensor]], Tensor]  # several Tensors to a scalar

LOWERED_BY = 0.1


@dataclass(frozen=True)
class Check:
    """A number by the engine and by differences; the latter is None, and `why` says why, where there is a kink.

    error: relative, of the number, or of the whole array that it is the norm of; None if there is no difference.
    step: the half width h of the difference, at which no mask and no sign had changed.
    """

    quantity: str
    engine: float
    difference: float | None = None
    error: float | None = None
    step: float | None = None
    why: str = ""


def along(quantity: str, engine: float, f: Function, at: Arrays, direction: Arrays) -> Check:
    """The check of a slope: of the scalar f at `at`, along `direction`."""
    try:
        found = directional_difference(lambda ts: [f(ts)], at, direction)
    except NotDifferentiableError as error:
        return Check(quantity, engine, why=str(error))
    value = float(found.values[0])
    return Check(quantity, engine, value, relative(engine, value), found.step)


def off_the_kink(model: Sequential, x: np.ndarray) -> dict[int, list[int]]:
    """Lower the biases of units that are nowhere on at x and somewhere exactly 0: which ones, by layer.

    A filter that never was on still has the bias 0, and where the image is black it returns exactly that, so that no
    difference in x or b exists.  Lower, it is as off as before: ReLU'(0) is 0 here, so no number changes but the bias.
    """
    lowered = {}
    with no_grad():
        layers, _, returned = forward(model, Tensor(x))
    for number, (layer, z) in enumerate(zip(layers[:-1], returned[:-1], strict=True), start=1):
        places = z.data.reshape(-1, z.shape[-1])
        on_the_kink = (places.max(axis=0) == 0).nonzero()[0]
        if on_the_kink.size:
            b = layer.b.data.copy()
            b[on_the_kink] -= LOWERED_BY
            layer.b.data = b
            lowered[number] = on_the_kink.tolist()
    return lowered


def check_tangents(step: Step, J: np.ndarray, parts: Sequence[Part]) -> tuple[list[Check], list[Check]]:
    """Ten copies of the image, copy k moved along S_k: the slope of f_k is ||J_k||_1, those of the inputs are T[k]."""
    named = [(f"‖J{_index(k)}‖₁: slope of f{_index(k)} along S{_index(k)}", float(np.abs(row).sum()))
             for k, row in enumerate(J)]  # fmt: skip
    tangents = [(f"‖T{part.number - 1}‖: up from S", part.T) for part in parts[1:]]
    P = "P = Σᵢ ‖Jᵢ‖₁ / 7840", float(np.abs(J).mean())

    def everything(ts: list[Tensor]) -> list[Tensor]:
        _, given, returned = forward(step.model, ts[0])
        return [*given[1:], returned[-1]]

    try:
        found = directional_difference(everything, [np.repeat(step.x, N_CLASSES, axis=0)], [np.sign(J)])
    except NotDifferentiableError as error:
        rows = [Check(name, value, why=str(error)) for name, value in [*named, P]]
        return rows, [Check(name, norm(T), why=str(error)) for name, T in tangents]
    slopes = np.diag(found.values[-1])
    values = [*map(float, slopes), float(slopes.sum()) / J.size]
    rows = [
        Check(name, engine, value, relative(engine, value), found.step)
        for (name, engine), value in zip([*named, P], values, strict=True)
    ]
    return rows, [
        Check(name, norm(T), norm(value), distance(T, value), found.step)
        for (name, T), value in zip(tangents, found.values[:-1], strict=True)
    ]


def check_cotangents(model: Sequential, returned: Sequence[Tensor], parts: Sequence[Part]) -> list[Check]:
    """Ten copies of z_l, copy k moved along V_l[k] / ||V_l||: the slopes of f_k add up to ||V_l||."""
    places = [i for i, layer in enumerate(model.layers) if layer.parameters()]
    checks = []
    for part, z, place in zip(parts[:-1], returned[:-1], places[:-1], strict=True):

        def own_logits(ts: list[Tensor], place: int = place) -> Tensor:
            h = ts[0]
            for layer in model.layers[place + 1 :]:
                h = layer(h)
            return (h * np.eye(N_CLASSES)).sum()

        copies = np.repeat(z.data, N_CLASSES, axis=0)
        name = f"‖V{part.number}‖: down from the logits"
        checks.append(along(name, norm(part.V), own_logits, [copies], [_unit(part.V)]))
    return checks


def check_part(step: Step, part: Part, layer: Weighted) -> list[Check]:
    """The slope along a gradient of length 1 is that gradient's norm; lambda P also along the loss's gradient."""
    n, W, b = part.number, layer.w, layer.b
    plain, penal, bias = _unit(part.loss_part), _unit(part.penalty_part), _unit(part.bias_loss_part)
    slopes = [
        (f"‖dL/dW{n}‖", part.loss_part, step.loss, W, plain),
        (f"‖d(λP)/dW{n}‖", part.penalty_part, step.penalty, W, penal),
        (f"‖dW{n}‖, both together", part.whole, step.whole, W, _unit(part.whole)),
        (f"slope of λP along dL/dW{n}", part.penalty_part, step.penalty, W, plain),
        (f"‖dL/db{n}‖", part.bias_loss_part, step.loss, b, bias),
        (f"slope of λP along dL/db{n}", part.bias_penalty_part, step.penalty, b, bias),
    ]
    return [
        along(name, float(np.sum(gradient * direction)), _with_values([p], f), [p.data], [direction])
        for name, gradient, f, p, direction in slopes
    ]


def check_everywhere(step: Step, losses: Arrays, penalties: Arrays, rng: np.random.Generator) -> list[Check]:
    """The slopes along one random direction of length 1 through all weights and biases at once."""
    parameters = step.model.parameters()
    drawn = [rng.standard_normal(p.shape) for p in parameters]
    length = math.sqrt(sum(norm(r) ** 2 for r in drawn))
    direction = [r / length for r in drawn]
    of_loss, of_penalty = (
        float(sum(np.sum(g * r) for g, r in zip(gradients, direction, strict=True)))
        for gradients in (losses, penalties)
    )
    here = [p.data for p in parameters]
    return [
        along(f"slope of {name}, random direction", value, _with_values(parameters, f), here, direction)
        for name, value, f in (
            ("L", of_loss, step.loss),
            ("λP", of_penalty, step.penalty),
            ("L + λP", of_loss + of_penalty, step.whole),
        )
    ]


def _with_values(parameters: Sequence[Tensor], f: Callable[[], Tensor]) -> Function:
    """f as a function of the parameters' values; their own are put back afterwards."""

    def there(ts: list[Tensor]) -> Tensor:
        with kept(parameters):
            for p, t in zip(parameters, ts, strict=True):
                p.data = t.data
            return f()

    return there


def _unit(a: np.ndarray) -> np.ndarray:
    return a / (norm(a) or 1.0)


def _index(k: int) -> str:
    return "₀₁₂₃₄₅₆₇₈₉"[k]
