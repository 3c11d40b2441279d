"""What the commands are given, checked: data, weights, and a folder to write to."""

import contextlib
import dataclasses
import os
from pathlib import Path

from minidbp import training
from minidbp.cli import memory
from minidbp.cli.invocation import current
from minidbp.cli.output import compile_kernels, say
from minidbp.data import Dataset
from minidbp.files.reading import printable
from minidbp.nn.weights import SavedModel
from minidbp.sweeps.execute import data_in
from minidbp.training.protocol import FieldError, Protocol


def load_data(data: Path | None) -> Dataset:
    """MNIST or the user's data, of which a message says that they are not verified; and compiled kernels."""
    memory.check_limit(memory.LEAST_FOR_KERNELS)
    dataset = data_in(data)
    if not dataset.verified:
        where = printable(str(data))
        say(f"the data in {where} are not MNIST, so they are not verified; they are called {dataset.name}", "yellow")
        say(str(dataset))
    compile_kernels()
    return dataset


def load_mnist(data: Path | None, command: str) -> Dataset:
    """MNIST.  Raises ValueError for other data."""
    memory.check_limit(memory.LEAST_FOR_KERNELS)
    dataset = data_in(data)
    if not dataset.verified:
        raise ValueError(f"{command} needs MNIST, and {data} holds other data: leave --data out")
    return dataset


def check_weights(saved: SavedModel, dataset: Dataset) -> None:
    """Raise ValueError if the model of a file is not for such data; say so if it was trained on others."""
    training.check_fits(saved.model, dataset, saved.source)
    if saved.data and saved.data[1] != dataset.digest:
        say(f"{saved.source} was trained on other data, {saved.data[0]}, than {dataset.name}", style="yellow")


def check_image(image: int, n_test: int) -> None:
    """Raise ValueError unless there is a test image of this number."""
    if not 0 <= image < n_test:
        raise ValueError(f"--image must be the number of a test image, 0 to {n_test - 1}; got {image}")


def on_test_images(protocol: Protocol, images: int | None, default: int, dataset: Dataset) -> Protocol:
    """The protocol for --images test images; without this option `default`, or all where there are fewer.

    Nothing is tracked, as nothing is trained.  Raises FieldError if there are fewer than --images.
    """
    there = len(dataset.x_test)
    if images is not None and images > there:
        raise FieldError(
            "n_test", f"must be at most {there}, the number of test images of {dataset.name}; got {images}"
        )
    return dataclasses.replace(protocol, n_test=images or min(default, there), n_tracked=1)


def out_folder(out: Path | None, default: str = "") -> Path:
    """The folder `out`, or out/`default`, made and found writable; removed in the end if it is still empty."""
    from minidbp.sweeps import sweep

    folder = out or Path("out") / default
    remove_if_empty(folder)
    return sweep.prepare(folder)


def remove_if_empty(folder: Path) -> None:
    """When the command ends, remove the folder and those above it that are empty and did not exist before."""
    new = [path for path in (folder, *folder.parents) if not os.path.exists(path)]  # False for a name that is too long

    def remove() -> None:
        with contextlib.suppress(OSError):  # not empty, or not there
            for path in new:
                path.rmdir()

    current().at_end.callback(remove)
