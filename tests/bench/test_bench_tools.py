"""The bench's own arithmetic, what it writes, and one short run of ours."""

import io
import json
import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path

import pytest
from rich.console import Console

from local.bench import plot, report
from local.bench.cpu import used_s
from local.bench.figures import METRICS, OURS, TARGETS, Figures, LatencyTarget, Target
from local.bench.main import main
from local.bench.program import ProgramFailed
from local.bench.queue_measures import percentile
from local.bench.recorder import Recorder
from local.bench.run import Outcome, measure
from local.bench.scenarios import SCENARIOS, Scenario, Setup, chosen
from local.bench.worklog import WorkLog


def figures_of(values: Mapping[str, Mapping[str, list[float]]]) -> Figures:
    figures = Figures()
    for metric, of in values.items():
        for contender, rounds in of.items():
            for value in rounds:
                figures.add(contender, {metric: value})
    return figures


def test_a_figure_is_the_median_of_its_rounds_and_keeps_the_least_and_the_most() -> None:
    figure = figures_of({"drain_c10": {OURS: [30.0, 10.0, 20.0]}}).get("drain_c10", OURS)

    assert figure is not None
    assert (figure.middle, figure.least, figure.most) == (20.0, 10.0, 30.0)


def test_a_ratio_above_one_says_that_zaphub_is_better_whether_more_or_less_is() -> None:
    figures = figures_of({"drain_c10": {OURS: [200], "bullmq": [100]}, "cpu_c10": {OURS: [1], "bullmq": [4]}})

    assert figures.ratio("drain_c10", "bullmq") == 2.0
    assert figures.ratio("cpu_c10", "bullmq") == 4.0


def test_a_ratio_with_something_missing_or_zero_is_none() -> None:
    figures = figures_of({"crash_lost": {OURS: [0], "bullmq": [3]}})

    assert figures.ratio("crash_lost", "bullmq") is None
    assert figures.ratio("crash_lost", "nobody") is None


def test_a_value_that_could_not_be_measured_is_no_value() -> None:
    assert figures_of({"cpu_c10": {OURS: [float("nan")]}}).get("cpu_c10", OURS) is None


def test_the_rows_have_the_promised_shape() -> None:
    figures = figures_of({"drain_c10": {"bullmq": [100], OURS: [300, 200]}})

    [row] = json.loads(json.dumps(figures.rows()))

    assert {name: row[name] for name in ("name", "peer", "unit", "zaphub", "peer_value", "ratio")} == {
        "name": "drain_c10",
        "peer": "bullmq",
        "unit": "jobs/s",
        "zaphub": 250,
        "peer_value": 100,
        "ratio": 2.5,
    }


def test_what_no_peer_was_measured_for_has_a_row_of_ours_alone() -> None:
    [row] = figures_of({"crash_recovery": {OURS: [5.5]}}).rows()

    assert (row["zaphub"], row["peer"], row["peer_value"], row["ratio"]) == (5.5, None, None, None)


def test_a_target_is_met_at_its_bound_and_missed_beyond() -> None:
    ratio, value = Target("", "drain_c10", 2.0, "bullmq"), Target("", "fairness", 1.0)

    assert (ratio.is_met(2.0), ratio.is_met(1.9)) == (True, False)
    assert (value.is_met(1.0), value.is_met(1.1)) == (True, False)


def test_the_latency_target_compares_our_p99_with_the_peers_median() -> None:
    figures = figures_of({"idle_latency_p50": {"bullmq": [2.0]}, "idle_latency_p99": {OURS: [9.0], "bullmq": [50.0]}})
    target = LatencyTarget("", "idle_latency_p99", 10.0, "bullmq")

    assert target.measured(figures) == 7.0
    assert target.is_met(7.0)


def test_every_target_and_every_scenario_speaks_of_a_metric_that_exists() -> None:
    assert {target.metric for target in TARGETS} <= set(METRICS)
    assert {name for one in SCENARIOS.values() for name in one.metrics} <= set(METRICS)


def test_a_percentile_of_a_hundred_values_leaves_so_many_below() -> None:
    values = [float(number) for number in range(100)]

    assert (percentile(values, 0.5), percentile(values, 0.99), percentile([1.0], 0.99)) == (50.0, 99.0, 1.0)


def test_names_pick_scenarios_by_name_beginning_or_metric() -> None:
    assert list(chosen(["drain"])) == ["drain_c10", "drain_c100", "drain_groups_c100"]
    assert list(chosen(["drain_c10", "idle_latency_p99"])) == ["drain_c10", "latency"]
    assert list(chosen([])) == list(SCENARIOS)
    with pytest.raises(ValueError, match="flight"):
        chosen(["flight"])


def test_rounds_take_every_contender_in_turn() -> None:
    ran: list[str] = []

    def run_of(name: str) -> Mapping[str, float]:
        ran.append(name)
        return {"drain_c10": 1.0}

    scenario = Scenario("x", (), lambda _: {OURS: lambda: run_of(OURS), "bullmq": lambda: run_of("bullmq")})
    measure(Outcome(), {"x": scenario}, Setup(None), rounds=2, on_step=lambda _: None)  # type: ignore[arg-type]  # no server is needed

    assert ran == [OURS, "bullmq", OURS, "bullmq"]


def test_a_peer_that_fails_is_named_and_the_others_go_on() -> None:
    def fail() -> Mapping[str, float]:
        raise ProgramFailed("out of memory")

    scenario = Scenario("x", (), lambda _: {"bullmq": fail, OURS: lambda: {"drain_c10": 1.0}})
    outcome = Outcome()

    measure(outcome, {"x": scenario}, Setup(None), rounds=2, on_step=lambda _: None)  # type: ignore[arg-type]  # as above

    assert outcome.failures == {"x of bullmq": "out of memory"}
    assert not outcome.ours_failed
    assert outcome.figures.get("drain_c10", OURS) is not None


def test_the_table_shows_figures_targets_and_failures() -> None:
    figures = figures_of({"drain_c100": {OURS: [30_000, 20_000, 10_000], "bullmq": [10_000]}})
    console = Console(width=100, file=io.StringIO())

    with console.capture() as shown:
        report.show(console, figures, {"crash of bullmq": "it stopped"})

    text = shown.get()
    assert "20,000 (10,000 to 30,000)" in text
    assert "2.00x" in text
    assert "missed" in text
    assert "crash of bullmq: it stopped" in text


def test_the_markdown_has_a_row_per_contender_and_target() -> None:
    figures = figures_of({"drain_c100": {OURS: [30_000], "bullmq": [10_000]}})

    text = report.markdown(figures)

    assert "| drain of no-op 1 KB jobs, 100 at once, jobs/s | zaphub | 30,000 |  |" in text
    assert "|  | bullmq | 10,000 | 3.00x |" in text
    assert "| drain, 100 at once: 2.5 times BullMQ | 3.00x | met |" in text


def test_the_page_keeps_what_is_around_its_tables() -> None:
    page = "above\n<!-- measured: begin -->\nold\n<!-- measured: end -->\nbelow\n"

    once = report.into_page(page, "new\n")

    assert once == page.replace("old", "new")
    assert report.into_page(once, "new\n") == once


@pytest.mark.parametrize(
    ("value", "text"), [(12_345.6, "12,346"), (12.34, "12.3"), (0.1234, "0.123"), (0.0, "0"), (7.0, "7")]
)
def test_numbers_show_the_digits_that_count(value: float, text: str) -> None:
    assert report.number(value) == text


def test_the_plot_is_xml_with_a_bar_for_each_ratio_and_none_for_our_own_floor() -> None:
    figures = figures_of({"drain_c10": {OURS: [20], "bullmq": [10], "floor": [40], "procrastinate": [80]}})

    drawn = plot.bars(figures)
    tree = ET.fromstring(plot.svg(drawn, caption="A & B"))

    assert [round(ratio, 2) for _, ratio in drawn] == [2.0, 0.25]
    assert len(tree.findall("{http://www.w3.org/2000/svg}rect")) == 2
    assert tree.findtext("{http://www.w3.org/2000/svg}title") == "A & B"


def test_what_a_recorder_wrote_is_what_the_log_reads(tmp_path: Path) -> None:
    recorder, log = Recorder(tmp_path, is_immediate=True), WorkLog(tmp_path)
    job = {"id": 7, "tenant": "B", "called": time.time_ns()}

    recorder.ended(job, recorder.began(job))
    recorder.ended(job, recorder.began(job))

    assert log.done() == 1
    assert (log.ended_twice(), log.started_twice()) == (1, 1)
    assert [(run.id, run.tenant, run.called) for run in log.runs] == [(7, "B", job["called"])] * 2
    assert log.seconds() >= 0


def test_half_a_line_waits_for_its_other_half(tmp_path: Path) -> None:
    log, file = WorkLog(tmp_path), tmp_path / "1.log"

    file.write_text("C 1 0.5\nE 1 A 5 10 2", encoding="ascii")
    assert log.done() == 0
    file.write_text("C 1 0.5\nE 1 A 5 10 20\nC 30 0.75\n", encoding="ascii")

    assert log.done() == 1
    assert log.runs[0].ended == 20
    assert log.cpu_s() == 0.25


@pytest.mark.skipif(sys.platform != "linux", reason="read from /proc")
def test_cpu_time_counts_a_process_and_its_children_and_nobody_else() -> None:
    alone = used_s([os.getpid()])
    subprocess.run([sys.executable, "-c", "sum(range(3_000_000))"], check=True)

    assert used_s([os.getpid()]) > alone
    assert used_s([]) == 0


@pytest.mark.parametrize("arguments", [["flight"], ["--rounds", "0"]])
def test_a_wrong_command_line_ends_with_two(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)

    assert ended.value.code == 2


def test_a_quick_run_measures_ours_and_writes_its_files(tmp_path: Path) -> None:
    files = {name: tmp_path / name for name in ("json", "svg")}
    written = [part for name, file in files.items() for part in (f"--{name}", str(file))]
    command = [sys.executable, "-m", "local.cli", "bench", "drain_groups_c100", "--quick", "--no-peers"]

    ran = subprocess.run(
        [*command, "--rounds", "1", *written], capture_output=True, text=True, timeout=120, check=False
    )

    assert ran.returncode == 0, ran.stdout + ran.stderr
    said = json.loads(files["json"].read_text(encoding="utf-8"))
    assert said["failures"] == {}
    assert {"machine", "versions", "results", "targets"} <= set(said)
    assert {(row["name"], row["peer"]) for row in said["results"]} >= {("drain_groups_c100", "floor")}
    assert all(row["zaphub"] > 0 for row in said["results"])
    assert all(file.stat().st_size for file in files.values())
