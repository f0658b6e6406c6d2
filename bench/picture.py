"""The picture for the README: CPU per echo, relative to C, as SVG bars. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

from bench.rivals import C_AGAIN, ECHOSVC, RIVALS, C
from bench.summary import Row
from bench.works import WORKS, Work

__all__ = ["picture"]

_COLUMNS = 3
_PANEL = 300  # pixels wide
_NAME, _VALUE = 118, 42  # of them for a rival's name and for its figure
_BAR, _STEP = 13, 18
_TOP, _HEAD, _GAP = 58, 24, 18

#: Bars end here; what costs more is cut, and its figure says by how much.
_LONGEST = 4.0

_STYLE = """
  text { font: 12px system-ui, sans-serif; fill: #24292f }
  .title { font-size: 16px; font-weight: 600 } .work { font-weight: 600 } .small { font-size: 11px; fill: #57606a }
  .bar { fill: #b6bec8 } .ours { fill: #2563eb } .ours-text { font-weight: 600; fill: #2563eb }
  .unit { stroke: #24292f; stroke-dasharray: 2 2 } .cut { fill: #fff }
"""


def picture(summaries: Mapping[str, Sequence[Row]], caption: str) -> str:
    """Draw one panel for each work.

    Args:
        summaries: From the name of a work to its rows.
        caption: Where and when this was measured.

    Returns:
        An SVG document.
    """
    panels = [
        (work, shown)
        for work in WORKS
        if (shown := [row for row in summaries.get(work.name, ()) if _drawn(row)])
    ]
    body: list[str] = []
    y = _TOP
    for start in range(0, len(panels), _COLUMNS):
        line = panels[start : start + _COLUMNS]
        for column, (work, rows) in enumerate(line):
            body.append(_panel(work, rows, 16 + column * (_PANEL + 20), y))
        y += _HEAD + _STEP * max(len(rows) for _, rows in line) + _GAP
    width = 12 + _COLUMNS * (_PANEL + 20)
    size = f'viewBox="0 0 {width} {y}" width="{width}" height="{y}"'
    title = "CPU per echo, relative to a C epoll loop (dashed); shorter is better"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{title}">',
            f"<style>{_STYLE}</style>",
            f'<rect width="{width}" height="{y}" rx="6" fill="#fff"/>',
            f'<text class="title" x="16" y="24">{title}</text>',
            f'<text class="small" x="16" y="42">{escape(caption)}</text>',
            *body,
            "</svg>\n",
        ]
    )


def _drawn(row: Row) -> bool:
    """C itself is the dashed line, and C again belongs into the table."""
    return row.rival not in {C, C_AGAIN} and "cpu" in row.ratio


def _panel(work: Work, rows: Sequence[Row], x: int, y: int) -> str:
    scale = (_PANEL - _NAME - _VALUE) / _LONGEST
    ordered = sorted(rows, key=lambda row: row.ratio["cpu"])
    lines = [f'<text class="work" x="{x}" y="{y + 12}">{escape(work.title)}</text>']
    for number, row in enumerate(ordered):
        top = y + _HEAD + number * _STEP
        lines.append(_bar(row, x, top, scale))
    unit = x + _NAME + scale
    bottom = y + _HEAD + len(ordered) * _STEP
    lines.append(f'<line class="unit" x1="{unit:.1f}" x2="{unit:.1f}" y1="{y + _HEAD - 4}" y2="{bottom}"/>')
    return "\n".join(lines)


def _bar(row: Row, x: int, top: int, scale: float) -> str:
    ratio = row.ratio["cpu"]
    length = min(ratio, _LONGEST) * scale
    left, end, base = x + _NAME, x + _NAME + length, top + _BAR - 2
    label = max(end, left + scale) + 5  # beside C's line, not under it
    ours = row.rival == ECHOSVC
    text = ' class="ours-text"' if ours else ""
    parts = [
        f'<text{text} x="{left - 6}" y="{base}" text-anchor="end">{escape(RIVALS[row.rival])}</text>',
        f'<rect class="{"ours" if ours else "bar"}" x="{left}" y="{top}" width="{length:.1f}" height="{_BAR}"/>',
        f'<text{text} x="{label:.1f}" y="{base}">{ratio:.{2 if ratio < 9.95 else 0}f}</text>',
    ]
    if ratio > _LONGEST:
        parts.append(
            f'<path class="cut" d="M{end - 12:.1f} {top + _BAR} l5 -{_BAR} h4 l-5 {_BAR} z"/>',
        )
    return "".join(parts)
