"""Runs on the workers of a Dask scheduler: what is sent to them, and what a sweep waits for meanwhile.

The machines of a cluster may have other versions of this package, or none.  So a task is text and plain data: every
worker can run it, and say what does not fit.  Only this module imports `distributed`.
"""

import asyncio
import contextlib
import functools
import hashlib
import json
import logging
import re
import threading
import uuid
import warnings
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError, Executor, Future
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, TypeVar

import minidbp
from minidbp.sweeps.execute import perform
from minidbp.sweeps.runs import FORMAT, Run, RunError, RunFailed
from minidbp.training.judgement import Judge

if TYPE_CHECKING:
    from distributed import Client

CONNECT = 8.0  # seconds in which a scheduler should answer
LOOK = 1.0  # seconds between two looks at the scheduler
ANSWER = 3.0  # seconds in which a scheduler should answer, once it has before
SILENT = 5.0  # seconds without a heartbeat of any worker
CLOSE = 2.0  # seconds for the last words with the scheduler

_T = TypeVar("_T")

# The text of each task.  It may use only what every Dask worker has.
TASK = """
def answer(order):
    import platform
    from distributed import get_worker
    where = {"worker": get_worker().address, "host": platform.node()}
    try:
        from minidbp.sweeps import dask
        work = dask.accept(order)
    except Exception as error:
        import sys
        version = getattr(sys.modules.get("minidbp"), "__version__", None)
        return {**where, "version": version, "refused": str(error) or type(error).__name__}
    return {**where, "outcome": work()}
"""


def _package() -> dict[str, str]:
    """What must be the same at both ends."""
    return {"version": minidbp.__version__, "format": str(FORMAT), "SHA-256 of the sources": sources()}


@functools.cache
def sources() -> str:
    """The SHA-256 of this package's Python files: their names and texts, whatever ends their lines."""
    package, digest = Path(minidbp.__file__).parent, hashlib.sha256()
    for path in sorted(package.rglob("*.py"), key=lambda path: path.relative_to(package).as_posix()):
        text = path.read_text("utf-8")
        digest.update(f"{path.relative_to(package).as_posix()}\n{len(text)}\n{text}".encode())
    return digest.hexdigest()


def write_order(run: Run, run_dir: Path, judge: Judge, data: Path | None, threads: int | None, stop: Path) -> str:
    """The arguments of `perform` as JSON, with all that a worker compares."""
    functions = {name: f"{function.__module__}:{function.__qualname__}" for name, function in vars(judge).items()}
    return json.dumps(
        {
            **_package(),
            "name": run.name,
            "run": run.identity(),
            "run_dir": str(run_dir),
            "judge": functions,
            "data": data and str(data),
            "threads": threads,
            "stop": str(stop),
        }
    )


class WorkerStop:
    """Stops a run on a worker once the stop file exists or nobody wants the run, as after a kill of its sweep."""

    def __init__(self, file: Path) -> None:
        from distributed import get_worker

        worker = get_worker()
        self.file, self.tasks, self.key = file, worker.state.tasks, worker.get_current_task()

    def exists(self) -> bool:
        """Whether the run must stop."""
        task = self.tasks.get(self.key)
        return task is None or task.state not in ("executing", "long-running") or self.file.exists()


def accept(order: str) -> Callable[[], str]:
    """On a worker: the function that carries out an order.  Raises RunError if the order is another version's."""
    values = json.loads(order)
    for what, here in _package().items():
        if values.get(what) != here:
            raise RunError(f"there the {what} is {here:.12}, here {values.get(what)!s:.12}")
    run = Run.of(values["run"])
    if (run.name, run.identity()) != (values["name"], values["run"]):
        raise RunError(f"there the run is {run.name}, here {values['name']}")
    judge = Judge(**{name: resolve_name(function) for name, function in values["judge"].items()})
    data = values["data"] and Path(values["data"])
    return functools.partial(
        perform, run, Path(values["run_dir"]), judge, data, values["threads"], WorkerStop(Path(values["stop"]))
    )


def check_address(address: str) -> None:
    """Raise RunError unless this can be the address of a scheduler, or if Dask is not installed."""
    try:
        from distributed.comm.addressing import get_address_host_port
    except ImportError:
        raise RunError('--scheduler needs Dask, on every machine: pip install "distributed>=2024.8"') from None
    try:
        host, port = get_address_host_port(address.strip())
        if not host or not 0 < port < 1 << 16:
            raise ValueError("a host and a port are needed")
    except ValueError as error:
        raise RunError(
            f"--scheduler {address!r} is not the address of a Dask scheduler ({error}); it should look like "
            "tcp://host:8786"
        ) from None


class DaskExecutor(Executor):
    """The workers of the Dask scheduler at this address.  For `perform` only.

    A thread speaks with the scheduler, so that no call of this class waits for it.  Where waiting cannot help, all runs
    end with RunFailed: no scheduler answers, it is gone, or a worker has another version of this package.
    """

    def __init__(self, address: str) -> None:
        check_address(address)
        _silence()
        self.address = address.strip()
        self._waits_for = f"the Dask scheduler at {self.address} to answer"
        self._heartbeats: dict[str, float] = {}  # of each worker, by its address
        self._heard = 0.0  # when one of them was new
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(lambda *_: None)  # nothing of it is for the user; `_failed` is
        self._client: Client | None = None
        self._connected: asyncio.Future[Client] = self._loop.create_future()
        self._failed: asyncio.Future[None] = self._loop.create_future()
        self._closing = asyncio.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="dask")
        self._thread.start()

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        """Offer a run to the workers: `perform` and its arguments."""
        if function is not perform:
            raise TypeError(f"Dask workers train runs only; got {function}")
        return asyncio.run_coroutine_threadsafe(self._carry_out(*arguments, **named), self._loop)

    def waits_for(self, training: bool) -> str:
        """What the sweep waits for, empty if for nothing; `training`: whether any run is in training."""
        if self._waits_for or training or self._failed.done():
            return self._waits_for
        return f"the workers of the Dask scheduler at {self.address}, {len(self._heartbeats)} in all, to begin a run"

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Leave the scheduler, which then forgets what no worker has begun.  A silent one takes seconds."""
        with contextlib.suppress(RuntimeError):  # closed before
            self._loop.call_soon_threadsafe(self._closing.set)
        if wait:
            self._thread.join(2 * CLOSE)

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        """Speak with the scheduler until `shutdown`."""
        watching = asyncio.create_task(self._watch())
        await self._closing.wait()
        watching.cancel()
        if self._client:
            with contextlib.suppress(Exception):  # whatever it is, there is no more to do
                await self._client.close(timeout=CLOSE)
        if others := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in others:
                task.cancel()
            await asyncio.wait(others, timeout=CLOSE)

    async def _watch(self) -> None:
        """Connect, and learn what the sweep waits for."""
        from distributed import Client

        try:
            self._client = Client(self.address, asynchronous=True, timeout=0.9 * CONNECT, set_as_default=False)
            self._connected.set_result(await asyncio.wait_for(self._client, CONNECT))
        except TimeoutError:
            self._fail(self._no_answer(f"nothing in {CONNECT:.0f} s"))
        except (OSError, ImportError, TypeError) as error:  # TypeError: tls:// without certificates
            self._fail(self._no_answer(_in_one_line(error.__cause__ or error)))
        except Exception:  # of any kind, even MemoryError: a length is read from what was no length
            self._fail(self._no_answer("something else does"))
        while not self._failed.done():
            await self._look(self._connected.result())
            await asyncio.sleep(LOOK)

    async def _look(self, client: "Client") -> None:
        try:
            info = await asyncio.wait_for(client.scheduler.identity(), ANSWER)
        except Exception:  # also of a client that has just lost its scheduler
            if client.status == "running":
                self._waits_for = f"the Dask scheduler at {self.address} to answer"
            else:
                self._fail(self._gone)
            return
        heartbeats = {address: worker["last_seen"] for address, worker in info["workers"].items()}
        if heartbeats != self._heartbeats:
            self._heard = self._loop.time()
        advice = f"start some with `dask worker {self.address}`"
        if not heartbeats:
            what = "all its workers are gone" if self._heard else "no worker has joined it"
            self._waits_for = f"a worker of the Dask scheduler at {self.address}: {what}; {advice}"
        elif self._loop.time() - self._heard > SILENT:
            self._waits_for = f"a heartbeat of a worker of the Dask scheduler at {self.address}"
        else:
            self._waits_for = ""
        self._heartbeats = heartbeats

    async def _carry_out(
        self, run: Run, run_dir: Path, judge: Judge, data: Path | None, threads: int | None, stop: Path
    ) -> str:
        """Have a worker do what `perform` does."""
        from distributed.scheduler import KilledWorker

        order = write_order(run, run_dir, judge, data, threads, stop)
        call = f"(lambda names: exec({TASK!r}, names) or names['answer']({order!r}))({{}})"
        client = await self._unless_failed(self._connected)
        while True:
            epochs = run.kept_epochs(run_dir)
            future = client.submit(eval, call, key=f"{run.name}-{uuid.uuid4().hex}")  # it may have been offered before
            try:
                return self._outcome(await self._unless_failed(future))
            except CancelledError:
                cancelled = (
                    f"somebody has cancelled a run at the Dask scheduler at {self.address}, or restarted the workers"
                )
                raise RunFailed(cancelled if client.status == "running" else self._gone) from None
            except KilledWorker as error:
                if run.kept_epochs(run_dir) <= epochs:
                    raise RunFailed(
                        f"Dask workers died again and again at one run, the last at {error.last_worker.address}, "
                        "perhaps for lack of memory"
                    ) from None
            except (OSError, ValueError, MemoryError, RunFailed):
                raise  # of the run itself
            except Exception as error:
                raise RunFailed(f"a Dask worker could not train a run ({_in_one_line(error)})") from error
            finally:
                future.release()

    def _no_answer(self, reason: str) -> str:
        return f"no Dask scheduler answers at {self.address} ({reason}); start one, or correct the address"

    @property
    def _gone(self) -> str:
        return f"the Dask scheduler at {self.address} is gone; start one"

    def _outcome(self, reply: dict[str, Any]) -> str:
        if "outcome" in reply:
            return reply["outcome"]
        version = f"minidbp {reply['version']}" if reply["version"] else "no minidbp"
        raise RunFailed(
            f"the Dask worker at {reply['worker']} on {reply['host']} has {version}, where this command is minidbp "
            f"{minidbp.__version__} ({reply['refused']}); install the same everywhere, and start the workers anew"
        )

    async def _unless_failed(self, result: Awaitable[_T]) -> _T:
        """Wait for the result, and raise RunFailed if it cannot come any more."""
        task = asyncio.ensure_future(result)
        either: set[asyncio.Future[Any]] = {task, self._failed}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                self._failed.result()  # raises
            return task.result()
        finally:
            if task is not result:
                task.cancel()

    def _fail(self, message: str) -> None:
        self._waits_for = ""
        if not self._failed.done():
            self._failed.set_exception(RunFailed(message))


def _in_one_line(error: BaseException) -> str:
    lines = str(error).splitlines()
    return re.sub("^in <.*>: ", "", f"{lines[0]:.200}") if lines else type(error).__name__


def _silence() -> None:
    """Keep the words of Dask and its libraries from the terminal, until the process ends: ours are for the user."""
    import distributed  # noqa: F401  # which gives the loggers their handlers

    for name in {"distributed", "tornado", "asyncio", *logging.root.manager.loggerDict}:
        if name.partition(".")[0] in ("distributed", "tornado", "asyncio"):
            logger = logging.getLogger(name)
            logger.handlers, logger.propagate = [logging.NullHandler()], False
    warnings.filterwarnings("ignore", module="distributed|tornado")
