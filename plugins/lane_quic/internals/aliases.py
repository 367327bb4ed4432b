"""Public names for private names of aioquic's classes, created together with the class.

A property would cost a call for each use, and some names are used for each packet. Here both names refer to
the same object: for an attribute the descriptor of its slot, for a method the function. So both names read
and write the same value, at the same cost.
"""

from typing import Any, ClassVar

examples: list[tuple[Any, tuple[str, ...]]] = []
"""An object of each class of aioquic that lane changes, with the private names that lane uses."""


def rely_on(example: object, *names: str, **renamed: str) -> dict[str, str]:
    """Register private names of the class of `example`. Return the private name for each public name.

    `renamed` has the names for which the result of `public` is already taken.
    """
    examples.append((example, (*names, *renamed.values())))
    return {public(name): name for name in names} | renamed


def public(name: str) -> str:
    """The public name for a private `name`. `_C__frames` (`__frames` of a class `C`) gives `frames`."""
    return name.rpartition("__")[2].lstrip("_")


class Aliased:
    """Base class for a subclass of one of aioquic's classes that gives its private names public ones.

    `ALIASES` maps each public name to the private one. If a subclass defines a method under the public
    name, it overrides aioquic's private method.
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
