import io
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.numpy

import minidbp as mdb
from minidbp.files.tensors import dump_tensors
from minidbp.nn import (
    Dropout,
    Layer,
    Linear,
    ReLU,
    Sequential,
    WeightsError,
    build_model,
    fuse,
    load_model,
    load_parameters,
    save_model,
    save_parameters,
    trained_on,
)
from minidbp.nn.weights import parse_model

RNG = np.random.default_rng


@pytest.fixture(scope="module")
def model() -> Sequential:
    return build_model("C", seed=5)


@pytest.fixture
def saved(tmp_path: Path, model: Sequential) -> Path:
    save_model(tmp_path / "w.safetensors", model, "C")
    return tmp_path / "w.safetensors"


def same_bits(a: Sequential, b: Sequential) -> bool:
    return all(
        p.data.tobytes() == q.data.tobytes() and (p.name, p.dtype, p.shape) == (q.name, q.dtype, q.shape)
        for p, q in zip(a.parameters(), b.parameters(), strict=True)
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("name", "padding"), [("A", "same_first"), ("A", "same"), ("B", "same"), ("C", "same_first")])
def test_there_and_back_to_the_bit(name: str, padding: str, dtype: str, tmp_path: Path) -> None:
    model = build_model(name, seed=1, dtype=dtype, padding=padding)
    save_model(tmp_path / "w.safetensors", model, name, padding)
    loaded, its_name = load_model(str(tmp_path / "w.safetensors"))
    assert its_name == name
    assert same_bits(loaded, model)
    x = np.random.default_rng(0).random((2, 28, 28, 1)).astype(dtype)
    np.testing.assert_array_equal(loaded(x).data, model(x).data)


def test_saving_replaces_and_leaves_nothing_beside(saved: Path, model: Sequential) -> None:
    other = build_model("C", seed=6)
    save_model(saved, other, "C")
    assert same_bits(load_model(saved)[0], other)
    assert os.listdir(saved.parent) == ["w.safetensors"]


def test_only_the_layers_of_the_named_model_are_saved(tmp_path: Path, model: Sequential) -> None:
    path = tmp_path / "w.safetensors"
    save_model(path, fuse(model), "C")
    assert same_bits(load_model(path)[0], model)
    before = path.read_bytes()
    layers = [Dropout(0.0, np.random.default_rng(0)) if isinstance(layer, ReLU) else layer for layer in model.layers]
    wrong = r"the weights are not saved, because the layers are not those of model {} with padding '{}'"
    for other, name, padding in [
        (Sequential(layers), "C", "same_first"),  # the same parameters
        (model, "B", "same_first"),
        (build_model("A", padding="same"), "A", "same_first"),
    ]:
        with pytest.raises(WeightsError, match=wrong.format(name, padding)):
            save_model(path, other, name, padding)
    with pytest.raises(ValueError, match=r"^unknown model 'D': choose one of A, B, C, or use save_parameters$"):
        save_model(path, model, "D")
    assert path.read_bytes() == before


class Own(Layer):
    """Model C's parameters under names of its own."""

    def __init__(self, seed: int = 0) -> None:
        self.body = build_model("C", seed=seed)
        self.scale = mdb.Tensor(np.float32(1), requires_grad=True)

    def __call__(self, x: mdb.Tensor) -> mdb.Tensor:
        return self.body(x) * self.scale


def test_what_only_looks_like_a_paper_model_is_not_saved_as_one(tmp_path: Path, model: Sequential) -> None:
    class Residual(Sequential):
        """Prints as a Sequential."""

        __repr__ = Sequential.__repr__

        def __call__(self, x: Any) -> mdb.Tensor:
            return super().__call__(x) * 2

    Residual.__name__ = "Sequential"
    other_relu = type("ReLU", (ReLU,), {"__call__": lambda self, x: mdb.tanh(x)})
    tanh = [other_relu() if isinstance(layer, ReLU) else layer for layer in model.layers]
    others = [
        Residual(model.layers, model.input_shape),
        Sequential(tanh, model.input_shape),
        Own(),
        Linear(2, 2, RNG(0)),
    ]
    for other in [*others, Sequential(model.layers)]:
        with pytest.raises(WeightsError, match=r"not those of model C .*; save_parameters can save any model$"):
            save_model(tmp_path / "w", other, "C")  # type: ignore[arg-type]
    assert os.listdir(tmp_path) == []


def test_parameters_of_any_model_there_and_back(tmp_path: Path) -> None:
    path, model, twin = tmp_path / "own.safetensors", Own(1), Own(2)
    model.scale.data = np.float32(3)
    save_parameters(path, model)
    load_parameters(str(path), twin)
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        assert p.data.tobytes() == q.data.tobytes()
        assert p.data.strides == q.data.strides
    assert sorted(safetensors.numpy.load_file(path)) == sorted(model.named_parameters())
    with pytest.raises(WeightsError, match=r"does not name model A, B or C \(load_parameters reads .* other models\)"):
        load_model(path)


def test_parameters_of_a_model_that_is_no_layer(tmp_path: Path) -> None:
    class Foreign:
        def __init__(self, seed: int) -> None:
            self.p = Linear(3, 2, RNG(seed)).parameters()

        def __call__(self, x: mdb.Tensor) -> mdb.Tensor:
            return x @ self.p[0] + self.p[1]

        def parameters(self) -> list[mdb.Tensor]:
            return self.p

    save_parameters(tmp_path / "w", Foreign(0))
    model = Foreign(1)
    load_parameters(tmp_path / "w", model)
    np.testing.assert_array_equal(model.p[0].data, Foreign(0).p[0].data)
    assert sorted(safetensors.numpy.load_file(tmp_path / "w")) == ["0", "1"]


def test_parameters_are_loaded_from_a_paper_models_file(saved: Path, model: Sequential) -> None:
    twin = build_model("C", seed=9)
    load_parameters(saved, twin)
    assert same_bits(twin, model)
    load_parameters(saved, fuse(twin))


def many(n: int, size: int = 1) -> Layer:
    model = Layer()
    model.blocks = [Linear(size, 1, RNG(i)) for i in range(n)]  # type: ignore[attr-defined]
    return model


def test_a_model_of_many_parameters_and_a_large_one(tmp_path: Path) -> None:
    for model, twin in (many(1000), many(1000)), (many(1, 5_000_000), many(1, 5_000_000)):
        save_parameters(tmp_path / "w", model)
        for p in twin.parameters():
            p.data = np.zeros(p.shape, np.float32)
        load_parameters(tmp_path / "w", twin)
        assert all(
            p.data.tobytes() == q.data.tobytes() for p, q in zip(model.parameters(), twin.parameters(), strict=True)
        )


@pytest.mark.parametrize("fault", ["name", "shape", "dtype", "NaN", "missing", "cut"])
def test_parameters_that_do_not_fit_change_nothing(fault: str, tmp_path: Path) -> None:
    path = tmp_path / "w"
    arrays = {"blocks.0.w": np.ones((1, 1), np.float32), "blocks.0.b": np.ones(1, np.float32)}
    changes: dict[str, tuple[dict[str, Any], str]] = {
        "name": (
            {"blocks.1.b": np.ones(1, np.float32)},
            "should hold 'blocks.0.w', 'blocks.0.b' for this Layer; it holds",
        ),
        "shape": (
            {"blocks.0.b": np.ones(2, np.float32)},
            r"blocks.0.b should be float32 of shape \(1,\); it is float32",
        ),
        "dtype": ({"blocks.0.b": np.ones(1)}, "blocks.0.b should be float32 .*; it is float64"),
        "NaN": ({"blocks.0.b": np.full(1, np.nan, np.float32)}, "blocks.0.b holds NaN or infinite numbers"),
        "missing": ({}, "cannot be read"),
        "cut": ({}, "damaged"),
    }
    change, message = changes[fault]
    raw = dump_tensors(arrays | change, {})
    if fault != "missing":
        path.write_bytes(raw[:-1] if fault == "cut" else raw)
    model = many(1)
    before = [p.data for p in model.parameters()]
    with pytest.raises(WeightsError, match=message) as caught:
        load_parameters(path, model)
    assert str(caught.value).startswith(str(path))
    assert str(caught.value).endswith("; give a file that save_parameters wrote for such a model")
    assert_one_sentence(str(caught.value).replace(str(tmp_path), ""))
    assert all(p.data is old for p, old in zip(model.parameters(), before, strict=True))


def test_what_cannot_be_saved(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"^the weights are not saved, because this ReLU has no parameters$"):
        save_parameters(tmp_path / "w", ReLU())
    model = many(1)
    model.parameters()[1].data = np.full(1, np.inf, np.float32)
    with pytest.raises(WeightsError, match=r"^the weights are not saved: blocks\.0\.b holds NaN or infinite numbers$"):
        save_parameters(tmp_path / "w", model)
    assert os.listdir(tmp_path) == []


def test_the_name_of_the_file_is_taken_as_it_is(tmp_path: Path, model: Sequential) -> None:
    save_model(tmp_path / "weights", model, "C")
    assert os.listdir(tmp_path) == ["weights"]
    assert same_bits(load_model(tmp_path / "weights")[0], model)


def assert_one_sentence(message: str) -> None:
    assert "\n" not in message
    assert ". " not in message
    assert "allow_pickle=True" not in message


def weights(texts: dict[str, str] | None = None, **arrays: np.ndarray | None) -> bytes:
    """A sound file of C's weights with some texts or arrays replaced, or left out where None is given."""
    whole = {str(p.name): p.data for p in build_model("C").parameters()} | arrays
    given = {"model": "C", "padding": "same_first"} if texts is None else texts
    return dump_tensors({name: array for name, array in whole.items() if array is not None}, given)


def npz() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, model=np.array("C"), W1=np.ones(3))
    return buffer.getvalue()


def zip_of(name: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr(name, b"something")
    return buffer.getvalue()


FOREIGN: dict[str, tuple[bytes | None, str]] = {
    "missing": (None, r"cannot be read \(No such file or directory\)"),
    "empty": (b"", "is empty"),
    "text": (b"hello", "is no safetensors file, or is damaged"),
    "a pickle": (pickle.dumps({"W1": 1}), "is a Python pickle, not a safetensors file of minidbp"),
    "PyTorch's .pt": (zip_of("archive/data.pkl"), r"is a zip file, such as PyTorch's \.pt and Keras' \.keras, not a"),
    "Keras' .h5": (b"\x89HDF\r\n\x1a\n" + bytes(99), "is an HDF5 file"),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(99), "is a picture"),
    "JSON": (b'{"model": "C", "lambda": 10}', "is JSON"),
    "old weights": (npz(), r"is an \.npz file, and only version 0\.1\.0 .* train again with this version, or use"),
    "weights of PyTorch": (safetensors.numpy.save({"W1": np.ones((784, 512), np.float32)}), "not written by minidbp"),
    "no model": (weights({}), "does not name model A, B or C"),
    "an unknown model": (weights({"model": "D", "padding": "same"}), "does not name model A, B or C"),
    "another model": (weights({"model": "A", "padding": "same"}), r"W1 should be float32 of shape \(8, 8, 1, 64\)"),
    "an unknown padding": (weights({"model": "A", "padding": "valid"}), "not a weights file"),
    "an array less": (weights(b4=None), "should hold W1, .*, b4 for model C; it holds W1, .*, W4, b1, b2, b3;"),
    "an array more": (weights(W5=np.ones(2)), "should hold .* it holds .* W5"),
    "no array": (dump_tensors({}, {"model": "C", "padding": "same"}), "it holds nothing"),
    "another shape": (weights(b4=np.ones(11, np.float32)), r"b4 should be float32 of shape \(10,\); it is .*\(11,\)"),
    "another dtype": (weights(b4=np.ones(10)), "b4 should be float32 .* it is float64"),
    "NaN": (weights(b4=np.full(10, np.nan, np.float32)), "b4 holds NaN or infinite numbers"),
    "inf": (weights(b4=np.full(10, np.inf, np.float32)), "b4 holds NaN or infinite numbers"),
}


@pytest.mark.parametrize(("raw", "message"), FOREIGN.values(), ids=FOREIGN)
def test_a_file_that_does_not_fit(raw: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    if raw is not None:
        path.write_bytes(raw)
    with pytest.raises(WeightsError, match=message) as caught:
        load_model(path)
    assert_one_sentence(str(caught.value).replace(str(path), "").replace("0.1.0", ""))
    assert str(path) in str(caught.value)
    assert str(caught.value).endswith("; give a weights file that minidbp train or a table wrote")


def test_a_folder(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="is a folder; give a file"):
        load_model(tmp_path)


@pytest.mark.slow
def test_pytorch_has_the_weights_by_their_names(saved: Path, model: Sequential) -> None:
    torch = pytest.importorskip("safetensors.torch")
    tensors = torch.load_file(saved)
    assert sorted(tensors) == ["W1", "W2", "W3", "W4", "b1", "b2", "b3", "b4"]
    for parameter in model.parameters():
        assert tensors[str(parameter.name)].is_contiguous()
        np.testing.assert_array_equal(tensors[str(parameter.name)].numpy(), parameter.data)
    with safetensors.safe_open(saved, "numpy") as file:
        assert {key: text for key, text in file.metadata().items() if key != "sha256"} == {
            "model": "C",
            "padding": "same_first",
            "size": '{"input_shape": [28, 28, 1], "n_classes": 10}',
        }


def test_loaded_weights_have_the_places_in_memory_of_new_ones(saved: Path, model: Sequential) -> None:
    strides = [p.data.strides for p in load_model(saved)[0].parameters()]
    assert strides == [p.data.strides for p in model.parameters()]


def test_the_same_weights_give_the_same_bytes(saved: Path, tmp_path: Path, model: Sequential) -> None:
    save_model(tmp_path / "other", model, "C")
    assert (tmp_path / "other").read_bytes() == saved.read_bytes()


@pytest.mark.parametrize("share", [0.001, 0.5, 0.9, 0.9999])
def test_a_truncated_file(share: float, saved: Path) -> None:
    raw = saved.read_bytes()
    saved.write_bytes(raw[: int(share * len(raw))])
    with pytest.raises(WeightsError, match="damaged") as caught:
        load_model(saved)
    assert_one_sentence(str(caught.value).replace(str(saved), ""))


@pytest.mark.slow
def test_a_thousand_mutations_give_the_same_weights_or_the_one_error(
    saved: Path, model: Sequential, mutated: Callable[[bytes, np.random.Generator], bytes], faults: Any
) -> None:
    raw, rng = saved.read_bytes(), np.random.default_rng(0)

    def assert_right() -> None:
        assert same_bits(parse_model(mutated(raw, rng)).model, model)

    for _ in range(1000):
        faults.intact_or_refused(assert_right, WeightsError)
    assert faults.refused > 990


LIMITED = """
import resource, signal, sys
from minidbp.nn import WeightsError, build_model, save_model
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))  # model C has 2.3 MB
try:
    save_model(sys.argv[1], build_model("C", seed=9), "C")
except WeightsError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of files")
def test_a_file_larger_than_the_system_allows(saved: Path, model: Sequential) -> None:
    done = subprocess.run([sys.executable, "-c", LIMITED, saved], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == (
        f"cannot write the weights to {saved}: File too large; what was there before is unchanged"
    )
    assert done.stderr == ""
    assert os.listdir(saved.parent) == ["w.safetensors"]
    assert same_bits(load_model(saved)[0], model)


def test_where_nothing_can_be_written(tmp_path: Path, model: Sequential) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    for path in tmp_path / "file" / "w.safetensors", tmp_path / "missing" / "w.safetensors", tmp_path / "folder":
        with pytest.raises(WeightsError, match="cannot write the weights to ") as caught:
            save_model(path, model, "C")
        assert_one_sentence(str(caught.value).replace(str(tmp_path), ""))
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["file", "folder"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_an_interrupted_save_leaves_what_was_there(
    error: BaseException, saved: Path, model: Sequential, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise error

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(WeightsError if isinstance(error, OSError) else KeyboardInterrupt):
        save_model(saved, build_model("C", seed=9), "C")
    monkeypatch.undo()
    assert os.listdir(saved.parent) == ["w.safetensors"]
    assert same_bits(load_model(saved)[0], model)


# -- models for other images than MNIST's ------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "shape"), [("A", (27, 28, 3)), ("B", (5, 4, 1)), ("C", (8, 8, 1))])
def test_a_model_of_another_size_there_and_back(tmp_path: Path, name: str, shape: tuple[int, ...]) -> None:
    model = build_model(name, seed=1, padding="same_first", input_shape=shape, n_classes=3)
    save_model(tmp_path / "w", model, name)
    loaded, its_name = load_model(tmp_path / "w")
    assert (its_name, loaded.input_shape) == (name, shape)
    assert same_bits(loaded, model)


def test_a_file_without_a_size_is_for_mnist(model: Sequential) -> None:
    """Those that earlier versions wrote."""
    loaded = parse_model(weights()).model
    assert (loaded.input_shape, loaded.parameters()[-1].shape) == ((28, 28, 1), (10,))


def size(text: str) -> dict[str, str]:
    return {"model": "C", "padding": "same_first", "size": text}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "size must be a JSON object"),
        ('{"input_shape": [28, 28, 1]}', "size lacks n_classes"),
        ('{"input_shape": [28, 28, "1"], "n_classes": 10}', r"`input_shape\[2\]` should be a whole number"),
        ('{"input_shape": [28, 28], "n_classes": 10}', "input_shape must be .H, W, C., each at least 1"),
        ('{"input_shape": [28, 28, -1], "n_classes": 10}', "input_shape must be .H, W, C., each at least 1"),
        ('{"input_shape": [28, 28, 1], "n_classes": 0}', "n_classes must be at least 2"),
        ('{"input_shape": [28, 28, 1], "n_classes": 9}', r"W4 should be float32 of shape \(128, 9\); it is .*, 10\)"),
        ('{"input_shape": [200, 200, 3], "n_classes": 9}', "holds 567434 numbers, too few for images of 200x200x3"),
        ('{"input_shape": [99999999999, 99999999999, 1], "n_classes": 9}', "more than 134,217,728"),
    ],
)  # fmt: skip
def test_a_wrong_size_is_refused_before_a_model_is_built(text: str, message: str) -> None:
    with pytest.raises(WeightsError, match=message) as caught:
        parse_model(weights(size(text)))
    assert str(caught.value).isprintable()


def test_the_file_tells_what_the_model_was_trained_on(tmp_path: Path, model: Sequential) -> None:
    save_model(tmp_path / "w", model, "C", data=("mine.npz", "00ff"))
    assert trained_on(tmp_path / "w") == ("mine.npz", "00ff")
    save_model(tmp_path / "w", model, "C")
    assert trained_on(tmp_path / "w") is None
    with pytest.raises(WeightsError, match="cannot be read"):
        trained_on(tmp_path / "nowhere")
