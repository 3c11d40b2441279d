"""Initial weights, from a shape (..., inputs, outputs), whose leading axes are a kernel's, and a Generator."""

import math

import numpy as np


def _fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """fan_in and fan_out."""
    taps = math.prod(shape[:-2])
    return taps * shape[-2], taps * shape[-1]


def glorot_uniform(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """U(-a, a) with a = sqrt(6 / (fan_in + fan_out)): Glorot and Bengio 2010, Keras' default; float64."""
    a = math.sqrt(6 / sum(_fans(shape)))
    return rng.uniform(-a, a, shape)


def he_normal(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """N(0, 2 / fan_in): He et al. 2015, made for ReLU; float64."""
    return rng.normal(0.0, math.sqrt(2 / _fans(shape)[0]), shape)


INITIALISERS = {"glorot_uniform": glorot_uniform, "he_normal": he_normal}
