"""Names and sockets for all parts of lane: look-ups, connecting, listening, and the kernel's errors."""
