"""What every adapter derives from: the port's operations, and where its manifest is read from."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from mts1b_brokers_core.foundation.capabilities import Capabilities, parse_capabilities
from mts1b_brokers_core.foundation.errors import ConfigurationError

from .port import VenuePort


class VenueAdapter(VenuePort):
    """The port's operations, which each adapter translates for its venue; checked when it is built."""

    @classmethod
    def read_capabilities(cls) -> Capabilities:
        """Read the manifest beside the adapter's top-level package; override where there is none."""
        package = cls.__module__.partition(".")[0]
        spec = None if package == "__main__" else find_spec(package)
        if spec is None or spec.origin is None or spec.loader is None:
            raise ConfigurationError(
                f"{cls.__name__} has no package whose capabilities.toml could be read.",
                next_step="put the adapter into a package with a capabilities.toml beside its __init__.py",
            )
        file = Path(spec.origin).with_name("capabilities.toml")
        return parse_capabilities(spec.loader.get_data(str(file)).decode("utf-8"))  # type: ignore[attr-defined]
