"""`lane top`: a live picture of a running client or server in a terminal.

`feed` asks for the views (`lane.look`), `past` keeps what they had, `picture` draws a frame of any size as
`choices` has it, and `screen` has the terminal and its keys. `lane.cli.top` runs them.
"""
