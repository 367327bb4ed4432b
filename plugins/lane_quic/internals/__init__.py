"""The private names of aioquic that lane relies on: all of them, and only here.

lane changes what aioquic does inside of a connection, which no public name of aioquic allows for. A name that
is private may go with any version. So each is listed where it is given a public name: attributes and methods
in the classes of `connection.py` and `parts.py`, from which lane's own classes derive. `aliases.py` makes
these names, which cost nothing at run time; `support.py` tells whether the installed aioquic has them.
tests/repository/test_private_names.py holds all other files to the public names.
"""
