"""Session: numbering, acks, re-sending, gaps and splitting, without a socket."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ggend_client.transport.session import FRAME_BYTES, FRAME_EVENTS, Session
from ggend_schema import Audit, limits
from ggend_schema.codec import encode_event, encode_frame
from ggend_schema.errors import FrameTooLarge, ProtocolError
from ggend_schema.framing import FrameSplitter
from ggend_schema.messages import Ack, DaemonMessage, EncodedBatch, Goodbye, Hello, Limits, Reject
from ggend_schema.messages import Welcome as WelcomeMessage

PRODUCER = bytes(range(16))
EVENT = encode_event(Audit(agent_id="a", operation="o", status="started"))


def payload_of(frame: bytes) -> memoryview:
    (payload,) = FrameSplitter().feed(frame)
    return payload


def batch_of(frame: bytes | None) -> EncodedBatch:
    assert frame is not None
    return msgspec.msgpack.decode(payload_of(frame), type=EncodedBatch)


def welcome(
    last_sequence: int = 0, *, frame_bytes: int = limits.FRAME_BYTES, batch_events: int = 4096
) -> bytes:
    return encode_frame(
        WelcomeMessage(
            protocol=1,
            database="0" * 32,
            last_sequence=last_sequence,
            limits=Limits(frame_bytes=frame_bytes, batch_events=batch_events),
            durability="wal+full",
        )
    )


def ack(sequence: int) -> bytes:
    return encode_frame(Ack(sequence=sequence))


def reject(sequence: int) -> bytes:
    return encode_frame(Reject(sequence=sequence, code="invalid", message="no"))


def welcomed(last_sequence: int = 0, *, permanent: bool = False) -> Session:
    session = Session(PRODUCER, permanent=permanent)
    session.hello()
    session.receive(welcome(last_sequence))
    return session


#: The event, with a stamp.
PAIR = msgspec.msgpack.encode((0, msgspec.Raw(EVENT)))


def enqueue(session: Session, count: int, encoded: bytes = EVENT) -> None:
    push(session, [(stamp, encoded) for stamp in range(count)])


def push(session: Session, events: list[tuple[int, bytes]]) -> None:
    pairs = [msgspec.msgpack.encode((stamp, msgspec.Raw(encoded))) for stamp, encoded in events]
    session.push(session.number(len(pairs)), pairs, is_live=True)


def frames_of(session: Session) -> list[EncodedBatch]:
    frames = []
    while (frame := session.next_frame()) is not None:
        assert len(frame) <= limits.FRAME_BYTES
        frames.append(batch_of(frame))
    return frames


def numbers(frames: list[EncodedBatch]) -> list[int]:
    return [
        number
        for frame in frames
        for number in range(frame.first_sequence, frame.first_sequence + len(frame.events))
    ]


def test_hello_carries_the_producer_and_what_kind_it_is() -> None:
    session = Session(PRODUCER, permanent=True, client_name="x" * 500)
    hello = msgspec.msgpack.decode(payload_of(session.hello()), type=Hello)
    assert hello.producer == PRODUCER
    assert hello.permanent
    assert hello.client == "x" * limits.NAME_CHARS


def test_a_producer_id_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        Session(b"short")


def test_nothing_is_framed_before_the_welcome() -> None:
    session = Session(PRODUCER)
    session.hello()
    enqueue(session, 1)
    assert session.next_frame() is None


def test_numbers_begin_at_one_and_stamps_stay_with_their_events() -> None:
    session = welcomed()
    push(session, [(70, EVENT), (71, EVENT)])
    batch = batch_of(session.next_frame())
    assert (batch.first_sequence, batch.stamps, batch.lost) == (1, [70, 71], 0)
    assert bytes(batch.events[0]) == EVENT
    assert session.next_frame() is None


def test_an_ack_settles_everything_up_to_it() -> None:
    session = welcomed()
    enqueue(session, 3)
    frames_of(session)
    session.receive(ack(2))
    assert (session.settled, session.in_flight, session.is_settled) == (2, 1, False)
    session.receive(ack(3))
    assert session.is_settled
    assert session.in_flight_bytes == 0


def test_an_ack_for_numbers_never_given_settles_no_later_event() -> None:
    session = welcomed()
    enqueue(session, 1)
    frames_of(session)
    session.receive(ack(100))
    enqueue(session, 1)
    assert not session.is_settled
    assert numbers(frames_of(session)) == [2]


def test_what_was_not_acked_is_sent_again_in_order_under_the_same_numbers() -> None:
    session = welcomed()
    enqueue(session, 5)
    frames_of(session)
    session.receive(ack(2))
    enqueue(session, 1)
    session.hello()
    session.receive(welcome(2))
    frames = frames_of(session)
    assert numbers(frames) == [3, 4, 5, 6]
    assert [frame.lost for frame in frames] == [0, 0]
    assert session.resent == 3


def test_a_welcome_acknowledges_what_was_committed_before_the_connection_broke() -> None:
    session = welcomed()
    enqueue(session, 5)
    frames_of(session)
    session.hello()
    session.receive(welcome(4))
    assert session.settled == 4
    assert numbers(frames_of(session)) == [5]


def test_a_welcome_below_the_acked_declares_the_gap_as_lost_once() -> None:
    session = welcomed()
    enqueue(session, 5)
    frames_of(session)
    session.receive(ack(4))
    session.hello()
    session.receive(welcome(1))
    first = batch_of(session.next_frame())
    assert (first.first_sequence, first.lost) == (5, 3)
    enqueue(session, 1)
    second = batch_of(session.next_frame())
    assert (second.first_sequence, second.lost) == (6, 0)


def test_a_replaced_database_with_nothing_unacked_is_told_with_the_next_event() -> None:
    session = welcomed()
    enqueue(session, 5)
    frames_of(session)
    session.receive(ack(5))
    session.hello()
    session.receive(welcome(0))
    assert session.next_frame() is None
    enqueue(session, 1)
    batch = batch_of(session.next_frame())
    assert (batch.first_sequence, batch.lost) == (6, 5)


def test_after_a_goodbye_for_a_gap_the_next_connection_fills_it() -> None:
    session = welcomed()
    enqueue(session, 3)
    frames_of(session)
    session.receive(ack(2))
    session.receive(encode_frame(Goodbye(code="gap", last_sequence=1)))
    assert session.goodbye is not None
    session.hello()
    assert session.goodbye is None
    session.receive(welcome(1))
    batch = batch_of(session.next_frame())
    assert (batch.first_sequence, batch.lost) == (3, 1)


def test_an_ack_that_overtakes_what_is_sent_again_declares_nothing_lost() -> None:
    session = welcomed()
    enqueue(session, FRAME_EVENTS + 10)
    frames_of(session)
    session.hello()
    session.receive(welcome(0))
    session.next_frame()
    session.receive(ack(FRAME_EVENTS + 4))
    batch = batch_of(session.next_frame())
    assert (batch.first_sequence, batch.lost) == (FRAME_EVENTS + 5, 0)


def test_a_known_producer_that_is_not_permanent_goes_on_above_its_numbers() -> None:
    session = welcomed(500)
    enqueue(session, 1)
    assert numbers(frames_of(session)) == [501]


def test_a_permanent_producer_repeats_its_numbers_and_sends_only_the_new() -> None:
    session = welcomed(3, permanent=True)
    enqueue(session, 3)
    assert session.is_settled
    assert session.settled == 3
    enqueue(session, 2)
    frames = frames_of(session)
    assert (numbers(frames), frames[0].lost) == ([4, 5], 0)


def test_a_reject_counts_once_however_often_it_comes() -> None:
    session = welcomed()
    enqueue(session, 2)
    frames_of(session)
    session.receive(reject(2))
    session.hello()
    session.receive(welcome(0))
    frames_of(session)
    session.receive(reject(2) + ack(2))
    session.receive(reject(2) + reject(77))
    assert session.rejected == 1
    assert [kept.sequence for kept in session.rejects] == [2]
    assert session.is_settled


def test_numbers_that_are_left_out_are_lost_and_said_so_with_the_next_event() -> None:
    session = welcomed()
    session.push(1, [PAIR], is_live=False)
    session.push(5, [PAIR], is_live=False)
    assert [(f.first_sequence, f.lost) for f in frames_of(session)] == [(1, 0), (5, 3)]
    session.receive(ack(5))
    assert (session.settled, session.lost, session.replayed) == (5, 3, 2)


def test_numbers_at_the_end_that_cannot_be_read_are_declared_alone() -> None:
    session = welcomed()
    session.number(3)
    session.push(1, [PAIR], is_live=False)
    session.skip_to(3)
    assert [(f.first_sequence, len(f.events), f.lost) for f in frames_of(session)] == [
        (1, 1, 0),
        (4, 0, 2),
    ]


def test_numbers_that_are_still_in_the_spool_are_not_declared_lost() -> None:
    session = welcomed()
    session.number(3)
    session.push(1, [PAIR], is_live=False)
    assert [f.lost for f in frames_of(session)] == [0]
    session.push(2, [PAIR, PAIR], is_live=False)
    assert [(f.first_sequence, f.lost) for f in frames_of(session)] == [(2, 0)]


def test_shed_travels_with_every_frame() -> None:
    session = welcomed()
    session.shed = 7
    enqueue(session, 1)
    assert batch_of(session.next_frame()).shed == 7


def test_frames_are_split_by_the_number_of_events() -> None:
    session = welcomed()
    enqueue(session, 2 * FRAME_EVENTS + 1)
    frames = frames_of(session)
    assert [len(frame.events) for frame in frames] == [FRAME_EVENTS, FRAME_EVENTS, 1]
    assert numbers(frames) == list(range(1, 2 * FRAME_EVENTS + 2))


def test_frames_are_split_by_bytes_and_a_large_event_goes_alone() -> None:
    session = welcomed()
    third = msgspec.msgpack.encode("x" * (FRAME_BYTES // 3))
    enqueue(session, 4, third)
    enqueue(session, 1, msgspec.msgpack.encode("x" * (limits.EVENT_BYTES - 5)))
    enqueue(session, 1)
    assert [len(frame.events) for frame in frames_of(session)] == [2, 2, 1, 1]


def test_smaller_limits_of_the_daemon_win() -> None:
    session = Session(PRODUCER)
    session.hello()
    session.receive(welcome(frame_bytes=400, batch_events=3))
    enqueue(session, 10, msgspec.msgpack.encode("x" * 100))
    assert [len(frame.events) for frame in frames_of(session)] == [2] * 5
    enqueue(session, 10, b"\xc0")
    assert [len(frame.events) for frame in frames_of(session)] == [3, 3, 3, 1]


def test_an_event_over_the_daemons_own_limit_is_declared_lost_and_its_neighbours_go() -> None:
    session = Session(PRODUCER)
    session.hello()
    session.receive(welcome(frame_bytes=1000))
    large = msgspec.msgpack.encode("x" * 2000)
    enqueue(session, 1)
    enqueue(session, 1, large)
    enqueue(session, 1)
    enqueue(session, 1, large)
    frames = frames_of(session)
    assert [(f.first_sequence, len(f.events), f.lost) for f in frames] == [
        (1, 1, 0),
        (3, 1, 1),
        (5, 0, 1),
    ]
    session.receive(ack(4))
    assert session.is_settled
    assert (session.settled, session.lost) == (4, 2)
    assert session.released == 4


@pytest.mark.parametrize(
    "first", [ack(1), welcome() + welcome(), b"\0\0\0\1\xc0"], ids=["early ack", "twice", "nil"]
)
def test_what_the_protocol_does_not_allow_is_an_error(first: bytes) -> None:
    session = Session(PRODUCER)
    session.hello()
    with pytest.raises(ProtocolError):
        session.receive(first)


def test_bytes_that_are_no_frames_are_an_error_after_the_frames_before_them() -> None:
    session = welcomed()
    enqueue(session, 1)
    frames_of(session)
    with pytest.raises(FrameTooLarge):
        session.receive(ack(1) + b"HTTP/1.1 400")
    assert session.is_settled


def state_of(session: Session) -> tuple[object, ...]:
    return (
        session.settled,
        session.acked_sequence,
        session.rejected,
        session.in_flight,
        session.in_flight_bytes,
        list(session.rejects),
        session.welcome,
        session.goodbye,
        session.resent,
    )


@given(
    answers=st.lists(
        st.one_of(
            st.builds(Ack, sequence=st.integers(0, 40)),
            st.builds(
                Reject, sequence=st.integers(1, 40), code=st.just("invalid"), message=st.text()
            ),
        ),
        max_size=20,
    ),
    cuts=st.lists(st.integers(0, 2000), max_size=30),
)
def test_any_cut_of_the_daemons_bytes_gives_the_same_state(
    answers: list[DaemonMessage], cuts: list[int]
) -> None:
    stream = b"".join(
        encode_frame(message) for message in [*answers, Goodbye(code="draining", message="bye")]
    )
    whole, pieces = welcomed(), welcomed()
    for session in (whole, pieces):
        enqueue(session, 30)
        frames_of(session)
    whole_messages = whole.receive(stream)
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    piece_messages = []
    for start, stop in pairwise(edges):
        piece_messages += pieces.receive(stream[start:stop])
    assert piece_messages == whole_messages
    assert state_of(pieces) == state_of(whole)


@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("emit"), st.integers(1, 20)),
            st.tuples(st.just("commit"), st.integers(1, 20)),
            st.tuples(st.just("break"), st.booleans()),
        ),
        max_size=60,
    )
)
def test_whatever_breaks_the_daemon_ends_with_every_event_once_in_order(
    steps: list[tuple[str, int]],
) -> None:
    """Exactly once, as long as the daemon keeps what it committed."""
    session = Session(PRODUCER)
    session.hello()
    session.receive(welcome(0))
    stored: list[int] = []
    on_the_wire: list[int] = []

    def commit(count: int) -> None:
        arrived, on_the_wire[:] = on_the_wire[:count], on_the_wire[count:]
        for stamp in arrived:
            if stamp > len(stored):
                stored.append(stamp)
                assert len(stored) == stamp, "a gap"

    def transmit() -> None:
        for frame in frames_of(session):
            assert frame.lost == 0
            assert frame.stamps == [
                frame.first_sequence + offset for offset in range(len(frame.stamps))
            ]
            on_the_wire.extend(frame.stamps)

    emitted = 0
    for step, amount in [*steps, ("break", 0)]:
        if step == "emit":
            for _ in range(amount):
                emitted += 1
                push(session, [(emitted, EVENT)])
            transmit()
        elif step == "commit":
            commit(amount)
            session.receive(ack(len(stored)))
        else:
            if amount:  # the ack of this commit is lost with the connection
                commit(5)
            on_the_wire.clear()
            session.hello()
            session.receive(welcome(len(stored)))
            transmit()
    commit(len(on_the_wire))
    session.receive(ack(len(stored)))
    assert stored == list(range(1, emitted + 1))
    assert session.is_settled
    assert session.settled == emitted


def test_another_id_takes_along_what_no_daemon_can_have_seen() -> None:
    """What was in a frame of the old id may be stored: sent again, it would be doubled."""
    session = welcomed()
    enqueue(session, 3)
    assert numbers(frames_of(session)) == [1, 2, 3]
    session.receive(ack(1))
    enqueue(session, 2)
    session.take_new_id(b"2" * 16)
    assert (session.settled, session.lost, session.last_sequence) == (3, 2, 2)
    session.hello()
    session.receive(welcome())
    assert numbers(frames_of(session)) == [1, 2]
    session.receive(ack(2))
    assert (session.settled, session.lost, session.is_settled) == (5, 2, True)


def test_a_frame_that_was_not_written_was_not_seen() -> None:
    session = welcomed()
    enqueue(session, 1)
    frames_of(session)
    enqueue(session, 2)
    assert len(frames_of(session)) == 1
    session.take_back(1)
    session.take_new_id(b"2" * 16)
    assert (session.lost, session.last_sequence) == (1, 2)
