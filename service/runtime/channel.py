"""A bounded channel between two stages: a pair of ends, as in trio, over an `asyncio.Queue`.

    sender, receiver = channel(8)

    async with sender:                      async for block in receiver:
        async for chunk in chunks:              ...
            await sender.send(chunk)        # ends once the sender is closed and all is received

Rules: the stage that sends owns the sender and closes it, by leaving its `async with`; the stage
that receives owns the receiver. Closing is synchronous, never waits, and may be done twice. An end
of the channel says that nothing more comes, not that all went well: a sender that leaves with an
error closes too, and the error itself travels through the TaskGroup.

Cancellation: a cancelled `send` has sent nothing, a cancelled `receive` has taken nothing. Limit
either with `asyncio.timeout`, which keeps that promise (`asyncio.wait_for` before 3.12 does not).

One event loop only; several tasks may share an end, and are served in the order they came.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")


class ClosedChannel(Exception):
    """This end was closed by its own side: a bug of whoever still uses it."""


class BrokenChannel(Exception):
    """The receiver is closed: nobody will ever take what is sent."""


class EndOfChannel(Exception):
    """The sender is closed and everything that it sent has been received."""


def channel(
    capacity: int, *, weigh: Callable[[T], int] | None = None
) -> tuple[Sender[T], Receiver[T]]:
    """Both ends of a new channel that holds at most `capacity` items.

    With `weigh` the capacity is in its units, bytes say. An item heavier than the whole capacity
    passes alone, when the channel is empty. What was received no longer counts.
    """
    if capacity < 1:
        raise ValueError(f"channel: its capacity is at least 1, got {capacity}")
    pipe = _Pipe(capacity, weigh or _one)
    return Sender(pipe), Receiver(pipe)


class Sender(Generic[T]):
    """The end that items go into."""

    def __init__(self, pipe: _Pipe[T]) -> None:
        self._pipe = pipe

    async def send(self, item: T) -> None:
        """Waits until there is room, then puts the item in.

        Raises `BrokenChannel` when the receiver is closed, also while this waits, and
        `ClosedChannel` when this sender is.
        """
        pipe = self._pipe
        weight = pipe.weigh(item)
        async with pipe.turn:
            while not pipe.admits(weight):
                pipe.room.clear()
                await pipe.room.wait()
            pipe.put(item, weight)

    def send_nowait(self, item: T) -> bool:
        """Puts the item in if there is room and nobody waits to send; says whether. Raises what `send` raises."""
        pipe = self._pipe
        weight = pipe.weigh(item)
        if pipe.turn.locked() or not pipe.admits(weight):
            return False
        pipe.put(item, weight)
        return True

    def close(self) -> None:
        """Ends the channel: what was sent can still be received, nothing more can be sent."""
        self._pipe.close_sender()

    async def __aenter__(self) -> Sender[T]:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Sender of {self._pipe}>"


class Receiver(Generic[T]):
    """The end that items come out of, in the order in which they were sent."""

    def __init__(self, pipe: _Pipe[T]) -> None:
        self._pipe = pipe

    async def receive(self) -> T:
        """Waits for the next item and takes it out.

        Raises `EndOfChannel` when the sender is closed and nothing is left, and `ClosedChannel`
        when this receiver is closed.
        """
        return await self._pipe.get()

    def receive_nowait(self) -> T | None:
        """Takes out the next item if one is there."""
        return self._pipe.get_nowait()

    def close(self) -> list[T]:
        """Breaks the channel: `send` raises from now on. Returns what nobody received, so that
        the memory that those items stand for can be given back."""
        return self._pipe.close_receiver()

    def __aiter__(self) -> Receiver[T]:
        return self

    async def __anext__(self) -> T:
        try:
            return await self.receive()
        except EndOfChannel:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> Receiver[T]:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Receiver of {self._pipe}>"


Ends = tuple[Sender[T], Receiver[T]]
"""Both ends of a channel."""


class _End:
    """What the queue holds last when the sender is closed, or the receiver."""


_END = _End()


class _Pipe(Generic[T]):
    """What both ends share; every change is synchronous, so cancellation can't land inside one.

    The queue itself has no bound (a closing end must always get its `_End` in); the weights do.
    """

    def __init__(self, capacity: int, weigh: Callable[[T], int]) -> None:
        self.weigh = weigh
        self.turn = asyncio.Lock()  # a heavy item isn't overtaken for ever by light ones
        self.room = asyncio.Event()  # something changed for whoever waits to send
        self._capacity = capacity
        self._held = 0
        self._queue: asyncio.Queue[tuple[T, int] | _End] = asyncio.Queue()
        self._sending = True
        self._receiving = True

    def admits(self, weight: int) -> bool:
        if not self._sending:
            raise ClosedChannel(f"channel: its sender is open while it sends, got {self}")
        if not self._receiving:
            raise BrokenChannel(f"channel: its receiver is open while one sends, got {self}")
        return self._queue.empty() or self._held + weight <= self._capacity

    def put(self, item: T, weight: int) -> None:
        self._held += weight
        self._queue.put_nowait((item, weight))

    async def get(self) -> T:
        entry = await self._queue.get()
        if isinstance(entry, _End):
            self._queue.put_nowait(entry)  # for the other tasks that receive here, and next time
            if self._receiving:
                raise EndOfChannel
            raise ClosedChannel(f"channel: its receiver is open while one receives, got {self}")
        return self._taken(*entry)

    def get_nowait(self) -> T | None:
        if self._queue.empty():
            return None
        entry = self._queue.get_nowait()
        if isinstance(entry, _End):
            self._queue.put_nowait(entry)
            return None
        return self._taken(*entry)

    def _taken(self, item: T, weight: int) -> T:
        self._held -= weight
        self.room.set()
        return item

    def close_sender(self) -> None:
        if self._sending and self._receiving:
            self._queue.put_nowait(_END)
        self._sending = False
        self.room.set()

    def close_receiver(self) -> list[T]:
        left = []
        while not self._queue.empty():
            entry = self._queue.get_nowait()
            if not isinstance(entry, _End):
                left.append(entry[0])
        self._queue.put_nowait(_END)
        self._held = 0
        self._receiving = False
        self.room.set()
        return left

    def __repr__(self) -> str:
        ends = [end for end, is_open in self._ends() if not is_open]
        state = f"{' and '.join(ends)} closed" if ends else "open"
        return f"<channel holding {self._held} of {self._capacity}, {state}>"

    def _ends(self) -> list[tuple[str, bool]]:
        return [("sender", self._sending), ("receiver", self._receiving)]


def _one(_item: object) -> int:
    return 1
