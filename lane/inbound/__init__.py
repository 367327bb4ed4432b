"""Where applications enter: a listener that speaks SOCKS5 and HTTP CONNECT on one port."""

from lane.inbound.connector import Association, Connection, Connector
from lane.inbound.handshake import Terms
from lane.inbound.listener import Inbound
from lane.inbound.udp import UdpTerms

__all__ = ["Association", "Connection", "Connector", "Inbound", "Terms", "UdpTerms"]
