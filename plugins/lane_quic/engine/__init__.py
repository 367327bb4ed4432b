"""A QUIC connection without I/O: aioquic with lane's changes, each in a class or a table of its own."""
