"""The UDP sockets below connections: set up, read fairly, written without blocking, many packets a call."""
