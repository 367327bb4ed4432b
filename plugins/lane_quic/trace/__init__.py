"""Files for debugging: qlog traces, and the TLS secrets that decrypt a packet capture."""
