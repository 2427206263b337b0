"""What a soak says of itself: it holds only when all is flat and nothing is lost, and names what grows."""

from dataclasses import replace

import pytest

from local.demo.sink import Sink
from local.soak import kills, telling
from local.soak.evidence import Evidence, Ledger, Letter, findings
from local.soak.killing import Kill
from local.soak.main import main
from local.soak.sampling import Held, held, hosts
from local.soak.steady import Report, Sample

FLAT = Held(rss_mib=800.0, pss_mib=640.0, threads=160, files=300)


def report(*, grows_by: int = 0, reconnects: int = 0, lost: bool = False) -> Report:
    ledger = Ledger(accepted=[Letter("5521900000001", "a")] if lost else [])
    samples = [
        Sample(
            at_s=number * 30.0,
            hosts=replace(FLAT, threads=FLAT.threads + grows_by * number),
            others=FLAT,
            connections=40,
            load=1.0,
        )
        for number in range(40)
    ]
    return Report(
        sessions=100,
        children=4,
        base=replace(FLAT, rss_mib=400.0, pss_mib=300.0),
        full=FLAT,
        pairing_s=60.0,
        seconds_each=[1.0, 2.0, 3.0],
        one_sends_per_s=30.0,
        all_send_per_s=60.0,
        samples=samples,
        findings=findings(Evidence(ledger, [], [], [], Sink("whsec_unused"))),
        reconnects=reconnects,
    )


def test_a_flat_run_that_lost_nothing_holds_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    found = report()

    telling.tell(found)

    assert found.holds
    said = capsys.readouterr().out
    assert "it holds" in said
    assert "growing" not in said
    assert (found.per_gib, found.per_gib_without_base) == (128.0, 256.0)


def test_a_run_whose_threads_grow_does_not_hold_and_names_them(capsys: pytest.CaptureFixture[str]) -> None:
    found = report(grows_by=2)

    telling.tell(found)

    assert not found.holds
    growing = [line for line in capsys.readouterr().out.splitlines() if "growing" in line]
    assert len(growing) == 1
    assert "threads of the session hosts" in growing[0]


def test_a_lost_message_or_a_session_that_had_to_come_back_does_not_hold() -> None:
    assert not report(lost=True).holds
    assert not report(reconnects=1).holds


@pytest.mark.parametrize(("written_s", "is_explained"), [(98.5, True), (100.5, True), (90.0, False), (150.0, False)])
def test_what_is_not_stored_is_explained_by_a_kill_only_when_one_was_near(
    written_s: float, *, is_explained: bool
) -> None:
    ledger = Ledger(written=[Letter("5521900000001", "in", at_s=written_s)])
    dead = [Kill("session-host-child-1", at_s=10.0, seconds=[5.0]), Kill("session-host-child-2", 100.0, [5.0])]

    found = kills.judged(findings(Evidence(ledger, [], [], [], Sink("whsec_unused"))), ledger, dead, [], sending_s=1.0)

    assert found.findings.swallowed == ["in"]
    assert found.unexplained == ([] if is_explained else ["in"])
    assert found.holds is is_explained


def test_the_processes_of_a_host_are_added_up_and_one_that_is_gone_holds_nothing() -> None:
    pids = {"session-host": 1, "session-host-child-1": 2, "session-host-child-2": 3, "worker-1": 4, "postgres": 5}

    assert hosts(pids) == [1, 2, 3]
    assert held([2**22 + 1]) == Held()


def test_a_run_must_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([])

    assert ended.value.code == 2
    assert "RUN" in capsys.readouterr().err
