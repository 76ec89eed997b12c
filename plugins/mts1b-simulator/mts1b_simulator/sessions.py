"""When an instrument trades: which sessions are open at a moment, and when that changes."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from mts1b_brokers_core.foundation.instruments import TradingSession
from mts1b_brokers_core.foundation.orders import Session
from mts1b_brokers_core.platform.clock import from_ns, to_ns

DAY_NS = 86_400_000_000_000
HOUR_NS = 3_600_000_000_000

_zone = lru_cache(maxsize=64)(ZoneInfo)


class Calendar:
    """The sessions of one instrument; without any it trades around the clock. Holidays are not known."""

    __slots__ = ("_from", "_open", "_sessions", "_until")

    def __init__(self, sessions: tuple[TradingSession, ...]) -> None:
        self._sessions = sessions
        self._from = 0
        self._until = -1
        self._open: tuple[tuple[str, int], ...] = ()

    @property
    def continuous(self) -> bool:
        """True where the instrument trades around the clock."""
        return not self._sessions

    def end_of_session(self, wanted: Session, ns: int) -> int | None:
        """Return when the session an order asks for ends (ns), or None where it is closed now.

        An instrument that trades around the clock ends its day at 00:00 UTC. An order for the extended
        session may trade in any open one, a regular order in those not called pre, post or extended.
        """
        if not self._sessions:
            return (ns // DAY_NS + 1) * DAY_NS
        if not self._from <= ns < self._until:
            self._look_up(ns)
        ends = [end for name, end in self._open if _allowed(wanted, name)]
        if not ends:
            return None
        end = max(ends)
        # The extended day goes on where one session follows another at once.
        return self.end_of_session(wanted, end) or end if wanted is Session.EXTENDED else end

    def next_open(self, wanted: Session, start_ns: int, end_ns: int) -> int:
        """Return the first moment of such a session in [start, end), or the start where there is none."""
        ns = start_ns
        while self._sessions and ns < end_ns:
            if self.end_of_session(wanted, ns) is not None:
                return ns
            ns = self._until
        return start_ns

    def next_end(self, wanted: Session, ns: int) -> int | None:
        """Return when the session under way, or else the next within nine days, ends; None without any."""
        return self.end_of_session(wanted, self.next_open(wanted, ns, ns + 9 * DAY_NS))

    def is_open(self, wanted: Session, ns: int) -> bool:
        """Say whether an order for that session may trade now."""
        return not self._sessions or self.end_of_session(wanted, ns) is not None

    def meets(self, wanted: Session, start_ns: int, end_ns: int) -> bool:
        """Say whether a bar over [start, end) holds trading of that session; long ones are probed hourly."""
        if not self._sessions or self.is_open(wanted, end_ns - 1):
            return True
        return any(self.is_open(wanted, ns) for ns in range(start_ns, end_ns - HOUR_NS, HOUR_NS))

    def _look_up(self, ns: int) -> None:
        changes: list[int] = []
        opened: list[tuple[str, int]] = []
        for session in self._sessions:
            today = from_ns(ns).astimezone(_zone(session.timezone)).date()
            for days in range(-1, 9):
                start, end = _bounds(session, today + timedelta(days=days))
                if start is None:
                    continue
                changes += (start, end)
                if start <= ns < end:
                    opened.append((session.name, end))
        self._open = tuple(opened)
        self._from = max((change for change in changes if change <= ns), default=ns)
        self._until = min((change for change in changes if change > ns), default=ns + DAY_NS)


def _bounds(session: TradingSession, day: date) -> tuple[int, int] | tuple[None, int]:
    if day.isoweekday() not in session.days:
        return None, 0
    last = day if session.end > session.start else day + timedelta(days=1)
    return _moment(session, day, session.start), _moment(session, last, session.end)


def _moment(session: TradingSession, day: date, at: time) -> int:
    return to_ns(datetime.combine(day, at.replace(tzinfo=None), _zone(session.timezone)))


def _allowed(wanted: Session, name: str) -> bool:
    if wanted is Session.EXTENDED:
        return True
    special = name in (Session.PRE, Session.POST, Session.EXTENDED)
    return not special if wanted is Session.REGULAR else name in (wanted, Session.EXTENDED)
