"""The one exception that means "the user can mend this"."""


class UserError(ValueError):
    """A mistake in what the user asked for; the command line prints it and exits with code 2.

    The message is one sentence with the values that disagree and the nearest fix.
    """
