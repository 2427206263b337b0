"""The alarm that ends a process with its lease, and the arithmetic of the defaults."""

from math import ceil

from session_host.fence import Fence
from session_host.roster import LOOK_S, answer_s
from session_host.session import STOP_S
from shared.settings import Settings

LEASE_S = float(Settings.model_fields["host_lease_s"].default)
# A login, from the turn to `connected`, on a line that is slow.
LOGIN_S = 4.0


def test_the_alarm_is_set_to_the_leases_end_only_while_somebody_may_have_a_socket() -> None:
    now, alarms = [100.0], []
    fence = Fence(clock=lambda: now[0], alarm=alarms.append)

    fence.renewed(110)
    fence.opening("a")
    now[0] = 104
    fence.opening("b")
    fence.closed("a")
    fence.renewed(114)
    fence.closed("b")

    assert alarms == [0, 10, 6, 6, 10, 0]


def test_a_lease_that_has_lapsed_ends_the_process_at_once_and_is_no_lease() -> None:
    now, alarms = [100.0], []
    fence = Fence(clock=lambda: now[0], alarm=alarms.append)
    fence.renewed(110)

    now[0] = 200
    fence.opening("a")

    assert not fence.holds()
    assert 0 < alarms[-1] < 0.1


def test_an_answer_that_comes_late_does_not_shorten_what_is_known() -> None:
    fence = Fence(clock=lambda: 109.0)

    fence.renewed(110)
    fence.renewed(105)

    assert fence.holds()


def test_with_the_defaults_sockets_are_closed_before_the_lease_ends_when_postgres_falls_silent() -> None:
    # A renewal is due every third of a lease and made at the next look; the one that gets no answer is waited for.
    since_renewal_s = ceil(LEASE_S / 3 / LOOK_S) * LOOK_S + answer_s(LEASE_S)
    # A socket closes in the first quarter of a client's stop.
    assert since_renewal_s + LOOK_S + STOP_S / 4 < LEASE_S


def test_with_the_defaults_a_dead_hosts_sessions_are_online_elsewhere_within_thirty_seconds() -> None:
    sessions = int(Settings.model_fields["host_sessions"].default)
    at_once = int(Settings.model_fields["host_connects_at_once"].default)

    # The lease lapses, a look frees it, the next one takes it; a full child's sessions log in some at a time.
    assert LEASE_S + 2 * LOOK_S + ceil(sessions / at_once) * (LOOK_S + LOGIN_S) <= 30
