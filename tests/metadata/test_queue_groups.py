"""Queue groups as the metadata has them: who may have which rules, and their bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftmq.errors import InvalidArgument, PreconditionFailed, UnexpectedVersion, UnknownQueueGroup, UnknownTopic
from raftmq.metadata import queue_groups
from raftmq.metadata.queue_groups import (
    GROUPS_OF_TOPIC_MAX,
    LEASE_MS_MAX,
    LEASE_MS_MIN,
    AtEnd,
    Ordering,
    QueueGroupDeleted,
    QueueGroupEvent,
    QueueGroupRecord,
    QueueGroupSet,
    QueueRetention,
    QueueSettings,
    SetQueueGroup,
    Start,
    delete_group,
    replayed,
    set_from_proto,
    set_group,
    to_proto,
)
from raftmq.records.poison import PoisonEntry

TOPIC = 7
SETTINGS = QueueSettings()
WISH = SetQueueGroup("orders", "workers")


class Groups:
    """What events lead to."""

    def __init__(self) -> None:
        self.known: dict[int, QueueGroupRecord] = {}
        self.next_id = 1

    def happen(self, events: Sequence[QueueGroupEvent]) -> None:
        for event in events:
            self.known, self.next_id = replayed(self.known, self.next_id, event)

    def set(self, wish: SetQueueGroup, topic_id: int | None = TOPIC) -> list[QueueGroupSet]:
        decided = set_group(topic_id, self.known, self.next_id, wish)
        self.happen(decided)
        return decided


def test_a_group_is_made_altered_and_deleted_and_its_number_never_comes_again() -> None:
    groups = Groups()
    assert groups.set(WISH) == [QueueGroupSet(1, TOPIC, "workers", SETTINGS)]
    assert groups.set(WISH) == []
    slower = replace(SETTINGS, drain_per_s=5)
    groups.set(replace(WISH, settings=slower))
    assert groups.known == {1: QueueGroupRecord(1, TOPIC, "workers", slower, version=2)}
    groups.happen(delete_group(TOPIC, groups.known, "orders", "workers"))
    groups.set(WISH)
    assert list(groups.known) == [2]
    assert groups.set(WISH, topic_id=8)[0].id == 3, "another topic's group of the same name is another one"


def test_one_that_is_only_wanted_new_stays_as_it_is() -> None:
    groups = Groups()
    groups.set(replace(WISH, settings=replace(SETTINGS, drain_per_s=5)))
    assert groups.set(replace(WISH, only_new=True)) == []


def test_a_change_may_be_made_of_one_version_only() -> None:
    groups = Groups()
    with pytest.raises(UnexpectedVersion):
        groups.set(replace(WISH, expected_version=1))
    groups.set(WISH)
    altered = replace(WISH, settings=replace(SETTINGS, paused=True), expected_version=1)
    groups.set(altered)
    with pytest.raises(UnexpectedVersion) as refused:
        groups.set(replace(altered, settings=SETTINGS))
    assert refused.value.metadata == {"version": "2"}


def test_what_there_is_not_is_told() -> None:
    groups = Groups()
    with pytest.raises(UnknownTopic):
        groups.set(WISH, topic_id=None)
    with pytest.raises(UnknownTopic):
        delete_group(None, {}, "orders", "workers")
    with pytest.raises(UnknownQueueGroup):
        delete_group(TOPIC, {}, "orders", "workers")


def test_a_topic_has_so_many_groups_at_most() -> None:
    groups = Groups()
    for number in range(GROUPS_OF_TOPIC_MAX):
        groups.set(replace(WISH, name=f"g{number}"))
    with pytest.raises(PreconditionFailed):
        groups.set(WISH)
    groups.set(WISH, topic_id=8)
    groups.set(replace(WISH, name="g0", settings=replace(SETTINGS, paused=True)))


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "x" * 250, "__mine", "ä", "a\n"])
def test_names(name: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        Groups().set(replace(WISH, name=name))
    assert refused.value.field == "group"


@pytest.mark.parametrize(
    ("field", "value", "blamed"),
    [
        ("lease_ms", LEASE_MS_MIN - 1, "lease"),
        ("lease_ms", LEASE_MS_MAX + 1, "lease"),
        ("attempts_max", 0, "attempts_max"),
        ("backoff_first_ms", 0, "backoff.first"),
        ("backoff_factor_percent", 99, "backoff.factor_percent"),
        ("backoff_max_ms", 999, "backoff.max"),
        ("backoff_jitter_percent", 101, "backoff.jitter_percent"),
        ("drain_per_s", -1, "drain_per_s"),
        ("processed_keys_max", 0, "processed_keys_max"),
        ("breaker_failures", -1, "breaker_failures"),
        ("breaker_pause_ms", 0, "breaker_pause"),
        ("redrives_max", 256, "redrives_max"),
        ("fair_by", "header:", "fair_by"),
        ("fair_by", "keys", "fair_by"),
    ],
)
def test_settings_out_of_range_name_their_field(field: str, value: Any, blamed: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        Groups().set(replace(WISH, settings=replace(SETTINGS, **{field: value})))
    assert refused.value.field == f"settings.{blamed}"


@pytest.mark.parametrize("change", [{"ordering": Ordering.KEY}, {"fair_by": "key"}])
def test_what_decides_how_state_is_kept_cannot_be_altered(change: Any) -> None:
    groups = Groups()
    groups.set(WISH)
    with pytest.raises(InvalidArgument):
        groups.set(replace(WISH, settings=replace(SETTINGS, **change)))


@pytest.mark.parametrize(
    "event",
    [
        QueueGroupSet(3, TOPIC, "others", SETTINGS),
        QueueGroupSet(1, TOPIC, "others", SETTINGS),
        QueueGroupSet(1, 8, "workers", SETTINGS),
        QueueGroupDeleted(2),
    ],
)
def test_an_event_that_does_not_fit_is_poison(event: QueueGroupEvent) -> None:
    groups = Groups()
    groups.set(WISH)
    with pytest.raises(PoisonEntry):
        groups.happen([event])


@given(
    st.builds(
        QueueSettings,
        start=st.sampled_from(Start),
        ordering=st.sampled_from(Ordering),
        lease_ms=st.integers(LEASE_MS_MIN, LEASE_MS_MAX),
        at_end=st.sampled_from(AtEnd),
        retention=st.sampled_from(QueueRetention),
        drain_per_s=st.integers(0, 10_000_000),
        fair_by=st.sampled_from(["", "key", "header:tenant"]),
        paused=st.booleans(),
        expiry_is_failure=st.booleans(),
    )
)
def test_bytes_and_back(settings: QueueSettings) -> None:
    event = QueueGroupSet(1, TOPIC, "workers", settings)
    assert set_from_proto(to_proto(event).queue_group_set) == event
    queue_groups.check_settings(settings)


@pytest.mark.parametrize("field", ["start", "ordering", "at_end", "retention"])
def test_a_setting_of_a_later_version_is_poison(field: str) -> None:
    message = to_proto(QueueGroupSet(1, TOPIC, "workers", SETTINGS)).queue_group_set
    setattr(message, field, 99)
    with pytest.raises(PoisonEntry):
        set_from_proto(message)
