"""A round as a picture: a line for each who, a mark for each of its events, and what went wrong meanwhile shaded."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from tests.soak.history import Event

LEFT, WIDTH, ROW, TOP = 150, 1200, 22, 40
MARKS = {"wrote": "#2563eb", "acked": "#16a34a", "seen": "#a1a1aa", "refused": "#ea580c", "failed": "#dc2626",
         "emptied": "#7c3aed", "started": "#000000"}  # fmt: skip


def draw(events: Sequence[Event], title: str, violations: Sequence[str]) -> str:
    """An SVG. Devices that a violation names are red."""
    start = min((e["t"] for e in events), default=0.0)
    end = max((e.get("until") or e["t"] for e in events), default=1.0)
    scale = WIDTH / max(end - start, 0.001)
    faults = [e for e in events if e["ev"] in ("fault", "removed")]
    names = list(dict.fromkeys(e["who"] for e in events if e["ev"] in MARKS))
    bottom = TOP + ROW * (len(names) + len(faults))
    parts = [f'<text x="{LEFT}" y="20" font-weight="bold">{escape(title)}</text>']
    parts += [
        f'<text x="{LEFT + 200 + 70 * n}" y="20" fill="{colour}">{kind}</text>'
        for n, (kind, colour) in enumerate(MARKS.items())
    ]
    for n, fault in enumerate(faults):
        x, until = LEFT + (fault["t"] - start) * scale, fault.get("until") or end
        width = max(2.0, (until - fault["t"]) * scale)
        y = TOP + ROW * (len(names) + n)
        label = f"{fault.get('name', 'removed')} {fault['t'] - start:.1f}–{until - start:.1f} s"
        parts.append(
            f'<rect x="{x:.1f}" y="{TOP}" width="{width:.1f}" height="{bottom - TOP}" fill="#f59e0b" opacity="0.12"/>'
        )
        parts.append(f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{ROW - 6}" fill="#f59e0b"/>')
        parts.append(f'<text x="{x + width + 4:.1f}" y="{y + 12}">{escape(label)}</text>')
    for n, name in enumerate(names):
        y, red = TOP + ROW * n + ROW // 2, any(name in violation for violation in violations)
        parts.append(f'<text x="4" y="{y + 4}" fill="{"#dc2626" if red else "#000"}">{escape(name)}</text>')
        parts.append(f'<line x1="{LEFT}" x2="{LEFT + WIDTH}" y1="{y}" y2="{y}" stroke="#e4e4e7"/>')
        parts += [_mark(e, LEFT + (e["t"] - start) * scale, y) for e in events if e["who"] == name and e["ev"] in MARKS]
    for n, violation in enumerate(violations[:20]):
        parts.append(f'<text x="4" y="{bottom + 20 + 14 * n}" fill="#dc2626">{escape(violation[:220])}</text>')
    height = bottom + 40 + 14 * min(20, len(violations))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 320}" height="{height}" '
        f'font-family="sans-serif" font-size="11">\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _mark(event: Event, x: float, y: int) -> str:
    told = {name: value for name, value in event.items() if name not in ("t", "who")}
    return (
        f'<circle cx="{x:.1f}" cy="{y}" r="3" fill="{MARKS[event["ev"]]}"><title>{escape(str(told))}</title></circle>'
    )
