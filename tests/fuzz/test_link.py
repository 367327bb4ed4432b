"""Links of all kinds come back as they were; garbage is only ever a usage error without the key in it."""

import string

from hypothesis import given
from hypothesis import strategies as st

from lane.address import Address, normal_host
from lane.errors import UsageError
from lane.link import Link, encode
from tests.support.strategies import ips

secrets = st.binary(min_size=32, max_size=32)
hosts = st.one_of(
    ips,
    st.text(string.ascii_letters + string.digits + "-._", min_size=1, max_size=80).map(normal_host),
)
links = st.builds(Link, secrets, st.builds(Address, hosts, st.integers(1, 65535)), secrets)


def complaint_about(text):
    try:
        Link.parse(text)
    except UsageError as error:
        return str(error)
    return ""


@given(links, st.sampled_from(["", " ", "\n", "\t "]))
def test_a_link_survives_its_text(link, space):
    assert Link.parse(f"{space}{link}{space}") == link


@given(links, st.integers(0, 200), st.integers(0, 3), st.text(max_size=3))
def test_a_damaged_link_is_a_link_or_one_line(link, place, cut, extra):
    text = str(link)
    complaint = complaint_about(text[:place] + extra + text[place + cut :])
    assert encode(link.key)[2:-2] not in complaint


@given(st.text(max_size=200), st.booleans())
def test_garbage_is_one_line(text, scheme):
    assert "\n" not in complaint_about(f"lane://{text}" if scheme else text)
