"""A QUIC connection without I/O: aioquic, and what lane has it do otherwise, a class or a table each."""
