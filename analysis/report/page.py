"""The frame of the HTML report: style sheet and the pieces of a page. Standard library only."""

import html
from collections.abc import Iterable, Sequence

STYLE_SHEET = """
:root { --ink: #1b1f24; --quiet: #5b6472; --line: #e3e6ea; --paper: #ffffff; --wash: #f6f7f9;
        --accent: #0b5fa5; }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--wash); color: var(--ink); line-height: 1.55; font-size: 16px;
       font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial,
                    sans-serif; }
main, header > div { max-width: 1180px; margin: 0 auto; padding: 0 24px; }
header { background: var(--paper); border-bottom: 1px solid var(--line); padding: 34px 0 26px; }
h1 { font-size: 30px; line-height: 1.2; margin: 0 0 6px; letter-spacing: -0.01em; }
h2 { font-size: 21px; margin: 0 0 4px; letter-spacing: -0.005em; }
p { margin: 6px 0 12px; max-width: 78ch; }
.quiet { color: var(--quiet); }
.lead { font-size: 17px; color: var(--quiet); margin: 0; }
section { background: var(--paper); border: 1px solid var(--line); border-radius: 10px;
          margin: 22px 0; padding: 22px 24px 16px; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(110px, 1fr)); gap: 12px;
         margin: 20px 0 0; }
.fact { background: var(--wash); border-radius: 8px; padding: 10px; }
.fact b { display: block; font-size: 23px; font-weight: 650; font-variant-numeric: tabular-nums; }
.fact span { color: var(--quiet); font-size: 13.5px; }
.note { border-left: 4px solid #d9a400; background: #fff9e6; padding: 10px 14px; border-radius: 4px;
        margin: 16px 0 0; max-width: none; }
.scroll { overflow-x: auto; margin: 10px 0 6px; }
table { border-collapse: collapse; font-size: 14px; width: 100%;
        font-variant-numeric: tabular-nums; }
th, td { padding: 6px 10px; text-align: right; border-bottom: 1px solid var(--line);
         white-space: nowrap; }
th { color: var(--quiet); font-weight: 600; vertical-align: bottom; }
th.wide { white-space: normal; min-width: 92px; }
thead th { border-bottom: 2px solid #c9ced6; }
th.text, td.text { text-align: left; }
td.wrap { white-space: normal; min-width: 320px; overflow-wrap: anywhere; }
td.test, th.test { color: #6b7280; background: #fafafa; font-style: italic; }
tbody tr:hover td { background: #f1f6fb; }
.panels { display: grid; gap: 6px 10px; margin: 10px 0 6px; }
.panels > div { min-width: 0; }
.legend { display: flex; flex-wrap: wrap; gap: 2px 8px; font-size: 13.5px; margin: 0 0 8px; }
.legend button, .legend span { font: inherit; color: inherit; background: none; border: 0;
          padding: 3px 6px; display: inline-flex; align-items: center; gap: 6px; }
.legend button { cursor: pointer; border-radius: 5px; }
.legend button:hover { background: var(--wash); }
.legend button[aria-pressed="false"] { opacity: 0.35; }
.swatch { display: inline-block; width: 11px; height: 11px; border-radius: 50%; margin-right: 7px;
          vertical-align: -1px; }
pre { background: var(--wash); padding: 10px 14px; border-radius: 6px; overflow-x: auto;
      font-size: 13.5px; margin: 6px 0 14px; }
code { font-size: 0.92em; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 18px; margin: 8px 0;
     font-size: 14.5px; }
dt { color: var(--quiet); } dd { margin: 0; overflow-wrap: anywhere; }
nav { margin-top: 16px; font-size: 14.5px; }
nav a { display: inline-block; margin-right: 12px; white-space: nowrap; }
a { color: var(--accent); text-decoration: none; } a:hover { text-decoration: underline; }
footer { color: var(--quiet); font-size: 13.5px; padding: 4px 0 40px; }
.plotly-graph-div { width: 100%; }
@media (max-width: 700px) {
  main, header > div { padding: 0 12px; } section { padding: 16px 12px 10px; }
  h1 { font-size: 24px; } dl { grid-template-columns: 1fr; } dt { margin-top: 6px; }
}
@media print {
  body { background: white; } section { break-inside: avoid; border: none; } nav { display: none; }
}
""".strip()


def document(title: str, header: str, body: str, script: str) -> str:
    """A whole page that loads nothing: `script` is the source of Plotly, inlined once."""
    # The empty data: icon keeps a browser from asking a server for one.
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n"
        '<link rel="icon" href="data:,">\n'
        f"<style>{STYLE_SHEET}</style>\n<script>{script}</script>\n</head>\n<body>\n"
        f"<header><div>{header}</div></header>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def section(anchor: str, title: str, explanation: str, content: str) -> str:
    """A titled card; `explanation` is plain English and may hold markup."""
    return (
        f'<section id="{anchor}"><h2>{html.escape(title)}</h2>\n'
        f'<p class="quiet">{explanation}</p>\n{content}</section>\n'
    )


def fact(value: object, label: str) -> str:
    return (
        f'<div class="fact"><b>{html.escape(str(value))}</b><span>{html.escape(label)}</span></div>'
    )


def note(text: str) -> str:
    return f'<p class="note">{html.escape(text)}</p>'


def table(heads: Sequence[tuple[str, str]], rows: Iterable[Sequence[str]]) -> str:
    """`heads` are (markup, class); every row holds one markup string per head."""
    head = "".join(f'<th class="{kind}">{text}</th>' for text, kind in heads)
    lines = []
    for row in rows:
        cells = zip(row, heads, strict=True)
        lines.append(
            "<tr>"
            + "".join(f'<td class="{kind}">{cell}</td>' for cell, (_, kind) in cells)
            + "</tr>"
        )
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>\n"
    )


def panels(items: Iterable[str], most_columns: int, least_pixels: int = 300) -> str:
    """Side by side, at most `most_columns` of at least `least_pixels` each; one below the other
    in a narrow window."""
    # auto-fill, so that a column is as wide before its neighbours are there as it is with them:
    # a figure measures its place when it is drawn.
    share = f"calc((100% - {10 * (most_columns - 1)}px)/{most_columns})"
    columns = f"repeat(auto-fill,minmax(min(100%,max({least_pixels}px,{share})),1fr))"
    cells = "".join(f"<div>{item}</div>" for item in items)
    return f'<div class="panels" style="grid-template-columns:{columns}">{cells}</div>\n'


def legend(entries: Iterable[tuple[str, str]], remark: str) -> str:
    """One legend of all panels of its section: a button hides the traces of its name, and shows
    them again. `entries` are (trace name, markup of its look); `remark` is markup."""
    buttons = "".join(
        f'<button type="button" aria-pressed="true" data-trace="{html.escape(name)}">'
        f"{look}{html.escape(name)}</button>"
        for name, look in entries
    )
    return f'<div class="legend">{buttons}<span>{remark}</span></div>{_TOGGLE}\n'


_TOGGLE = """<script>
for (const button of document.currentScript.previousElementSibling.querySelectorAll("button")) {
  button.addEventListener("click", () => {
    const shown = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", shown);
    for (const plot of button.closest("section").querySelectorAll(".plotly-graph-div")) {
      const which = plot.data.flatMap((t, i) => (t.name === button.dataset.trace ? [i] : []));
      if (which.length) Plotly.restyle(plot, { visible: shown }, which);
    }
  });
}
</script>"""


def definitions(items: Iterable[tuple[str, object]]) -> str:
    """A list of names and values."""
    lines = (f"<dt>{html.escape(n)}</dt><dd>{html.escape(str(v))}</dd>" for n, v in items)
    return f"<dl>{''.join(lines)}</dl>\n"


def swatch(colour: str, label: str) -> str:
    return f'<span class="swatch" style="background:{colour}"></span>{html.escape(label)}'
