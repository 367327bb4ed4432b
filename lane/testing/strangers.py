"""The contract of a listener that strangers connect to, and of a dial to a strange server, as tests.

Anybody can reach the port of a server: scanners, browsers, and clients whose network failed. Whatever they
send may end only their own connection, and must leave no state behind.
"""

from collections.abc import Iterator

import gevent
import pytest

from lane.errors import Refused, Unreachable
from lane.stream import Address
from lane.testing.harness import Kit, outcome, until
from lane.testing.raw import BadServer, Stranger
from lane.testing.scene import MANY, Scene, nothing_left, staged, taken

ways_to_leave = pytest.mark.parametrize("leave", ["close", "reset", "end"])


class StrangerContract:
    """See `lane.testing.TransportContract`. Skipped if the transport uses neither TCP nor UDP."""

    greeting_limit: float

    @pytest.fixture
    def scene(self, kit: Kit) -> Iterator[Scene]:
        """The kit's listener in use, and a recorded handshake. Hidden errors fail the test."""
        with staged(kit) as scene:
            yield scene

    @ways_to_leave
    def test_who_connects_and_leaves(self, scene: Scene, leave: str) -> None:
        scene.skip_unless_there_is(leave)

        def act(number: int, stranger: Stranger) -> None:
            stranger.say([b""])  # over UDP that is an empty datagram
            stranger.leave(leave)

        scene.strangers(act).join(raise_error=True)
        scene.all_is_well()

    @ways_to_leave
    def test_who_sends_garbage(self, scene: Scene, leave: str) -> None:
        scene.skip_unless_there_is(leave)
        garbage = scene.recording.garbage(of_client=True)

        def act(number: int, stranger: Stranger) -> None:
            stranger.say(garbage[number % len(garbage)])
            stranger.leave(leave)

        scene.strangers(act).join(raise_error=True)
        scene.all_is_well()

    @ways_to_leave
    def test_who_leaves_half_way_through_a_handshake(self, scene: Scene, leave: str) -> None:
        scene.skip_unless_there_is(leave)
        beginnings = scene.beginnings()

        def act(number: int, stranger: Stranger) -> None:
            stranger.say(beginnings[number % len(beginnings)])
            stranger.leave(leave)

        scene.strangers(act).join(raise_error=True)
        scene.all_is_well()

    def test_a_slow_greeter_keeps_nobody_waiting_and_is_given_up(self, scene: Scene) -> None:
        """A third send nothing, a third send half a handshake, and a third send a byte now and then."""
        if scene.kind == "udp":
            pytest.skip("that is to leave half-way: nobody sees more of it")
        beginnings = scene.beginnings()
        first = b"".join(scene.recording.flights(of_client=True)[0])
        pause = 2 * self.greeting_limit / len(first)

        def act(number: int, stranger: Stranger) -> None:
            if number % 3 == 1:
                stranger.say(beginnings[number % len(beginnings)])
            elif number % 3 == 2:
                stranger.say([first[at : at + 1] for at in range(len(first))], pause)
            stranger.wait()

        group = scene.strangers(act)
        until(lambda: scene.come == MANY)
        for _ in range(4):
            scene.visit()
        with gevent.Timeout(self.greeting_limit, AssertionError("slow greeters are not given up")):
            group.join(raise_error=True)
        scene.all_is_well()

    def test_closing_a_listener_drops_who_is_half_way(self, scene: Scene) -> None:
        kit, before = scene.kit, taken()
        beginnings = scene.recording.beginnings(of_client=True)
        listener = kit.transport.listen(Address(kit.listener.address.host, 0), kit.server_tls)

        def act(number: int, stranger: Stranger) -> None:
            if beginnings and number % 2:
                stranger.say(beginnings[number % len(beginnings)])
            if scene.kind == "tcp":
                stranger.wait()

        group = scene.strangers(act, at=listener.address)
        until(lambda: scene.come == MANY)
        kit.transport.dial(listener.address, kit.client_tls).close()  # after the strangers
        listener.close()
        group.join(raise_error=True)
        nothing_left(before)

    @pytest.mark.parametrize("then", ["close", "reset", "stay"])
    def test_dialling_what_is_no_server(self, scene: Scene, then: str) -> None:
        if scene.kind == "udp" and then != "stay":
            pytest.skip("UDP has no way to leave")
        if not scene.recording.flights(of_client=False):
            pytest.skip("a dial needs no answer")
        kit, before = scene.kit, taken()
        answers = [
            [],
            *scene.recording.beginnings(of_client=False),
            *scene.recording.garbage(of_client=False),
        ]
        servers = [BadServer(scene.kind, answer, then) for answer in answers]
        dials = [gevent.spawn(outcome, kit.transport.dial, one.address, kit.client_tls) for one in servers]
        with gevent.Timeout(self.greeting_limit, AssertionError("a dial waits for too long")):
            gevent.joinall(dials, raise_error=True)
        for dial in dials:
            assert isinstance(dial.value, Unreachable | Refused)
            assert "\n" not in str(dial.value)
        for one in servers:
            one.close()
        nothing_left(before)
