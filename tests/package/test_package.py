"""The package as a user's program meets it: what `import minidbp` loads, its names and types, its installation."""

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

import minidbp

ROOT = Path(minidbp.__file__).parents[1]
HEAVY = ("IPython", "PIL", "matplotlib", "numba", "pooch", "rich", "scipy", "typer")
SCRIPT = """
import numpy as np

import minidbp as mdb

x = mdb.Tensor(np.ones((2, 3)), requires_grad=True)
(g,) = mdb.grad(mdb.sum(mdb.relu(x) ** 2), x, create_graph=True)
model = mdb.nn.build_model("C", seed=0)
images, labels = np.zeros((2, 28, 28, 1), np.float32), np.zeros(2, np.int64)
J = mdb.jacobian(model, images)
loss = mdb.nn.cross_entropy(model(images), labels) + 0.1 * mdb.robust.jacobian_l1(model, images)
gradients = mdb.grad(loss, model.parameters())
x_adv = mdb.robust.fgsm(model, images, labels, eps=0.3)
mdb.check_derivatives(mdb.softmax, [x], order=3)
with mdb.trace() as steps:
    mdb.sum(x * x)
print(steps.table(), g, J.shape, x_adv.shape, len(gradients), mdb.__version__)
"""


def python(*arguments: str, folder: Path) -> str:
    """The standard output of a Python that starts in this folder."""
    line = [sys.executable, *arguments]
    result = subprocess.run(line, capture_output=True, text=True, cwd=folder, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_the_import_loads_nothing_that_draws_or_compiles(tmp_path: Path) -> None:
    code = f"import sys, minidbp; print([name for name in {HEAVY} if name in sys.modules])"
    assert python("-c", code, folder=tmp_path).strip() == "[]"


def test_nothing_rests_on_an_assert() -> None:
    """PYTHONOPTIMIZE=1 leaves asserts out."""
    for path in Path(minidbp.__file__).parent.rglob("*.py"):
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        assert not [f"{path}:{node.lineno}" for node in nodes if isinstance(node, ast.Assert)]


def test_all_lists_the_public_names() -> None:
    public = {name for name, value in vars(minidbp).items() if name[0] != "_" and not isinstance(value, ModuleType)}
    listed = set(minidbp.__all__)
    assert public <= listed
    assert len(listed) == len(minidbp.__all__)
    assert {name for name in listed - public if not isinstance(getattr(minidbp, name), ModuleType)} == set()


@pytest.mark.slow
def test_a_users_script_passes_mypy_strict_and_runs(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    assert "Success" in python("-m", "mypy", "--strict", "--config-file=", "script.py", folder=tmp_path)
    assert python("script.py", folder=tmp_path).split()[-1] == minidbp.__version__


def test_a_script_beside_the_clone_imports_the_package(tmp_path: Path) -> None:
    """A clone is a folder named minidbp without `__init__.py`, which Python could take for a namespace package."""
    clone = tmp_path / "minidbp"
    clone.mkdir()
    for name in "pyproject.toml", "README.md", "LICENSE", "hatch_build.py", "minidbp":
        (clone / name).symlink_to(ROOT / name)
    environment = tmp_path / "venv"
    python("-m", "venv", "--without-pip", str(environment), folder=tmp_path)
    (packages,) = environment.glob("lib/python*/site-packages")
    build = "import hatchling.build, sys; print(hatchling.build.build_editable(sys.argv[1]))"
    wheel = python("-c", build, str(tmp_path), folder=clone).split()[-1]
    zipfile.ZipFile(tmp_path / wheel).extractall(packages)
    (packages / "dependencies.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    (tmp_path / "script.py").write_text("import minidbp; print(minidbp.__file__, minidbp.nn.Linear)")
    expected = {("script.py",): str(clone / "minidbp" / "__init__.py"), ("-m", "minidbp", "--version"): "minidbp"}
    for arguments, said in expected.items():
        line = [str(environment / "bin" / "python"), *arguments]
        result = subprocess.run(line, capture_output=True, text=True, cwd=tmp_path, check=True)
        assert result.stdout.split()[0] == said


def test_the_wheel_holds_the_package_and_nothing_else(tmp_path: Path) -> None:
    build = "import hatchling.build, sys; print(hatchling.build.build_wheel(sys.argv[1]))"
    wheel = python("-c", build, str(tmp_path), folder=ROOT).split()[-1]
    built = zipfile.ZipFile(tmp_path / wheel)
    names = built.namelist()
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert {name.split("/")[0] for name in names} == {"minidbp", f"minidbp-{minidbp.__version__}.dist-info"}
    files = [path.relative_to(ROOT) for path in (ROOT / "minidbp").rglob("*") if path.is_file()]
    assert {path.as_posix() for path in files if "__pycache__" not in path.parts} <= set(names)  # data files too
    assert "minidbp/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert "urls" not in settings["project"]
    (metadata,) = [name for name in names if name.endswith("/METADATA")]
    description = built.read(metadata).decode()
    assert re.findall(r"\]\((?!https?:)", description) == []  # no link to a file of the repository
    assert "(inspection)" in description  # but its text
