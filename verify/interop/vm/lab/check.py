"""What a check is: a function with one scenario, registered by the words that stand for it in the table."""
from dataclasses import dataclass
from typing import Callable


class Failed(Exception):
    """The product did not do what the check wants; the text is what was seen."""


class Skipped(Exception):
    """The check does not fit here; the text is the reason."""


@dataclass(frozen=True)
class Check:
    name: str
    run: Callable


def want(true, seen):
    """Fails with what was seen unless the condition holds."""
    if not true:
        raise Failed(seen() if callable(seen) else str(seen))


class Group:
    """Checks in the order in which they are written down."""

    def __init__(self):
        self.checks = []

    def check(self, name):
        def add(function):
            self.checks.append(Check(name, function))
            return function
        return add
