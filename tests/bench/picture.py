"""A picture of what was measured, as SVG."""

from __future__ import annotations

from typing import Any
from xml.sax.saxutils import escape

_WIDTH, _ROW, _LEFT, _TOP = 760, 26, 210, 64


def picture(figures: dict[str, Any]) -> str:
    """Bars: the processor time of the proxy as a multiple of the floor's, for each kind of load."""
    rows = [(name, row["CPU us"]) for name, row in figures.items() if isinstance(row, dict) and "CPU us" in row]
    most = max(max(row["ratio"], row.get("peer", 0) / row["floor"]) for _, row in rows)
    scale = (_WIDTH - _LEFT - 60) / most
    bars = []
    for number, (name, row) in enumerate(rows):
        y = _TOP + number * _ROW
        bars.append(_text(_LEFT - 8, y + 14, name, "end"))
        bars.append(_bar(y, row["ratio"] * scale, "#3b7dd8", f"{row['ratio']:.2f}"))
    height = _TOP + len(rows) * _ROW + 24
    floor = _LEFT + scale
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" '
            'font-family="system-ui, sans-serif" font-size="13">',
            "<title>Processor time beside the least that a proxy on h11 and asyncio can cost</title>",
            f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
            _text(
                16, 26, "Processor time, as a multiple of the least that a proxy on h11 and asyncio can cost", "start"
            ),
            *bars,
            f'<line x1="{floor:.1f}" x2="{floor:.1f}" y1="{_TOP - 12}" y2="{height - 20}" stroke="#c33" '
            'stroke-dasharray="4 3"/>',
            _text(floor, _TOP - 18, "floor = 1", "middle"),
            "</svg>\n",
        ]
    )


def _bar(y: float, width: float, colour: str, label: str) -> str:
    bar = f'<rect x="{_LEFT}" y="{y}" width="{width:.1f}" height="18" rx="3" fill="{colour}"/>'
    return bar + _text(_LEFT + width + 6, y + 14, label, "start")


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="#222">{escape(text)}</text>'
