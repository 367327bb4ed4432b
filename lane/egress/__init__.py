"""The side that faces targets: allowed targets (policy), connections (dialer), UDP and open ports."""
