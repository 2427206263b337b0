"""What a person reads of a run: one table, and every text with which something is wrong."""

from collections.abc import Iterable, Iterator
from statistics import median

from rich import box
from rich.console import Console
from rich.table import Table

from local.soak import kills, steady
from local.soak.evidence import Findings

_MOST_TEXTS = 20


def tell(report: kills.Report | steady.Report) -> None:
    """Write how a run ended."""
    console = Console(highlight=False)
    match report:
        case kills.Report():
            _rows(console, _of_kills(report))
            _list(console, "settled by a person", report.resolved)
        case steady.Report():
            _rows(console, _of_steady(report))
    if report.findings is not None:
        _complaints(console, report.findings)
    console.print("it holds" if report.holds else "it does not hold", style="green" if report.holds else "bold red")


def _of_kills(report: kills.Report) -> Iterator[tuple[str, object]]:
    found = report.findings
    yield from (
        ("accepted", found.accepted),
        ("host children killed", len(report.kills)),
        ("lost", len(found.lost)),
        ("doubled", len(found.doubled)),
        ("frames per message: messages", found.frames),
        ("out of order", len(found.out_of_order)),
        ("in doubt on the way", found.went_through_doubt),
        ("settled by a person, not by a receipt", len(report.resolved)),
        ("in doubt at the end", len(report.still_in_doubt)),
        ("written by contacts", found.written),
        ("of these not stored: the library held them at a kill", len(found.swallowed) - len(report.unexplained)),
        ("of these not stored, with no kill near", len(report.unexplained)),
        ("stored twice", len(found.stored_twice)),
        ("sessions that a kill took offline", sum(len(kill.seconds) for kill in report.kills)),
        ("a session is back after, median / longest", _seconds(one for kill in report.kills for one in kill.seconds)),
        ("sending took", f"{report.sending_s:.0f} s"),
    )


def _of_steady(report: steady.Report) -> Iterator[tuple[str, object]]:
    base, full = report.base, report.full
    yield "sessions, session host processes", f"{report.sessions}, {report.children}"
    yield "the processes without a session, MiB RSS (PSS)", f"{base.rss_mib:.0f} ({base.pss_mib:.0f})"
    yield "with all sessions, MiB RSS (PSS)", f"{full.rss_mib:.0f} ({full.pss_mib:.0f})"
    yield "sessions per GiB", f"{report.per_gib:.0f}"
    yield "sessions per GiB beyond the processes themselves", f"{report.per_gib_without_base:.0f}"
    yield "all paired after", f"{report.pairing_s:.0f} s"
    yield "from a new connection to connected, median / longest", _seconds(report.seconds_each)
    yield "sends per second of one session", f"{report.one_sends_per_s:.0f}"
    yield "sends per second of all sessions", f"{report.all_send_per_s:.0f}"
    if report.findings is not None:
        found = report.findings
        yield "accepted, written by contacts", f"{found.accepted}, {found.written}"
        yield "lost, doubled, out of order", f"{len(found.lost)}, {len(found.doubled)}, {len(found.out_of_order)}"
        yield "of what contacts wrote not stored, stored twice", f"{len(found.swallowed)}, {len(found.stored_twice)}"
    yield "sessions that had to log in again", report.reconnects
    yield "load of the machine, median", f"{median(one.load for one in report.samples):.1f}"
    for title, one in report.trends():
        yield title, f"{one.began:.0f} to {one.ended:.0f}: {'flat' if one.is_flat else 'growing'}"


def _complaints(console: Console, found: Findings) -> None:
    _list(console, "lost", found.lost)
    _list(console, "doubled", found.doubled)
    _list(console, "out of order", found.out_of_order)
    _list(console, "wrong status", found.wrong_status)
    _list(console, "not stored", found.swallowed)
    _list(console, "stored twice", found.stored_twice)
    _list(console, "webhooks", found.webhooks_wrong)


def _rows(console: Console, rows: Iterable[tuple[str, object]]) -> None:
    table = Table(box=box.SIMPLE_HEAD, show_header=False)
    table.add_column(min_width=20)
    table.add_column(justify="right")
    for title, value in rows:
        table.add_row(title, str(value))
    console.print(table)


def _seconds(values: Iterable[float]) -> str:
    found = sorted(values)
    return f"{median(found):.1f} / {found[-1]:.1f} s" if found else "none"


def _list(console: Console, title: str, texts: list[str]) -> None:
    if texts:
        console.print(f"{title}: {'; '.join(texts[:_MOST_TEXTS])}{' …' if len(texts) > _MOST_TEXTS else ''}")
