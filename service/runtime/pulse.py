"""Measures how long the event loop was ever away: the longest pause between two of its turns."""

from __future__ import annotations

import asyncio
import time

BEAT_SECONDS = 0.005


class Pulse:
    """`longest_seconds` is the longest delay of a beat since the start, beyond the beat itself."""

    def __init__(self) -> None:
        self.longest_seconds = 0.0

    async def run(self) -> None:
        """Beats until it is cancelled."""
        last = time.perf_counter()
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            now = time.perf_counter()
            self.longest_seconds = max(self.longest_seconds, now - last - BEAT_SECONDS)
            last = now
