"""Which files are open, and which names wait."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from service.core.ledger import Listing, Undecided


def test_an_earlier_file_may_be_the_same_until_its_digest_says_otherwise() -> None:
    undecided = Undecided()
    for admission in (1, 2, 3, 4):
        undecided.opened(admission)
    undecided.known(1, "a")
    undecided.known(2, "b")
    undecided.known(4, "a")  # later: no matter to the one before it
    assert undecided.repeating({3: "a"}) == {3}
    assert undecided.repeating({2: "b", 3: "c", 4: "b"}) == {4}
    assert undecided.repeating({1: "a", 2: "b"}) == set()
    undecided.decided(1)
    undecided.decided(1)
    undecided.known(1, "a")  # too late to be heard
    assert undecided.repeating({3: "a"}) == set()
    assert undecided.repeating({4: "c"}) == {4}, "what 3 holds is not known yet"


@given(names=st.lists(st.binary(max_size=6), max_size=50, unique=True), most=st.integers(1, 7))
def test_a_listing_gives_each_name_once_in_the_order_of_bytes(
    names: list[bytes], most: int
) -> None:
    listing = Listing()
    listing.refill(names)
    taken: list[bytes] = []
    while listing:
        part = listing.take(most)
        assert len(part) <= most
        taken += part
    assert taken == sorted(names)
    assert listing.take(most) == []


def test_what_is_struck_from_a_listing_is_not_given() -> None:
    listing = Listing()
    listing.refill([b"c", b"a", b"b"])
    listing.strike([b"a", b"never there"])
    assert len(listing) == 2
    assert listing.take(2) == [b"b", b"c"]
    assert not listing
