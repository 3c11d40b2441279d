"""Is everything here that minidbp needs, and is the machine used as it could be?"""

from dataclasses import dataclass, field
from pathlib import Path

from minidbp import kernels
from minidbp.data import DataError, load_mnist
from minidbp.kernels.jit import cache_folders
from minidbp.training.environment import environment, processor_flags

# OpenBLAS' kernels for x86 that use 512-bit vectors; the others use 256 bits or fewer.
WIDE_KERNELS = ("SkylakeX", "Cooperlake", "Sapphirerapids", "Zen4", "Zen5")


@dataclass
class Examination:
    """What was found: facts by name, things that cost speed, things that do not work."""

    facts: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def examine(data: Path | None = None) -> Examination:
    """Look at versions, threads, BLAS, the kernel cache and the data (in `data`, or where load_mnist looks)."""
    found, here = Examination(), environment()
    found.facts["minidbp"] = f"{here['minidbp']}, Python {here['python']}"
    found.facts["packages"] = ", ".join(f"{name} {version}" for name, version in here["packages"].items())
    found.facts["processor"] = f"{here['processor']}, {here['cores']} cores"
    found.facts["threads"] = f"{here['cores']} of ours, each with BLAS on one thread, while training"
    found.facts["BLAS"] = "; ".join(f"{b['library']} {b['version']}, kernel {b['kernel']}" for b in here["blas"])
    found.facts["variables"] = ", ".join(f"{k}={v}" for k, v in here["variables"].items()) or "none set"
    if not here["blas"]:
        found.warnings.append("no BLAS library was recognised, so its threads cannot be held to one")
    forced = here["variables"].get("OPENBLAS_CORETYPE")
    if forced and "avx512f" in processor_flags() and not any(b["kernel"] in WIDE_KERNELS for b in here["blas"]):
        found.warnings.append(
            f"OPENBLAS_CORETYPE={forced} keeps OpenBLAS from this processor's AVX-512: unset it, and products may be "
            "faster (`minidbp bench gemm` tells)"
        )
    limits = [name for name in here["variables"] if name.endswith("_NUM_THREADS")]
    if limits:
        found.warnings.append(f"{', '.join(limits)} do not limit minidbp's own threads: use --threads")
    kernels.warm_up()
    folders = cache_folders()
    if folders:
        found.facts["kernels"] = f"compiled, cached in {', '.join(sorted(folders))}"
        wanted = here["variables"].get("NUMBA_CACHE_DIR")
        if wanted and not any(Path(folder).is_relative_to(Path(wanted).absolute()) for folder in folders):
            found.warnings.append(f"NUMBA_CACHE_DIR={wanted} cannot be written, so another folder is used")
    else:
        found.facts["kernels"] = "compiled, not cached"
        found.warnings.append(
            "no cache folder can be written, so kernels are compiled anew in every process, which takes some 15 s: "
            "set NUMBA_CACHE_DIR to a folder that can be"
        )
    try:
        mnist = load_mnist(data)
        found.facts["data"] = f"MNIST verified: {len(mnist.x_train)} training and {len(mnist.x_test)} test images"
    except DataError as error:
        found.problems.append(str(error))
    return found
