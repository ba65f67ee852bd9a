"""The pulse notices when the loop was away."""

from __future__ import annotations

import asyncio
import time

from service.runtime.pulse import Pulse

AWAY_SECONDS = 0.2


def test_the_longest_time_that_the_loop_was_away_is_kept() -> None:
    async def scene() -> float:
        pulse = Pulse()
        beating = asyncio.create_task(pulse.run())
        await asyncio.sleep(0)
        time.sleep(AWAY_SECONDS)  # noqa: ASYNC251 the loop is to be blocked
        while pulse.longest_seconds == 0.0:  # noqa: ASYNC110 until the next beat
            await asyncio.sleep(0)
        seen = pulse.longest_seconds
        await asyncio.sleep(0.02)
        assert pulse.longest_seconds >= seen
        beating.cancel()
        return seen

    assert asyncio.run(scene()) >= AWAY_SECONDS / 2
