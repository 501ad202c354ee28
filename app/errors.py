"""The command line's own error.

CommandError   the surroundings do not allow what was asked: no such file, an address in use
"""


class CommandError(Exception):
    """What stops a command: one line for the user, without a traceback."""
