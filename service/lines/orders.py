"""What people ask of a job through the control socket, and how it is answered.

    {"command": "reset"}                             the job's model is forgotten
    {"command": "retract", "files": [[typed, absolute path], ...]}   files are taken back out of it
    {"command": "retry",   "files": [...]}           files go back from failed/ to the inbox, or to predict/

Rules: an answer is JSON, for the command to print. What is wrong with the request is a ConfigurationError. An order that
is cancelled, since whoever gave it has gone, is not begun any more; one that has begun is carried out to its end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from dataclasses import asdict
from typing import Any, TypeVar

from service.core.errors import ConfigurationError, HeadraceError
from service.lines.life import Life
from service.lines.retraction import retract
from service.storage import units
from service.storage.naming import Named
from service.storage.retraction import TAKEN_BACK
from service.storage.retrial import retrial, told

R = TypeVar("R")

Answer = dict[str, Any]


async def _reset(life: Life, _: Answer) -> Answer:
    unit = units.reset(life.machinery.layout, life.job.name)
    await life.between(lambda: life.settle(unit))
    return {}


async def _retract(life: Life, request: Answer) -> Answer:
    if life.errand.named is not None:
        raise HeadraceError("`headrace train` runs in this root: ask again when it has ended")
    return dict((await retract(life, _named(request))).told())


async def _retry(life: Life, request: Answer) -> Answer:
    layout, job = life.machinery.layout, life.job.name
    async with life.opening:
        asked = life.machinery.writer.submit(retrial(layout, job, _named(request)))
        retried = await _to_its_end(asked)
        life.status.failed -= sum(row.refusal != asdict(TAKEN_BACK) for row in retried.rows)
    answer = told(retried)
    life.machinery.log.write("tried again", job=job, **answer)
    return answer


async def _to_its_end(asked: Future[R]) -> R:
    """Waits for a unit: who is cancelled before it is begun takes it back, and waits for it all the same after that."""
    try:
        return await asyncio.shield(asyncio.wrap_future(asked))
    except asyncio.CancelledError:
        if asked.cancelled() or asked.cancel():
            raise
        return await asyncio.wrap_future(asked)


def _named(request: Answer) -> list[Named]:
    try:
        named = [Named(str(typed), str(path)) for typed, path in request["files"]]
    except (KeyError, TypeError, ValueError):
        raise ConfigurationError("FILE: must be pairs of a name and a path") from None
    if not named:
        raise ConfigurationError("FILE: must be at least one")
    return named


ORDERS: dict[str, Callable[[Life, Answer], Awaitable[Answer]]] = {
    "reset": _reset,
    "retract": _retract,
    "retry": _retry,
}
