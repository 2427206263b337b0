"""The session's state machine, fed with whatever may happen in whatever order."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_host import state as machine
from session_host.state import (
    AskPairCode,
    DeviceGone,
    Due,
    Event,
    ForgetDevice,
    GiveUp,
    Move,
    Opened,
    Phase,
    RetryAfter,
    ShowQr,
    Start,
    StartFailed,
    State,
    Stop,
    StoreBack,
    StoreLost,
    decide,
    delay_s,
)
from session_host.whatsapp.port import (
    Banned,
    Connected,
    ConnectFailed,
    Disconnected,
    Ended,
    JournalFailed,
    KeepAliveLost,
    KeepAliveRestored,
    LoggedOut,
    Outdated,
    Paired,
    PairFailed,
    PasskeyAsked,
    Profile,
    QrEnded,
    QrShown,
    Replaced,
)
from shared.domain.session import WORKED_ON, SessionStatus

UTC_NOW = datetime(2026, 11, 23, tzinfo=UTC)
DEVICE = "5511988880001:7@s.whatsapp.net"
ENDS = (LoggedOut("logged_out"), DeviceGone(), Replaced(), Banned("spam", 3600), Outdated())

events: st.SearchStrategy[Event] = st.sampled_from(
    [
        *(Due(), StoreLost(), StoreBack(), StartFailed("x")),
        *(QrShown("code"), QrEnded("timeout"), QrEnded("success"), Paired(DEVICE), PairFailed("no")),
        PasskeyAsked("passkey-request"),
        *(Profile(DEVICE, None, None), Connected(), Disconnected(), KeepAliveLost(1), KeepAliveLost(2)),
        *(KeepAliveRestored(), ConnectFailed("generic"), Ended(None), JournalFailed("OSError")),
        *ENDS,
    ]
)
steps = st.lists(st.tuples(events, st.floats(0, 700)), max_size=60)
first = st.sampled_from([State(), State(device_jid=DEVICE), State(code_phone="5511988880001")])


@given(first, steps)
def test_exactly_one_client_runs_in_the_phases_that_need_one_and_none_in_the_others(
    begun: State, history: list[tuple[Event, float]]
) -> None:
    now_s, runs, state = 0.0, False, begun
    for event, passed_s in [(Opened(), 0.0), *history]:
        now_s += passed_s
        state, actions = decide(state, event, now_s=now_s, utc=UTC_NOW)
        for action in actions:
            if isinstance(action, Start):
                assert not runs
                runs = True
            if isinstance(action, Stop):
                runs = False
        assert runs == (state.phase in {Phase.PAIRING, Phase.LOGGING_IN, Phase.ONLINE, Phase.RECONNECTING})


@given(first, steps)
def test_a_code_that_comes_after_a_demand_for_a_passkey_is_not_shown_whenever_the_demand_came(
    begun: State, history: list[tuple[Event, float]]
) -> None:
    now_s, state = 0.0, begun
    for event, passed_s in [(Opened(), 0.0), *history]:
        now_s += passed_s
        state, _ = decide(state, event, now_s=now_s, utc=UTC_NOW)
        asked, _ = decide(state, PasskeyAsked("passkey-request"), now_s=now_s, utc=UTC_NOW)
        assert decide(asked, QrShown("void"), now_s=now_s, utc=UTC_NOW) == (asked, ())


@given(first, steps)
def test_an_ended_session_gave_its_lease_back_once_and_does_nothing_more(
    begun: State, history: list[tuple[Event, float]]
) -> None:
    now_s, gave_up, state = 0.0, 0, begun
    for event, passed_s in [(Opened(), 0.0), *history]:
        now_s += passed_s
        was_ended = state.phase is Phase.ENDED
        state, actions = decide(state, event, now_s=now_s, utc=UTC_NOW)
        gave_up += sum(isinstance(action, GiveUp) for action in actions)
        assert not (was_ended and actions)
        assert gave_up == (1 if state.phase is Phase.ENDED else 0)


@given(first, steps)
def test_a_session_that_lives_always_has_a_client_or_a_time_to_look_again(
    begun: State, history: list[tuple[Event, float]]
) -> None:
    now_s, state = 0.0, begun
    for event, passed_s in [(Opened(), 0.0), *history]:
        now_s += passed_s
        state, _ = decide(state, event, now_s=now_s, utc=UTC_NOW)
        # Online the library's events are what there is to wait for; everywhere else somebody must look again.
        assert state.phase in {Phase.ONLINE, Phase.ENDED} or state.due_at is not None


@given(first, steps)
def test_what_hosts_still_work_on_is_never_a_status_of_an_ended_session(
    begun: State, history: list[tuple[Event, float]]
) -> None:
    now_s, state = 0.0, begun
    for event, passed_s in [(Opened(), 0.0), *history]:
        now_s += passed_s
        state, actions = decide(state, event, now_s=now_s, utc=UTC_NOW)
        moves = [action.to for action in actions if isinstance(action, Move)]
        assert all((to in WORKED_ON) == (state.phase is not Phase.ENDED) for to in moves[-1:])


@given(st.integers(0, 50))
def test_the_pause_before_the_next_attempt_grows_to_a_minute_and_no_further(failures: int) -> None:
    assert delay_s(failures) <= delay_s(failures + 1) <= 60.0


def test_codes_live_sixty_seconds_then_twenty_and_a_set_that_nobody_scanned_is_followed_by_another() -> None:
    state, _ = decide(State(), Opened(), now_s=0, utc=UTC_NOW)
    lives = []
    for _ in range(6):
        state, actions = decide(state, QrShown("c"), now_s=1, utc=UTC_NOW)
        lives += [action.lives_s for action in actions if isinstance(action, ShowQr)]

    state, stopped = decide(state, QrEnded("timeout"), now_s=161, utc=UTC_NOW)
    state, started = decide(state, Due(), now_s=162, utc=UTC_NOW)
    state, shown = decide(state, QrShown("c"), now_s=163, utc=UTC_NOW)

    assert lives == [60, 20, 20, 20, 20, 20]
    assert stopped == (Stop(),)
    assert started == (Start(),)
    assert ShowQr("c", 7, 60) in shown


def test_nobody_scans_for_ten_minutes_and_the_pairing_has_expired() -> None:
    state, _ = decide(State(), Opened(), now_s=0, utc=UTC_NOW)

    state, actions = decide(state, Due(), now_s=600, utc=UTC_NOW)

    assert actions == (Stop(), Move(SessionStatus.FAILED, "PAIRING_EXPIRED"), GiveUp())


def test_pairing_by_code_asks_for_one_with_the_first_qr_code_of_each_set() -> None:
    state, _ = decide(State(code_phone="5511988880001"), Opened(), now_s=0, utc=UTC_NOW)

    state, first_shown = decide(state, QrShown("a"), now_s=1, utc=UTC_NOW)
    state, second_shown = decide(state, QrShown("b"), now_s=61, utc=UTC_NOW)

    assert AskPairCode("5511988880001") in first_shown
    assert not any(isinstance(action, AskPairCode) for action in second_shown)


def test_a_deaf_pump_stops_the_client_and_makes_another() -> None:
    online = State(phase=Phase.ONLINE, device_jid=DEVICE)

    state, stopped = decide(online, Ended("NeonizeError"), now_s=10, utc=UTC_NOW)
    state, started = decide(state, Due(), now_s=11, utc=UTC_NOW)

    assert stopped == (Move(SessionStatus.DISCONNECTED, "library_ended"), Stop())
    assert started == (Move(SessionStatus.CONNECTING), Start())


def test_a_device_that_was_replaced_is_not_fought_for_and_one_that_was_logged_out_is_forgotten() -> None:
    online = State(phase=Phase.ONLINE, device_jid=DEVICE)

    _, replaced = decide(online, Replaced(), now_s=0, utc=UTC_NOW)
    gone, logged_out = decide(online, LoggedOut("logged_out"), now_s=0, utc=UTC_NOW)

    assert Start() not in replaced
    assert ForgetDevice() in logged_out
    assert gone.device_jid is None


def test_one_replaced_soon_after_a_takeover_is_the_former_host_and_the_second_is_somebody_else() -> None:
    state, _ = decide(State(device_jid=DEVICE), Opened(), now_s=0, utc=UTC_NOW)
    state, _ = decide(state, Connected(), now_s=1, utc=UTC_NOW)

    state, first = decide(state, Replaced(), now_s=2, utc=UTC_NOW)
    state, again = decide(state, Due(), now_s=4, utc=UTC_NOW)
    state, _ = decide(state, Connected(), now_s=5, utc=UTC_NOW)
    state, second = decide(state, Replaced(), now_s=6, utc=UTC_NOW)

    assert first == (Move(SessionStatus.DISCONNECTED, "former_host_logged_in"), Stop())
    assert Start() in again
    assert Move(SessionStatus.REPLACED, "logged_in_elsewhere") in second


def test_a_replaced_long_after_the_takeover_or_in_the_tenure_that_paired_is_believed() -> None:
    taken_over = State(phase=Phase.ONLINE, device_jid=DEVICE, takeover_ends_at=60)
    state, _ = decide(State(), Opened(), now_s=0, utc=UTC_NOW)
    paired, _ = decide(state, Paired(DEVICE), now_s=1, utc=UTC_NOW)
    paired, _ = decide(paired, Connected(), now_s=2, utc=UTC_NOW)

    for state, now_s in ((taken_over, 60.0), (paired, 3.0)):
        ended, _ = decide(state, Replaced(), now_s=now_s, utc=UTC_NOW)
        assert ended.phase is Phase.ENDED


@pytest.mark.parametrize(
    ("begun", "event", "retries_after_s"),
    [
        (State(phase=Phase.ONLINE, device_jid=DEVICE), Banned("spam", 3600), 3605.0),
        (State(phase=Phase.ONLINE, device_jid=DEVICE), Outdated(), 900.0),
        # WhatsApp did not say until when; nobody has scanned; a person must link it, or see who else uses it.
        (State(phase=Phase.ONLINE, device_jid=DEVICE), Banned("spam", 0), None),
        (State(phase=Phase.PAIRING, pairing_ends_at=600), Outdated(), None),
        (State(phase=Phase.ONLINE, device_jid=DEVICE), LoggedOut("logged_out"), None),
        (State(phase=Phase.ONLINE, device_jid=DEVICE), Replaced(), None),
    ],
)
def test_what_ends_by_itself_is_tried_again_by_itself(
    begun: State, event: Event, retries_after_s: float | None
) -> None:
    state, actions = decide(begun, event, now_s=0, utc=UTC_NOW)

    retries = [action.seconds for action in actions if isinstance(action, RetryAfter)]
    assert state.phase is Phase.ENDED
    assert retries == ([] if retries_after_s is None else [retries_after_s])


def test_a_ban_says_until_when() -> None:
    online = State(phase=Phase.ONLINE, device_jid=DEVICE)

    _, actions = decide(online, Banned("send_to_too_many_people", 3600), now_s=0, utc=UTC_NOW)

    assert Move(SessionStatus.BANNED, "send_to_too_many_people until 2026-11-23T01:00:00Z") in actions


def test_the_store_comes_back_and_waiting_sessions_begin_at_once() -> None:
    waiting = State(phase=Phase.WAITING, device_jid=DEVICE, failures=9, due_at=60)

    state, _ = decide(waiting, StoreBack(), now_s=5, utc=UTC_NOW)

    assert state == replace(waiting, failures=0, due_at=5)
    assert machine.decide(state, Due(), now_s=5, utc=UTC_NOW)[1] == (Move(SessionStatus.CONNECTING), Start())
