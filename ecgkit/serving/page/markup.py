"""Tables of the page as HTML that a screen reader can read, and texts as Markdown; both escaped."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

from ecgkit.errors import printable

STYLE = """<style>
.ecg-table { width: 100%; border-collapse: collapse; font-size: 0.95rem; }
.ecg-table caption { text-align: left; opacity: 0.8; padding-bottom: 0.2rem; }
.ecg-table th, .ecg-table td {
  text-align: left; vertical-align: top; padding: 0.35rem 0.6rem 0.35rem 0; font-variant-numeric: tabular-nums;
  border-bottom: 1px solid rgba(128, 128, 128, 0.35);
}
.ecg-table th small { display: block; font-weight: 400; opacity: 0.85; }
.ecg-yes { font-weight: 700; }
.ecg-bar { position: relative; display: block; height: 0.55rem; min-width: 4rem; max-width: 16rem;
  border-radius: 0.2rem; background: rgba(128, 128, 128, 0.25); margin-top: 0.25rem; }
.ecg-bar i { position: absolute; inset: 0 auto 0 0; border-radius: 0.2rem; background: #7a8797; }
.ecg-bar.ecg-high i { background: #c2571a; }
.ecg-bar b { position: absolute; top: -0.2rem; bottom: -0.2rem; width: 2px; background: currentColor; }
.ecg-machine { white-space: pre-wrap; border-left: 4px solid rgba(128, 128, 128, 0.6); padding-left: 0.8rem; }
</style>"""


class Markup(str):
    """HTML whose texts are escaped already."""

    __slots__ = ()


def markdown(text: str) -> str:
    """Return a text that may hold the names of others as Markdown, which loads no picture and sets no formula."""
    return re.sub(r"[\\`*_\[<$~&]", r"\\\g<0>", printable(" ".join(text.split())))


def cell(value: str) -> str:
    """Return a text as HTML."""
    return value if isinstance(value, Markup) else escape(value)


def table(header: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "") -> Markup:
    """Return a table; the first cell of each row names it."""
    head = "".join(f'<th scope="col">{cell(name)}</th>' for name in header)
    body = "".join(
        f'<tr><th scope="row">{cell(first)}</th>{"".join(f"<td>{cell(value)}</td>" for value in rest)}</tr>'
        for first, *rest in rows
    )
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    return Markup(f'<table class="ecg-table">{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>')


def bar(probability: float, threshold: float) -> Markup:
    """Return a bar from 0 to 1 with a mark at the threshold; the number next to it says the same."""
    high = " ecg-high" if probability >= threshold else ""
    return Markup(
        f'<span class="ecg-bar{high}" aria-hidden="true"><i style="width:{100 * probability:.1f}%"></i>'
        f'<b style="left:{100 * threshold:.1f}%"></b></span>'
    )
