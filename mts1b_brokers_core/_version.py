"""The installed version, read from its metadata when first asked for."""

from mts1b_brokers_core.plugins._metadata import version_of

__version__ = version_of("mts1b-brokers-core")
