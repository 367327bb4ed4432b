"""The ports of a client, together: when they begin, pause and end, and connections that another process had.

Those that only carry on (`free`) are forwards of packets and reverse forwards: what they have has to come
first from the process before this one, or a packet of a known source would begin anew.
"""

from collections.abc import Mapping, Sequence
from functools import partial

from lane.carriers.connector import TunnelConnector
from lane.carriers.lanes import Leased
from lane.carriers.tunnels import RELAY
from lane.errors import Status, TargetError
from lane.handover.arrivals import TakeOver
from lane.handover.client_parting import NEW
from lane.inbound import Inbound, TargetConnector, bind, reverse, udp, udp_forward
from lane.inbound.reverse import ReverseForwarder
from lane.inbound.udp_forward import UdpForward
from lane.session.parcel import Parcel


class ClientPorts:
    """`inbounds` as they were opened, the proxy port first, and the reverse forwards."""

    def __init__(
        self, inbounds: Sequence[Inbound | UdpForward], reverses: Sequence[ReverseForwarder]
    ) -> None:
        self.inbounds = inbounds
        self.tcp = [one for one in inbounds if isinstance(one, Inbound)]
        self.udp = [one for one in inbounds if isinstance(one, UdpForward)]
        self.reverses = reverses

    def __len__(self) -> int:
        """Connections of applications, sources of packets, and sessions of reverse forwards."""
        others: list[UdpForward | ReverseForwarder] = [*self.udp, *self.reverses]
        return self.tcp[0].sessions + sum(len(one) for one in others)

    def start(self, *, free: bool) -> None:
        """Take connections. Unless `free`, the others wait for `free`."""
        for one in self.tcp:
            one.start()
        for each in self.reverses:
            each.start(free=free)
        if free:
            self._start_udp()

    def free(self) -> None:
        """Nothing more comes from the process before this one that these ports would need."""
        self._start_udp()
        for each in self.reverses:
            each.resume()

    def _start_udp(self) -> None:
        for one in self.udp:
            one.start()

    def close(self) -> None:
        """Take nothing more. What is in progress continues."""
        for one in (*self.inbounds, *self.reverses):
            one.close()

    def kill(self) -> None:
        """End what is in progress."""
        for one in self.inbounds:
            one.kill()  # no limit: it has END_TIME

    def kinds(
        self, connector: TunnelConnector, routes: TargetConnector, idle_timeout: float
    ) -> Mapping[str, TakeOver]:
        """How each kind of connection goes on here. `idle_timeout`: of associations."""
        proxy = self.tcp[0]

        def associate(parcel: Parcel, leased: Leased | None) -> None:
            proxy.take_over(partial(udp.take_over(parcel, leased, routes), idle_timeout))

        def source(parcel: Parcel, leased: Leased | None) -> None:
            if not any(one.take_over(parcel, leased) for one in self.udp):
                raise _gone("forward")

        def parked(parcel: Parcel, leased: Leased | None) -> None:
            make = partial(connector.listen_again, parcel, leased)
            if not any(one.take_over(parcel.state["forward"], make) for one in self.reverses):
                raise _gone("reverse forward")

        def bound(parcel: Parcel, leased: Leased | None) -> None:
            proxy.take_over(bind.take_over(parcel, connector.listen_again(parcel, leased)))

        return {
            NEW: lambda parcel, _: proxy.welcome(*parcel.descriptors),
            RELAY: lambda parcel, leased: proxy.take_over(connector.take_over(parcel, leased)),
            udp.KIND: associate,
            udp_forward.KIND: source,
            reverse.KIND: parked,
            bind.KIND: bound,
        }


def _gone(what: str) -> TargetError:
    return TargetError(Status.FAILURE, f"its {what} is not configured any more")
