"""The `tls` transport: TLS 1.3 over TCP, one stream a connection."""
