"""Who may begin, and in which order."""

from session_host.turns import Turns


def test_the_first_come_begin_and_the_others_are_told_one_by_one_in_their_order() -> None:
    turns, told = Turns(2), []

    may = [turns.ask(who, lambda who=who: told.append(who)) for who in ("a", "b", "c", "d")]  # type: ignore[misc]
    turns.release("a")
    after_one = list(told)
    turns.release("b")

    assert may == [True, True, False, False]
    assert after_one == ["c"]
    assert told == ["c", "d"]
    assert turns.free == 0


def test_one_that_has_a_turn_is_not_queued_and_one_that_gave_up_is_not_told() -> None:
    turns, told = Turns(1), []

    turns.ask("a", lambda: told.append("a"))
    again = turns.ask("a", lambda: told.append("a"))
    turns.ask("b", lambda: told.append("b"))
    turns.ask("c", lambda: told.append("c"))
    turns.release("b")
    turns.release("a")

    assert again
    assert told == ["c"]


def test_a_code_that_was_scanned_counts_beyond_the_bound_and_holds_the_next_back() -> None:
    turns, told = Turns(1), []

    turns.ask("a", lambda: told.append("a"))
    turns.take("b")
    turns.ask("c", lambda: told.append("c"))
    turns.release("a")
    early = list(told)
    turns.release("b")

    assert early == []
    assert told == ["c"]
