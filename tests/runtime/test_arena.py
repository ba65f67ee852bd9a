"""Shared memory: regions never overlap, are reserved before use, and are given back."""

from __future__ import annotations

import errno
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pool_subtasks as subtasks
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pool_meeting import PATIENCE_SECONDS

from service.core.errors import ArenaFull
from service.runtime.arena import PAGE_BYTES, Arena, Region, arrays, back, size_of, view
from service.runtime.pool import Pool

PAGE = 4096
LAYOUT = {"x": ((3, 5), "<f8"), "y": ((3,), "<f4"), "none": ((0, 7), "<i8"), "n": ((), "<i8")}


@pytest.fixture
def arena() -> Iterator[Arena]:
    with Arena() as arena:
        yield arena


def _allocated(region: Region) -> int:
    return os.stat(region.path).st_blocks * 512


# --- programs -------------------------------------------------------------------------------------

LIMIT = 24 * PAGE
KEEP = 8 * PAGE

programs = st.lists(
    st.one_of(
        st.tuples(st.just("reserve"), st.integers(0, 10 * PAGE)),
        st.tuples(st.just("release"), st.integers(0, 30)),
    ),
    max_size=40,
)


@given(programs)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_program_keeps_regions_apart_and_accounts_exact(
    program: list[tuple[str, int]],
) -> None:
    with Arena(limit_bytes=LIMIT, keep_bytes=KEEP) as arena:
        live: list[tuple[Region, int]] = []
        probe = arena.reserve(1)
        arena.release(probe)
        for step, (operation, number) in enumerate(program):
            if operation == "reserve":
                used = sum(-(-max(region.length, 1) // PAGE) * PAGE for region, _ in live)
                needed = -(-max(number, 1) // PAGE) * PAGE
                try:
                    region = arena.reserve(number)
                except ArenaFull:
                    assert used + needed > LIMIT
                    continue
                assert used + needed <= LIMIT
                assert region.length == number
                assert region.offset % PAGE == 0
                view(region)[:] = step % 251
                live.append((region, step % 251))
            elif live:
                region, _ = live.pop(number % len(live))
                arena.release(region)
            for region, mark in live:
                assert (view(region) == mark).all()
            assert arena.reserved_bytes == sum(
                -(-max(region.length, 1) // PAGE) * PAGE for region, _ in live
            )
            assert arena.kept_bytes <= KEEP
            assert _allocated(probe) == arena.reserved_bytes + arena.kept_bytes


# --- limits ---------------------------------------------------------------------------------------


def test_a_region_beyond_the_limit_is_refused(arena: Arena) -> None:
    with Arena(limit_bytes=PAGE) as small:
        small.reserve(PAGE)
        with pytest.raises(
            ArenaFull, match="regions fit its limit of 4096 bytes, got 4096 more on 4096"
        ):
            small.reserve(1)


def test_a_region_larger_than_the_address_space_is_refused(arena: Arena) -> None:
    with pytest.raises(ArenaFull):
        arena.reserve(1 << 40)
    assert arena.reserved_bytes == 0


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.ENOMEM])
def test_a_full_machine_is_an_error_and_leaves_the_accounts_as_they_were(
    arena: Arena, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: int) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", refuse)
        with pytest.raises(ArenaFull, match=f"8192 bytes of a region, got {os.strerror(number)}"):
            arena.reserve(2 * PAGE)
    assert arena.reserved_bytes == 0
    assert arena.reserve(2 * PAGE).offset == 0


def test_what_is_kept_gives_way_when_the_machine_is_full(
    arena: Arena, monkeypatch: pytest.MonkeyPatch
) -> None:
    allocate = os.posix_fallocate
    arena.release(arena.reserve(PAGE))

    def refuse_while_kept(fd: int, offset: int, length: int) -> None:
        if arena.kept_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        allocate(fd, offset, length)

    monkeypatch.setattr(os, "posix_fallocate", refuse_while_kept)
    assert arena.reserve(2 * PAGE).length == 2 * PAGE
    assert arena.kept_bytes == 0


def test_another_error_of_the_machine_is_not_hidden(
    arena: Arena, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", refuse)
        with pytest.raises(OSError, match="Input/output error"):
            arena.reserve(1)
    assert arena.reserved_bytes == 0


def test_a_released_region_serves_again_without_new_pages(arena: Arena) -> None:
    first = arena.reserve(10 * PAGE)
    arena.release(first)
    assert arena.reserve(4 * PAGE).offset == first.offset
    assert arena.reserve(6 * PAGE).offset == first.offset + 4 * PAGE
    assert _allocated(first) == 10 * PAGE


def test_a_full_address_space_takes_back_what_is_kept() -> None:
    with Arena(keep_bytes=1 << 40) as arena:
        everything = arena.reserve(1 << 38, backed=False)
        arena.release(everything)
        small = arena.reserve(PAGE, backed=False)
        arena.reserve((1 << 38) - PAGE, backed=False)
        with pytest.raises(ArenaFull):
            arena.reserve(1, backed=False)
        arena.release(small)


# --- regions that are backed later ----------------------------------------------------------------


def test_a_region_that_is_not_backed_takes_no_memory_until_it_is(arena: Arena) -> None:
    region = arena.reserve(1 << 30, backed=False)
    assert _allocated(region) == 0
    assert arena.reserved_bytes == 1 << 30
    back(region, PAGE + 1)
    back(region, 1)
    assert _allocated(region) == 2 * PAGE


def test_what_was_never_backed_is_no_memory_that_is_kept() -> None:
    with Arena(keep_bytes=4 * PAGE_BYTES) as arena:
        roomy = arena.reserve(1 << 30, backed=False)
        back(roomy, 2 * PAGE_BYTES)
        arena.release(roomy)
        assert _allocated(roomy) == 2 * PAGE_BYTES  # its pages serve the next one
        full = arena.reserve(8 * PAGE_BYTES)
        arena.release(full)
        assert _allocated(full) <= 4 * PAGE_BYTES


def test_a_region_is_backed_although_its_room_was_kept_without_memory(arena: Arena) -> None:
    arena.release(arena.reserve(4 * PAGE, backed=False))
    region = arena.reserve(4 * PAGE)
    assert _allocated(region) == 4 * PAGE


def test_more_than_a_region_cannot_be_backed(arena: Arena) -> None:
    region = arena.reserve(10, backed=False)
    with pytest.raises(ValueError, match="fits its region of 10 bytes, got 11 bytes"):
        back(region, 11)


def test_a_worker_that_finds_no_memory_to_back_a_region_is_told_so(
    arena: Arena, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = sorted(os.listdir("/proc/self/fd"))
    region = arena.reserve(10, backed=False)
    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", refuse)
        with pytest.raises(ArenaFull, match="10 bytes of a region, got No space left on device"):
            back(region, 10)
    assert sorted(os.listdir("/proc/self/fd")) == before


# --- misuse ---------------------------------------------------------------------------------------


def test_a_second_release_is_refused(arena: Arena) -> None:
    region = arena.reserve(1)
    arena.release(region)
    with pytest.raises(ValueError, match="a region is reserved when it is released"):
        arena.release(region)


def test_a_region_of_another_arena_is_refused(arena: Arena) -> None:
    with Arena() as other:
        arena.reserve(1)
        with pytest.raises(ValueError, match="a region is reserved"):
            arena.release(other.reserve(1))


def test_a_closed_arena_gives_nothing_and_its_memory_is_gone() -> None:
    arena = Arena()
    region = arena.reserve(1)
    memory = view(region)
    memory[:] = 7
    arena.close()
    arena.close()
    with pytest.raises(ValueError, match="got a closed one"):
        arena.reserve(1)
    assert memory[0] == 0  # punched, and still no SIGBUS for whoever looks
    with pytest.raises(OSError, match=r"No such file|regions, got another"):
        view(region)


def test_a_later_arena_under_the_same_descriptor_is_not_taken_for_the_first() -> None:
    with Arena() as first:
        stale = first.reserve(1)
        view(stale)[:] = 1
    with Arena() as second:
        fresh = second.reserve(1)
        assert fresh.path == stale.path
        assert view(fresh)[0] == 0
        with pytest.raises(OSError, match="the file of its regions, got another"):
            view(stale)


def test_an_arena_leaves_no_descriptor_behind() -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    with Arena() as arena:
        view(arena.reserve(1))[:] = 1
    assert sorted(os.listdir("/proc/self/fd")) == before


# --- arrays ---------------------------------------------------------------------------------------


def test_arrays_have_their_shapes_and_lie_aligned_and_apart(arena: Arena) -> None:
    region = arena.reserve(size_of(LAYOUT))
    found = arrays(region, LAYOUT)
    assert {name: (array.shape, array.dtype.str) for name, array in found.items()} == LAYOUT
    for at, array in enumerate(found.values()):
        assert array.ctypes.data % 64 == 0
        assert array.flags.c_contiguous
        assert array.flags.writeable
        array[...] = at
    for at, array in enumerate(arrays(region, LAYOUT).values()):
        assert (array == at).all()


def test_a_layout_larger_than_its_region_is_refused(arena: Arena) -> None:
    region = arena.reserve(size_of(LAYOUT) - 1)
    with pytest.raises(ValueError, match="a layout fits its region of 255 bytes, got 256 bytes"):
        arrays(region, LAYOUT)


def test_objects_are_refused_since_a_pointer_means_nothing_elsewhere(arena: Arena) -> None:
    with pytest.raises(ValueError, match="plain numbers, got dtype O"):
        arrays(arena.reserve(PAGE), {"objects": ((1,), "O")})


def test_an_empty_region_is_a_region(arena: Arena) -> None:
    region = arena.reserve(0)
    assert view(region).shape == (0,)
    assert arrays(region, {"x": ((0, 3), "<f8")})["x"].shape == (0, 3)
    arena.release(region)


# --- other processes ------------------------------------------------------------------------------


def test_a_region_is_a_small_message() -> None:
    region = Region("/proc/1234567/fd/123", 1 << 40, 1 << 37, 1 << 30)
    assert pickle.loads(pickle.dumps(region)) == region
    assert len(pickle.dumps(region)) < 200


def test_a_worker_sees_what_the_daemon_wrote_and_the_other_way_round(
    arena: Arena, make_pool: Callable[..., Pool]
) -> None:
    pool = make_pool()
    region = arena.reserve(size_of(LAYOUT))
    for array in arrays(region, LAYOUT).values():
        array[...] = 2
    total = pool.submit(subtasks.total, region, LAYOUT).result(PATIENCE_SECONDS)
    assert total == 2 * (15 + 3 + 1)
    pool.submit(subtasks.fill, region, 9).result(PATIENCE_SECONDS)
    assert (view(region) == 9).all()


def test_a_worker_with_little_address_space_sees_it_too(
    arena: Arena, make_pool: Callable[..., Pool]
) -> None:
    arena.reserve(3 * PAGE)
    region = arena.reserve(PAGE + 1)
    view(region)[:] = 3
    future = make_pool().submit(subtasks.total_in_a_small_space, region)
    assert future.result(PATIENCE_SECONDS) == 3 * (PAGE + 1)


def test_a_machine_that_grants_less_address_space_has_a_smaller_arena(
    make_pool: Callable[..., Pool],
) -> None:
    future = make_pool().submit(subtasks.arena_in_a_small_space, 16 << 30)
    assert future.result(PATIENCE_SECONDS) == 1 << 20


def test_a_machine_that_grants_none_is_told_so(make_pool: Callable[..., Pool]) -> None:
    future = make_pool().submit(subtasks.arena_in_a_small_space, 1 << 29)
    with pytest.raises(ArenaFull, match="a process may map"):
        future.result(PATIENCE_SECONDS)


def test_a_killed_owner_leaves_no_memory_behind() -> None:
    program = (
        "import os, signal\n"
        "from service.runtime.arena import Arena, view\n"
        "arena = Arena(); region = arena.reserve(1 << 20); view(region)[:] = 1\n"
        "print(region.path, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        check=False,
    )
    assert done.stdout.startswith("/proc/")
    assert not os.path.exists(done.stdout.strip())


def test_a_worker_core_file_would_not_hold_the_arena(arena: Arena) -> None:
    region = arena.reserve(PAGE)
    address = view(region).ctypes.data - region.offset
    lines = Path("/proc/self/smaps").read_text().splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith(f"{address:x}-"))
    flags = next(line for line in lines[start:] if line.startswith("VmFlags"))
    assert "dd" in flags.split()


def test_the_array_outlives_the_cache_of_mappings(arena: Arena) -> None:
    region = arena.reserve(PAGE)
    memory = view(region)
    others = [Arena() for _ in range(6)]
    for other in others:
        view(other.reserve(1))[:] = 1
    memory[:] = 5
    assert np.array_equal(view(region), memory)
    for other in others:
        other.close()
