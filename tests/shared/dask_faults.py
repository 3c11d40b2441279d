"""Sweeps on Dask clusters with a fault each: nothing lost or hung, no mixed tables, and one sentence that says why.

    python tests/shared/dask_faults.py 20 [seed]

Each fault has a real scheduler and real workers of its own, all of them processes, and a small sweep (tiny_sweep.py).
What must happen is in the function of that fault, with the seconds that it may take.  Where the sweep can go on, its
table, results and weights must have the bits of a sweep that nobody disturbed.
"""

import collections
import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
from filelock import FileLock
from tiny_sweep import PATIENCE, assert_same, finish, started, table2, until

import minidbp

PACKAGE = Path(minidbp.__file__).parent
SOON = 10.0  # seconds in which a sentence must come, or Ctrl-C must have ended the command
START = 20.0  # seconds that a command may need besides until it trains: imports and kernels, on a busy machine

# A program that cannot import this package, however it is installed
WITHOUT = """
import importlib, importlib.abc, sys
class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] == "minidbp":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
importlib.import_module(sys.argv.pop(1)).main()
"""


class Cluster:
    """A scheduler and workers of one thread each on this machine, all of them processes.

    The scheduler cannot import this package; a worker imports `package`, or cannot import it either.
    """

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder, self.stack = folder, stack
        options = "--port", "0", "--scheduler-file", str(folder / "scheduler.json")
        self.scheduler = self._start("scheduler", None, options)
        self.address = until(self._address, self.scheduler)

    def _start(self, what: str, package: Path | None, options: Sequence[str]) -> "subprocess.Popen[str]":
        how = ["-c", WITHOUT] if package is None else ["-m"]
        line = [sys.executable, *how, f"distributed.cli.dask_{what}", "--host", "127.0.0.1", "--no-dashboard", *options]
        log = self.stack.enter_context((self.folder / f"{what}.log").open("a"))
        paths = [str((package or PACKAGE).parent), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
        return self.stack.enter_context(started(line, stdout=log, stderr=log, env=environment, cwd=self.folder))

    def _address(self) -> str | None:
        try:
            return json.loads((self.folder / "scheduler.json").read_text())["address"]
        except (OSError, ValueError):
            return None  # not written yet, or not whole

    def add_worker(self, package: Path | None = PACKAGE, threads: int = 1) -> "subprocess.Popen[str]":
        """Without a nanny: nobody starts it anew."""
        options = [self.address, "--nthreads", str(threads), "--no-nanny", "--local-directory", str(self.folder)]
        return self._start("worker", package, options)


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    with ExitStack() as stack:
        yield Cluster(folder, stack)


class Sweep:
    """The command on a cluster, whose words go to a file while it runs."""

    def __init__(self, folder: Path, address: str, preset: str = "long") -> None:
        self.out, self.log = folder / "out", folder / f"words-{time.monotonic_ns()}"
        self.line = table2(self.out, "--scheduler", address, preset=preset)
        with self.log.open("w") as log:
            self.process = subprocess.Popen(self.line, stderr=log, stdout=subprocess.DEVNULL, start_new_session=True)

    def __enter__(self) -> "Sweep":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    @property
    def words(self) -> str:
        return self.log.read_text()

    def training(self) -> list[Path]:
        """The checkpoints there are."""
        return list((self.out / "runs").glob("*.checkpoint.safetensors"))

    def until_training(self) -> None:
        until(self.training, self)

    def poll(self) -> int | None:
        return self.process.poll()

    def communicate(self) -> str:
        return self.words

    def until_said(self, words: str, seconds: float) -> None:
        """It says so in these seconds, and goes on."""
        deadline = time.monotonic() + seconds
        while words not in self.words:
            assert self.poll() is None, self.words
            assert time.monotonic() < deadline, f"not said in {seconds} s: {words!r}; said: {self.words}"
            time.sleep(0.05)

    def until_free(self) -> None:
        """The workers have noticed its end."""
        deadline = time.monotonic() + SOON
        for path in (self.out / "runs").glob("*.lock"):
            with FileLock(path, timeout=max(0.0, deadline - time.monotonic())):
                pass

    def ends(self, code: int, seconds: float, *words: str) -> None:
        """It ends in these seconds, with one sentence that has these words, and with nothing of Dask's own."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"not ended after {seconds} s; said: {self.words}") from None
        assert self.process.returncode == code, self.words
        for foreign in "Traceback", "distributed.", "Task ", "Warning", "EiB":
            assert foreign not in self.words.replace("distributed>=", ""), self.words
        for word in words:
            assert re.search(word, self.words), f"{word!r} is not in: {self.words}"
        if code == 1:
            assert len(re.findall(r"^minidbp: ", self.words, re.MULTILINE)) == 1, self.words

    def finishes(self, alone: Path) -> None:
        """It comes to its end, with the bits of an undisturbed sweep."""
        self.ends(0, PATIENCE)
        assert_same(self.out, alone)

    def interrupted(self) -> None:
        """Ctrl-C ends it, and it says how to go on."""
        os.killpg(self.process.pid, signal.SIGINT)
        self.ends(130, SOON, re.escape(f"to go on: {shlex.join(self.line[1:])}"))
        self.until_free()


Fault = Callable[[Path, Path], None]


# -- where no scheduler is --------------------------------------------------------------------------------------------


@contextmanager
def peer(says: bytes, answers: bytes = b"") -> Iterator[str]:
    """The address of a port that says the one to whoever comes, and the other to whoever speaks."""
    with socket.create_server(("127.0.0.1", 0)) as server, ExitStack() as stack:
        stop = threading.Event()

        def serve() -> None:
            server.settimeout(0.1)
            while not stop.is_set():
                with contextlib.suppress(OSError):
                    connection = stack.enter_context(server.accept()[0])
                    connection.settimeout(5)
                    if says:
                        connection.sendall(says)
                    if answers and connection.recv(1):
                        connection.sendall(answers)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"tcp://127.0.0.1:{server.getsockname()[1]}"
        finally:
            stop.set()
            thread.join()


PEERS = {
    "HTTP": {"says": b"", "answers": b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"},
    "SSH": {"says": b"SSH-2.0-OpenSSH_9.6\r\n"},
    "silent": {"says": b""},
}


def _no_scheduler(folder: Path, address: str) -> None:
    with Sweep(folder, address) as sweep:
        until((sweep.out / "sweep.json").exists, sweep)
        sweep.ends(1, SOON + START, re.escape(f"no Dask scheduler answers at {address}"), "to go on: ")


def http_peer(folder: Path, _: Path) -> None:
    with peer(**PEERS["HTTP"]) as address:
        _no_scheduler(folder, address)


def ssh_peer(folder: Path, _: Path) -> None:
    with peer(**PEERS["SSH"]) as address:
        _no_scheduler(folder, address)


def silent_port(folder: Path, _: Path) -> None:
    with peer(**PEERS["silent"]) as address:
        _no_scheduler(folder, address)


def no_scheduler(folder: Path, _: Path) -> None:
    _no_scheduler(folder, "tcp://127.0.0.1:1")


def address_of_a_worker(folder: Path, _: Path) -> None:
    with cluster(folder) as dask:
        dask.add_worker()
        log = folder / "worker.log"
        address = until(lambda: re.search(r"Start worker at: +(tcp://\S+)", log.read_text()), dask.scheduler)
        _no_scheduler(folder, address[1])


def scheduler_stopped_at_the_start(folder: Path, _: Path) -> None:
    """As long as it is stopped, its port accepts and says nothing."""
    with cluster(folder) as dask:
        os.kill(dask.scheduler.pid, signal.SIGSTOP)
        _no_scheduler(folder, dask.address)


def silent_port_and_ctrl_c(folder: Path, _: Path) -> None:
    with peer(**PEERS["silent"]) as address, Sweep(folder, address) as sweep:
        sweep.until_said(f"waiting for the Dask scheduler at {address} to answer", START)
        sweep.interrupted()


# -- a cluster that loses something ------------------------------------------------------------------------------------


@contextmanager
def training(folder: Path, preset: str = "long") -> Iterator[tuple[Cluster, Sweep, "subprocess.Popen[str]"]]:
    """A cluster, a sweep, and its first worker, which trains a run."""
    with cluster(folder) as dask, Sweep(folder, dask.address, preset) as sweep:
        worker = dask.add_worker()
        sweep.until_training()
        yield dask, sweep, worker


def no_worker(folder: Path, alone: Path) -> None:
    with cluster(folder) as dask, Sweep(folder, dask.address) as sweep:
        sweep.until_said("no worker has joined it", SOON + START)
        dask.add_worker()
        sweep.finishes(alone)


def no_worker_and_ctrl_c(folder: Path, _: Path) -> None:
    with cluster(folder) as dask, Sweep(folder, dask.address) as sweep:
        sweep.until_said("no worker has joined it", SOON + START)
        sweep.interrupted()


def worker_killed(folder: Path, alone: Path) -> None:
    """The only one; another comes later."""
    with training(folder) as (dask, sweep, worker):
        worker.kill()
        sweep.until_said("all its workers are gone", SOON)
        dask.add_worker()
        sweep.finishes(alone)


def worker_killed_and_ctrl_c(folder: Path, _: Path) -> None:
    with training(folder, "endless") as (_, sweep, worker):
        worker.kill()
        sweep.until_said("all its workers are gone", SOON)
        sweep.interrupted()


def one_of_two_workers_killed(folder: Path, alone: Path) -> None:
    with cluster(folder) as dask, Sweep(folder, dask.address) as sweep:
        worker = dask.add_worker()
        dask.add_worker()
        sweep.until_training()
        worker.kill()
        sweep.finishes(alone)


def worker_stopped(folder: Path, alone: Path) -> None:
    """As of a machine that is suspended, or whose network is cut; it comes back."""
    with training(folder) as (_, sweep, worker):
        os.kill(worker.pid, signal.SIGSTOP)
        sweep.until_said("waiting for a heartbeat of a worker", SOON)
        os.kill(worker.pid, signal.SIGCONT)
        sweep.finishes(alone)


def scheduler_stopped(folder: Path, alone: Path) -> None:
    with training(folder) as (dask, sweep, _):
        os.kill(dask.scheduler.pid, signal.SIGSTOP)
        sweep.until_said(f"waiting for the Dask scheduler at {dask.address} to answer", SOON)
        os.kill(dask.scheduler.pid, signal.SIGCONT)
        sweep.finishes(alone)


def scheduler_stopped_and_ctrl_c(folder: Path, _: Path) -> None:
    with training(folder, "endless") as (dask, sweep, _):
        os.kill(dask.scheduler.pid, signal.SIGSTOP)
        sweep.until_said(f"waiting for the Dask scheduler at {dask.address} to answer", SOON)
        sweep.interrupted()


def _scheduler_ends(folder: Path, number: int) -> None:
    with training(folder, "endless") as (dask, sweep, _):
        dask.scheduler.send_signal(number)
        sweep.ends(1, SOON, f"minidbp: the Dask scheduler at {dask.address} is gone; start one; to go on: ")


def scheduler_killed(folder: Path, _: Path) -> None:
    _scheduler_ends(folder, signal.SIGKILL)


def scheduler_terminated(folder: Path, _: Path) -> None:
    """It says good-bye to all."""
    _scheduler_ends(folder, signal.SIGTERM)


def worker_terminated(folder: Path, alone: Path) -> None:
    """It says good-bye, and its thread may train on for a while; another one is there."""
    with training(folder) as (dask, sweep, worker):
        worker.terminate()
        dask.add_worker()
        sweep.finishes(alone)


def worker_of_two_threads(folder: Path, _: Path) -> None:
    with cluster(folder) as dask, Sweep(folder, dask.address, "endless") as sweep:
        dask.add_worker(threads=2)
        sweep.ends(1, SOON + START, "trains another run already: start Dask workers with --nthreads 1", "to go on: ")


def client_killed(folder: Path, alone: Path) -> None:
    """The scheduler notices, and the workers stop."""
    with cluster(folder) as dask:
        dask.add_worker()
        with Sweep(folder, dask.address) as sweep:
            sweep.until_training()
        sweep.until_free()
        assert sweep.training(), "the worker trained a run to its end"
        with Sweep(folder, dask.address) as sweep:
            sweep.finishes(alone)


def ctrl_c(folder: Path, alone: Path) -> None:
    """The workers hear of it, and one process finishes what they began."""
    with cluster(folder) as dask:
        dask.add_worker()
        with Sweep(folder, dask.address) as sweep:
            sweep.until_training()
            sweep.interrupted()
        assert finish(table2(sweep.out, preset="long")).returncode == 0
        assert_same(sweep.out, alone)


# -- workers of another version ----------------------------------------------------------------------------------------


def other_package(folder: Path, path: str, old: str, new: str) -> Path:
    """A copy of the package with another text in one file."""
    copy = folder / "other" / "minidbp"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    text = (copy / path).read_text()
    assert old in text
    (copy / path).write_text(text.replace(old, new))
    return copy


def _refused(folder: Path, why: str, package: Path | None) -> None:
    """The sweep ends with one sentence, and no run has ended or begun."""
    with cluster(folder) as dask, Sweep(folder, dask.address) as sweep:
        dask.add_worker(package)
        sweep.ends(
            1,
            SOON + START,
            rf"the Dask worker at tcp://127\.0\.0\.1:\d+ on {socket.gethostname()} has ",
            why,
            "to go on: ",
        )
        assert not list(sweep.out.glob("runs/*"))


def other_learning_rate(folder: Path, _: Path) -> None:
    copy = other_package(folder, "training/protocol.py", "learning_rate: float = 1e-3", "learning_rate: float = 2e-3")
    _refused(folder, "sources", copy)


def one_more_field(folder: Path, _: Path) -> None:
    old = "    learning_rate: float = 1e-3"
    _refused(folder, "sources", other_package(folder, "training/protocol.py", old, f"    momentum: float = 0.0\n{old}"))


def other_version(folder: Path, _: Path) -> None:
    copy = other_package(folder, "__init__.py", f'__version__ = "{minidbp.__version__}"', '__version__ = "0.1.7"')
    _refused(folder, rf"has minidbp 0\.1\.7, .* minidbp {re.escape(minidbp.__version__)} ", copy)


def older_version(folder: Path, _: Path) -> None:
    """One that knows nothing of all this."""
    copy = other_package(folder, "sweeps/sweep.py", "", "")
    (copy / "sweeps" / "dask.py").unlink()
    _refused(folder, "cannot import name 'dask'", copy)


def damaged_version(folder: Path, _: Path) -> None:
    _refused(folder, "has no minidbp", other_package(folder, "__init__.py", "import", "imprt"))


def no_package(folder: Path, _: Path) -> None:
    _refused(folder, "has no minidbp.*No module named 'minidbp'", None)


def a_right_and_a_wrong_worker(folder: Path, alone: Path) -> None:
    """Whatever the right one has finished is right."""
    copy = other_package(folder, "training/protocol.py", "learning_rate: float = 1e-3", "learning_rate: float = 2e-3")
    with cluster(folder) as dask:
        dask.add_worker()
        with Sweep(folder, dask.address) as sweep:
            sweep.until_training()
            wrong = dask.add_worker(copy)
            sweep.ends(1, SOON + START, "the Dask worker at", "sources")
        wrong.kill()
        with Sweep(folder, dask.address) as sweep:
            sweep.finishes(alone)


FAULTS: list[Fault] = [
    http_peer, ssh_peer, silent_port, no_scheduler, address_of_a_worker, scheduler_stopped_at_the_start,
    silent_port_and_ctrl_c,
    no_worker, no_worker_and_ctrl_c, worker_killed, worker_killed_and_ctrl_c, one_of_two_workers_killed, worker_stopped,
    worker_terminated, worker_of_two_threads, scheduler_stopped, scheduler_stopped_and_ctrl_c, scheduler_killed,
    scheduler_terminated, client_killed, ctrl_c,
    other_learning_rate, one_more_field, other_version, older_version, damaged_version, no_package,
    a_right_and_a_wrong_worker,
]  # fmt: skip


def torment(count: int, seed: int, folder: Path) -> "collections.Counter[str]":
    """Try so many faults, each kind once before any comes again: how often each.  AssertionError."""
    alone = folder / "alone" / "out"
    alone.parent.mkdir()
    undisturbed = finish(table2(alone, preset="long"))
    assert undisturbed.returncode == 0, undisturbed.stderr
    rng, counts = np.random.default_rng(seed), collections.Counter()
    while counts.total() < count:
        for number in rng.permutation(len(FAULTS))[: count - counts.total()]:
            fault = FAULTS[number]
            begun, own = time.monotonic(), folder / str(counts.total())
            own.mkdir()
            fault(own, alone)
            counts[fault.__name__.replace("_", " ")] += 1
            print(f"{fault.__name__}: {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    return counts


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets what it starts with & ignore Ctrl-C
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        counts = torment(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0, Path(scratch))
    kinds = ", ".join(f"{n} {kind}" if n > 1 else kind for kind, n in counts.items())
    print(f"{counts.total()} faults ({kinds}), in {time.monotonic() - begun:.0f} s: nothing lost, hung or mixed")
