"""What came while the device was away, told from what comes now."""

from session_host.whatsapp.backlog import Backlog

LOGIN_MS = 1_000_000_000


def backlog() -> Backlog:
    return Backlog(lambda: LOGIN_MS)


def test_it_holds_what_comes_before_whatsapp_says_that_all_has_come() -> None:
    kept = backlog()

    before_the_login = kept.holds(LOGIN_MS - 5_000)
    kept.log_in()
    after_it = kept.holds(LOGIN_MS)
    kept.end()

    assert (before_the_login, after_it, kept.holds(LOGIN_MS - 5_000)) == (True, True, False)


def test_it_begins_anew_with_each_loss_of_the_connection_and_not_with_a_login_that_is_known_late() -> None:
    kept = backlog()
    kept.end()
    kept.log_in()
    assert not kept.holds(LOGIN_MS - 5_000)

    kept.begin()

    assert kept.holds(LOGIN_MS - 5_000)


def test_should_whatsapp_never_say_so_what_was_written_well_after_the_login_is_new() -> None:
    kept = backlog()
    kept.log_in()

    assert kept.holds(LOGIN_MS + 29_000)
    assert not kept.holds(LOGIN_MS + 31_000)
    assert not kept.holds(LOGIN_MS)
