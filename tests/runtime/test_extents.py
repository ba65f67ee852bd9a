"""Free ranges against a plain set of bytes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from service.runtime.extents import Extents

SIZE = 12  # small, so that neighbours meet

operations = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, SIZE - 1), st.integers(1, SIZE)),
        st.tuples(st.just("take_first"), st.integers(1, SIZE), st.just(0)),
        st.tuples(st.just("take_last"), st.integers(-1, SIZE), st.just(0)),
    ),
    max_size=40,
)


def _runs(free: set[int]) -> list[tuple[int, int]]:
    starts = [at for at in sorted(free) if at - 1 not in free]
    stops = [at + 1 for at in sorted(free) if at + 1 not in free]
    return [(start, stop - start) for start, stop in zip(starts, stops, strict=True)]


@given(operations)
def test_any_program_agrees_with_a_set_of_bytes(program: list[tuple[str, int, int]]) -> None:
    extents = Extents()
    free: set[int] = set()
    for operation, a, b in program:
        if operation == "add":
            wanted = set(range(a, min(a + b, SIZE)))
            if not wanted & free:
                extents.add(a, len(wanted))
                free |= wanted
        elif operation == "take_first":
            fits = [start for start, length in _runs(free) if length >= a]
            assert extents.take_first(a) == (fits[0] if fits else None)
            free -= set(range(fits[0], fits[0] + a)) if fits else set()
        else:
            cut = extents.take_last(a)
            if cut is None:
                assert not free or a <= 0
            else:
                start, length = cut
                assert 0 < length <= a
                assert start + length == max(free) + 1
                free -= set(range(start, start + length))
        assert list(extents) == _runs(free)
        assert extents.total == len(free)
