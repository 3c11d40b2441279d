"""Images and labels: MNIST, verified, or your own; split, batch."""

from minidbp.data.dataset import MNIST, DataIdentity, Dataset
from minidbp.data.files import DataError
from minidbp.data.load import load_data
from minidbp.data.mnist import load_mnist
from minidbp.data.split import Split, batches, random_images, split_train_validation

__all__ = [
    "MNIST",
    "DataError",
    "DataIdentity",
    "Dataset",
    "Split",
    "batches",
    "load_data",
    "load_mnist",
    "random_images",
    "split_train_validation",
]
