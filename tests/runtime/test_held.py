"""Holds and slots: regions go back once, and every job always gets on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from service.runtime.arena import Arena, Region
from service.runtime.held import Held, Slots, reserve

JOBS = ("a", "b", "c")
SHARED = 1
REGION = Region("nowhere", 1, 0, 4096)


def test_the_last_hold_gives_the_region_back_once() -> None:
    given_back: list[Region] = []
    held = Held(REGION, given_back.append)
    held.hold().hold().drop()
    held.drop()
    assert given_back == []
    assert repr(held) == "<Held 4096 bytes at 0, 1 holds>"
    held.drop()
    assert given_back == [REGION]
    for misuse in (held.drop, held.hold):
        with pytest.raises(ValueError, match="region"):
            misuse()


def test_a_reserved_region_goes_back_to_its_arena() -> None:
    with Arena() as arena:
        held = reserve(arena, 5000)
        assert arena.reserved_bytes >= 5000
        held.drop()
        assert arena.reserved_bytes == 0


class SlotsMachine(RuleBasedStateMachine):
    """Random jobs ask, decode, pass on, train and let go; the model is a count of what each holds."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.arena = Arena()
        self.slots = Slots(self.arena, SHARED)
        self.asking: dict[str, list[asyncio.Task[tuple[Held, bool]]]] = {job: [] for job in JOBS}
        self.decoding: dict[str, list[Held]] = {job: [] for job in JOBS}
        self.passed: dict[str, list[Held]] = {job: [] for job in JOBS}
        self.dry: set[str] = set()

    def turns(self) -> None:
        async def some() -> None:
            for _ in range(6):
                await asyncio.sleep(0)

        self.loop.run_until_complete(some())
        for job in JOBS:
            for task in [task for task in self.asking[job] if task.done()]:
                self.asking[job].remove(task)
                if not task.cancelled():
                    self.decoding[job].append(task.result()[0])

    @rule(job=st.sampled_from(JOBS), nbytes=st.sampled_from((100, 5000, 9000)))
    def ask(self, job: str, nbytes: int) -> None:
        if not self.asking[job]:  # a job's decode asks for one slot at a time
            self.asking[job].append(self.loop.create_task(self.slots.acquire(job, nbytes)))
        self.turns()

    @rule(job=st.sampled_from(JOBS))
    def give_up(self, job: str) -> None:
        for task in self.asking[job]:
            task.cancel()
        self.turns()

    @rule(job=st.sampled_from(JOBS))
    def pass_on(self, job: str) -> None:
        if self.decoding[job]:
            self.passed[job].append(self.decoding[job].pop(0))
            self.slots.decoded(job)
            self.slots.dry(job, False)
            self.dry.discard(job)
        self.turns()

    @rule(job=st.sampled_from(JOBS))
    def let_go(self, job: str) -> None:
        if self.passed[job]:
            self.passed[job].pop(0).drop()
        self.turns()

    @rule(job=st.sampled_from(JOBS))
    def run_dry(self, job: str) -> None:
        self.slots.dry(job, True)
        self.dry.add(job)
        self.turns()

    @invariant()
    def no_job_waits_that_has_nothing(self) -> None:
        for job in JOBS:
            if self.asking[job]:
                assert self.decoding[job] or self.passed[job], (
                    f"{job} waits without a slot: {self.slots}"
                )
                assert self.decoding[job] or job not in self.dry, (
                    f"{job} has run dry and waits: {self.slots}"
                )

    @invariant()
    def whoever_may_have_a_slot_has_it(self) -> None:
        held = [len(self.decoding[job]) + len(self.passed[job]) for job in JOBS]
        if sum(count - 1 for count in held if count) < SHARED:
            assert not any(self.asking.values()), f"somebody waits for a free slot: {self.slots}"

    def teardown(self) -> None:
        for job in JOBS:
            self.give_up(job)
            for held in self.decoding[job]:
                self.slots.decoded(job)
                held.drop()
            for held in self.passed[job]:
                held.drop()
        assert repr(self.slots) == f"<Slots {{}} held, 0 waiting, {SHARED} shared>"
        self.slots.close()
        assert self.arena.reserved_bytes == 0
        self.arena.close()
        self.loop.close()


def test_every_job_gets_on_whatever_the_others_do() -> None:
    run_state_machine_as_test(
        SlotsMachine, settings=settings(max_examples=60, stateful_step_count=30, deadline=None)
    )


def _lived(scene: Callable[[Slots], Any]) -> None:
    async def life() -> None:
        with Arena() as arena:
            await scene(Slots(arena, 2))

    asyncio.run(life())


def test_the_shared_slots_bound_what_is_decoded_ahead() -> None:
    async def scene(slots: Slots) -> None:
        for job in ("a", "a", "a", "b"):  # one each, and the two that are shared
            await slots.acquire(job, 10)
        for job in ("a", "b"):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await slots.acquire(job, 10)
        _, waited_for = await slots.acquire("c", 10)
        assert waited_for

    _lived(scene)


def test_a_slot_is_waited_for_by_a_job_without_one_and_ahead_for_another() -> None:
    async def scene(slots: Slots) -> None:
        first, waited_for = await slots.acquire("a", 10)
        _, ahead = await slots.acquire("a", 10)
        assert (waited_for, ahead) == (True, False)
        first.drop()

    _lived(scene)


def test_a_slot_that_was_given_back_is_used_again() -> None:
    async def scene(slots: Slots) -> None:
        first, _ = await slots.acquire("a", 5000)
        region = first.region
        first.drop()
        again, _ = await slots.acquire("a", 4000)
        assert again.region == region

    _lived(scene)


def test_a_reservation_that_fails_leaves_no_claim() -> None:
    async def scene(slots: Slots) -> None:
        with pytest.raises(Exception, match="arena"):
            await slots.acquire("a", 1 << 60)
        assert "{}" in repr(slots)
        _, waited_for = await slots.acquire("a", 10)
        assert waited_for

    _lived(scene)
