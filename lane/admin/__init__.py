"""What an administrator sees of a running lane, beside its log."""
