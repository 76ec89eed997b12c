"""Finding and reading a plugin's `capabilities.toml` without importing the plugin."""

from __future__ import annotations

import os
from importlib.util import find_spec

from mts1b_brokers_core.foundation.errors import BrokerError

FILE = "capabilities.toml"


class ManifestMissing(BrokerError):
    """The manifest can't be found or read; nothing was imported."""

    code = "manifest_missing"


def read_manifest(value: str) -> str:
    """Return the manifest's text for an entry point's value, e.g. `mts1b_broker_kraken.plugin`.

    The file lies beside the `__init__.py` of the value's top-level package, wherever an install put
    that: a folder, an editable checkout or a zip. Raises `ManifestMissing`.
    """
    package = value.partition(":")[0].partition(".")[0]
    try:
        spec = find_spec(package)
    except (ImportError, ValueError, AttributeError, OSError) as error:
        raise ManifestMissing(f"the package {package} can't be located: {error}") from None
    if spec is None:
        raise ManifestMissing(f"the package {package} is not on the path", next_step="install it again")
    if spec.origin is None or spec.loader is None:
        raise ManifestMissing(
            f"{package} is a namespace package", next_step=f"give {package} an __init__.py of its own"
        )
    if spec.submodule_search_locations is None:
        raise ManifestMissing(
            f"{package} is a single module", next_step=f"make {package} a package with {FILE} inside"
        )
    read = getattr(spec.loader, "get_data", None)
    if read is None:
        raise ManifestMissing(f"the loader of {package} gives no access to its files")
    try:
        data: bytes = read(os.path.join(os.path.dirname(spec.origin), FILE))
        return data.decode("utf-8")
    except OSError as error:
        raise ManifestMissing(
            f"the package {package} has no {FILE} ({error})",
            next_step=f"ship {FILE} beside __init__.py in the wheel",
        ) from None
    except UnicodeDecodeError as error:
        raise ManifestMissing(f"{FILE} of {package} is not UTF-8: {error}") from None
