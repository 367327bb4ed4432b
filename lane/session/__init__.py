"""Sessions: one application connection each, from end to end, over whatever stream carries it.

What every transport would otherwise have to do is here, once: windows, retained bytes, half-close,
reset, liveness and fairness.
"""
