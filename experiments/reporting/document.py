"""A self-contained HTML document: nothing beside the file is needed to read it, offline or on a phone."""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments.reporting.canvas import THEME, Style

_GLYPHS = {"o": "●", "s": "■", "D": "◆", "^": "▲", "v": "▼", "P": "✚", "X": "✖"}


class Section(NamedTuple):
    """A part of a page: its heading (plain text), and its body as HTML."""

    heading: str
    body: str


class Panel(NamedTuple):
    """A picture with its title and a note; title is HTML, svg one SVG element, note plain text."""

    title: str
    svg: str
    note: str = ""


def page(title: str, sections: Sequence[Section], lead: str = "") -> str:
    """A whole document; `lead` is HTML under the title."""
    body = "\n".join(
        f"<section>\n<h2>{html.escape(part.heading)}</h2>\n{part.body}\n</section>"
        for part in sections
    )
    light, dark = ("".join(f"--{name}:{pair[i]};" for name, pair in THEME.items()) for i in (0, 1))
    themes = (
        f":root{{color-scheme:light dark;--paper:#fff;--card:#fff;{light}}}\n"
        f"@media(prefers-color-scheme:dark){{:root{{--paper:#15181d;--card:#1a1e24;{dark}}}}}\n"
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>\n{themes}{_STYLE}</style>\n</head>\n<body>\n"
        f"<main>\n<h1>{html.escape(title)}</h1>\n{lead}\n{body}\n</main>\n</body>\n</html>\n"
    )


def save(path: Path, document: str) -> Path:
    """Writes a document whole or not at all, and returns where."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(document, encoding="utf-8")
    part.replace(path)
    return path


def say(text: str) -> str:
    """A paragraph of plain text."""
    return f'<p class="note">{html.escape(text)}</p>'


def chip(label: str, style: Style) -> str:
    """A method's name behind its marker in its colour."""
    glyph = f'<i class="chip" style="color:var(--{style.name})">{_GLYPHS[style.marker]}</i>'
    return f"{glyph}&nbsp;{html.escape(label)}"


def legend(items: Sequence[str]) -> str:
    """A list in a line; the items are HTML."""
    return f'<ul class="legend">{"".join(f"<li>{item}</li>" for item in items)}</ul>'


def swatch(name: str, label: str) -> str:
    """A colour of the theme with what it stands for; without a name, the page's own."""
    fill = f"background:var(--{name or 'paper'})"
    return f'<i class="swatch" style="{fill}"></i>{html.escape(label)}'


def phase_legend() -> str:
    """The shades that the phases of a plan have in every picture."""
    kinds = [swatch(kind, f"{kind} phase") for kind in ("sparsify", "sparse", "finetune")]
    return legend([swatch("", "dense phase"), *kinds])


def grid(panels: Sequence[Panel], kind: str = "") -> str:
    """Pictures side by side as far as there is room; kind: "one" large, "small" ones, or neither."""
    figures = "\n".join(
        f"<figure><figcaption>{p.title}</figcaption>{p.svg}{say(p.note) if p.note else ''}</figure>"
        for p in panels
    )
    return f'<div class="grid {kind}">\n{figures}\n</div>'


def facts(known: Mapping[str, Any]) -> str:
    """Names and values, one pair a line."""
    pairs = "".join(
        f"<dt>{html.escape(str(name))}</dt><dd>{html.escape(str(value))}</dd>"
        for name, value in known.items()
    )
    return f"<dl>{pairs}</dl>"


def cells(rows: Sequence[Sequence[str]]) -> str:
    """A table of texts under its first row, as wide as it must be; columns of words begin at the left."""
    wordy = [any(cell[:1].isalpha() for cell in column[1:]) for column in zip(*rows, strict=True)]
    looks = [' class="word"' if words else "" for words in wordy]
    head, *body = [
        [(look, html.escape(cell)) for look, cell in zip(looks, row, strict=True)] for row in rows
    ]
    named = "".join(f"<th{look}>{cell}</th>" for look, cell in head)
    lines = "".join(
        f"<tr><th>{row[0][1]}</th>{''.join(f'<td{look}>{cell}</td>' for look, cell in row[1:])}</tr>"
        for row in body
    )
    table = f"<table><thead><tr>{named}</tr></thead><tbody>{lines}</tbody></table>"
    return f'<div class="scroll">{table}</div>'


def items(texts: Sequence[str]) -> str:
    """A list of plain texts."""
    return f'<ul class="note">{"".join(f"<li>{html.escape(text)}</li>" for text in texts)}</ul>'


_STYLE = """
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
main{max-width:1080px;margin:0 auto;padding:2rem 1rem 4rem}
h1{font-size:1.9rem;line-height:1.2;margin:0 0 .75rem;text-wrap:balance}
h2{font-size:1.25rem;line-height:1.3;margin:2.75rem 0 .6rem}
h3{font-size:1rem;margin:1.6rem 0 .3rem}
p{max-width:72ch;margin:.5rem 0;overflow-wrap:anywhere}
.note,dd,dt,summary,details li{font-size:.9rem}
.note{color:var(--faint)}
details.open{border-left:4px solid var(--c2);padding:.4rem 1rem;margin:1rem 0}
summary{cursor:pointer;font-weight:600}
.scroll{overflow-x:auto}
table{border-collapse:separate;border-spacing:0;font-variant-numeric:tabular-nums;font-size:.92rem;width:100%}
th,td{padding:.35rem .7rem;text-align:right;white-space:nowrap;vertical-align:bottom}
thead th{font-weight:600;border-bottom:2px solid var(--ink);line-height:1.25}
th:first-child{text-align:left;padding-left:0}
tbody th{font-weight:400;padding-left:1.4em!important;text-indent:-1.4em;position:sticky;left:0;background:var(--paper)}
tbody th,tbody td{border-top:1px solid var(--rule)}
tr.group th{border-top:0;font-weight:600;padding-left:0!important;text-indent:0;padding-top:1.1rem}
td.best{font-weight:700}
th.word,td.word{text-align:left}
td.none{color:var(--c2)}
td.none[colspan]{text-align:left}
.share{color:var(--faint);display:inline-block;min-width:3.4em}
.chip{text-indent:0;font-style:normal;display:inline-block;width:1.1em;text-align:center}
.legend{list-style:none;display:flex;flex-wrap:wrap;gap:.2rem 1.2rem;padding:0;margin:.5rem 0;
font-size:.9rem}
.swatch{display:inline-block;width:1.3em;height:.9em;margin-right:.4em;vertical-align:-.08em;
border:1px solid var(--faint)}
.grid{display:grid;gap:1.2rem 1.6rem;grid-template-columns:repeat(auto-fill,minmax(min(100%,310px),1fr))}
.grid.one{grid-template-columns:minmax(0,610px)}
.grid.pair{grid-template-columns:repeat(auto-fill,minmax(min(100%,400px),1fr))}
figure{margin:0;min-width:0}
figcaption{font-weight:600;font-size:.92rem;margin-bottom:.2rem}
figure .note{font-size:.82rem;margin:.1rem 0 0}
svg{display:block;width:100%;height:auto;overflow:visible}
svg text{font-family:inherit!important}
dl{display:grid;grid-template-columns:minmax(6rem,max-content) 1fr;gap:.2rem 1.2rem;margin:.6rem 0}
dt{color:var(--faint)}
dd{margin:0;overflow-wrap:anywhere}
@media(max-width:520px){dl{grid-template-columns:1fr;gap:0}dd{margin-bottom:.5rem}
tbody th:first-child{white-space:normal;min-width:12.6rem}
th,td{padding:.35rem .5rem}}
@media print{main{max-width:none}figure{break-inside:avoid}}
"""
