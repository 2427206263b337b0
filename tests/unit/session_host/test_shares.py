"""How sessions spread over hosts."""

from uuid import uuid4

from hypothesis import given
from hypothesis import strategies as st

from session_host.shares import PATIENCE_S, Level, share_of
from shared.db.hosts import LiveHost
from shared.domain.ids import ConnectionId, HostId


def a_host(name: str, *, capacity: int, sessions: int) -> LiveHost:
    return LiveHost(id=HostId(name), address="http://127.0.0.1:1", capacity=capacity, sessions=sessions)


fleets = st.lists(st.tuples(st.integers(1, 50), st.integers(0, 50)), min_size=1, max_size=8).map(
    lambda given: [
        a_host(f"{n}", capacity=capacity, sessions=min(held, capacity)) for n, (capacity, held) in enumerate(given)
    ]
)


@given(fleets, st.integers(0, 100))
def test_the_parts_together_hold_every_session_as_far_as_there_is_room(fleet: list[LiveHost], free: int) -> None:
    parts = [share_of(host.id, fleet, free=free) for host in fleet]

    room = sum(host.capacity for host in fleet)
    assert sum(parts) >= min(sum(host.sessions for host in fleet) + free, room)
    assert all(part <= host.capacity for part, host in zip(parts, fleet, strict=True))


@given(fleets)
def test_moves_from_those_with_too_many_to_those_with_fewer_come_to_an_end(fleet: list[LiveHost]) -> None:
    held = {host.id: host.sessions for host in fleet}
    parts = {host.id: share_of(host.id, fleet, free=0) for host in fleet}

    moves = 0
    while giver := next((one for one in held if held[one] > parts[one]), None):
        taker = next(one for one in held if held[one] < parts[one])
        held[giver], held[taker], moves = held[giver] - 1, held[taker] + 1, moves + 1

    assert moves <= sum(host.sessions for host in fleet)


def test_a_host_that_is_not_alive_has_no_part() -> None:
    assert share_of(HostId("gone"), [a_host("a", capacity=5, sessions=1)], free=3) == 0


def test_free_sessions_are_taken_up_to_the_part_and_beyond_it_once_nobody_else_took_them() -> None:
    level, free = Level(settle_s=10), [ConnectionId(uuid4()) for _ in range(4)]

    at_first = level.takes(free, share=3, held=1, room=10, now_s=0)
    later = level.takes(free[2:], share=3, held=3, room=10, now_s=1)
    at_last = level.takes(free[2:], share=3, held=3, room=1, now_s=1 + PATIENCE_S)

    assert at_first == free[:2]
    assert later == []
    assert at_last == free[2:3]


def test_what_is_too_much_is_given_only_when_it_was_so_for_a_while_and_nobody_waits() -> None:
    level = Level(settle_s=10)

    gifts = [
        level.gives(share=5, held=5, free=0, now_s=0),
        level.gives(share=3, held=5, free=0, now_s=1),
        level.gives(share=3, held=5, free=0, now_s=9),
        level.gives(share=3, held=5, free=1, now_s=11),
        level.gives(share=3, held=5, free=0, now_s=12),
        level.gives(share=5, held=4, free=0, now_s=13),
        level.gives(share=3, held=4, free=0, now_s=14),
    ]

    assert gifts == [0, 0, 0, 0, 2, 0, 0]
