"""Connection IDs that name the worker of a server."""

import pytest
from lane_quic.configuration import reset_token
from lane_quic.engine import connection_ids

from lane.net.siblings import Siblings
from tests.support.quic_pipe import STATE_KEY, Pipe


@pytest.mark.parametrize(("index", "count"), [(0, 2), (1, 2), (2, 3), (99, 128)])
def test_every_id_of_a_worker_names_it(monkeypatch, index, count):
    siblings = Siblings(index, count)
    monkeypatch.setattr(connection_ids, "here", lambda: siblings)
    pipe = Pipe().connect()
    server = pipe.server.engine
    assert len(server.host_cids) == 8
    for cid in server.issued_cids:
        assert siblings.owner_of(cid.cid) == index
        assert cid.stateless_reset_token == reset_token(STATE_KEY, cid.cid)
    for _ in range(20):  # as if the client had retired one
        del server.issued_cids[0]
        server.replenish_connection_ids()
    assert len(server.host_cids) == 8
    assert {siblings.owner_of(cid) for cid in server.host_cids} == {index}
