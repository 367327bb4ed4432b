"""Rules of where clients may have the server listen."""

import pytest

from lane.address import Address
from lane.egress.policy import ListenRule
from lane.errors import UsageError


@pytest.mark.parametrize(
    ("rule", "good", "bad"),
    [
        ("*", ["0.0.0.0:0", ":::0", "127.0.0.1:1", "192.0.2.1:65535"], []),
        (":9000", [":::9000", "127.0.0.1:9000", "0.0.0.0:9000"], [":::9001", "127.0.0.1:0"]),
        ("*:9000", [":::9000"], [":::9001"]),
        ("127.0.0.1:8000-8002", ["127.0.0.1:8000", "127.0.0.1:8002"], ["127.0.0.1:7999", ":::8000"]),
        ("127.0.0.1:*", ["127.0.0.1:0", "127.0.0.1:22"], ["0.0.0.0:22", "127.0.0.2:22"]),
        ("[::1]:80", ["::1:80"], [":::80", "127.0.0.1:80"]),
        ("[0::0]:80", [":::80"], ["0.0.0.0:80", "::1:80"]),
        (" 0.0.0.0:1-65535 ", ["0.0.0.0:1"], ["0.0.0.0:0", "127.0.0.1:1"]),
    ],
)
def test_rules(rule, good, bad):
    rule = ListenRule.parse(rule)
    for texts, answer in ((good, True), (bad, False)):
        for text in texts:
            host, _, port = text.rpartition(":")
            assert rule.permits(Address(host, int(port))) is answer, text


@pytest.mark.parametrize(
    "text",
    [
        "", "9000", ":", ":0", ":65536", ":80-", ":-80", ":90-80", ":0-80", ":80-65536", ":80-90-100", ":x",
        "::1:80", "name.test:80", "127.1:80", "[127.0.0.1]:80", "[::1]", "[::1:80", "10.0.0.0/8:80",
        ":\u0663", "**", ":*-*",
    ],
)  # fmt: skip
def test_malformed_rules(text):
    with pytest.raises(UsageError, match="malformed rule"):
        ListenRule.parse(text)
