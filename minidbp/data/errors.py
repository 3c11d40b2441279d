"""The one error that bad data files raise."""


class DataError(ValueError):
    """A data file is missing, unreadable or not what it should be.

    The message is one sentence: the file, what is wrong with it, and what puts it right.
    """
