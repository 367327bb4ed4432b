"""The `tls` transport: TLS 1.3 over TCP, with one stream per connection."""
