"""What every room does with names and sockets, once: look-ups, connecting, binding, errors of the kernel."""
