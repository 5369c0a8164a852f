"""The one exception that means "the user can mend this"."""


class UserError(ValueError):
    """A mistake in what the user asked for; the command line prints it and exits with code 2.

    The message is one sentence with the values that disagree and the nearest fix; the line breaks
    of what other libraries say become spaces.
    """

    def __init__(self, message: str) -> None:
        super().__init__(
            message if message.splitlines() == [message] else " ".join(message.split())
        )
