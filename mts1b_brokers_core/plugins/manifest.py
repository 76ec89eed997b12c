"""Finding and reading a plugin's `capabilities.toml` without importing the plugin."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec

from mts1b_brokers_core.foundation.errors import PluginError

FILE = "capabilities.toml"


class ManifestMissing(PluginError):
    """The manifest can't be found or read; nothing was imported."""


def read_manifest(value: str) -> str:
    """Return the manifest's text for an entry point's value, e.g. `mts1b_broker_kraken.plugin`.

    The file lies beside the `__init__.py` of the value's top-level package, wherever an install put
    that: a folder, an editable checkout or a zip. Raises `ManifestMissing`.
    """
    package = value.partition(":")[0].partition(".")[0]
    try:
        spec = find_spec(package)
        if spec is None:
            raise ManifestMissing(f"the package {package} is not on the path", next_step="install it again")
        if spec.origin is None or spec.loader is None:
            cure = f"give {package} an __init__.py of its own"
            raise ManifestMissing(f"{package} is a namespace package", next_step=cure)
        if spec.submodule_search_locations is None:
            cure = f"make {package} a package with {FILE} inside"
            raise ManifestMissing(f"{package} is a single module", next_step=cure)
        read: Callable[[str], bytes] = spec.loader.get_data  # type: ignore[attr-defined]
        return read(os.path.join(os.path.dirname(spec.origin), FILE)).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ManifestMissing(f"{FILE} of {package} is not UTF-8: {error}") from None
    except OSError as error:
        cure = f"ship {FILE} beside __init__.py in the wheel"
        raise ManifestMissing(f"the package {package} has no {FILE} ({error})", next_step=cure) from None
    except (ImportError, ValueError, AttributeError) as error:
        raise ManifestMissing(f"the package {package} can't be located: {error}") from None
