"""A model of minidbp in PyTorch, with the same weights: the same steps, in each of the ways one could write them.

torch.compile is not among them: it refuses to differentiate a gradient.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from minidbp.kernels import ConvGeometry
from minidbp.nn import IMAGE_SHAPE, N_CLASSES, Conv2d, Flatten, Linear, ReLU, Sequential
from minidbp.training import Protocol

Axes = Callable[[np.ndarray], np.ndarray]


class TorchPeer:
    """The contestant: `jacobian` is "loop", "batched" or "expanded"; `channels_last` is the layout of images."""

    name = "torch"

    def __init__(self, model: Sequential, lam: float, protocol: Protocol, jacobian: str, channels_last: bool) -> None:
        self.lam, self.protocol = lam, protocol
        self.variant = jacobian * (lam > 0) + ", channels_last" * channels_last
        self.variant = self.variant.removeprefix(", ") or "eager"
        self._jacobian = {"loop": _loop, "batched": _batched, "expanded": self._expanded}[jacobian]
        self._layout = torch.channels_last if channels_last else torch.contiguous_format
        self.module, self._back = _translate(model)
        self.module.to(memory_format=self._layout)
        p = protocol
        self._adam = torch.optim.Adam(
            self.module.parameters(), p.learning_rate, (p.beta1, p.beta2), p.adam_eps, fused=True
        )

    def load(self, x: np.ndarray, y: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Images and labels as PyTorch has them."""
        images = torch.from_numpy(x.transpose(0, 3, 1, 2).copy())  # PyTorch wants arrays that it may write to
        return images.contiguous(memory_format=self._layout), torch.from_numpy(y.astype(np.int64))

    def step(self, x: torch.Tensor, y: torch.Tensor) -> None:
        """One step of training."""
        self._adam.zero_grad(set_to_none=True)
        self._loss(x, y).backward()
        self._adam.step()

    def gradient(self, x: torch.Tensor, y: torch.Tensor) -> tuple[float, list[np.ndarray]]:
        """The loss, and its gradient in each parameter, laid out as minidbp's."""
        loss = self._loss(x, y)
        found = torch.autograd.grad(loss, list(self.module.parameters()))
        return loss.item(), self._as_ours(found)

    def parameters(self) -> list[np.ndarray]:
        """The values of the parameters now, laid out as minidbp's."""
        return self._as_ours([p.detach().clone() for p in self.module.parameters()])

    def _as_ours(self, arrays: Sequence[torch.Tensor]) -> list[np.ndarray]:
        return [back(a.contiguous().numpy()) for back, a in zip(self._back, arrays, strict=True)]

    def right(self, x: torch.Tensor, y: torch.Tensor, eps: float) -> int:
        """How many images are classified correctly under FGSM of this size; 0 is no attack."""
        if eps:
            x = x.detach().requires_grad_()
            (g,) = torch.autograd.grad(cross_entropy(self.module(x), y, reduction="sum"), x)
            x = (x.detach() + eps * g.sign()).clamp(0, 1)
        with torch.no_grad():
            return int((self.module(x).argmax(1) == y).sum())

    def _loss(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        smoothing = self.protocol.label_smoothing
        if not self.lam:
            return cross_entropy(self.module(x), y, label_smoothing=smoothing)
        x = x.detach().requires_grad_()
        logits = self.module(x)
        J = self._jacobian(logits, x)
        return cross_entropy(logits, y, label_smoothing=smoothing) + self.lam * J.abs().mean()

    def _expanded(self, logits: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """A copy of the batch for each class, and one backward pass through all copies."""
        copies = x.detach().repeat(N_CLASSES, 1, 1, 1).contiguous(memory_format=self._layout).requires_grad_()
        chosen = torch.arange(N_CLASSES).repeat_interleave(len(x))[:, None]
        (J,) = torch.autograd.grad(self.module(copies).gather(1, chosen).sum(), copies, create_graph=True)
        return J


def _loop(logits: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """One backward pass for each class."""
    return torch.stack([torch.autograd.grad(f, x, create_graph=True)[0] for f in logits.sum(0)])


def _batched(logits: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """One backward pass with ten cotangents."""
    rows = torch.eye(N_CLASSES)[:, None].expand(N_CLASSES, len(x), N_CLASSES)
    return torch.autograd.grad(logits, x, rows, create_graph=True, is_grads_batched=True)[0]


def _translate(model: Sequential) -> tuple[nn.Sequential, list[Axes]]:
    """The layers in PyTorch with copies of the weights; and what turns each gradient back to minidbp's axes."""
    layers: list[nn.Module] = []
    back: list[Axes] = []
    shape: tuple[int, ...] = IMAGE_SHAPE
    flattened: tuple[int, ...] | None = None  # the (H, W, C) of images that were flattened just before
    for layer in model.layers:
        if isinstance(layer, Conv2d):
            geometry = ConvGeometry.of(shape[:2], layer.w.shape[:2], layer.stride, layer.padding)
            pad = geometry.pad[0]
            covered = (geometry.output[0] - 1) * layer.stride + layer.w.shape[0]
            if pad and covered != shape[0] + 2 * pad:
                raise NotImplementedError("PyTorch pads both sides by the same number")
            twin: nn.Module = nn.Conv2d(
                layer.w.shape[2], layer.w.shape[3], layer.w.shape[0], stride=layer.stride, padding=pad
            )
            _fill(twin, layer.w.data.transpose(3, 2, 0, 1), layer.b.data)
            back += [lambda g: g.transpose(2, 3, 1, 0), lambda g: g]
            shape = (*geometry.output, layer.w.shape[3])
        elif isinstance(layer, Flatten):
            twin, flattened = nn.Flatten(), shape
        elif isinstance(layer, Linear):
            n_in, n_out = layer.w.shape
            height, width, channels = flattened or (1, 1, n_in)  # PyTorch flattens in the order C, H, W
            w = layer.w.data.reshape(height, width, channels, n_out)
            twin = nn.Linear(n_in, n_out)
            _fill(twin, w.transpose(3, 2, 0, 1).reshape(n_out, n_in), layer.b.data)
            back += [_linear_back(n_out, channels, height, width), lambda g: g]
            flattened = None
        elif isinstance(layer, ReLU):
            twin = nn.ReLU()
        else:
            raise NotImplementedError(f"no PyTorch twin for {layer!r}")
        layers.append(twin)
    return nn.Sequential(*layers), back


def _linear_back(n_out: int, channels: int, height: int, width: int) -> Axes:
    return lambda g: g.reshape(n_out, channels, height, width).transpose(2, 3, 1, 0).reshape(-1, n_out)


def _fill(twin: nn.Module, w: np.ndarray, b: np.ndarray) -> None:
    with torch.no_grad():
        twin.weight.copy_(torch.from_numpy(np.array(w)))
        twin.bias.copy_(torch.from_numpy(np.array(b)))
