"""Channels: bounded, in order, closed by leaving, and right under cancellation."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.runtime.channel import (
    BrokenChannel,
    ClosedChannel,
    EndOfChannel,
    Ends,
    Receiver,
    Sender,
    channel,
)


def _numbers(capacity: int) -> Ends[int]:
    return channel(capacity)


async def _all_blocked() -> None:
    """Lets every task run until none can: no clock, only turns of the loop."""
    for _ in range(20):
        await asyncio.sleep(0)


async def _begin(what: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    task = asyncio.get_running_loop().create_task(what)
    await _all_blocked()
    return task


def test_items_arrive_in_order_and_the_loop_ends_with_the_sender() -> None:
    async def produce(sender: Sender[int]) -> None:
        async with sender:
            for n in range(100):
                await sender.send(n)

    async def main() -> list[int]:
        sender, receiver = _numbers(3)
        async with asyncio.TaskGroup() as group:
            group.create_task(produce(sender))
            async with receiver:
                return [item async for item in receiver]

    assert asyncio.run(main()) == list(range(100))


def test_what_need_not_wait_is_sent_at_once_and_overtakes_nobody() -> None:
    async def main() -> list[int]:
        sender, receiver = _numbers(2)
        assert sender.send_nowait(1)
        assert sender.send_nowait(2)
        assert not sender.send_nowait(3)
        waiting = await _begin(sender.send(4))
        got = [await receiver.receive()]
        assert not sender.send_nowait(5), "there is room, but it is another's turn"
        await waiting
        assert not sender.send_nowait(5)
        got += [await receiver.receive(), await receiver.receive()]
        assert sender.send_nowait(6)
        receiver.close()
        with pytest.raises(BrokenChannel):
            sender.send_nowait(7)
        return got

    assert asyncio.run(main()) == [1, 2, 4]


def test_a_full_channel_holds_the_sender_until_something_is_received() -> None:
    async def main() -> None:
        sender, receiver = _numbers(2)
        await sender.send(1)
        await sender.send(2)
        third = await _begin(sender.send(3))
        assert not third.done()
        assert await receiver.receive() == 1
        await third
        assert [await receiver.receive() for _ in range(2)] == [2, 3]

    asyncio.run(main())


def test_the_capacity_may_be_a_weight() -> None:
    async def main() -> None:
        ends: Ends[str] = channel(10, weigh=len)
        sender, receiver = ends
        await sender.send("x" * 4)
        await sender.send("x" * 6)
        third = await _begin(sender.send("x"))
        assert not third.done()
        assert repr(sender) == "<Sender of <channel holding 10 of 10, open>>"
        assert await receiver.receive() == "x" * 4
        await third
        assert repr(receiver) == "<Receiver of <channel holding 7 of 10, open>>"

    asyncio.run(main())


def test_an_item_heavier_than_the_capacity_passes_alone() -> None:
    async def main() -> None:
        ends: Ends[str] = channel(10, weigh=len)
        sender, receiver = ends
        await sender.send("x")
        heavy = await _begin(sender.send("x" * 99))
        light = await _begin(sender.send("y"))
        assert not heavy.done()
        assert await receiver.receive() == "x"
        await heavy
        assert not light.done()
        assert await receiver.receive() == "x" * 99
        assert await receiver.receive() == "y"
        await light

    asyncio.run(main())


def test_what_was_sent_before_the_close_is_still_received() -> None:
    async def main() -> None:
        sender, receiver = _numbers(5)
        await sender.send(1)
        sender.close()
        sender.close()
        assert await receiver.receive() == 1
        for _ in range(2):
            with pytest.raises(EndOfChannel):
                await receiver.receive()

    asyncio.run(main())


def test_every_task_that_receives_hears_of_the_end() -> None:
    async def collect(receiver: Receiver[int]) -> list[int]:
        return [item async for item in receiver]

    async def main() -> list[int]:
        sender, receiver = _numbers(5)
        readers = [await _begin(collect(receiver)) for _ in range(3)]
        for n in range(7):
            await sender.send(n)
        sender.close()
        return sorted(n for got in await asyncio.gather(*readers) for n in got)

    assert asyncio.run(main()) == list(range(7))


def test_sending_into_a_closed_receiver_breaks() -> None:
    async def main() -> None:
        sender, receiver = _numbers(1)
        async with receiver:
            await sender.send(1)
            held = await _begin(sender.send(2))
        with pytest.raises(BrokenChannel, match="holding 0 of 1, receiver closed"):
            await held
        with pytest.raises(BrokenChannel):
            await sender.send(3)

    asyncio.run(main())


def test_closing_the_receiver_returns_what_nobody_received() -> None:
    async def main() -> None:
        sender, receiver = _numbers(5)
        for n in range(3):
            await sender.send(n)
        sender.close()
        assert receiver.close() == [0, 1, 2]
        assert receiver.close() == []
        with pytest.raises(ClosedChannel):
            await receiver.receive()

    asyncio.run(main())


def test_closing_the_receiver_ends_a_task_that_waits_there() -> None:
    async def main() -> None:
        _, receiver = _numbers(5)
        waiting = [await _begin(receiver.receive()) for _ in range(2)]
        receiver.close()
        for task in waiting:
            with pytest.raises(ClosedChannel):
                await task

    asyncio.run(main())


def test_a_closed_sender_sends_nothing_and_lets_go_of_who_waits_there() -> None:
    async def main() -> None:
        sender, receiver = _numbers(1)
        await sender.send(1)
        held = [await _begin(sender.send(n)) for n in (2, 3)]
        sender.close()
        for task in held:
            with pytest.raises(ClosedChannel, match="sender closed"):
                await task
        assert [item async for item in receiver] == [1]

    asyncio.run(main())


def test_a_sender_that_leaves_with_an_error_closes_too() -> None:
    async def fail(sender: Sender[int]) -> None:
        async with sender:
            await sender.send(1)
            raise ValueError("our bug")

    async def main() -> None:
        sender, receiver = _numbers(1)
        with pytest.raises(ValueError, match="our bug"):
            await fail(sender)
        assert [item async for item in receiver] == [1]

    asyncio.run(main())


def test_a_cancelled_send_has_sent_nothing_and_does_not_hold_up_the_next() -> None:
    async def main() -> None:
        sender, receiver = _numbers(1)
        await sender.send(1)
        held = [await _begin(sender.send(n)) for n in (2, 3, 4)]
        held[0].cancel()
        held[1].cancel()
        await _all_blocked()
        assert await receiver.receive() == 1
        await held[2]
        assert await receiver.receive() == 4
        assert receiver.close() == []

    asyncio.run(main())


def test_a_cancelled_receive_has_taken_nothing() -> None:
    async def main() -> None:
        sender, receiver = _numbers(1)
        waiting = await _begin(receiver.receive())
        await sender.send(1)  # wakes the task, which has not run yet
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await receiver.receive() == 1

    asyncio.run(main())


def test_what_is_there_can_be_taken_without_waiting() -> None:
    async def run() -> None:
        sender, receiver = _numbers(2)
        assert receiver.receive_nowait() is None
        await sender.send(1)
        await sender.send(2)
        waits = await _begin(sender.send(3))
        assert [receiver.receive_nowait(), receiver.receive_nowait()] == [1, 2]
        await waits
        sender.close()
        assert [receiver.receive_nowait(), receiver.receive_nowait()] == [3, None]
        with pytest.raises(EndOfChannel):
            await receiver.receive()

    asyncio.run(run())


def test_a_capacity_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="its capacity is at least 1, got 0"):
        channel(0)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(1, 5)),
        st.tuples(st.just("receive"), st.just(0)),
        st.tuples(st.just("cancel send"), st.integers(0, 5)),
        st.tuples(st.just("cancel receive"), st.integers(0, 5)),
        st.tuples(st.just("turn"), st.integers(1, 3)),
    ),
    max_size=40,
)


@given(steps, st.integers(1, 6))
@settings(max_examples=200, deadline=None)
def test_whatever_is_cancelled_each_item_sent_arrives_once(
    program: list[tuple[str, int]], capacity: int
) -> None:
    """Items are (serial, weight); a send counts if its task ended well."""

    async def main() -> None:
        ends: Ends[tuple[int, int]] = channel(capacity, weigh=lambda item: item[1])
        sender, receiver = ends
        sends: list[tuple[tuple[int, int], asyncio.Task[None]]] = []
        receives: list[asyncio.Task[tuple[int, int]]] = []
        loop = asyncio.get_running_loop()
        for serial, (step, number) in enumerate(program):
            if step == "send":
                item = (serial, number)
                sends.append((item, loop.create_task(sender.send(item))))
            elif step == "receive":
                receives.append(loop.create_task(receiver.receive()))
            elif step == "cancel send" and number < len(sends):
                sends[number][1].cancel()
            elif step == "cancel receive" and number < len(receives):
                receives[number].cancel()
            elif step == "turn":
                for _ in range(number):
                    await asyncio.sleep(0)
        await _all_blocked()
        waiting = [task for task in receives if not task.done()]
        assert not waiting or all(task.done() for _, task in sends)
        for task in [*waiting, *(task for _, task in sends if not task.done())]:
            task.cancel()
        await _all_blocked()
        sent = [item for item, task in sends if not task.cancelled()]
        got = [task.result() for task in receives if not task.cancelled()]
        left = receiver.close()
        assert sorted(got) + left == sent

    asyncio.run(main())
