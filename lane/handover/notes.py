"""What a server notes of its upgrades, for `lane upgrade`, which imports nothing else."""

VARIABLE = "_LANE_SUCCEEDS"
"""In the environment of a new process: the descriptor of its link to the old one."""
STARTING, FAILED, DONE = "starting a new process", "failed: ", "done: "
"""What a note (`lane.tally`) has behind the number of the upgrade. The reason or the process follows."""
SETTLE = 2.0
"""Seconds that the new process must serve before sessions go there: a fault at its start costs none."""
