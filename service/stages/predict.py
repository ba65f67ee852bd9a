"""Predict: files that people drop into predict/ come out as predictions of the newest model.

    predict/<job>/NAME ─▶ survey (thread) ─▶ chunks ─▶ predict (worker) ─▶ predictions/<job>/NAME.csv

Rules: a prediction changes nothing, so nothing of it is journalled: what a crash cuts short is done again
from the start. The result appears whole or not at all; then its file moves to predictions/<job>/inputs.
All rows of a file are predicted by one model, the newest when the file was begun.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import closing, suppress
from dataclasses import asdict

import aiofiles

from service import formats
from service.core.errors import (
    FileRefused,
    Refusal,
    Stopped,
    StorageDamaged,
    WorkerError,
    poisoned,
)
from service.core.layout import shown
from service.core.records import rejected_rows
from service.core.settings import Rows
from service.formats.contract import Source
from service.runtime.arena import view
from service.runtime.dispatch import Urgency
from service.runtime.inbox import Found
from service.stages.bad_rows import BadRows, row_rules
from service.stages.line import Line
from service.stages.messages import Rejected
from service.stages.watched import Watched
from service.storage import disk, failed, moves
from service.storage.moves import Was
from service.subtasks import predict as predicting

TRY_AGAIN_SECONDS = 1.0


async def predict(line: Line, watched: Watched, rows: Rows, *, delete: bool) -> None:
    """Predicts files until the line stops, or there is nothing left to wait for."""
    current = line.machinery.layout.current(line.job)
    while not line.stopping.is_set():
        try:
            look = await line.patiently(watched.look)
        except Stopped:
            return
        if look.ready and not await asyncio.to_thread(current.exists):
            if watched.once:
                return  # no model came: the files wait for one
            await watched.wait(look, TRY_AGAIN_SECONDS)
            continue
        for found in look.ready:
            if not line.stopping.is_set():
                with suppress(Stopped):
                    await line.patiently(_File(line, found, rows, delete).predict)
        if watched.is_done(look):
            return
        if not look.ready:
            await watched.wait(look)


class _File:
    """One file to predict."""

    def __init__(self, line: Line, found: Found, rows: Rows, delete: bool) -> None:
        layout, job = line.machinery.layout, line.job
        self.line = line
        self.found = found
        self.rows = rows
        self.delete = delete
        self.rejected = Rejected()  # known when its rows are predicted
        self.path = layout.predict(job) / os.fsdecode(found.name)
        self.scratch = layout.work(job) / f"predict-{found.inode}.unpacked"
        self.result = disk.temporary(layout.predictions(job))

    async def predict(self) -> None:
        try:
            with disk.scarcity_border("predict", self.path):
                await self._predict()
        except FileRefused as refused:
            await asyncio.to_thread(self._refuse, refused.refusal)
            self.line.note(
                "prediction refused", file=shown(self.found.name), **asdict(refused.refusal)
            )
        except WorkerError as error:
            self.line.lost(error)
            await asyncio.to_thread(self._refuse, poisoned(error, "predicts").refusal)
        except (FileNotFoundError, Stopped):
            return  # taken back, or pruned, or we stop: it is looked at again
        except StorageDamaged as error:
            self.line.note(
                "prediction failed: tried again", file=shown(self.found.name), error=str(error)
            )
            await asyncio.sleep(TRY_AGAIN_SECONDS)
        finally:
            for path in (self.scratch, self.result):
                await asyncio.to_thread(path.unlink, missing_ok=True)

    async def _predict(self) -> None:
        line, run = self.line, self.line.machinery.dispatcher.run
        self.rejected = Rejected()
        opened = await asyncio.to_thread(self._open)
        try:
            model = await asyncio.to_thread(line.machinery.layout.current(line.job).resolve)
            need = await run(predicting.needs, str(model), job=line.job)
            source = await run(
                formats.prepare,
                f"/proc/{os.getpid()}/fd/{opened}",
                os.fsdecode(self.found.name),
                str(self.scratch),
                need.fields,
                line.machinery.limits,
                job=line.job,
            )
            rows = await self._write(str(model), need, source)
        finally:
            os.close(opened)
        # Each step alone, so that what is scarce in the second does not repeat the first.
        inode = await line.patiently(lambda: asyncio.to_thread(self._flush))
        await line.patiently(lambda: asyncio.to_thread(self._publish, inode))
        await line.patiently(lambda: asyncio.to_thread(self._list))
        await line.patiently(lambda: asyncio.to_thread(self._put_away))
        line.note(
            "predicted",
            file=shown(self.found.name),
            rows=rows,
            rejected=self.rejected.count,
            model_sha256=need.sha256,
        )

    def _open(self) -> int:
        """The file itself, not what its name may stand for a moment later."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            opened = os.open(self.path, flags)
        except FileNotFoundError:
            raise
        except OSError as error:
            if disk.scarcity(error):
                raise  # nothing is wrong with the file
            raise FileRefused(
                "a file to predict is a plain, readable file",
                place="the file itself",
                value=error.strerror or str(error),
                remedy="copy the content",
            ) from None
        if not os.path.isfile(f"/proc/self/fd/{opened}"):
            os.close(opened)
            raise FileRefused(
                "a file to predict is a plain file",
                place="the file itself",
                remedy="copy the content",
            )
        return opened

    async def _write(self, model: str, need: predicting.Needs, source: Source) -> int:
        """Writes all predictions to the hidden result; returns the rows."""
        survey = formats.Survey(source, self.line.conduct.chunk_bytes)
        rows = BadRows(source, self.rows)
        async with aiofiles.open(self.result, "wb") as out:
            with closing(survey), disk.storage_border("write", self.result):
                await out.write(need.header)
                while (chunk := await asyncio.to_thread(next, survey, None)) is not None:
                    if self.line.stopping.is_set():
                        raise Stopped
                    text = self.line.reserve(predicting.room(need, source, chunk))
                    try:
                        done = await self.line.machinery.dispatcher.run(
                            predicting.predict,
                            model,
                            need.sha256,
                            source,
                            chunk,
                            row_rules(self.rows),
                            rows.rows_seen,
                            text.region,
                            job=self.line.job,
                            urgency=Urgency.NOW,
                        )
                        rows.check(done)
                        await out.write(view(text.region)[: done.bytes].data)
                    finally:
                        text.drop()
                    rows.add(done)
        self.rejected = rows.found
        rows.finish()
        return rows.rows_seen

    def _flush(self) -> int:
        with disk.storage_border("open", self.result):
            result = os.open(self.result, os.O_RDONLY | os.O_CLOEXEC)
        try:
            disk.fsync(result, self.result)
            return os.fstat(result).st_ino
        finally:
            os.close(result)

    def _publish(self, inode: int) -> None:
        folder = self.line.machinery.layout.predictions(self.line.job)
        moves.settle(self.result, folder, self.found.name + b".csv", was=Was(inode))

    def _put_away(self) -> None:
        layout, job = self.line.machinery.layout, self.line.job
        if self.delete:
            moves.discard(self.path)
            return
        inputs = layout.predictions(job) / "inputs"
        with disk.storage_border("make the folder", inputs):
            inputs.mkdir(exist_ok=True)
        moves.settle(self.path, inputs, self.found.name, was=Was(self.found.inode))

    def _refuse(self, refusal: Refusal) -> None:
        layout, name = self.line.machinery.layout, self.found.name
        job, path = self.line.job, self.path
        self._list(failed.reject(layout, job, path, name, asdict(refusal)))

    def _list(self, beside: bytes | None = None) -> None:
        """Lists the bad rows in failed/, beside the file where it lies there."""
        layout, job, name = self.line.machinery.layout, self.line.job, self.found.name
        if found := self.rejected.count:
            text = rejected_rows(shown(name), None, self.rejected.listed, found)
            failed.list_predicted(layout, job, beside or name, text, is_beside=bool(beside))
