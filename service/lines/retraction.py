"""Takes files back out of a running job's model.

    plan, while the job goes on ─▶ look at the files (thread) ─▶ plan again, between two lines ─▶ retraction

Rules: reading what must be learnt again may take long, and the job does not wait for it. What it has learnt meanwhile is
little, and is looked at while no line runs; if it is much after all, everything begins again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from service.core.errors import HeadraceError
from service.lines.life import Life
from service.lines.opening import keep
from service.storage import units
from service.storage.archive import Kept, Lost, look_at
from service.storage.naming import Named
from service.storage.retraction import Plan, Retracted, planning, refuse_lost, retraction
from service.storage.tables import FileState

LITTLE_BYTES = 64 << 20
"""What may be read while the job stands still: a blink of an eye."""


async def retract(life: Life, named: Collection[Named]) -> Retracted:
    """Takes the files back; the job's next line learns again what came after them.

    Raises ConfigurationError where a name is wrong, HeadraceError where a file that must be learnt again is not there.
    """
    layout, job = life.machinery.layout, life.job.name
    found: dict[int, Kept | Lost] = {}

    async def look_ahead(plan: Plan) -> None:
        """At what lies still: learnt files that have come to their places."""
        still = [f for f in plan.files if f.state is FileState.ACCEPTED and f.settled]
        found.update(await asyncio.to_thread(look_at, layout, still, found))
        await asyncio.to_thread(refuse_lost, layout, plan, found)

    async def carry_out() -> Retracted | None:
        plan = await life.settle(planning(layout, job, named))
        if sum(f.size for f in plan.again if f.admission not in found) > LITTLE_BYTES:
            return None
        found.update(await asyncio.to_thread(look_at, layout, plan.files, found))
        await asyncio.to_thread(refuse_lost, layout, plan, found)
        await life.settle(units.drop_private(layout, job))
        rotate_bytes = keep(life.settings).rotate_bytes
        done = await life.settle(retraction(layout, plan, found, rotate_bytes=rotate_bytes))
        log = life.machinery.log  # here: whoever asked may have gone meanwhile
        for name in done.renewed:
            log.write("a result log was gone: begun anew", job=job, log=name)
        log.write("retracted", job=job, **done.told())
        return done

    while not life.leaving:
        await look_ahead(await life.settle(planning(layout, job, named)))
        done = await life.between(carry_out)
        if done is not None:
            return done
    raise HeadraceError(f"{job}: the daemon is stopping; ask again when it runs, or has ended")
