"""What a claim promises: the first of each line, within cap, rate and pause, in turn, and no slot left empty."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shared.db.pool import Record
from shared.domain.jobs import Job, QueueName
from shared.queues.policies import POLICIES
from tests.property.ledger.model import ModelLedger


@dataclass(frozen=True, slots=True)
class Turn:
    """When a group is served and how many jobs it has then: what is left of this turn, and its weight from then on."""

    number: int = 0
    left: int = 1
    weight: int = 1

    @classmethod
    def of(cls, group: Record) -> "Turn":
        return cls(group["turn"], max(group["weight"] - group["served"], 1), group["weight"])

    def round(self, nth: int) -> int:
        """In which round of a claim its nth job comes, from 0."""
        return 0 if nth <= self.left else 1 + (nth - self.left - 1) // self.weight


def check_claim(
    model: ModelLedger,
    jobs: Sequence[Job],
    *,
    slots: Mapping[QueueName, int],
    turns: Mapping[tuple[QueueName, str], Turn],
) -> None:
    """`model` and `turns` are as they were before the claim. Jobs without a group are one more group."""
    assert [job.queue for job in jobs] == sorted((job.queue for job in jobs), key=lambda q: -POLICIES[q].priority)
    for queue in QueueName:
        asked = slots.get(queue, 0)
        groups = [None, *(group for q, group in model.groups if q is queue)]
        taken = {group: [j.pk for j in jobs if (j.queue, j.group) == (queue, group)] for group in groups}
        assert sum(map(len, taken.values())) == sum(job.queue is queue for job in jobs) <= asked
        if queue in model.paused:
            assert not any(taken.values()), "a paused queue gave work"
            continue
        room = {group: asked if group is None else model.room((queue, group)) for group in groups}
        line = {group: [job.pk for job in model.line(queue, group)] for group in groups}
        for group, pks in taken.items():
            assert len(pks) <= room[group], f"{group}: cap, rate or pause"
            assert set(pks) == set(line[group][: len(pks)]), f"{group}: not the first of its line"
        got = {group: len(pks) for group, pks in taken.items()}
        most = {group: min(room[group], len(line[group])) for group in groups}
        _check_turns(got, most, {g: Turn() if g is None else turns[queue, g] for g in groups})
        # A group of which all have expired is looked at once in vain.
        in_vain = [g for g in groups if g and room[g] and not line[g] and model.of_group((queue, g), "waiting")]
        if not in_vain:
            assert sum(got.values()) == min(asked, sum(most.values())), "a slot was left empty"


def _check_turns(
    got: Mapping[str | None, int], most: Mapping[str | None, int], turn: Mapping[str | None, Turn]
) -> None:
    """Everyone has a turn before anybody has a second one, and who waited longest has it first."""
    for other in got:
        if got[other] == most[other]:
            continue
        next_round = turn[other].round(got[other] + 1)
        for group, count in got.items():
            assert not count or turn[group].round(count) <= next_round, f"{group} had a turn before {other}"
            if count and not got[other] and group is not None and other is not None:
                assert turn[group].number <= turn[other].number, f"{other} waited longer than {group}"
