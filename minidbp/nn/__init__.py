"""Layers, losses and the paper's three models, on top of the engine."""

from minidbp.nn.fuse import fuse
from minidbp.nn.layer import Layer, TrainableModel
from minidbp.nn.layers import (
    INITIALISERS,
    AvgPool2d,
    Conv2d,
    Dropout,
    Flatten,
    Linear,
    MaxPool2d,
    ReLU,
    Sequential,
    Sigmoid,
    Softplus,
    Tanh,
    glorot_uniform,
    he_normal,
)
from minidbp.nn.losses import cross_entropy, sample_cross_entropy, smoothed_labels
from minidbp.nn.models import IMAGE_SHAPE, N_CLASSES, N_PARAMETERS, build_model
from minidbp.nn.weights import WeightsError, load_model, load_parameters, save_model, save_parameters, trained_on

__all__ = [
    "IMAGE_SHAPE",
    "INITIALISERS",
    "N_CLASSES",
    "N_PARAMETERS",
    "AvgPool2d",
    "Conv2d",
    "Dropout",
    "Flatten",
    "Layer",
    "Linear",
    "MaxPool2d",
    "ReLU",
    "Sequential",
    "Sigmoid",
    "Softplus",
    "Tanh",
    "TrainableModel",
    "WeightsError",
    "build_model",
    "cross_entropy",
    "fuse",
    "glorot_uniform",
    "he_normal",
    "load_model",
    "load_parameters",
    "sample_cross_entropy",
    "save_model",
    "save_parameters",
    "smoothed_labels",
    "trained_on",
]
