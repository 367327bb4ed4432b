import base64
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis.strategies import text

from lane import values
from lane.address import Address
from lane.cli.option_parser import defaults
from lane.config import client_config, link_config, server_config
from lane.config.listeners import Forward, Reverse
from lane.errors import ConfigError, UsageError
from lane.link import Link

KEY = base64.urlsafe_b64encode(bytes(range(32))).decode().rstrip("=")
LINK = str(Link(bytes(range(32)), Address("192.0.2.1", 4433), bytes(32)))


def client(files=(), sources=None, **changes):
    namespace = defaults("client", **changes)
    namespace.files, namespace.sources = [Path(f) for f in files], sources or {}
    return client_config(namespace)


def server(**changes):
    return server_config(defaults("server", **changes))


def test_the_defaults_of_the_client():
    config = client()
    assert config.transports == ("auto",)
    assert config.server is config.key is config.ca is config.credentials is config.plugin_dir is None
    assert config.listen == Address("127.0.0.1", 1080)
    assert (config.buffer_size, config.buffer_total, config.max_sessions) == (16 << 20, 512 << 20, 4096)
    assert (config.handshake_timeout, config.dial_timeout, config.request_timeout) == (10, 10, 30)
    assert (config.idle_timeout, config.grace, config.check) == (3600, 10, True)
    assert (config.log_level, config.log_file) == ("info", None)


def test_the_defaults_of_the_server(monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", "/x")
    config = server()
    assert config.listen == Address("", 4433)
    assert config.transports == ("quic", "tls")
    assert config.state_dir == Path("/x/lane")
    assert config.cert is config.cert_key is config.host is None
    assert config.allow == config.deny == ()
    assert (config.max_sessions, config.max_sessions_per_peer) == (10000, 1024)
    assert (config.hello_timeout, config.spare_timeout, config.connect_timeout) == (10, 600, 10)
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/lane:/var/lib/other")
    assert server().state_dir == Path("/var/lib/lane")
    monkeypatch.delenv("STATE_DIRECTORY")
    monkeypatch.delenv("XDG_STATE_HOME")
    assert server().state_dir == Path.home() / ".local/state/lane"
    assert server(state_dir="~/s").state_dir == Path.home() / "s"


@pytest.mark.parametrize(
    ("text", "size"),
    [("8KB", 8192), ("16MB", 16 << 20), ("1GB", 1 << 30), ("2KiB", 2048), ("1.5 MiB", 3 << 19), ("99", 99),
     ("7b", 7), ("4k", 4096), ("1TB", 1 << 40)],
)  # fmt: skip
def test_sizes(text, size):
    assert values.parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10s", 10), ("500ms", 0.5), ("10m", 600), ("1h", 3600), ("2.5", 2.5), ("0", 0), ("3 S", 3)],
)
def test_durations(text, seconds):
    assert values.parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "x", "-1", "1XB", "MB", "1e9", "nan", "inf", "9" * 5000, "\u0661KB", "1 2"]
)
def test_what_is_no_size_or_duration_is_a_usage_error(text):
    with pytest.raises(UsageError, match="malformed size"):
        values.parse_size(text)
    with pytest.raises(UsageError, match="malformed duration"):
        values.parse_duration(text)


@pytest.mark.parametrize(
    ("option", "text", "message"),
    [
        ("buffer_size", "1023", "--buffer-size: 1023 is out of range: 1KB to 1GB"),
        ("buffer_size", "2GB", "out of range"),
        ("buffer_size", "1GB", "--buffer-total: must be at least buffer-size"),
        ("buffer_total", "2TB", "out of range"),
        ("transport", " ", "--transport: expected at least one name"),
        ("max_sessions", "0", "--max-sessions: 0 is out of range: 1 to 1000000"),
        ("max_sessions", "ten", "malformed number 'ten'"),
        ("dial_timeout", "0", "--dial-timeout: 0 is out of range: 100ms to 10s"),
        ("idle_timeout", "721h", "out of range"),
        ("grace", "25h", "out of range"),
        ("no_check", "maybe", "--no-check: expected yes or no"),
        ("log_level", "loud", "expected one of debug, info, warning, error"),
        ("log_file", "", "expected a path"),
        ("listen", "here", "--listen: malformed address"),
        ("server", "lane://x", "--server: "),
        ("server", "example.com", "--server: malformed address"),
        ("server", "example.com:1\udcff", "--server: has characters that cannot be printed"),
        ("server", "example.com:443", "--server: example.com:443 needs a key"),
        ("server_name", "", "expected HOST"),
        ("auth", "user", "expected USER:PASSWORD"),
        ("auth", ":p", "expected USER:PASSWORD"),
        ("reverse", ["tcp://:9000=a:1", "tcp://:9000"], "--reverse: malformed reverse forward 'tcp://:9000'"),
        ("reverse", ["udp://:9000=a:1"], "--reverse: malformed .*: only tcp:// can be forwarded"),
        ("auth", "u:" + "p" * 256, "expected USER:PASSWORD"),
        ("forward", ["127.0.0.1:1=a:2"], "--forward: malformed forward .*: expected tcp://"),
        ("forward", ["tcp://127.0.0.1:1"], "--forward: malformed forward .*: expected tcp://HOST:PORT="),
        ("forward", ["icmp://127.0.0.1:1=a:2"], "--forward: malformed forward .*: only tcp://"),
        ("forward", ["tcp://127.0.0.1:1=a"], "--forward: malformed address 'a'"),
        ("forward", ["tcp://127.0.0.1:1=:2"], "--forward: malformed forward .*: the target needs a host"),
        ("forward", ["tcp://127.0.0.1:1=a:0"], "--forward: malformed forward .*: the target needs a host"),
        ("forward", ["tcp://127.0.0.1:1=a:2, tcp://:1=a:2"], "--forward: :1 can be .* needs gateway"),
        ("forward", ["tcp://192.0.2.1:1=a:2"], "--forward: 192.0.2.1:1 can be reached from other machines"),
    ],
)
def test_what_is_wrong_with_a_client(option, text, message):
    with pytest.raises(UsageError, match=message):
        client(**{option: text})


@pytest.mark.parametrize(
    ("option", "text", "message"),
    [
        ("transport", " , ", "--transport: expected at least one name"),
        ("host", ":443", "--host: expected HOST"),
        ("cert", "/c", "--cert: cert and cert-key need each other"),
        ("cert_key", "/k", "--cert-key: cert and cert-key need each other"),
        ("allow", ["10.0.0.0/8, 10.0.0.0/99"], "--allow: "),
        ("allow_reverse", [":9000, :x"], "--allow-reverse: malformed rule ':x'"),
        ("max_sessions_per_peer", "0", "out of range"),
    ],
)
def test_what_is_wrong_with_a_server(option, text, message):
    with pytest.raises(UsageError, match=message):
        server(**{option: text})


def test_forwards():
    found = client(forward=["tcp://127.0.0.1:1=a:2, TCP://[::1]:0=[2001:db8::1]:3", "tcp://localhost:4=b:5"])
    assert [(each.scheme, str(each.listen), str(each.target)) for each in found.forwards] == [
        ("tcp", "127.0.0.1:1", "a:2"), ("tcp", "[::1]:0", "[2001:db8::1]:3"), ("tcp", "localhost:4", "b:5")
    ]  # fmt: skip
    assert client(forward=["tcp://:1=a:2"], gateway="yes").forwards[0].listen == Address("", 1)


@given(text())
def test_a_forward_is_read_or_refused(text):
    for shape in (text, f"tcp://{text}", f"tcp://127.0.0.1:1={text}", f"tcp://{text}=a:1"):
        with suppress(UsageError):
            assert Forward.parse(shape).target.host


def test_grace_may_be_nothing_and_no_check_is_yes():
    assert client(grace="0s").grace == 0
    assert client(no_check="yes").check is False


def test_a_bad_value_from_a_file_is_a_configuration_error_that_names_it():
    with pytest.raises(ConfigError, match=r"^/etc/x\.conf: max-sessions: malformed number"):
        client(sources={"max_sessions": Path("/etc/x.conf")}, max_sessions="x")
    with pytest.raises(UsageError, match=r"^LANE_MAX_SESSIONS: malformed number"):
        client(sources={"max_sessions": "LANE_MAX_SESSIONS"}, max_sessions="x")


def test_a_link_on_the_command_line_and_in_a_file(tmp_path):
    file = tmp_path / "link"
    file.write_text(f"  {LINK}\n")
    file.chmod(0o600)
    inline, from_file = client(server=LINK), client(server=f"@{file}")
    assert str(inline.server) == LINK
    assert inline.key is None
    assert inline == from_file


@pytest.mark.parametrize("content", [b"lane://broken", b"\xff\xfe", b"", b"example.com:443"])
def test_a_bad_file_behind_an_at_sign_is_a_configuration_error(tmp_path, content):
    file = tmp_path / "secret"
    file.write_bytes(content)
    file.chmod(0o600)
    with pytest.raises(ConfigError, match=f"^{file}: ") as caught:
        client(server=f"@{file}")
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match=f"^{file}: "):
        client(server="example.com:443", key=f"@{file}")


def test_a_missing_file_behind_an_at_sign_is_a_configuration_error(tmp_path):
    for option in ("server", "auth", "key"):
        with pytest.raises(ConfigError, match=r"cannot read .*: No such file"):
            client(**{"server": LINK, option: f"@{tmp_path}/no"})
    with pytest.raises(UsageError, match="expected a path"):
        client(server="@")


SECRETS = {
    "server": LINK,
    "auth": "user:secret",
    "via": "http://user:secret@192.0.2.1:8080",
    "key": KEY,
}


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("inside", [True, False], ids=["in the file", "behind an @"])
def test_a_secret_that_others_may_read_is_refused(tmp_path, name, inside):
    conf, file = tmp_path / "lane.conf", tmp_path / "secret"
    conf.touch(0o644)
    file.write_text(SECRETS[name])
    file.chmod(0o644)
    text = SECRETS[name] if inside else f"@{file}"
    options = {"server": "a:1" if name == "key" else LINK, name: text, "sources": {name: conf}}
    culprit = conf if inside else file
    with pytest.raises(ConfigError, match=rf"^{culprit}: .*others may read it \(chmod 600 {culprit}[,)]"):
        client(**options)
    culprit.chmod(0o600)
    client(**options)


def test_what_is_no_secret_may_be_in_any_file(tmp_path):
    conf = tmp_path / "lane.conf"
    conf.touch(0o644)
    for name, value in (("server", "embedded"), ("grace", "1s")):
        client(**{name: value, "sources": {name: conf}})
    client(server=LINK, via="http://192.0.2.1:8080", sources={"via": conf})


def test_host_and_port_with_a_key(tmp_path):
    file = tmp_path / "key"
    file.write_text(KEY + "\n")
    file.chmod(0o600)
    config = client(server="example.com:443", key=f"@{file}", ca="/ca.pem", server_name="other.example")
    assert config.server == Address("example.com", 443)
    assert config.key == bytes(range(32))
    assert (config.ca, config.server_name) == (Path("/ca.pem"), "other.example")
    assert KEY not in repr(config)
    assert repr(config.key) not in repr(config)


@pytest.mark.parametrize("key", ["short", KEY + "A", KEY[:-1] + "+"])
def test_a_malformed_key_is_not_repeated(key):
    with pytest.raises(UsageError, match="--key: malformed key") as caught:
        client(server="example.com:443", key=key)
    assert key not in str(caught.value)


@pytest.mark.parametrize("option", [{"key": KEY}, {"ca": "/ca.pem"}])
@pytest.mark.parametrize(("given", "what"), [(LINK, "lane:// link"), ("embedded", "embedded server")])
def test_what_contradicts_a_link_is_a_usage_error(option, given, what):
    with pytest.raises(UsageError, match=f"does not go with an? {what}"):
        client(server=given, **option)


def test_no_server_is_embedded_only_without_a_configuration_file():
    assert client(server="embedded", files=["/f.conf"]).server is None
    with pytest.raises(ConfigError, match=r"^no server: set server in /b\.conf or pass --server$"):
        client(files=["/a.conf", "/b.conf"])


@pytest.mark.parametrize("listen", ["127.9.9.9:1", "[::1]:1", "localhost:1", "LOCALHOST:0"])
def test_loopback_listeners_need_no_credentials(listen):
    assert client(listen=listen).credentials is None


@pytest.mark.parametrize("listen", ["0.0.0.0:1", "[::]:1", ":1", "192.0.2.1:1", "127.1:1", "example.com:1"])
def test_other_listeners_need_credentials(listen):
    with pytest.raises(UsageError, match=r"^--listen: .* needs auth$"):
        client(listen=listen)
    assert client(listen=listen, auth="me:pass:word").credentials == (b"me", b"pass:word")


def test_a_server_that_has_everything():
    config = server(
        listen="[::1]:0", transport="tls, quic,tls", host="proxy.example", cert="/c", cert_key="/k",
        allow=["10.0.0.0/8,example.com:443", "192.168.0.0/16"], deny=["10.1.0.0/16"],
    )  # fmt: skip
    assert config.listen == Address("::1", 0)
    assert config.transports == ("tls", "quic")
    assert config.host == Address("proxy.example", 0)
    assert (config.cert, config.cert_key) == (Path("/c"), Path("/k"))
    assert (len(config.allow), len(config.deny)) == (3, 1)


def test_reverse_forwards_and_what_allows_them():
    assert client().reverses == server().allow_reverse == ()
    config = client(
        reverse=["tcp://:9000=web.test:80, tcp://[::1]:0=127.0.0.1:1", "tcp://localhost:1=[::1]:2"]
    )
    assert config.reverses == (
        Reverse(Address("::", 9000), Address("web.test", 80)),
        Reverse(Address("::1", 0), Address("127.0.0.1", 1)),
        Reverse(Address("127.0.0.1", 1), Address("::1", 2)),
    )
    assert len(server(allow_reverse=[":9000, 127.0.0.1:8000-8999", "*"]).allow_reverse) == 3


def test_where_the_link_points():
    assert link_config(defaults("link", host="proxy.example:99")).address == Address("proxy.example", 99)
    from_listen = link_config(defaults("link", host="proxy.example", listen=":77"))
    assert from_listen.address == Address("proxy.example", 77)
    with pytest.raises(UsageError, match="pass --host"):
        link_config(defaults("link"))
    with pytest.raises(UsageError, match="needs a port"):
        link_config(defaults("link", host="proxy.example", listen=":0"))


@pytest.mark.parametrize("text", ["*:4433", " *:4433 ", "4433", ":4433"])
def test_every_address_of_a_server(text):
    assert server(listen=text).listen == Address("", 4433)


@pytest.mark.parametrize(
    "host",
    ["h", "proxy.example.com", "büro.example", "my_box.local.", "192.0.2.1", "[2001:db8::1]", "3com.example"],
)
def test_where_clients_may_reach_a_server(host):
    assert server(host=host).host == Address(host.strip("[]"), 0)


@pytest.mark.parametrize(
    "host", ["h/x", "me@h", "*", "a..b", "-x", "x-", "1.2.3.4.5", "h?", "a b", "h#", "..", "%eth0"]
)
def test_what_no_client_can_reach(host):
    with pytest.raises(UsageError, match=r"^--host: .* is no host name|malformed address|not a host"):
        server(host=host)


def test_a_password_from_a_file_may_be_quoted(tmp_path):
    file = tmp_path / "auth"
    for content in "u:p", '"u:p"', "'u:p'\n", "\ufeff u:p\r\n":
        file.write_text(content)
        file.chmod(0o600)
        assert client(auth=f"@{file}").credentials == (b"u", b"p")
    file.write_text('"u:p')
    assert client(auth=f"@{file}").credentials == (b'"u', b"p")
