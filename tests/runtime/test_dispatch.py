"""The dispatcher against an executor that does nothing until it is told to: who is next, and what a death leads to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from kernels.contract import KernelFault
from service.core.errors import DiskFull, KernelFailed, Stopped, SubtaskFailed, WorkerDied, poisoned
from service.core.status import FileStatus, JobStatus
from service.daemon import Daemon
from service.runtime import dispatch
from service.runtime.dispatch import (
    FIRST_REST_SECONDS,
    MOST_DEATHS,
    MOST_KILLS,
    Dispatcher,
    Urgency,
)
from service.runtime.process import KILLED


class Scripted(Executor):
    """Hands out futures; the test ends them by the name of their sub-task. `began` is the order of hand-overs."""

    def __init__(self) -> None:
        self.began: list[str] = []
        self.running: dict[str, Future[Any]] = {}
        self.broken: Exception | None = None

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        if self.broken is not None:
            raise self.broken
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()
        self.began.append(args[0])
        self.running[args[0]] = future
        return future

    async def end(self, name: str, result: Any = None) -> None:
        future = self.running.pop(name)
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)
        await turns()

    async def die(self, name: str, how: str = "exit status 3") -> None:
        await self.end(name, WorkerDied(how))


async def turns() -> None:
    """Lets everything happen that can."""
    for _ in range(10):
        await asyncio.sleep(0)


class Bench:
    """A dispatcher, its executor, a clock that stands still, and callers by the names of their sub-tasks."""

    def __init__(self, workers: int) -> None:
        self.executor = Scripted()
        self.dispatcher = Dispatcher(self.executor, workers)
        self.callers: dict[str, asyncio.Task[Any]] = {}

    async def ask(self, *names: str, urgency: Urgency = Urgency.NOW) -> None:
        """Asks for sub-tasks; the first letter of a name is its job."""
        for name in names:
            asked = self.dispatcher.run(str, name, job=name[0], urgency=urgency)
            self.callers[name] = asyncio.create_task(asked)
        await turns()

    @property
    def began(self) -> str:
        return " ".join(self.executor.began)

    async def drain(self) -> None:
        while self.executor.running:
            await self.executor.end(next(iter(self.executor.running)))


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    clock = SimpleNamespace(now=0.0)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(dispatch, "time", clock)
    return clock


def played(play: Callable[[Bench], Coroutine[Any, Any, None]], workers: int = 1) -> Bench:
    """Plays a scene; `workers` and one more sub-task are handed over at a time."""

    async def scene() -> Bench:
        bench = Bench(workers)
        try:
            await play(bench)
        finally:
            bench.executor.broken = RuntimeError("the scene is over")
            await bench.drain()  # a caller waits for its running sub-task, whatever happens
            for caller in bench.callers.values():
                caller.cancel()
            await asyncio.gather(*bench.callers.values(), return_exceptions=True)  # all are heard
        return bench

    return asyncio.run(scene())


def test_no_more_is_handed_over_than_workers_and_one() -> None:
    async def play(bench: Bench) -> None:
        await bench.ask("a1", "a2", "a3", "a4")
        assert bench.began == "a1 a2 a3"
        await bench.executor.end("a2", "two")
        assert bench.began == "a1 a2 a3 a4"
        assert await bench.callers["a2"] == "two"
        await bench.drain()

    played(play, workers=2)


def test_what_is_waited_for_goes_before_what_is_ahead() -> None:
    async def play(bench: Bench) -> None:
        await bench.ask("a1", "a2")
        await bench.ask("a3", "a4", urgency=Urgency.AHEAD)
        await bench.ask("b1", "a5")
        await bench.drain()

    assert played(play).began == "a1 a2 b1 a5 a3 a4"


def test_a_promoted_sub_task_is_ahead_no_more() -> None:
    async def play(bench: Bench) -> None:
        await bench.ask("a1", "a2")
        await bench.ask("a3", "a4", urgency=Urgency.AHEAD)
        bench.dispatcher.promote("a")
        bench.dispatcher.promote("nobody")
        await bench.ask("a5")
        await bench.drain()

    assert played(play).began == "a1 a2 a3 a5 a4"


def test_the_job_that_was_served_least_goes_first(clock: SimpleNamespace) -> None:
    async def play(bench: Bench) -> None:
        await bench.ask("a1", "a2", "a3", "a4", "a5")
        clock.now += 4.0
        await bench.executor.end("a1")  # a has had 4 s
        await bench.ask("b1", "b2", "b3")
        for name in ("a2", "a3", "b1", "b2"):
            clock.now += 1.0
            await bench.executor.end(name)
        await bench.drain()

    assert played(play).began == "a1 a2 a3 b1 b2 b3 a4 a5"


def test_a_job_that_was_idle_has_saved_up_no_claim(clock: SimpleNamespace) -> None:
    async def play(bench: Bench) -> None:
        await bench.ask(*(f"a{n}" for n in range(1, 9)))
        for name in ("a1", "a2"):
            clock.now += 10.0
            await bench.executor.end(name)  # a has had 10 s, and then 20
        await bench.ask("b1", "b2", "b3")  # b begins level with a, not 20 s behind it
        for name in ("a3", "a4"):
            clock.now += 1.0
            await bench.executor.end(name)
        for name in ("b1", "b2"):
            clock.now += 10.0
            await bench.executor.end(name)

    assert played(play).began.startswith("a1 a2 a3 a4 b1 b2 a5 a6")


def test_what_a_job_had_when_nobody_else_wanted_it_is_not_held_against_it(
    clock: SimpleNamespace,
) -> None:
    async def play(bench: Bench) -> None:
        await bench.ask("a1")
        clock.now += 100.0
        await bench.executor.end("a1")
        await bench.ask("b1", "b2", "b3", "b4")
        await bench.ask("a2", "a3", "a4", "a5")
        while bench.executor.running:
            clock.now += 1.0
            await bench.executor.end(next(iter(bench.executor.running)))

    assert played(play).began == "a1 b1 b2 a2 a3 a4 b3 b4 a5"


def test_what_lies_ready_is_not_served_yet(clock: SimpleNamespace) -> None:
    async def play(bench: Bench) -> None:
        await bench.ask("a1", "b1", "c1")
        clock.now += 10.0
        await bench.executor.end("a1")  # b1 has lain ready for as long, and begins
        await bench.ask("a2", "b2", "c2")
        clock.now += 1.0
        await bench.executor.end("b1")
        clock.now += 2.0
        await bench.drain()

    assert played(play).began == "a1 b1 c1 c2 b2 a2"


def test_an_answer_that_the_loop_hears_late_is_served_no_longer(clock: SimpleNamespace) -> None:
    async def play(bench: Bench) -> None:
        await bench.ask("a1", "b1", "a2", "b2", "b3")
        clock.now += 1.0
        bench.executor.running.pop("a1").set_result(None)
        clock.now += 10.0  # the loop was busy with other things
        await turns()
        clock.now += 2.0
        await bench.drain()

    assert played(play).began == "a1 b1 b2 a2 b3"


def test_many_jobs_are_a_crowd(clock: SimpleNamespace) -> None:
    async def play(bench: Bench) -> None:
        await bench.ask("a1", "b1", "b2", "c1")
        assert not bench.dispatcher.is_crowded  # two workers, and one sub-task that lies ready
        await bench.ask("d1")
        assert bench.dispatcher.is_crowded
        await bench.executor.end("a1")
        assert not bench.dispatcher.is_crowded

    played(play, workers=2)


def test_a_sub_task_whose_worker_died_runs_again_before_its_jobs_others() -> None:
    async def play(bench: Bench) -> None:
        await bench.ask("a1", "a2", "a3")
        await bench.executor.die("a1")
        assert bench.began == "a1 a2 a1"
        await bench.executor.end("a1", "at last")
        assert await bench.callers["a1"] == "at last"
        assert bench.dispatcher.repeated == 1
        await bench.drain()

    played(play)


def test_after_two_deaths_it_runs_alone() -> None:
    async def play(bench: Bench) -> None:
        await bench.ask("a1", "b1", "b2", "b3")
        await bench.executor.die("a1")
        await bench.executor.die("a1")
        assert set(bench.executor.running) == {"b1"}  # a1 waits until the others are back
        await bench.executor.end("b1")
        assert set(bench.executor.running) == {"a1"}
        await bench.executor.end("a1")
        assert set(bench.executor.running) == {"b2", "b3"}
        await bench.drain()

    played(play)


def test_the_fifth_death_in_a_row_reaches_the_caller_and_no_one_else() -> None:
    async def play(bench: Bench) -> None:
        await bench.ask("a1", "b1")
        await bench.executor.end("b1")
        for _ in range(MOST_DEATHS):
            await bench.executor.die("a1")
        with pytest.raises(WorkerDied, match="exit status 3"):
            await bench.callers["a1"]
        assert bench.executor.began.count("a1") == MOST_DEATHS
        await bench.ask("a2")
        await bench.executor.end("a2", "fine")
        assert await bench.callers["a2"] == "fine"

    played(play)


def test_one_whose_worker_was_killed_rests_longer_each_time_and_others_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rests: list[float] = []

    async def play(bench: Bench) -> None:
        over: list[Callable[[], None]] = []

        def later(seconds: float, then: Callable[..., None], *args: Any) -> None:
            rests.append(seconds)
            over.append(lambda: then(*args))

        monkeypatch.setattr(asyncio.get_running_loop(), "call_later", later, raising=False)
        await bench.ask("a1", "a2", "b1")
        await bench.executor.die("a1", KILLED)
        assert (rests, bench.began) == ([], "a1 a2 a1")  # the second try comes at once
        for count in range(2, MOST_KILLS):
            await bench.executor.die("a1", KILLED)
            assert "a1" not in bench.executor.running
            assert f"job a: {count} workers" in bench.dispatcher.trouble
            await bench.drain()  # the others go on, and end
            over.pop()()
            await turns()
            assert set(bench.executor.running) == {"a1"}
            assert bench.dispatcher.trouble == ""
        await bench.executor.die("a1", KILLED)
        with pytest.raises(WorkerDied, match="SIGKILL"):
            await bench.callers["a1"]
        assert await bench.callers["b1"] is None

    played(play)
    assert rests == [FIRST_REST_SECONDS * 2**n for n in range(MOST_KILLS - 2)]


def test_a_caller_that_is_cancelled_while_its_sub_task_rests_takes_it_along() -> None:
    async def play(bench: Bench) -> None:
        await bench.ask("a1")
        for _ in range(2):
            await bench.executor.die("a1", KILLED)
        assert not bench.executor.running
        bench.callers["a1"].cancel()
        await turns()
        assert bench.callers["a1"].cancelled()
        assert bench.dispatcher.trouble == ""
        bench.dispatcher.forget("a")

    played(play)


def test_a_rest_is_no_standstill_for_the_watchdog() -> None:
    async def play(bench: Bench) -> None:
        status = JobStatus(file=FileStatus("f.csv", 1))
        daemon: Any = SimpleNamespace(
            _machinery=SimpleNamespace(
                dispatcher=bench.dispatcher, writer=SimpleNamespace(is_at_work=False)
            ),
            _held_up="",
            lives={"a": SimpleNamespace(status=status)},
        )
        await bench.ask("a1")
        assert Daemon._progress(daemon) == (0, False)
        await bench.executor.die("a1", KILLED)
        assert Daemon._progress(daemon) == (1, False)
        await bench.executor.die("a1", KILLED)
        assert Daemon._progress(daemon) == (2, True)
        bench.dispatcher.stop("a")
        assert Daemon._progress(daemon) == (2, False)

    played(play)


def test_a_job_that_is_to_stop_waits_for_no_rest() -> None:
    async def play(bench: Bench) -> None:
        await bench.ask("a1", "a2", "b1")
        for name in ("a1", "a1", "b1", "b1"):
            if name not in bench.executor.running:
                await bench.executor.end("a2")
            await bench.executor.die(name, KILLED)
        assert {"job a", "job b"} <= {t[:5] for t in bench.dispatcher.trouble.split("; ")}
        bench.dispatcher.stop("a")
        with pytest.raises(Stopped):
            await bench.callers["a1"]
        assert bench.dispatcher.trouble.startswith("job b")
        await bench.ask("a3")
        await bench.executor.die("a3", KILLED)
        await bench.executor.die("a3", KILLED)
        with pytest.raises(Stopped):
            await bench.callers["a3"]
        bench.dispatcher.go_on("a")
        await bench.ask("a4")
        await bench.executor.die("a4", KILLED)
        await bench.executor.die("a4", KILLED)
        assert "job a" in bench.dispatcher.trouble
        for job in "ab":
            bench.dispatcher.stop(job)

    played(play)


@pytest.mark.parametrize("error", [DiskFull("no"), FileNotFoundError("no")])
def test_an_error_of_the_function_is_the_callers_and_is_not_tried_again(error: Exception) -> None:
    async def play(bench: Bench) -> None:
        await bench.ask("a1")
        await bench.executor.end("a1", error)
        with pytest.raises(type(error), match="no"):
            await bench.callers["a1"]
        assert bench.began == "a1"

    played(play)


def test_an_error_that_nobody_meant_is_a_failed_sub_task_with_its_cause() -> None:
    async def play(bench: Bench) -> None:
        await bench.ask("a1")
        await bench.executor.end("a1", ValueError("no"))
        with pytest.raises(SubtaskFailed, match="ValueError: no") as caught:
            await bench.callers["a1"]
        assert isinstance(caught.value.__cause__, ValueError)

    played(play)


def test_a_kernel_that_breaks_its_contract_is_blamed_and_not_the_file() -> None:
    async def play(bench: Bench) -> None:
        await bench.ask("a1")
        await bench.executor.end("a1", KernelFault("odd:Odd: norms must give numbers"))
        with pytest.raises(KernelFailed, match=r"^odd:Odd: norms") as caught:
            await bench.callers["a1"]
        refusal = poisoned(caught.value, "learns from").refusal
        assert refusal.value == "odd:Odd: norms must give numbers"
        assert "mend the kernel" in refusal.remedy

    played(play)


def test_a_cancelled_caller_takes_its_waiting_sub_task_with_it() -> None:
    async def play(bench: Bench) -> None:
        await bench.ask("a1", "a2", "a3", "a4")
        bench.callers["a3"].cancel()
        await turns()
        assert bench.callers["a3"].cancelled()
        await bench.drain()

    assert played(play).began == "a1 a2 a4"


def test_a_cancelled_caller_waits_for_its_running_sub_task() -> None:
    async def play(bench: Bench) -> None:
        await bench.ask("a1", "a2", "a3")
        bench.callers["a1"].cancel()
        await turns()
        assert not bench.callers["a1"].done()
        await bench.executor.end("a1", "too late")
        assert bench.callers["a1"].cancelled()
        assert bench.began == "a1 a2 a3"
        await bench.drain()

    played(play)


def test_a_sub_task_that_nobody_waits_for_does_not_run_again_after_a_death() -> None:
    async def play(bench: Bench) -> None:
        await bench.ask("a1", "a2")
        bench.callers["a1"].cancel()
        await turns()
        await bench.executor.die("a1")
        assert bench.callers["a1"].cancelled()
        await bench.drain()

    assert played(play).began == "a1 a2"


def test_an_executor_that_refuses_is_its_callers_error_only() -> None:
    async def play(bench: Bench) -> None:
        await bench.ask("a1", "a2", "b1")
        bench.executor.broken = RuntimeError("shut down")
        await bench.executor.end("a1", "one")  # b1 is next, and is refused
        assert await bench.callers["a1"] == "one"
        with pytest.raises(RuntimeError, match="shut down"):
            await bench.callers["b1"]
        bench.executor.broken = None
        await bench.executor.end("a2")
        await bench.ask("a3", "a4")
        assert bench.began == "a1 a2 a3 a4"
        await bench.drain()

    played(play)


def test_a_jobs_account_is_forgotten_when_it_is_idle() -> None:
    async def play(bench: Bench) -> None:
        await bench.ask("a1")
        bench.dispatcher.forget("a")
        await bench.executor.end("a1", "still counted")
        assert await bench.callers["a1"] == "still counted"
        bench.dispatcher.forget("a")
        bench.dispatcher.forget("nobody")
        assert repr(bench.dispatcher) == "<Dispatcher running=0 waiting=0 alone=False>"

    played(play)


def test_any_executor_will_do() -> None:
    async def scene() -> list[int]:
        with ThreadPoolExecutor(2) as threads:
            dispatcher = Dispatcher(threads, 2)
            return await asyncio.gather(
                *(dispatcher.run(abs, -n, job=str(n % 3)) for n in range(50))
            )

    assert asyncio.run(scene()) == list(range(50))
