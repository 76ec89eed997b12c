"""Chaos: callers, venue and wire at their worst at once, and a judge who has the venue's own books."""
