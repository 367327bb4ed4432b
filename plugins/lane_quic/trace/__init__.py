"""What people look at afterwards: qlog files, and the secrets that open a capture."""
