"""Whether everything that minidbp needs is here, and whether it uses the machine fully."""

from dataclasses import dataclass, field
from pathlib import Path

from minidbp import kernels
from minidbp.data import DataError, load_data
from minidbp.kernels import jit
from minidbp.training.environment import environment, processor_flags

# OpenBLAS' kernels for x86 that use 512-bit vectors; the others use 256 bits or fewer.
WIDE_KERNELS = ("SkylakeX", "Cooperlake", "Sapphirerapids", "Zen4", "Zen5")


@dataclass
class Examination:
    """Facts by name; warnings about lost speed; problems that prevent minidbp from working."""

    facts: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def examine(data: Path | None = None) -> Examination:
    """Examine versions, threads, BLAS, the kernel cache and the data (in `data`, or where load_mnist looks)."""
    result, here = Examination(), environment()
    result.facts |= {
        "minidbp": f"{here.minidbp}, Python {here.python}",
        "packages": ", ".join(f"{name} {version}" for name, version in here.packages.items()),
        "processor": f"{here.processor}, {here.cores} cores",
        "threads": f"training uses {here.cores} threads, each with BLAS on one thread",
        "BLAS": "; ".join(f"{b.library} {b.version}, kernel {b.kernel}" for b in here.blas),
        "variables": ", ".join(f"{k}={v}" for k, v in here.variables.items()) or "none set",
    }
    if not here.blas:
        result.warnings.append("no BLAS library was recognised, so its threads cannot be limited to one")
    forced = here.variables.get("OPENBLAS_CORETYPE")
    if forced and "avx512f" in processor_flags() and not any(b.kernel in WIDE_KERNELS for b in here.blas):
        result.warnings.append(
            f"OPENBLAS_CORETYPE={forced} prevents OpenBLAS from using this processor's AVX-512: unset it, and matrix "
            "products may be faster (compare with `minidbp bench gemm`)"
        )
    limits = [name for name in here.variables if name.endswith("_NUM_THREADS")]
    if limits:
        result.warnings.append(f"{', '.join(limits)} do not limit minidbp's own threads: use --threads")
    _examine_kernels(result, here.variables.get("NUMBA_CACHE_DIR"))
    try:
        found = load_data(data)
        sizes = f"{len(found.x_train)} training and {len(found.x_test)} test images"
        result.facts["data"] = f"{found.name} {'verified' if found.verified else 'not verified'}: {sizes}"
    except DataError as error:
        result.problems.append(str(error))
    return result


def _examine_kernels(result: Examination, wanted: str | None) -> None:
    """Compile the kernels, and say where they are cached; `wanted` is the folder that the environment asks for."""
    kernels.warm_up()
    if not jit.compiling():
        result.facts["kernels"] = "not compiled"
        result.warnings.append("NUMBA_DISABLE_JIT turns the compiler off: unset it, and everything is much faster")
    elif folders := jit.cache_folders():
        result.facts["kernels"] = f"compiled, cached in {', '.join(sorted(folders))}"
        if wanted and not any(Path(folder).is_relative_to(Path(wanted).absolute()) for folder in folders):
            result.warnings.append(f"NUMBA_CACHE_DIR={wanted} is not writable, so the kernels are cached elsewhere")
    else:
        result.facts["kernels"] = "compiled, not cached"
        result.warnings.append(
            "no cache folder is writable, so every process compiles the kernels anew, which takes some 15 s: "
            "set NUMBA_CACHE_DIR to a writable folder"
        )
