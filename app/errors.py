"""The command line's own errors.

CommandError      the surroundings do not allow what was asked: no such file, an address in use
└─ UsageError     options that do not go with each other or with what was given
"""


class CommandError(Exception):
    """What stops a command: one line for the user, without a traceback."""


class UsageError(CommandError):
    """A command called wrongly: one line, and the status of wrong usage."""
