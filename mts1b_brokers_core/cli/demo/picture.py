"""An equity curve as an SVG picture, drawn without a plotting library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from html import escape

_WIDTH, _PANEL, _LEFT, _RIGHT, _TOP, _GAP = 960, 260, 96, 24, 56, 64
_COLOURS = ("#2563eb", "#d97706", "#059669", "#7c3aed")

Curve = Sequence[tuple[datetime, Decimal]]


def equity_svg(title: str, curves: Mapping[str, Curve], currency: str) -> str:
    """Return one panel per curve: time (UTC) to the right, equity in `currency` upwards."""
    height = _TOP + len(curves) * (_PANEL + _GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'font-family="system-ui, sans-serif" font-size="13" role="img" aria-label="{escape(title)}">',
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="{_LEFT}" y="28" font-size="18" font-weight="600" fill="#111827">{escape(title)}</text>',
    ]
    for index, (name, curve) in enumerate(curves.items()):
        top = _TOP + index * (_PANEL + _GAP)
        parts += _panel(name, curve, currency, top, _COLOURS[index % len(_COLOURS)])
    return "\n".join([*parts, "</svg>", ""])


def _panel(name: str, curve: Curve, currency: str, top: int, colour: str) -> list[str]:
    if len(curve) < 2:
        return [f'<text x="{_LEFT}" y="{top + 20}" fill="#6b7280">{escape(name)}: no curve</text>']
    values = [value for _, value in curve]
    low, high = min(values), max(values)
    span = high - low or Decimal(1)
    begin, end = curve[0][0], curve[-1][0]
    seconds = (end - begin).total_seconds() or 1
    width = _WIDTH - _LEFT - _RIGHT

    def x(at: datetime) -> str:
        return f"{_LEFT + width * (at - begin).total_seconds() / seconds:.1f}"

    def y(value: Decimal) -> str:
        return f"{top + _PANEL - _PANEL * float(value - low) / float(span):.1f}"  # pixels, not money

    parts = [f'<text x="{_LEFT}" y="{top - 8}" fill="#374151">{escape(name)}</text>']
    for step in range(5):
        value = low + span * step / 4
        at = y(value)
        parts += [
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{at}" y2="{at}" stroke="#e5e7eb"/>',
            f'<text x="{_LEFT - 8}" y="{at}" dy="4" text-anchor="end" fill="#6b7280">{value:,.2f}</text>',
        ]
    for step in range(5):
        moment = begin + (end - begin) * step / 4
        anchor = "start" if step == 0 else "end" if step == 4 else "middle"
        parts.append(
            f'<text x="{x(moment)}" y="{top + _PANEL + 18}" text-anchor="{anchor}" fill="#6b7280">'
            f"{moment:%Y-%m-%d %H:%M}</text>"
        )
    start = y(values[0])
    points = " ".join(f"{x(at)},{y(value)}" for at, value in curve)
    parts += [
        f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{start}" y2="{start}" stroke="#9ca3af" '
        'stroke-dasharray="4 4"/>',
        f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.8"/>',
        f'<text x="{_WIDTH - _RIGHT}" y="{top - 8}" text-anchor="end" fill="{colour}">'
        f"{values[-1]:,.2f} {escape(currency)}</text>",
    ]
    return parts
