"""Where the server leaves to targets: which are allowed (policy), where they are (resolver), how (dialer)."""
