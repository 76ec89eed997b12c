"""The health checks behind `mts mts1b-brokers test`."""

from .engine import Report, run_checks

__all__ = ["Report", "run_checks"]
