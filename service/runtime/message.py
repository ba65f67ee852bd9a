"""What pool and worker say to each other: one request out, one answer back, a datagram each.

    request   number | pickle of (function, args, kwargs)
    answer    number | kind | length of the body | body

Rules: an answer carries the number of the request that it answers, so a stale one is known, and its
length, so that one of which only a part was sent is known for the work of a dying worker. A
message is small, since it has to pass whole; arrays go through the arena. One that is too large all
the same (a table of ten thousand columns) travels as a parcel: a nameless file that holds it, whose
descriptor is all that is sent. Both sides import this module: no asyncio, no process, no state.
"""

from __future__ import annotations

import array
import os
import pickle
import socket
import struct
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from enum import IntEnum
from typing import Any, NamedTuple

from service.core.errors import SubtaskFailed

MESSAGE_BYTES = 128 * 1024  # fits the least usual socket buffer (212,992) with what it charges
PARCEL_BYTES = 1 << 28  # more than that is no message but a mistake
_SLIP = b"\0"  # what is sent with a parcel's descriptor: an empty message would be an end of file
_DESCRIPTOR_BYTES = socket.CMSG_SPACE(struct.calcsize("i"))
_REQUEST = struct.Struct("<Q")
_ANSWER = struct.Struct("<QBQ")
_TEXT_BYTES = 16 * 1024


class MessageTooLarge(ValueError):
    """The arguments or the result of a sub-task are too large to be sent: our bug."""


class Torn(EOFError):
    """A message of which only a part came: whoever sent it is dying, or out of his mind."""


class Kind(IntEnum):
    """What an answer's body is."""

    READY = 0  # empty: the worker is up; its number is 0
    VALUE = 1  # the pickled result
    ERROR = 2  # the pickled error, and the traceback as text
    LOST = 3  # only the text: the error can't travel, or must not


class Answer(NamedTuple):
    """One message from a worker."""

    number: int
    kind: Kind
    body: bytes


def request(
    number: int, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> bytes:
    """The message that asks for `function(*args, **kwargs)`; raises what pickling raises."""
    body = pickle.dumps((function, args, kwargs), pickle.HIGHEST_PROTOCOL)
    return _checked("its arguments", _REQUEST.pack(number) + body)


def result(number: int, value: Any) -> bytes:
    """The answer that brings a value; raises what pickling raises."""
    body = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    return _checked("its result", _answer(number, Kind.VALUE, body))


def failure(number: int, error: BaseException, text: str) -> bytes:
    """The answer that brings an error, or only its text where the error would not arrive whole.

    An error travels if it survives pickling and if it means nothing to whoever waits for a future:
    one that isn't an `Exception`, or that ends a loop, would do harm there.
    """
    if isinstance(error, Exception) and not isinstance(error, (StopIteration, CancelledError)):
        try:
            travelling = pickle.dumps(error, pickle.HIGHEST_PROTOCOL)
            pickle.loads(travelling)  # many errors can be pickled, and then not be made again
            body = pickle.dumps((travelling, text[-_TEXT_BYTES:]), pickle.HIGHEST_PROTOCOL)
            if len(body) < MESSAGE_BYTES:
                return _answer(number, Kind.ERROR, body)
        except Exception:  # whatever a stranger's class does there, the text says enough
            pass
    return lost(number, text)


def lost(number: int, text: str) -> bytes:
    """The answer that brings the end of a text."""
    body = text[-_TEXT_BYTES:].encode(errors="backslashreplace")
    return _answer(number, Kind.LOST, body)


def ready() -> bytes:
    """What a worker says first."""
    return _answer(0, Kind.READY, b"")


def send(link: socket.socket, message: bytes) -> None:
    """Sends a message, or its parcel; raises OSError."""
    if len(message) <= MESSAGE_BYTES:
        link.send(message)
        return
    parcel = os.memfd_create("headrace-parcel", os.MFD_CLOEXEC)
    try:
        with open(parcel, "wb", closefd=False) as file:
            file.write(message)
        socket.send_fds(link, [_SLIP], [parcel])
    finally:
        os.close(parcel)


def receive(link: socket.socket, buffer: memoryview) -> memoryview:
    """The next message, in `buffer` or out of its parcel; empty at the end of file. Raises OSError."""
    size, extra, _, _ = link.recvmsg_into([buffer], _DESCRIPTOR_BYTES, socket.MSG_CMSG_CLOEXEC)
    if not extra:
        return buffer[:size]
    (parcel,) = array.array("i", extra[0][2])
    with open(parcel, "rb") as file:
        file.seek(0)
        return memoryview(file.read())


def read_request(message: memoryview) -> tuple[int, memoryview]:
    """The number, and the body for `pickle.loads`."""
    (number,) = _REQUEST.unpack_from(message)
    return number, message[_REQUEST.size :]


def read_answer(message: memoryview) -> Answer:
    """What a worker sent, whole, or Torn; the body is a copy."""
    if len(message) < _ANSWER.size:
        raise Torn
    number, kind, length = _ANSWER.unpack_from(message)
    if len(message) != _ANSWER.size + length:
        raise Torn
    return Answer(number, Kind(kind), bytes(message[_ANSWER.size :]))


def settle(future: Future[Any], answer: Answer) -> None:
    """Gives a running future what the answer brought."""
    try:
        if answer.kind is Kind.VALUE:
            future.set_result(pickle.loads(answer.body))
            return
        error = _error(answer)
    except Exception as refusal:  # the worker could make the object, this process can't
        error = SubtaskFailed(f"sub-task: its answer can be unpickled here, got {refusal!r}")
    future.set_exception(error)


def _error(answer: Answer) -> BaseException:
    if answer.kind is Kind.LOST:
        return SubtaskFailed(answer.body.decode())
    travelling, text = pickle.loads(answer.body)
    error: BaseException = pickle.loads(travelling)
    error.add_note(text)
    return error


def _answer(number: int, kind: Kind, body: bytes) -> bytes:
    return _ANSWER.pack(number, kind, len(body)) + body


def _checked(what: str, message: bytes) -> bytes:
    if len(message) > PARCEL_BYTES:
        raise MessageTooLarge(
            f"sub-task: {what} fit a parcel of {PARCEL_BYTES} bytes (arrays go through"
            f" the arena), got {len(message)}"
        )
    return message
