"""The one error for what lies outside this process and does not answer: a tracking server, a database, a study."""


class UnreachableError(ValueError):
    """A store, database or study cannot be reached; the message names it and the way out.

    The command line ends with `exit_status`, so that a script can tell it from a wrong flag.
    """

    exit_status = 2
