"""What hypothesis makes in several files."""

from hypothesis import strategies as st

from lane.address import unmapped

ips = st.ip_addresses().map(lambda ip: unmapped(ip).compressed)
"""Addresses as text, each in the one form in which lane has it."""
