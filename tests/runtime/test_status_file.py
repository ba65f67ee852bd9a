"""status.json: replaced whole, and no file left open or half written by whoever stops writing it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from service.runtime.status_file import StatusFile


def test_it_is_written_to_its_end_when_it_is_cancelled_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "status.json"

    async def run() -> None:
        begun = asyncio.Event()

        def status() -> dict[str, str]:
            begun.set()
            return {"state": "running"}

        keeping = asyncio.create_task(StatusFile(path, status).keep_written())
        await begun.wait()  # it has been asked for, and no thread has written it yet
        keeping.cancel()
        await asyncio.wait([keeping])
        assert keeping.cancelled()

    asyncio.run(run())
    assert json.loads(path.read_text()) == {"state": "running"}
    assert [file.name for file in tmp_path.iterdir()] == ["status.json"]
