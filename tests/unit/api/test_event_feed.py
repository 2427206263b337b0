"""How often the event log is looked at, and what of it is kept in memory."""

from datetime import UTC, datetime
from uuid import uuid4

from api.event_feed import Told, Window, _Pace
from shared.db.events import Event, Wanted
from shared.domain.ids import DEFAULT_TENANT, EventId

_ALL = Wanted(tenant_id=DEFAULT_TENANT)


def _told(position: int, *, type_: str = "message.sent") -> Told:
    event = Event(
        id=EventId(uuid4()),
        position=position,
        tenant_id=DEFAULT_TENANT,
        connection_id=None,
        type=type_,
        category=type_.partition(".")[0],
        severity="info",
        payload={},
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    return Told(event, b"%d " % position)


def _paces(*looks: tuple[bool, bool]) -> list[float]:
    pace = _Pace()
    return [pace.next_s(has_moved=moved, is_waiting=waiting) for moved, waiting in looks]


def test_it_looks_less_often_while_nothing_happens() -> None:
    assert _paces(*[(False, False)] * 4, (True, False)) == [0.1, 0.2, 0.25, 0.25, 0.05]


def test_what_is_about_to_be_settled_is_looked_for_soon_and_less_often_when_it_hangs() -> None:
    assert _paces((False, False), *[(False, True)] * 6) == [0.1, 0.01, 0.02, 0.04, 0.08, 0.16, 0.25]


def test_writers_that_never_pause_make_twenty_looks_a_second() -> None:
    assert _paces(*[(True, True)] * 3) == [0.05] * 3


def test_a_window_tells_what_comes_after_a_place() -> None:
    window = Window()
    assert window.after(3, _ALL, enough_bytes=100) == ([], 3)
    window.extend([], end=5)
    window.extend([_told(7), _told(9, type_="session.qr")], end=10)

    assert window.after(4, _ALL, enough_bytes=100) is None
    assert window.after(5, _ALL, enough_bytes=100) == ([b"7 ", b"9 "], 10)
    assert window.after(7, _ALL, enough_bytes=100) == ([b"9 "], 10)
    # Cut short, it says how far it came.
    assert window.after(5, _ALL, enough_bytes=1) == ([b"7 "], 7)
    # A place that another process gave may be ahead of this one.
    assert window.after(12, _ALL, enough_bytes=100) == ([], 12)
    assert window.after(5, Wanted(tenant_id=DEFAULT_TENANT, category="session"), enough_bytes=100) == ([b"9 "], 10)


async def test_news_is_never_missed_between_a_look_and_a_wait() -> None:
    window = Window()
    news = window.news
    window.extend([], end=1)

    assert news.is_set()
    assert not window.news.is_set()
    last = window.news
    window.close()
    assert last.is_set()
