"""The version; a test keeps it equal to the distribution's."""

__version__ = "0.1.0"
