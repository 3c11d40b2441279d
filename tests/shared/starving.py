"""Runs every command under address-space limits (`ulimit -v`) from very little to enough, and says how each ended.

    python tests/shared/starving.py [COMMAND[,COMMAND] [MB[,MB]]]

Right are: it worked; or exit code 1 and one sentence about memory.  No code of ours can help where Python or NumPy
cannot be loaded ("ended at the start"), or where OpenBLAS or LLVM ends the process ("ended by a library").  Everything
else is wrong: a traceback, ten minutes, a file that was not finished.
"""

import collections
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from minidbp.nn import build_model, save_model

LIMITS = (30, 60, 120, 180, 250, 300, 390, 410, 500, 600, 700, 800, 900, 1000, 1030, 1060, 1100, 1200, 1400, 1800)
SLOW = ("train", "table2", "two", "diagnose", "figure1")  # these begin at 250 MB
COMMANDS = {
    "train": "train --epochs 1 --images 200 --out OUT",
    "table2": "table2 --preset smoke --models C --out OUT",
    "two": "table2 --preset smoke --models C --workers 2 --out OUT",
    "attack": "attack WEIGHTS --images 50 --steps 2 --out OUT",
    "diagnose": "diagnose WEIGHTS --images 100 --steps 2 --restarts 1 --out OUT",
    "explain": "explain --weights WEIGHTS --out OUT",
    "vacuity": "vacuity WEIGHTS --images 50",
    "gradcheck": "gradcheck --op softmax",
    "figure1": "figure1 --preset smoke --out OUT",
    "bench": "bench step --steps 2 --warm 1",
    "doctor": "doctor",
    "notebooks": "notebooks --out OUT",
}
LIBRARIES = ("OpenBLAS error", "LLVM ERROR")
AT_THE_START = (*LIBRARIES, "failed to map segment", "MemoryError", "can't start new thread")


def starve(words: str, megabytes: int, weights: Path) -> str:
    """How a command ended under this limit."""
    with tempfile.TemporaryDirectory() as out:
        arguments = words.replace("OUT", out).replace("WEIGHTS", str(weights)).split()
        process = subprocess.Popen(
            [sys.executable, "-m", "minidbp", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20)),
        )  # fmt: skip
        try:
            _, said = process.communicate(timeout=600)
        except subprocess.TimeoutExpired:
            process.kill()
            return "WRONG: it hangs"
        if unfinished := [path.name for path in Path(out).rglob("*.part")]:
            return f"WRONG: left {unfinished}"
    last = said.strip().splitlines()[-1:] or [""]
    if process.returncode == 0:
        return "worked"
    if process.returncode == 1 and "Traceback" not in said and "there is not enough memory" in last[0]:
        return "limit refused" if "ulimit -v) is" in last[0] else "one sentence"
    if megabytes < 400 and any(sign in last[0] for sign in AT_THE_START):
        return "ended at the start"
    if any(sign in said for sign in LIBRARIES):
        return "ended by a library"
    return f"WRONG: exit code {process.returncode}, {last[0]}"


def main() -> None:
    names = sys.argv[1].split(",") if len(sys.argv) > 1 else [*COMMANDS]
    limits = [*map(int, sys.argv[2].split(","))] if len(sys.argv) > 2 else LIMITS
    counts: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "C.safetensors"
        save_model(weights, build_model("C"), "C")
        for name in names:
            for megabytes in limits:
                if name in SLOW and megabytes < 250:
                    continue
                outcome = starve(COMMANDS[name], megabytes, weights)
                counts[outcome.partition(":")[0]] += 1
                print(f"{name:10} {megabytes:5} MB: {outcome}", flush=True)
    print(", ".join(f"{outcome}: {count}" for outcome, count in counts.items()))
    sys.exit(1 if counts["WRONG"] else 0)


if __name__ == "__main__":
    main()
