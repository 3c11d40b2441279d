"""MNIST: find, verify, split, batch."""

from minidbp.data.files import DataError
from minidbp.data.mnist import Mnist, load_mnist
from minidbp.data.split import Split, batches, random_images, split_train_validation

__all__ = ["DataError", "Mnist", "Split", "batches", "load_mnist", "random_images", "split_train_validation"]
