"""The points of a venue at which a test can have the process die; how is the core's business."""

from mts1b_brokers_core.platform.failpoints import failpoint as hit

#: The points there are, in the order a command passes them.
POINTS = (
    "command.before",
    "command.after",
    "state.before_write",
    "state.before_commit",
    "state.after_write",
    "report.before",
    "report.after",
    "reply.before",
)

__all__ = ["POINTS", "hit"]
