"""Carriers to the server: kept, spread, and turned into sessions."""
