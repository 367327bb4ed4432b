"""Loss detection, the round-trip time, the delivery rate and pacing: the sender's view of the path."""
