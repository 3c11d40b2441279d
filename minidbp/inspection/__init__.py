"""Every step of a computation: recorded, shown, drawn and checked."""

from minidbp.inspection.steps import Step
from minidbp.inspection.trace import Trace, trace
from minidbp.inspection.values import tensor_html, watch

__all__ = ["Step", "Trace", "tensor_html", "trace", "watch"]
