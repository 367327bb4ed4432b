"""What a closer look says about clocks, versions and certificates."""

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

import lane
from lane.carriers.measuring import Delays
from lane.cli import deep
from lane.testing import server_tls


@pytest.fixture
def about(monkeypatch):
    def answer(**changes):
        said = {"version": lane.__version__, "time": 1000.0, **changes}
        monkeypatch.setattr(deep.measuring, "about", lambda connector: (said, 0.0, 0.0))
        monkeypatch.setattr(deep, "time", lambda: 1000.0)
        return {finding.what: finding for finding in deep._server(None)}

    return answer


def test_ends_that_agree(about):
    found = about()
    assert found["versions"].text == f"lane {lane.__version__} at both ends"
    assert (found["clock"].state, found["clock"].text) == ("ok", "the server's is 0.0 s behind")


def test_ends_that_differ(about):
    found = about(version="99.1.0", time=1090.0)
    assert found["versions"].text == f"lane {lane.__version__} here, 99.1.0 at the server"
    assert (found["clock"].state, found["clock"].text) == ("warn", "the server's is 90.0 s ahead")
    assert "ntp" in found["clock"].mend


@pytest.mark.parametrize("nonsense", [{"time": "now"}, {"time": True}, {"time": None}])
def test_a_server_that_tells_nonsense_is_not_believed(about, nonsense):
    assert "clock" not in about(**nonsense)


def leaf():
    witness = deep.Witness(
        type("TLS", (), {"server_name": "x", "verify": lambda self, chain: b"ok"})(), dates=True
    )
    der = x509.load_pem_x509_certificate(server_tls().chain_pem).public_bytes(Encoding.DER)
    assert witness.verify([der]) == b"ok"
    assert witness.server_name == "x"
    return witness.leaf


def test_a_certificate_that_ends_soon_is_named():
    finding = deep._certificate(leaf(), dates=True)  # that of tests is valid for an hour
    assert (finding.state, finding.mend) == ("warn", "renew it soon")
    assert finding.text.endswith("0 days are left")


def test_dates_do_not_matter_to_a_pin():
    assert deep._certificate(leaf(), dates=False).state == "ok"


def test_round_trips_are_summed_up():
    good = deep._summary("x", Delays([0.001, 0.003, 0.002]))
    assert (good.state, good.what) == ("ok", "over x")
    assert good.text.startswith("round trip 2.0 ms, at most 3.0 ms, of 3 in 10 s")
    assert deep._summary("x", Delays([0.001], unanswered=1)).state == "warn"
    assert deep._summary("x", Delays()).state == "warn"
