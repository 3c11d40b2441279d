"""The environment of a result: versions, processor, threads, and the BLAS kernel."""

import importlib.metadata
import os
import platform
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import threadpoolctl

import minidbp
from minidbp.files.markdown import escaped
from minidbp.files.reading import Count
from minidbp.training import available_cores

PACKAGES = (
    "numpy", "numba", "scipy", "matplotlib", "pillow", "threadpoolctl", "typer", "rich", "pooch", "filelock",
    "safetensors",
)  # fmt: skip
VARIABLES = ("OPENBLAS_", "OMP_", "MKL_", "NUMBA_", "MINIDBP_")


@dataclass(frozen=True)
class Blas:
    """A BLAS library, as threadpoolctl tells: its name, its version, the processor that it has chosen, its threads."""

    library: str
    version: str | None
    kernel: str | None
    threads: Count


@dataclass(frozen=True)
class Environment:
    """Everything about a machine and its software that may change a result or its speed.

    packages: the versions of PACKAGES.
    variables: the environment variables that begin with VARIABLES.
    """

    minidbp: str
    python: str
    packages: dict[str, str]
    platform: str
    processor: str
    cores: Count
    blas: list[Blas]
    variables: dict[str, str]

    def in_words(self) -> str:
        """The most important parts as a Markdown list."""
        libraries = "; ".join(
            f"{b.library} {b.version}, kernel {b.kernel}, {b.threads} thread{'s' * (b.threads != 1)}" for b in self.blas
        )
        variables = ", ".join(f"{name}={value}" for name, value in self.variables.items())
        facts = {name: str(getattr(self, name)) for name in ("minidbp", "python", "processor", "cores")}
        facts |= {"BLAS": libraries or "unknown", "variables": variables or "none"}
        return "\n".join(f"- {name}: {escaped(fact)}" for name, fact in facts.items())


def environment() -> Environment:
    """The environment of this process."""
    return Environment(
        minidbp=minidbp.__version__,
        python=platform.python_version(),
        packages={name: importlib.metadata.version(name) for name in PACKAGES},
        platform=platform.platform(),
        processor=processor(),
        cores=available_cores(),
        blas=blas(),
        variables={k: v for k, v in sorted(os.environ.items()) if k.startswith(VARIABLES)},
    )


def processor() -> str:
    """The processor's name, from Linux, or elsewhere from Python."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def processor_flags() -> set[str]:
    """The instruction sets that Linux lists; empty elsewhere."""
    return set(_cpuinfo("flags").split())


def _cpuinfo(key: str) -> str:
    """The value for the first processor in /proc/cpuinfo; empty if there is none."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")


def blas() -> list[Blas]:
    """The BLAS of NumPy, or every BLAS if NumPy has none of its own."""
    np.ones((2, 2)) @ np.ones((2, 2))  # loads it
    libraries = [library for library in threadpoolctl.threadpool_info() if library.get("user_api") == "blas"]
    of_numpy = [library for library in libraries if "numpy" in library["filepath"]]
    names = "internal_api", "version", "architecture", "num_threads"
    return [Blas(*map(library.get, names)) for library in of_numpy or libraries]
