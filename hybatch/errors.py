"""The one exception type that stands for a mistake in what the user gave us."""


class UserError(Exception):
    """Bad input: a file, a line, an option, a combination that cannot work.

    The message names the file, line or option and says how to mend it. Command-line programs print the message
    without a traceback and exit with code 2.
    """
