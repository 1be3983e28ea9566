"""What a user can cause and mend: `cli` prints the sentence on stderr, without a traceback, and exits with its code."""


class MatteError(Exception):
    """A problem the user can solve. The message says in one sentence what is wrong and what to do."""

    exit_code = 1


class InputError(MatteError):
    """A file that cannot be read, decoded or written; others of the same run may still be done (exit 1)."""


class UsageError(MatteError):
    """Arguments, recipes or files that do not fit together; nothing has been done yet (exit 2)."""

    exit_code = 2


def reason(error: BaseException) -> str:
    """What the system, or a library, says of `error`, in small letters, to end a sentence with."""
    said = str(getattr(error, "strerror", None) or error).rstrip(".").lower()
    return "nothing came from it in time" if said == "immediate exit requested" else said  # which FFmpeg calls that
