"""All private names of aioquic that lane uses. No other package uses any.

lane changes the inner workings of aioquic's connections, and no public name of aioquic allows that. A private
name may disappear with any version. So each one is listed here, with a public name for it. `connection.py`
and `parts.py` have the base classes of lane's own classes, with these attributes and methods. `aliases.py`
creates the public names, which cost nothing at run time. `support.py` checks whether the installed aioquic
has them. tests/repository/test_private_names.py checks that all other files use the public names.
"""
