"""Dask: what is sent to the workers and compared there, and what is said where waiting does not help."""

import asyncio
import json
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dask_faults
import pytest
from distributed.scheduler import KilledWorker, WorkerState
from typer.testing import CliRunner

import minidbp
from minidbp.cli import app
from minidbp.diagnosis.judge import JUDGE
from minidbp.files.console import Console
from minidbp.sweeps import dask
from minidbp.sweeps import train as training
from minidbp.sweeps.dask import DaskExecutor, WorkerStop, accept, check_address, write_order
from minidbp.sweeps.execute import perform
from minidbp.sweeps.monitor import State, SweepMonitor, as_line, view
from minidbp.sweeps.runs import Run, RunError, RunFailed
from minidbp.sweeps.sweep import Sweep
from minidbp.sweeps.train import Display


@pytest.fixture
def order(tiny_sweep: Sweep, tmp_path: Path) -> str:
    return write_order(tiny_sweep.runs[0], tmp_path, JUDGE, None, 2, tmp_path / "stop")


@pytest.fixture(autouse=True)
def worker(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A Dask worker that executes a task in this process."""
    tasks = {"key": SimpleNamespace(state="executing")}
    found = SimpleNamespace(
        address="tcp://10.0.0.7:4000", state=SimpleNamespace(tasks=tasks), get_current_task=lambda: "key"
    )
    monkeypatch.setattr("distributed.get_worker", lambda: found)
    return found


# -- two of the faults that take a cluster; `python tests/shared/dask_faults.py 28` tries them all --------------------


@pytest.mark.slow
@pytest.mark.parametrize("fault", [dask_faults.other_learning_rate, dask_faults.worker_killed_and_ctrl_c])
def test_a_fault_of_a_cluster(fault: Callable[[Path, Path], None], tmp_path: Path) -> None:
    fault(tmp_path, tmp_path / "needs no undisturbed sweep")


# -- what is sent -----------------------------------------------------------------------------------------------------


def test_an_order_becomes_the_call_that_was_meant(order: str, tiny_sweep: Sweep, tmp_path: Path) -> None:
    work: Any = accept(order)
    assert work.func is perform
    assert work.args[:-1] == (tiny_sweep.runs[0], tmp_path, JUDGE, None, 2)
    assert work.args[-1].file == tmp_path / "stop"


@pytest.mark.parametrize(("state", "stops"), [("executing", False), ("long-running", False), ("cancelled", True)])
def test_a_run_stops_once_nobody_wants_it(state: str, stops: bool, tmp_path: Path, worker: SimpleNamespace) -> None:
    stop = WorkerStop(tmp_path / "stop")
    worker.state.tasks["key"].state = state
    assert stop.exists() == stops
    (tmp_path / "stop").touch()
    assert stop.exists()
    del worker.state.tasks["key"]
    assert stop.exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"version": "0.1.7"}, f"there the version is {minidbp.__version__}, here 0.1.7"),
        ({"format": "3"}, "there the format is 4, here 3"),
        ({"SHA-256 of the sources": "0123456789abcdef"}, r"the SHA-256 of the sources is \w{12}, here 0123456789ab$"),
        ({"name": "C_lambda0_seed7"}, "there the run is C_lambda0_seed0_.*, here C_lambda0_seed7"),
    ],
)
def test_an_order_of_another_version_is_refused(order: str, changes: dict[str, str], words: str) -> None:
    with pytest.raises(RunError, match=words):
        accept(json.dumps({**json.loads(order), **changes}))


def test_a_worker_compares_the_whole_protocol(order: str) -> None:
    values = json.loads(order)
    values["run"]["protocol"]["learning_rate"] = 0.5
    with pytest.raises(RunError, match="there the run is"):
        accept(json.dumps(values))


def test_the_sources_are_the_same_whatever_ends_their_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digests = set()
    for text in b"a\nb\n", b"a\r\nb\r\n", b"a\nc\n":
        (tmp_path / "__init__.py").write_bytes(text)
        monkeypatch.setattr(minidbp, "__file__", str(tmp_path / "__init__.py"))
        digests.add(dask.sources.__wrapped__())
    assert len(digests) == 2


def answer(order: str) -> dict[str, Any]:
    """What a worker answers."""
    names: dict[str, Any] = {}
    exec(dask.TASK, names)
    return names["answer"](order)


def test_a_worker_says_what_does_not_fit(
    order: str, tmp_path: Path, worker: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stop").touch()
    assert answer(order)["outcome"] == "stopped"
    refused = answer(json.dumps({**json.loads(order), "version": "0.1.7"}))
    reply = {"worker": worker.address, "host": socket.gethostname(), "version": minidbp.__version__}
    assert refused == {**reply, "refused": f"there the version is {minidbp.__version__}, here 0.1.7"}
    monkeypatch.delattr(dask, "accept")  # as in an older version
    assert "accept" in answer(order)["refused"]


# -- where no scheduler is --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("peer", dask_faults.PEERS)
def test_a_port_where_something_else_answers(
    peer: str, tiny_sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dask, "CONNECT", 0.5)
    arguments = tmp_path, JUDGE, None, 1, tmp_path / "stop"
    with dask_faults.peer(**dask_faults.PEERS[peer]) as address, DaskExecutor(address) as executor:
        with pytest.raises(RunFailed, match=f"^no Dask scheduler answers at {address} \\(.*; start one") as caught:
            executor.submit(perform, tiny_sweep.runs[0], *arguments).result(30)
        assert executor.waits_for(training=False) == ""
    assert "\n" not in str(caught.value)
    assert "EiB" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "address",
    ["", "  ", "nonsense", "carrier-pigeon://roof:1", "tcp://:8786", "tcp://a:0", "tcp://a:b", "tcp://a:70000"],
)
def test_what_cannot_be_an_address(address: str) -> None:
    with pytest.raises(RunError, match=r"^--scheduler '.*' is not the address of .* like tcp://host:8786$"):
        check_address(address)


def test_an_empty_scheduler_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["table2", "--scheduler", "", "--out", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert not (tmp_path / "out").exists()


def test_without_dask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed.comm.addressing", None)
    with pytest.raises(RunError, match=r"^--scheduler needs Dask, on every machine: pip install"):
        check_address("tcp://host:8786")


# -- what is waited for -----------------------------------------------------------------------------------------------


def test_a_line_says_once_what_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    clock = [0.0]
    monkeypatch.setattr(training.time, "monotonic", lambda: clock[0])
    executor = object.__new__(DaskExecutor)
    display = Display(Console(), SweepMonitor([], tmp_path, JUDGE), "T", announce=True)
    said = []
    for clock[0], what in (0, "a"), (2, "a"), (4, "a"), (9, "a"), (10, ""), (11, "b"), (13, "c"), (16.5, "c"):
        monkeypatch.setattr(executor, "waits_for", lambda training, what=what: what)
        display.renew(executor)
        assert display.waits_for == what
        said.append(capsys.readouterr().out)
    state = State(1, 0, 0, [], [], 0.0, None)
    assert as_line(state, "T", "a") == "T: 0%; waiting for a"
    Console().print(view(state, "T", "a"))
    assert "  waiting for a" in capsys.readouterr().out
    assert said == ["", "", "waiting for a\n", "", "", "", "", "waiting for c\n"]


@pytest.mark.parametrize("advances", [True, False])
def test_workers_that_die_again_and_again(
    advances: bool, tiny_sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What Dask raises then ends the sweep only if no epoch was finished meanwhile."""
    last = WorkerState(address="tcp://127.0.0.1:7", status="running", pid=1, name="w", nthreads=1, memory_limit=1,
                       local_directory="", nanny="", server_id="")  # fmt: skip
    epochs = iter([0, 2, 2, 2] if advances else [2, 2])
    monkeypatch.setattr(Run, "kept_epochs", lambda run, run_dir: next(epochs))

    class Task:
        def __await__(self) -> Any:
            raise KilledWorker("perform", last, 3)
            yield

        def release(self) -> None:
            pass

    class Client:
        offered = 0

        def submit(self, *arguments: Any, **named: Any) -> Task:
            self.offered += 1
            return Task()

    async def carry_out() -> None:
        executor, loop = object.__new__(DaskExecutor), asyncio.get_running_loop()
        executor._connected, executor._failed = loop.create_future(), loop.create_future()
        executor._connected.set_result(client)  # type: ignore[arg-type]
        await executor._carry_out(tiny_sweep.runs[0], tmp_path, JUDGE, None, 1, tmp_path / "stop")

    client = Client()
    with pytest.raises(RunFailed, match=r"Dask workers died again and again .* last at tcp://127\.0\.0\.1:7, perhaps"):
        asyncio.run(carry_out())
    assert client.offered == (2 if advances else 1)
