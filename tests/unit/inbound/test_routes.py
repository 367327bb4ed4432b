"""Who decides the way of a connection: plugins, rules, and lane where neither says anything."""

from types import ModuleType

import gevent
import pytest
from gevent.event import Event

from lane import hookimpl
from lane.address import Address
from lane.cli import option_parser, routing
from lane.config import client_config
from lane.egress.rules import Action, RouteRule, RouteTable
from lane.errors import ConfigError, Status, TargetError
from lane.inbound import later
from lane.inbound import routes as routes_module
from lane.inbound.routes import Routes
from lane.log import Throttle
from lane.plugins import Plugins
from lane.testing.harness import until

TARGET = Address("example.com", 443)


class Way:
    """A connector that takes notes."""

    def __init__(self):
        self.targets, self.packets = [], []
        self.over = Event()
        self.associations = self.closed = 0
        self.error = None

    def connect(self, target):
        self.targets.append(target)
        return self

    bind = connect

    def associate(self, deliver, *, anyone=False):
        if self.error:
            raise self.error
        self.associations += 1
        self.deliver, self.anyone = deliver, anyone
        return self

    def leaves(self, goes):
        pass

    def send(self, target, payload):
        self.packets.append((target, payload))

    def close(self):
        self.closed += 1


def routes(*texts, ask=None, **options):
    lane, direct = Way(), Way()
    table = RouteTable(RouteRule.parse(text) for text in texts)
    return Routes(lane, direct, table, ask, **options), lane, direct


def test_each_way():
    made, lane, direct = routes("direct 10.0.0.0/8", "block ads.example")
    assert made.connect(TARGET) is lane
    assert made.connect(Address("10.0.0.1", 80)) is direct
    assert (lane.targets, direct.targets) == ([TARGET], [Address("10.0.0.1", 80)])
    with pytest.raises(TargetError, match=r"^blocked by a rule$") as caught:
        made.connect(Address("www.ads.example", 443))
    assert caught.value.status is Status.NOT_ALLOWED
    assert len(lane.targets + direct.targets) == 2


def test_ports_are_had_through_lane_only():
    made, lane, direct = routes("direct 10.0.0.0/8", "block ads.example")
    assert made.bind(TARGET) is lane
    for peer, status in (
        (Address("10.0.0.1", 80), Status.COMMAND_NOT_SUPPORTED),
        (Address("ads.example", 80), Status.NOT_ALLOWED),
    ):
        with pytest.raises(TargetError) as caught:
            made.bind(peer)
        assert caught.value.status is status
    assert (lane.targets, direct.targets) == ([TARGET], [])


def test_what_decided_is_logged(caplog):
    caplog.set_level("DEBUG", "lane.inbound")
    made, _, _ = routes("block example.com")
    assert made.action(TARGET) is Action.BLOCK
    assert caplog.messages == ["example.com:443: block, by the rule 'block example.com'"]
    caplog.clear()
    assert routes(ask=lambda target: Action.DIRECT)[0].action(TARGET) is Action.DIRECT
    assert caplog.messages == ["example.com:443: direct, says a plugin"]


def test_packets_go_the_way_of_their_target():
    made, lane, direct = routes("direct 10.0.0.0/8", "block ads.example")
    deliver = object()
    association = made.associate(deliver, anyone=True)
    for host in (b"example.com", b"10.0.0.1", b"ads.example", b"example.com"):
        association.send(Address(host.decode(), 53), host)
    until(lambda: lane.packets)
    assert lane.deliver is direct.deliver is deliver
    assert lane.anyone is direct.anyone is True
    assert [payload for _, payload in lane.packets] == [b"example.com", b"example.com"]
    assert [payload for _, payload in direct.packets] == [b"10.0.0.1"]
    lane.over.set()
    until(association.over.is_set)
    association.close()
    association.close()
    assert lane.closed == direct.closed == 1


DOWN = TargetError(Status.FAILURE, "no way to the server")
HERE, THERE = Address("10.0.0.1", 53), Address("192.0.2.1", 53)


def here(target):
    return Action.DIRECT if target == HERE else None


@pytest.mark.parametrize(("texts", "ask"), [(["direct 10.0.0.1"], None), ([], here)], ids=["rule", "plugin"])
def test_no_server_is_asked_for_what_it_has_no_part_in(texts, ask, caplog, monkeypatch):
    caplog.set_level("INFO", "lane.inbound")
    monkeypatch.setattr(routes_module, "_throttle", Throttle())
    monkeypatch.setattr(later, "PAUSE", 0.0)
    made, lane, direct = routes(*texts, ask=ask)
    lane.error = DOWN
    association = made.associate(lambda *_: None)
    association.send(HERE, b"1")
    assert lane.associations == 0
    for _ in range(2):
        association.send(THERE, b"lost")
        gevent.idle()
    association.send(HERE, b"2")
    assert [payload for _, payload in direct.packets] == [b"1", b"2"]
    assert not association.over.is_set()
    assert caplog.messages == ["UDP: no packets through lane: no way to the server"]
    lane.error = None
    association.send(THERE, b"found")
    until(lambda: lane.packets == [(THERE, b"found")])
    association.close()
    association.send(HERE, b"late")
    association.send(THERE, b"late")
    assert (lane.closed, direct.closed) == (1, 1)
    assert len(direct.packets) == 2


def test_a_way_that_no_packet_took_is_not_closed():
    made, lane, direct = routes("direct 10.0.0.1")
    made.associate(lambda *_: None).close()
    assert (lane.associations, direct.associations, lane.closed, direct.closed) == (0, 0, 0, 0)


def test_where_all_goes_through_lane_a_refusal_is_told_at_once():
    made, lane, _ = routes()
    lane.error = DOWN
    for _ in range(3):
        with pytest.raises(TargetError, match="no way to the server"):
            made.associate(lambda *_: None)
    assert made._associations == 0
    lane.error = None
    association = made.associate(lambda *_: None)
    association.send(THERE, b"at once")
    assert lane.packets == [(THERE, b"at once")]
    association.close()
    assert made._associations == 0


def test_associations_are_limited_whichever_way_they_go():
    made, _, _ = routes("direct *", most_associations=2)
    first, _ = (made.associate(lambda *_: None) for _ in range(2))
    with pytest.raises(TargetError, match="too many UDP associations at once"):
        made.associate(lambda *_: None)
    first.close()
    made.associate(lambda *_: None)


def asking(answer):
    """What asks a plugin that answers with what `answer(target)` gives."""

    @hookimpl
    def lane_route(target):
        return answer(target)

    plugins, plugin = Plugins(), ModuleType("router")
    plugin.lane_route = lane_route
    plugins.register(plugin, "router")
    assert plugins.errors == []
    return routes_module.asking(plugins)


def test_plugins_come_before_the_rules():
    answers = {"a": "direct", "b": "block", "c": "lane"}
    made, _, _ = routes("block *", ask=asking(lambda target: answers.get(target.host)))
    found = [made.action(Address(host, 1)) for host in "abcd"]
    assert found == [Action.DIRECT, Action.BLOCK, Action.LANE, Action.BLOCK]
    assert routes_module.asking(Plugins())(TARGET) is None


def answering(answers):
    """One of them after the other."""
    left = iter(answers)

    def answer(target):
        return next(left)(target)

    return answer


def out_of_maps(target):
    raise RuntimeError("out of maps")


@pytest.mark.parametrize(
    "answer", [out_of_maps, *(lambda target, a=a: a for a in ("north", "DIRECT", 7, [1], True, ("block",)))]
)
@pytest.mark.parametrize("rule", ["block *", "direct *", "lane *"])
def test_a_wrong_answer_refuses_that_connection(caplog, throttled, answer, rule):
    """It might have been one to block. The plugin is asked again, and named in the log once a minute."""
    answers = [answer, lambda target: "direct", answer]
    made, _, _ = routes(rule, ask=asking(answering(answers)))
    for right in (False, True, False):
        if right:
            assert made.action(TARGET) is Action.DIRECT
            continue
        with pytest.raises(TargetError) as caught:
            made.action(TARGET)
        assert caught.value.status is Status.NOT_ALLOWED
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == [
        "lane_route of the plugin router failed"
    ]


def test_a_packet_is_dropped_where_a_plugin_fails_and_the_next_one_is_not(throttled):
    answers = [out_of_maps, lambda target: "lane"]
    made, way, _ = routes(ask=asking(answering(answers)))
    association = made.associate(lambda *_: None)
    for _ in range(2):
        association.send(TARGET, b"x")
    until(lambda: [target for target, _ in way.packets] == [TARGET])
    association.close()


def configured(tmp_path, text, *texts):
    path = tmp_path / "rules"
    path.write_text(text)
    return client_config(option_parser.defaults("client", rules=str(path), rule=list(texts) or None)), path


def made_by(config):
    return routing.make_routes(config, Plugins(), Way(), Way())


def test_rules_of_the_command_line_come_before_the_file(tmp_path):
    config, _ = configured(tmp_path, "block example.com\nblock other.org", "lane example.com, direct *:1")
    made = made_by(config)
    assert made.action(TARGET) is Action.LANE
    assert made.action(Address("other.org", 443)) is Action.BLOCK
    assert made.action(Address("other.org", 1)) is Action.DIRECT


def test_a_bad_file_at_the_start(tmp_path):
    config, path = configured(tmp_path, "lane *\nblock")
    reason = "expected direct, block or lane, and a pattern"
    with pytest.raises(ConfigError, match=rf"^{path}:2: malformed rule 'block': {reason}$"):
        made_by(config)
