"""What a check of derivatives raises when it does not pass."""


class GradcheckError(AssertionError):
    """A derivative differs from finite differences.  The message says where, both values, and the likely cause.

    Attributes:
        order: The order of the wrong derivative.
        operations: The names of the operations in the graph.
        input: The number of the input.
        cause: The likely cause, empty if none was recognised.
    """

    def __init__(self, message: str, order: int, operations: list[str], input: int, cause: str = "") -> None:
        super().__init__(f"{message}; likely cause: {cause}" if cause else message)
        self.order, self.operations, self.input, self.cause = order, operations, input, cause


class UndecidedError(ValueError):
    """A derivative cannot be judged, be it right or wrong: rounding hides it, or the function is not finite here."""

    def __init__(self, why: str) -> None:
        super().__init__(f"cannot be judged: {why}")
