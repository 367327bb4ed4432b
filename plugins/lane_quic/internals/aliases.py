"""Public names for what is private in aioquic's classes, made once, when a class is made.

A property would cost a call for each use, and some names are used for each packet. Here the public name
stands for the same object as the private one: for an attribute the descriptor of its slot, for a method the
function. So both names read and write the same thing, at the same cost.
"""

from typing import Any, ClassVar

examples: list[tuple[Any, tuple[str, ...]]] = []
"""An object of each class of aioquic that lane knows the inside of, and the private names that lane uses."""


def rely_on(example: object, *names: str, **renamed: str) -> dict[str, str]:
    """Note that lane uses these private names of the class of `example`: each one by its public name.

    `renamed` has those whose public name is another one: `public` would give one that is taken.
    """
    examples.append((example, (*names, *renamed.values())))
    return {public(name): name for name in names} | renamed


def public(name: str) -> str:
    """What lane calls the private `name`: `__frames` of a class `C`, which is `_C__frames`, is `frames`."""
    return name.rpartition("__")[2].lstrip("_")


class Aliased:
    """The base of a class that derives from one of aioquic's, and names its private things.

    `ALIASES` has the private name of each public one. A subclass that defines a method under a public name
    overrides the private one of aioquic, which calls it.
    """

    __slots__ = ()
    ALIASES: ClassVar[dict[str, str]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for name, private in cls.ALIASES.items():
            if name in vars(cls):
                setattr(cls, private, vars(cls)[name])
            elif not hasattr(cls, name) and hasattr(cls, private):
                setattr(cls, name, getattr(cls, private))
