"""A venue of our own that can be set to behave like any kind of venue; PROTOCOL.md says what it speaks.

`ReferenceServer` serves it, `ReferenceProfile` and `PROFILES` say what kind it is, and `server.venue` holds
its books: the truth, whatever a client may have seen.
"""

from .access import Key
from .books import BookExecution, BookOrder
from .profile import PROFILES, ReferenceProfile, VenueLimit
from .server import ReferenceServer, profile_named
from .venue import ReferenceVenue

__all__ = [
    "PROFILES",
    "BookExecution",
    "BookOrder",
    "Key",
    "ReferenceProfile",
    "ReferenceServer",
    "ReferenceVenue",
    "VenueLimit",
    "profile_named",
]
