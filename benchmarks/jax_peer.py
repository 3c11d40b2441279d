"""A model of minidbp in JAX, with the same weights: each step is one compiled function.

NHWC images and HWIO filters are what XLA's own convolution for CPUs is written for, so there is no other layout to try.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from minidbp.nn import N_CLASSES, Conv2d, Flatten, Linear, ReLU, Sequential
from minidbp.training import Protocol

Parameters = list[jax.Array]


class JaxPeer:
    """The contestant: `jacobian` is "vmap" (all cotangents at once) or "loop" (unrolled over the classes)."""

    name = "jax"

    def __init__(self, model: Sequential, lam: float, protocol: Protocol, jacobian: str) -> None:
        self.variant = f"jit, {jacobian}" if lam else "jit"
        p = protocol
        self._weights: Parameters = [jnp.asarray(w.data) for w in model.parameters()]
        self._m = [jnp.zeros_like(w) for w in self._weights]
        self._v = [jnp.zeros_like(w) for w in self._weights]
        self._t = jnp.zeros((), jnp.int32)
        forward = functools.partial(_forward, model)

        def loss(weights: Parameters, x: jax.Array, y: jax.Array) -> jax.Array:
            f = functools.partial(forward, weights)
            if not lam:
                return jnp.mean(_cross_entropy(f(x), y, p.label_smoothing))
            logits, vjp = jax.vjp(f, x)
            rows = jnp.broadcast_to(jnp.eye(N_CLASSES)[:, None], (N_CLASSES, *logits.shape))
            J = jax.vmap(vjp)(rows)[0] if jacobian == "vmap" else jnp.stack([vjp(row)[0] for row in rows])
            return jnp.mean(_cross_entropy(logits, y, p.label_smoothing)) + lam * jnp.mean(jnp.abs(J))

        def step(weights: Parameters, m: Parameters, v: Parameters, t: jax.Array, x: jax.Array, y: jax.Array) -> Any:
            g = jax.grad(loss)(weights, x, y)
            t = t + 1
            m = [p.beta1 * a + (1 - p.beta1) * b for a, b in zip(m, g, strict=True)]
            v = [p.beta2 * a + (1 - p.beta2) * b * b for a, b in zip(v, g, strict=True)]
            rate, scale = p.learning_rate / (1 - p.beta1**t), 1 / (1 - p.beta2**t)
            moved = [w - rate * a / (jnp.sqrt(b * scale) + p.adam_eps) for w, a, b in zip(weights, m, v, strict=True)]
            return moved, m, v, t

        def right(weights: Parameters, x: jax.Array, y: jax.Array, eps: float) -> jax.Array:
            f = functools.partial(forward, weights)
            if eps:
                g = jax.grad(lambda images: jnp.sum(_cross_entropy(f(images), y, 0.0)))(x)
                x = jnp.clip(x + eps * jnp.sign(g), 0, 1)
            return jnp.sum(jnp.argmax(f(x), axis=1) == y)

        self._step = jax.jit(step, donate_argnums=(0, 1, 2))
        self._gradient = jax.jit(jax.value_and_grad(loss))
        self._right = jax.jit(right, static_argnums=3)

    def load(self, x: np.ndarray, y: np.ndarray) -> tuple[jax.Array, jax.Array]:
        """Images and labels as JAX has them."""
        return jnp.asarray(x), jnp.asarray(y.astype(np.int32))

    def step(self, x: jax.Array, y: jax.Array) -> None:
        """One step of training, finished when this returns."""
        self._weights, self._m, self._v, self._t = self._step(self._weights, self._m, self._v, self._t, x, y)
        jax.block_until_ready(self._weights)

    def gradient(self, x: jax.Array, y: jax.Array) -> tuple[float, list[np.ndarray]]:
        """The loss, and its gradient in each parameter."""
        value, found = self._gradient(self._weights, x, y)
        return float(value), [np.asarray(g) for g in found]

    def right(self, x: jax.Array, y: jax.Array, eps: float) -> int:
        """How many images are classified correctly under FGSM of this size; 0 is no attack."""
        return int(self._right(self._weights, x, y, eps))


def _forward(model: Sequential, weights: Parameters, x: jax.Array) -> jax.Array:
    left = iter(weights)
    for layer in model.layers:
        if isinstance(layer, Conv2d):
            stride = (layer.stride, layer.stride)
            padding = str(layer.padding).upper()  # SAME and VALID are TensorFlow's words in both
            x = jax.lax.conv_general_dilated(
                x, next(left), stride, padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
            ) + next(left)  # fmt: skip
        elif isinstance(layer, Linear):
            x = x @ next(left) + next(left)
        elif isinstance(layer, Flatten):
            x = x.reshape(len(x), -1)
        elif isinstance(layer, ReLU):
            x = jax.nn.relu(x)
        else:
            raise NotImplementedError(f"no JAX twin for {layer!r}")
    return x


def _cross_entropy(logits: jax.Array, y: jax.Array, smoothing: float) -> jax.Array:
    targets = (1 - smoothing) * jax.nn.one_hot(y, N_CLASSES) + smoothing / N_CLASSES
    return -jnp.sum(targets * jax.nn.log_softmax(logits), axis=1)
