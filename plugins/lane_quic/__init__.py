"""The QUIC transport: aioquic driven sans-IO by greenlets, one UDP socket an endpoint."""
