"""Exchanges and bindings: what is decided, what is refused and for which field, and what replaying makes of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from raftmq.errors import (
    AlreadyExists,
    InvalidArgument,
    PreconditionFailed,
    RaftmqError,
    UnknownBinding,
    UnknownExchange,
    UnknownTopic,
)
from raftmq.metadata.binding import (
    DeclareExchange,
    ExchangePolicy,
    bind,
    declare_exchange,
    delete_exchange,
    unbind,
)
from raftmq.metadata.events import (
    BindingAdded,
    BindingRemoved,
    Event,
    ExchangeDeclared,
    ExchangeDeleted,
    TopicDeleted,
)
from raftmq.metadata.exchange import Binding, ExchangeKind, ExchangeRecord
from raftmq.metadata.image import MetadataImage
from raftmq.records.poison import PoisonEntry
from tests.metadata.test_image import created, image_of

DIRECT, FANOUT, TOPIC, HEADERS = ExchangeKind
IMAGE = image_of(
    created(1, "orders", 1),
    created(2, "audit", 3),
    ExchangeDeclared("spare", FANOUT, ""),
    ExchangeDeclared("direct", DIRECT, "spare"),
    ExchangeDeclared("topic", TOPIC, ""),
    ExchangeDeclared("headers", HEADERS, ""),
)


def after(image: MetadataImage, decided: Sequence[Event]) -> MetadataImage:
    for event in decided:
        image = image.replay(event)
    return image


def bound(image: MetadataImage, exchange: str, *bindings: Binding) -> MetadataImage:
    for binding in bindings:
        image = after(image, bind(image, exchange, binding))
    return image


def refusal(decide: Callable[[], object]) -> RaftmqError:
    with pytest.raises(RaftmqError) as refused:
        decide()
    assert len(refused.value.message) < 400
    return refused.value


def test_an_exchange_is_declared_once_and_again() -> None:
    wish = DeclareExchange("events", TOPIC, "spare")
    decided = declare_exchange(IMAGE, wish)
    assert decided == [ExchangeDeclared("events", TOPIC, "spare")]
    image = after(IMAGE, decided)
    assert image.exchanges["events"] == ExchangeRecord("events", TOPIC, "spare", ())
    assert declare_exchange(image, wish) == []


def test_an_exchange_and_a_topic_may_share_a_name() -> None:
    assert declare_exchange(IMAGE, DeclareExchange("orders", FANOUT)) == [ExchangeDeclared("orders", FANOUT, "")]


@pytest.mark.parametrize(
    ("wish", "error", "field"),
    [
        (DeclareExchange("direct", TOPIC, "spare"), AlreadyExists, "name"),
        (DeclareExchange("direct", DIRECT, ""), AlreadyExists, "name"),
        (DeclareExchange("", FANOUT), InvalidArgument, "name"),
        (DeclareExchange("a b", FANOUT), InvalidArgument, "name"),
        (DeclareExchange("x" * 250, FANOUT), InvalidArgument, "name"),
        (DeclareExchange("..", FANOUT), InvalidArgument, "name"),
        (DeclareExchange("__mine", FANOUT), InvalidArgument, "name"),
        (DeclareExchange("new", FANOUT, "nope"), UnknownExchange, "alternate_exchange"),
        (DeclareExchange("new", FANOUT, "new"), InvalidArgument, "alternate_exchange"),
    ],
)
def test_what_cannot_be_declared(wish: DeclareExchange, error: type[RaftmqError], field: str) -> None:
    refused = refusal(lambda: declare_exchange(IMAGE, wish))
    assert (type(refused), refused.field) == (error, field)


def test_there_are_only_so_many_exchanges_and_bindings() -> None:
    tight = ExchangePolicy(exchanges_max=4, bindings_max=2, bindings_total_max=3)
    too_many = refusal(lambda: declare_exchange(IMAGE, DeclareExchange("fifth", FANOUT), tight))
    assert (type(too_many), too_many.field) == (PreconditionFailed, "name")
    assert declare_exchange(IMAGE, DeclareExchange("topic", TOPIC), tight) == []

    image = bound(IMAGE, "topic", *(Binding(topic="orders", routing_key=key) for key in "ab"))
    full = refusal(lambda: bind(image, "topic", Binding(topic="orders", routing_key="c"), tight))
    assert (type(full), full.field) == (PreconditionFailed, "binding")
    assert bind(image, "topic", Binding(topic="orders", routing_key="b"), tight) == []
    image = bound(image, "spare", Binding(topic="orders"))
    full = refusal(lambda: bind(image, "spare", Binding(topic="audit"), tight))
    assert (type(full), full.field) == (PreconditionFailed, "binding")


def test_bindings_keep_their_order_and_an_equal_one_is_the_same() -> None:
    first, second = Binding(topic="orders", routing_key="b"), Binding(exchange="direct", routing_key="a")
    image = bound(IMAGE, "topic", first, second)
    assert image.exchanges["topic"].bindings == (first, second)
    assert bind(image, "topic", first) == []
    decided = unbind(image, "topic", first)
    assert decided == [BindingRemoved("topic", first)]
    assert after(image, decided).exchanges["topic"].bindings == (second,)


@pytest.mark.parametrize(
    ("exchange", "binding", "error", "field"),
    [
        ("nope", Binding(topic="orders"), UnknownExchange, "exchange"),
        ("spare", Binding(), InvalidArgument, "binding"),
        ("spare", Binding(topic="orders", exchange="direct"), InvalidArgument, "binding"),
        ("spare", Binding(topic="nope"), UnknownTopic, "binding.topic"),
        ("spare", Binding(topic="x" * 2**20), UnknownTopic, "binding.topic"),
        ("spare", Binding(exchange="nope"), UnknownExchange, "binding.exchange"),
        ("spare", Binding(topic="__offsets"), InvalidArgument, "binding.topic"),
        ("spare", Binding(topic="orders", routing_key="k"), InvalidArgument, "binding.routing_key"),
        ("headers", Binding(topic="orders", routing_key="k"), InvalidArgument, "binding.routing_key"),
        ("direct", Binding(topic="orders", headers=(("a", b""),)), InvalidArgument, "binding.headers"),
        ("topic", Binding(topic="orders", any=True), InvalidArgument, "binding.headers"),
        ("headers", Binding(topic="orders", any=True), InvalidArgument, "binding.headers"),
        ("headers", Binding(topic="orders", headers=(("", b""),)), InvalidArgument, "binding.headers"),
        ("headers", Binding(topic="orders", headers=(("a", b"1"), ("a", b"2"))), InvalidArgument, "binding.headers"),
        ("headers", Binding(topic="orders", headers=(("a", bytes(1025)),)), InvalidArgument, "binding.headers"),
        ("headers", Binding(topic="orders", headers=(("ä" * 129, b""),)), InvalidArgument, "binding.headers"),
        (
            "headers",
            Binding(topic="orders", headers=tuple((str(n), b"") for n in range(17))),
            InvalidArgument,
            "binding.headers",
        ),
        ("direct", Binding(topic="orders", routing_key="ä" * 128), InvalidArgument, "binding.routing_key"),
        ("topic", Binding(topic="orders", routing_key="a*.b"), InvalidArgument, "binding.routing_key"),
        ("topic", Binding(topic="orders", routing_key="a.##"), InvalidArgument, "binding.routing_key"),
        ("topic", Binding(topic="orders", routing_key=".".join("a" * 33)), InvalidArgument, "binding.routing_key"),
    ],
    ids=str,
)
def test_what_cannot_be_bound(exchange: str, binding: Binding, error: type[RaftmqError], field: str) -> None:
    refused = refusal(lambda: bind(IMAGE, exchange, binding))
    assert (type(refused), refused.field) == (error, field)


def test_a_direct_exchange_may_be_bound_with_any_key() -> None:
    assert bind(IMAGE, "direct", Binding(topic="orders", routing_key="a*.#b")) != []


def test_what_is_not_bound_cannot_be_unbound() -> None:
    image = bound(IMAGE, "topic", Binding(topic="orders", routing_key="a"))
    missing = refusal(lambda: unbind(image, "topic", Binding(topic="orders", routing_key="b")))
    assert (type(missing), missing.field) == (UnknownBinding, "binding")
    assert isinstance(refusal(lambda: unbind(image, "nope", Binding(topic="orders"))), UnknownExchange)


def test_an_exchange_that_others_lead_to_is_deleted_by_force_only() -> None:
    image = bound(IMAGE, "topic", Binding(exchange="spare", routing_key="#"), Binding(topic="orders", routing_key="a"))
    refused = refusal(lambda: delete_exchange(image, "spare"))
    assert (type(refused), refused.field) == (PreconditionFailed, "name")
    assert "direct, topic" in refused.message
    decided = delete_exchange(image, "spare", force=True)
    assert decided == [ExchangeDeleted("spare")]
    left = after(image, decided)
    assert "spare" not in left.exchanges
    assert left.exchanges["direct"].alternate == ""
    assert left.exchanges["topic"].bindings == (Binding(topic="orders", routing_key="a"),)
    assert left.exchanges["headers"] is image.exchanges["headers"]


def test_one_that_leads_only_to_itself_needs_no_force() -> None:
    image = bound(IMAGE, "topic", Binding(exchange="topic", routing_key="#"))
    assert delete_exchange(image, "topic") == [ExchangeDeleted("topic")]
    assert isinstance(refusal(lambda: delete_exchange(image, "nope")), UnknownExchange)


def test_the_end_of_a_topic_is_the_end_of_its_bindings() -> None:
    kept = Binding(topic="audit", routing_key="#")
    image = bound(IMAGE, "topic", Binding(topic="orders", routing_key="a"), kept)
    left = image.replay(TopicDeleted(1))
    assert left.exchanges["topic"].bindings == (kept,)
    again = left.replay(created(3, "orders", 5))
    assert again.exchanges["topic"].bindings == (kept,)
    # Nothing was bound to this one: nothing is compiled anew.
    assert IMAGE.replay(TopicDeleted(1)).exchanges is IMAGE.exchanges


@pytest.mark.parametrize(
    "event",
    [
        ExchangeDeclared("spare", FANOUT, ""),
        ExchangeDeclared("new", FANOUT, "nope"),
        ExchangeDeleted("nope"),
        BindingAdded("nope", Binding(topic="orders")),
        BindingAdded("spare", Binding(topic="nope")),
        BindingAdded("spare", Binding(exchange="nope")),
        BindingAdded("spare", Binding(topic="orders", exchange="direct")),
        BindingAdded("direct", Binding(topic="orders", routing_key="there already")),
        BindingRemoved("spare", Binding(topic="orders")),
        BindingRemoved("nope", Binding(topic="orders")),
    ],
    ids=str,
)
def test_what_does_not_fit_stops_the_node(event: Event) -> None:
    image = bound(IMAGE, "direct", Binding(topic="orders", routing_key="there already"))
    with pytest.raises(PoisonEntry):
        image.replay(event)


def test_exchanges_are_part_of_the_digest() -> None:
    image = bound(IMAGE, "direct", Binding(topic="orders", routing_key="a"))
    assert len({IMAGE.digest(), image.digest(), after(image, delete_exchange(image, "topic")).digest()}) == 3
    assert after(image, unbind(image, "direct", Binding(topic="orders", routing_key="a"))).digest() == IMAGE.digest()
