"""Runs scenarios round by round, every contender in turn, so that a neighbour's noise meets all of them alike."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from local.bench.figures import OURS, Figures
from local.bench.program import ProgramFailed
from local.bench.scenarios import Scenario, Setup


@dataclass(slots=True)
class Outcome:
    """What a run found, and which measurements failed: `failures` maps "scenario of contender" to why."""

    figures: Figures = field(default_factory=Figures)
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def ours_failed(self) -> bool:
        """Whether ZapHub itself could not be measured somewhere."""
        return any(name.endswith(f" of {OURS}") for name in self.failures)


def measure(
    outcome: Outcome,
    scenarios: Mapping[str, Scenario],
    setup: Setup,
    *,
    rounds: int,
    on_step: Callable[[str], None],
) -> None:
    """Add to the outcome, which holds what was measured also when this is interrupted.

    A contender that fails is left out of the rest of its scenario. `on_step` hears what comes next.
    """
    for name, scenario in scenarios.items():
        cases = dict(scenario.cases(setup))
        for number in range(min(rounds, scenario.most_rounds)):
            for contender, run in list(cases.items()):
                on_step(f"{scenario.title}: {contender}, round {number + 1}")
                try:
                    outcome.figures.add(contender, run())
                except ProgramFailed as error:
                    outcome.failures[f"{name} of {contender}"] = error.detail
                    del cases[contender]


def steps(scenarios: Mapping[str, Scenario], setup: Setup, *, rounds: int) -> int:
    """How many times `on_step` will be called when nothing fails."""
    return sum(len(one.cases(setup)) * min(rounds, one.most_rounds) for one in scenarios.values())
