"""Sessions that go from one process of a server to another, over local sockets."""
