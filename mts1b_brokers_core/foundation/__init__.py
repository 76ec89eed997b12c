"""The nouns and the contract: no input or output here. Each name is imported when it is first asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .accounts import *  # noqa: F403
    from .base import *  # noqa: F403
    from .capabilities import *  # noqa: F403
    from .clock import *  # noqa: F403
    from .errors import *  # noqa: F403
    from .events import *  # noqa: F403
    from .ids import *  # noqa: F403
    from .instruments import *  # noqa: F403
    from .manifest import *  # noqa: F403
    from .market_data import *  # noqa: F403
    from .orders import *  # noqa: F403
    from .plugin import *  # noqa: F403
    from .protocols import *  # noqa: F403
    from .settings import *  # noqa: F403

#: In the order in which they stand on each other; a name is looked for in each until it is found.
_MODULES = (
    "errors", "clock", "ids", "base", "instruments", "orders", "settings", "market_data", "accounts",
    "events", "manifest", "capabilities", "protocols", "plugin",
)  # fmt: skip

if not TYPE_CHECKING:  # so that type checkers notice a misspelt name

    def __getattr__(name: str) -> Any:
        if name in _MODULES:
            return import_module(f"{__name__}.{name}")
        for module in () if name.startswith("_") else _MODULES:
            home = import_module(f"{__name__}.{module}")
            if hasattr(home, name):
                return globals().setdefault(name, getattr(home, name))
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    homes = [import_module(f"{__name__}.{module}") for module in _MODULES]
    return sorted({name for home in homes for name in vars(home) if not name.startswith("_")} | {*globals()})
