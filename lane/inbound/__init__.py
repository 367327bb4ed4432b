"""The side that faces applications: listeners, proxy protocols, and the connection onward to the target."""

from lane.inbound.connector import Association, TargetConnection, TargetConnector
from lane.inbound.handshake import Terms
from lane.inbound.listener import Inbound
from lane.inbound.udp import UdpTerms

__all__ = ["Association", "Inbound", "TargetConnection", "TargetConnector", "Terms", "UdpTerms"]
