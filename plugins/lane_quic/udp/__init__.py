"""UDP sockets: setup, fair receiving, sending without blocking, and many packets per system call."""
