"""The QUIC transport: aioquic without its own I/O, driven by greenlets, with one UDP socket per endpoint."""
