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

from minidbp.nn import Sequential, WeightsError, build_model, load_model, save_model
from minidbp.nn.weights import parse_model


@pytest.fixture(scope="module")
def model() -> Sequential:
    return build_model("C", seed=5)


@pytest.fixture
def saved(tmp_path: Path, model: Sequential) -> Path:
    save_model(tmp_path / "w.npz", model, "C")
    return tmp_path / "w.npz"


def same_bits(a: Sequential, b: Sequential) -> bool:
    return all(
        p.data.tobytes() == q.data.tobytes() and (p.name, p.dtype, p.shape) == (q.name, q.dtype, q.shape)
        for p, q in zip(a.parameters(), b.parameters(), strict=True)
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("name", "padding"), [("A", "same_first"), ("A", "same"), ("B", "same"), ("C", "same_first")])
def test_there_and_back_to_the_bit(name: str, padding: str, dtype: str, tmp_path: Path) -> None:
    model = build_model(name, seed=1, dtype=dtype, padding=padding)
    save_model(tmp_path / "w.npz", model, name, padding)
    loaded, its_name = load_model(str(tmp_path / "w.npz"))
    assert its_name == name
    assert same_bits(loaded, model)
    x = np.random.default_rng(0).random((2, 28, 28, 1)).astype(dtype)
    np.testing.assert_array_equal(loaded(x).data, model(x).data)


def test_saving_replaces_and_leaves_nothing_beside(saved: Path, model: Sequential) -> None:
    other = build_model("C", seed=6)
    save_model(saved, other, "C")
    assert same_bits(load_model(saved)[0], other)
    assert os.listdir(saved.parent) == ["w.npz"]


def test_the_name_of_the_file_is_taken_as_it_is(tmp_path: Path, model: Sequential) -> None:
    save_model(tmp_path / "weights", model, "C")
    assert os.listdir(tmp_path) == ["weights"]
    assert same_bits(load_model(tmp_path / "weights")[0], model)


def assert_one_sentence(message: str) -> None:
    assert "\n" not in message
    assert ". " not in message
    assert "allow_pickle=True" not in message


def savez(**arrays: Any) -> Callable[[Path], None]:
    """What writes C's weights with some arrays replaced, or left out where None is given."""

    def write(path: Path) -> None:
        whole = {str(p.name): p.data for p in build_model("C").parameters()}
        whole |= {"model": np.array("C"), "padding": np.array("same_first"), **arrays}
        with path.open("wb") as file:
            np.savez(file, **{key: value for key, value in whole.items() if value is not None})

    return write


def write_npy(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.ones(3))


def write_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("readme.txt", "hello")


FOREIGN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing": (lambda path: None, r"cannot be read \(No such file or directory\)"),
    "a folder": (lambda path: path.mkdir(), "is a folder where a file would be right"),
    "empty": (lambda path: path.write_bytes(b""), "is not an .npz file of minidbp, or is damaged"),
    "text": (lambda path: path.write_text("hello"), "is not an .npz file of minidbp, or is damaged"),
    "a pickle": (lambda path: path.write_bytes(pickle.dumps({"W1": 1})), "does not end as a zip file does"),
    "a .npy": (write_npy, "does not end as a zip file does"),
    "another zip": (write_zip, "a member 'readme.txt', which is no name of an array"),
    "another .npz": (lambda path: savez(model=None, padding=None)(path), "does not name model A, B or C"),
    "objects": (savez(W1=np.array([{}], object)), r"W1 should be float32 of shape .* it is \|O of shape \(1,\)"),
    "an unknown model": (savez(model=np.array("D")), "does not name model A, B or C"),
    "many names": (savez(model=np.array(["C", "C"])), r"model should be one text; it is <U1 of shape \(2,\)"),
    "another model": (savez(model=np.array("A")), r"W1 should be float32 of shape \(8, 8, 1, 64\)"),
    "an unknown padding": (savez(model=np.array("A"), padding=np.array("valid")), "not a weights file"),
    "an array less": (savez(b4=None), "should hold W1, .*, b4 for model C; it holds W1, .*, W4;"),
    "an array more": (savez(W5=np.ones(2)), "should hold .* it holds .* W5"),
    "another shape": (savez(b4=np.ones(11, np.float32)), r"b4 should be float32 of shape \(10,\); it is .*\(11,\)"),
    "another dtype": (savez(b4=np.ones(10)), "b4 should be float32 .* it is float64"),
    "integers": (savez(W1=np.ones((784, 512), "<i8")), "W1 should be float32 .* it is <i8"),
    "words": (savez(W1=np.array(["a"])), "W1 should be float32 .* it is <U1"),
    "complex numbers": (savez(b1=np.ones(512, complex)), "b1 should be float32 .* it is <c16"),
    "other endian": (savez(b4=np.ones(10, ">f4")), "b4 should be float32 .* it is >f4"),
    "NaN": (savez(b4=np.full(10, np.nan, np.float32)), "b4 holds NaN or infinite numbers"),
    "inf": (savez(b4=np.full(10, np.inf, np.float32)), "b4 holds NaN or infinite numbers"),
}


@pytest.mark.parametrize(("write", "message"), FOREIGN.values(), ids=FOREIGN)
def test_a_file_that_does_not_fit(write: Callable[[Path], Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "w.npz"
    write(path)
    with pytest.raises(WeightsError, match=message) as caught:
        load_model(path)
    assert_one_sentence(str(caught.value).replace(str(path), ""))
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("share", [0.001, 0.5, 0.9, 0.9999])
def test_a_truncated_file(share: float, saved: Path) -> None:
    raw = saved.read_bytes()
    saved.write_bytes(raw[: int(share * len(raw))])
    with pytest.raises(WeightsError, match="is damaged") as caught:
        load_model(saved)
    assert_one_sentence(str(caught.value).replace(str(saved), ""))


def test_a_thousand_mutations_give_the_same_weights_or_the_one_error(
    saved: Path, model: Sequential, mutated: Callable[[bytes, np.random.Generator], bytes], faults: Any
) -> None:
    """Some bytes of a zip mean nothing to us (dates, say): see test_npz.py for each of them."""
    raw, rng = saved.read_bytes(), np.random.default_rng(0)

    def assert_right() -> None:
        assert same_bits(parse_model(mutated(raw, rng))[0], model)

    for _ in range(1000):
        faults.intact_or_refused(assert_right, WeightsError)
    assert faults.refused > 900


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
    assert os.listdir(saved.parent) == ["w.npz"]
    assert same_bits(load_model(saved)[0], model)


def test_where_nothing_can_be_written(tmp_path: Path, model: Sequential) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    for path in tmp_path / "file" / "w.npz", tmp_path / "missing" / "w.npz", tmp_path / "folder":
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

    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(WeightsError if isinstance(error, OSError) else KeyboardInterrupt):
        save_model(saved, build_model("C", seed=9), "C")
    monkeypatch.undo()
    assert os.listdir(saved.parent) == ["w.npz"]
    assert same_bits(load_model(saved)[0], model)
