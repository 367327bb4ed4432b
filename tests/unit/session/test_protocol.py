"""What a session's protocol makes of the frames that come, of its owner's wishes and of time."""

import pytest

from lane.budget import Budget
from lane.errors import Closed, ProtocolError, Reset
from lane.proto.frames import Ack, Data, End, Fin, Ping, Pong, Received, ResetFrame, Stats, pack, reset_code
from lane.session.activity import ACK_LATE, ACTIVE, FEW, IDLE, REPORT, REPORT_FEW
from lane.session.empty_frames import EMPTY, EMPTY_SIZE
from lane.session.events import DataReceived, Notice
from lane.session.frame_writer import AHEAD, PIECE, PING_DUE
from lane.session.liveness import QUIET
from lane.session.protocol import TURN, SessionProtocol
from lane.session.states import Attachment, Direction, Life
from lane.stream import LinkStats

NOW = 100.0


def begun(**how):
    session = SessionProtocol(1 << 20, 1 << 20, Budget(1 << 30), NOW, **how)
    session.attach(NOW)
    return session


def feed(session, *frames, now=NOW):
    """The events of `frames`, but for views of data: their bytes."""
    data = b"".join(map(pack, frames))
    return [
        bytes(event.data) if isinstance(event, DataReceived) else event
        for event in session.receive_data(data, now)
    ]


def said(session, now=NOW):
    """All that it has to send."""
    found = b""
    while chunk := session.data_to_send(now):
        found += chunk[0] + bytes(chunk[1])
    return found


def known():
    """A session that has got five bytes."""
    session = begun()
    feed(session, Data(0, b"known"))
    session.read(5)
    return session


@pytest.mark.parametrize(
    "frame",
    [Data(0, b"k"), Data(2, b"own"), Ack(0, 1 << 20), Ping(1), Pong(1), Stats(1, 1, 1, 1)],
    ids=["data", "later data", "ack", "ping", "pong", "stats"],
)
def test_a_peer_that_says_nothing_new_all_the_time_is_stopped(frame):
    session = known()
    feed(session, *[frame] * int(EMPTY))
    with pytest.raises(ProtocolError, match="too many frames that say nothing"):
        feed(session, *[frame] * 100)
    assert session.life is Life.ABORTING
    assert said(session) == pack(ResetFrame(0))


def test_data_excuse_questions():
    """A sender that may retain little asks for an ACK each time that it can send no more."""
    session = known()
    for number in range(10):
        session.receive_window.limit = 1 << 30
        for step in range(int(EMPTY) // 5):
            offset = 5 + (number * int(EMPTY) // 5 + step) * EMPTY_SIZE
            feed(session, Data(offset, bytes(EMPTY_SIZE)), Ping(1))
        session.read(1 << 30)
    assert session.failure is None


def test_data_are_events_only_for_a_reader_that_has_nothing_left():
    session = begun()
    assert feed(session, Data(0, b"one"), Data(3, b"two")) == [b"one", Notice.PROGRESS]
    assert bytes(session.read(100)) == b"onetwo"
    assert feed(session, Data(6, b"three")) == [Notice.PROGRESS], "it was taken, and is not yet consumed"
    session.receive_window.consume()
    session.read(100)
    session.receive_window.consume()
    assert feed(session, Data(11, b"four")) == [b"four", Notice.PROGRESS]


def test_what_is_taken_of_an_event_is_consumed_and_the_rest_is_held():
    session = begun()
    for event in session.receive_data(pack(Data(0, b"abcdef")), NOW):
        if isinstance(event, DataReceived):
            event.taken = 2
    assert session.receive_window.consumed == 2
    assert bytes(session.read(100)) == b"cdef"


def test_others_may_run_after_every_few_frames():
    session = begun()
    events = feed(session, *[Ping(number) for number in range(3 * TURN + 1)])
    assert events == [Notice.PAUSE] * 3


def test_ends_in_order_are_a_close_on_which_both_agree():
    session = begun(resumable=True)
    session.send(b"question", NOW)
    session.finish()
    said(session)
    assert feed(session, Ack(9, 1 << 20), Data(0, b"answer"), Fin(6))[0] is Notice.CREDIT
    assert bytes(session.read(100)) == b"answer"
    assert not session.complete
    assert session.read(100) == b""
    assert session.complete
    session.close()
    assert said(session).endswith(pack(End()))
    assert feed(session, End()) == []
    assert session.trailing_data == b""
    assert session.send_buffer.state is session.receive_window.state is Direction.ENDED
    session.release()
    assert session.life is Life.CLOSED


@pytest.mark.parametrize(
    "frames",
    [
        [End()],
        [Received(0)],
        [Data(1, b"x")],
        [Fin(1)],
        [Ack(1, 1)],
        [Data(0, bytes(1 << 18)), Data(1 << 18, b"x")],
    ],
    ids=["early END", "RECEIVED", "gap", "FIN after nothing", "ACK for nothing", "beyond the window"],
)
def test_what_a_peer_must_not_say_aborts_the_session(frames):
    session = SessionProtocol(1 << 20, 1 << 18, Budget(1 << 30), NOW, resumable=True)
    session.attach(NOW)
    with pytest.raises(ProtocolError):
        feed(session, *frames)
    assert session.over
    assert isinstance(session.failure.build(), ProtocolError)


def test_an_abort_is_said_on_the_next_stream_if_this_one_is_lost():
    session = begun(resumable=True)
    session.send(b"never sent", NOW)
    session.abort(7, Closed("reset here"))
    assert said(session) == pack(ResetFrame(7)), "and nothing else"
    session.stream_lost(Closed("the carrier is lost"))
    assert session.life is Life.ABORTING
    session.attach(NOW, preface=b"REPLY")
    assert said(session) == b"REPLY" + pack(ResetFrame(7))
    session.stream_lost(None)
    assert session.life is Life.ABORTED, "the peer ended the stream: it has heard"


@pytest.mark.parametrize("resumable", [True, False])
@pytest.mark.parametrize(
    ("error", "code"),
    [(Closed("lost"), None), (Reset(7), None), (Reset(reset_code(7)), 7), (None, None)],
    ids=["carrier", "stream's own code", "abort", "early end"],
)
def test_what_the_end_of_a_stream_means(resumable, error, code):
    session = begun(resumable=resumable)
    session.stream_lost(error)
    assert session.attachment is Attachment.DETACHED
    if code is not None:
        assert session.failure.build().code == code
    assert session.over == (code is not None or not resumable)


def test_while_a_session_is_carried_by_nothing_there_is_nothing_to_send():
    session = begun(resumable=True)
    session.stream_lost(Closed("lost"))
    session.send(b"retained", NOW)
    session.writer.due |= PING_DUE
    assert not session.control_due
    assert session.data_to_send(NOW) is None
    session.attach(NOW, resumed=True, announce=True)
    assert said(session).startswith(pack(Received(0)))
    assert feed(session, Received(0)) == [Notice.RESUMED]
    assert said(session) == pack(Data(0, b"retained"))


@pytest.mark.parametrize("known", [0, 2 * AHEAD, 3 * PIECE])
def test_little_is_sent_again_before_the_peer_has_said_what_came_meanwhile(known):
    session = begun(resumable=True)
    session.send(bytes(3 * PIECE), NOW)
    session.finish()
    session.stream_lost(None)
    session.attach(NOW, resumed=True)
    feed(session, Received(0))
    assert said(session) == pack(Ack(0, session.receive_window.window)) + pack(Data(0, bytes(AHEAD)))
    assert feed(session, Ack(known, 1 << 20)) == [Notice.RESUMED]
    assert len(said(session)) == pytest.approx(3 * PIECE - max(known, AHEAD), abs=200)
    assert feed(session, Ack(known, 1 << 20)) == [Notice.CREDIT], "once"


def test_the_carrier_is_not_asked_before_it_matters():
    session = begun()
    assert not session.wants_figures(NOW + QUIET - 0.001)
    assert session.wants_figures(NOW + QUIET + 0.001), "whether it is time for a PING"
    session.liveness.measured(LinkStats(rtt=0.02), NOW + QUIET)
    assert not session.wants_figures(NOW + QUIET + 0.001), "they are new"


def test_a_peer_that_wants_figures_gets_them_while_there_is_something_to_lose():
    session = begun()
    session.activity.reports = True
    session.tick(NOW)
    assert said(session) == b""
    session.send(b"data", NOW)
    said(session)
    assert session.wants_figures(NOW + 1)
    session.liveness.measured(LinkStats(rtt=0.02, sent=5, lost=1), NOW)
    session.tick(NOW + 0.1)
    assert not session.control_due, "they travel with the next data"
    assert said(session) == pack(Stats(20_000, 5, 1, 0))
    session.tick(NOW + 0.1 + REPORT / 2)
    assert said(session) == b"", "not so soon"
    session.tick(NOW + 0.1 + REPORT)
    assert said(session).endswith(pack(Stats(20_000, 5, 1, 0))), "behind a PING into the silence"


@pytest.mark.parametrize(("size", "pause"), [(FEW - 1, REPORT_FEW), (FEW, REPORT)])
def test_few_datagrams_are_reported_seldom(size, pause):
    session = begun()
    session.activity.reports = True
    session.activity.note_datagram(FEW, NOW, session.liveness, received=False)
    session.tick(NOW)
    assert said(session), "at first at once"
    later = NOW + pause
    for now in (later - 0.01, later):
        session.liveness.heard = now
        session.activity.note_datagram(size if now < later else 0, now, session.liveness, received=False)
        session.tick(now)
        assert bool(said(session)) is (now == later)


@pytest.mark.parametrize("retains", [True, False])
def test_who_has_bytes_to_send_again_makes_sure_of_the_next_stream(retains):
    session = begun(resumable=True)
    if retains:
        session.send(b"retained", NOW)
    session.stream_lost(None)
    later = NOW + 2 * ACTIVE
    session.attach(later, resumed=True)
    feed(session, Received(0), now=later)
    said(session)
    assert session.tick(later + 0.5) is retains
    assert session.liveness.asked is False
    assert (b"".join(map(bytes, session.data_to_send(later + 0.5) or ())) != b"") is retains
    assert session.liveness.asked is retains
    assert not session.tick(later + ACTIVE + 0.1), "it rests as others do"


@pytest.mark.parametrize(("size", "late"), [(1, True), (FEW, True), (FEW + 1, False)])
def test_an_ack_for_few_bytes_waits_for_data_to_travel_with(size, late):
    session = begun()
    feed(session, Data(0, bytes(size)))
    session.read(size)
    session.receive_window.consume()
    session.tick(NOW + 0.1)
    assert session.control_due is not late
    session.tick(NOW + ACK_LATE + 0.01)
    assert session.control_due, "the peer may forget the bytes in the end"


def test_an_ack_travels_with_the_answer():
    session = known()
    session.receive_window.consume()
    session.send(b"answer", NOW)
    session.tick(NOW + 0.1)
    assert said(session).startswith(pack(Ack(5, session.receive_window.window)))
    session.tick(NOW + ACK_LATE + 0.01)
    assert pack(Ack(5, session.receive_window.window)) not in said(session), "once"


def test_bytes_that_were_dropped_unread_are_no_clean_end():
    session = begun()
    feed(session, Data(0, b"unread"), Fin(6))
    session.abort(0, Closed("reset here"))
    session.release()
    with pytest.raises(Closed):
        session.read(100)


def test_a_pong_to_an_older_ping_does_not_confirm_a_smaller_window():
    session = begun()
    session.receive_window._grow_to(4 << 20)
    feed(session, Data(0, b"x"))
    session.read(1)
    session.receive_window.consume()
    session.tick(NOW + 1)
    asked = said(session, NOW + 1)
    assert asked[-12:-8] == b"\x04\0\0\x08", "a PING"
    limit = session.receive_window.limit
    session.tick(NOW + 2 * IDLE)
    feed(session, Pong(int.from_bytes(asked[-8:], "big")), now=NOW + 2 * IDLE)
    assert session.receive_window.limit == limit, "the peer may not know"
    newer = said(session, NOW + 2 * IDLE)
    feed(session, Pong(int.from_bytes(newer[-8:], "big")), now=NOW + 2 * IDLE)
    assert session.receive_window.limit < limit


def test_a_pong_does_not_overtake_bytes_that_older_credit_allowed():
    session = begun(resumable=True)
    session.send(bytes(3 * PIECE), NOW)
    said(session)
    session.attach(NOW, resumed=True)
    feed(session, Received(0), Ack(0, 1000), Ping(7))
    chunks = []
    while chunk := session.data_to_send(NOW):
        chunks.append(chunk)
    assert [len(data) for _, data in chunks] == [PIECE, PIECE, PIECE, 0]
    assert pack(Pong(7)) in chunks[-1][0]
    assert not any(pack(Pong(7)) in head for head, _ in chunks[:-1])


def closing():
    session = begun(resumable=True)
    session.finish()
    said(session)
    feed(session, Ack(1, 1 << 20), Fin(0))
    assert session.read(1) == b""
    session.close()
    return session


def test_what_breaks_the_protocol_at_the_end_is_an_end_as_well():
    session = closing()
    with pytest.raises(ProtocolError):
        feed(session, Data(5, b"behind the end"))
    assert session.life is Life.ABORTED


def test_an_end_is_said_although_a_fin_goes_before_it_again():
    session = closing()
    session.writer._fin_sent = False  # the peer asked for it on a further stream
    assert said(session).endswith(pack(Fin(0)) + pack(End()))


@pytest.mark.parametrize("frame", [Fin(0), End()])
def test_nothing_follows_an_end_on_a_further_stream(frame):
    session = begun(resumable=True)
    session.finish()
    said(session)
    feed(session, Ack(1, 1 << 20), Fin(0))
    session.read(1)
    feed(session, End())
    session.attach(NOW, resumed=True)
    with pytest.raises(ProtocolError):
        feed(session, Received(0), frame)


def test_a_completed_session_that_was_reset_meanwhile_stays_as_it_is():
    session = closing()
    session.fail(Closed("reset"))
    session.release()
    session.peer_completed()
    assert session.send_buffer.retained == 0


def test_frames_behind_the_loss_of_a_stream_are_dropped():
    session = begun(resumable=True)
    session.attach(NOW, resumed=True)
    frames = b"".join(map(pack, [*(Ping(number) for number in range(TURN)), Received(0)]))
    for event in session.receive_data(frames, NOW):
        if event is Notice.PAUSE:
            session.detach()
    assert session.attachment is Attachment.DETACHED
