"""Open a page in a headless browser at several widths, and tell what is wrong with it.

Chromium is driven by its command line alone: a probe is put into a copy of the page, one frame per
width tells what it found, and the outer page is printed. No driver or further package is needed.
"""

import html
import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
_ERRORS = """<script>
window.found = { errors: [] };
window.addEventListener("error", (e) => window.found.errors.push(String(e.message)));
window.addEventListener("unhandledrejection", (e) => window.found.errors.push(String(e.reason)));
for (const kind of ["error", "warn"]) {
  const say = console[kind];
  console[kind] = (...all) => { window.found.errors.push(all.map(String).join(" ")); say(...all); };
}
</script>"""
_PROBE = """<script>
window.addEventListener("load", () => setTimeout(async () => {
  const found = window.found, plots = [...document.querySelectorAll(".plotly-graph-div")];
  const where = (e) => `${e.closest("section").id} ${plots.indexOf(e)}`;
  const drawn = ".scatterlayer .trace, .barlayer .point, .heatmaplayer image, .parcoords";
  found.figures = plots.length;
  found.empty = plots.filter((p) => !p.querySelector(drawn) || p.offsetWidth < 200).map(where);
  for (const section of document.querySelectorAll("section"))
    if (!section.querySelector(".note, .plotly-graph-div, table, li, img, pre, p:not(.quiet)"))
      found.empty.push(section.id);
  found.sideways = document.documentElement.scrollWidth - window.innerWidth;
  found.overlaps = [];
  const words = ".annotation-text, .xtick text, .ytick text, .gtitle, .xtitle, .ytitle";
  for (const plot of plots) {
    const box = plot.getBoundingClientRect();
    const place = plot.parentElement.parentElement.getBoundingClientRect();
    if (box.left < place.left - 2) found.overlaps.push(`${where(plot)} leaves its place`);
    const texts = [...plot.querySelectorAll(words)]
      .filter((t) => [t, t.closest(".annotation-text-g") ?? t]
        .every((e) => !/rotate\\((?!0[ ,)]|-90)/.test(e.getAttribute("transform") ?? "")))
      .map((t) => [t.textContent, t.getBoundingClientRect()]).filter(([, r]) => r.width > 0);
    texts.forEach(([a, r], i) => texts.slice(i + 1).forEach(([b, s]) => {
      const wide = Math.min(r.right, s.right) - Math.max(r.left, s.left);
      const high = Math.min(r.bottom, s.bottom) - Math.max(r.top, s.top);
      if (wide > 3 && high > 3) found.overlaps.push(`${where(plot)}: "${a}" and "${b}"`);
    }));
  }
  found.hovers = [];
  for (const plot of document.querySelectorAll("#front .plotly-graph-div")) {
    const seen = new Set();
    for (const [curve, trace] of plot.data.entries()) {
      const kind = `${trace.name} ${Boolean(trace.meta)}`;
      if (!trace.text || !trace.text.length || seen.has(kind)) continue;
      seen.add(kind);
      Plotly.Fx.hover(plot, [{ curveNumber: curve, pointNumber: trace.text.length - 1 }]);
      await new Promise((done) => setTimeout(done, 200));
      const box = plot.getBoundingClientRect(), label = plot.querySelector(".hovertext");
      const r = label ? label.getBoundingClientRect() : null;
      // Plotly moves a label to the edge by its text; its frame reaches 2.84 pixels further.
      const fits = Boolean(r && r.left >= box.left - 3 && r.right <= box.right + 3
        && r.top >= box.top - 3 && r.bottom <= box.bottom + 3);
      found.hovers.push([plots.indexOf(plot), trace.name, fits]);
      Plotly.Fx.unhover(plot);
    }
  }
  const choices = document.querySelector("#parallel .plotly-graph-div");
  if (choices) {
    const first = choices.data[0].dimensions[0].values[0];
    const range = [first - 0.2, first + 0.2];
    await Plotly.restyle(choices, { "dimensions[0].constraintrange": [range] });
    await new Promise((done) => setTimeout(done, 500));
    found.chosen = document.getElementById("chosen").textContent;
    const panel = document.querySelector("#front .plotly-graph-div");
    const marks = panel.data.filter((t) => t.customdata);
    const names = (t) => [...(t.selectedpoints ?? [])].map((i) => t.customdata[i]);
    found.selected = marks.flatMap(names);
    const panels = [...document.querySelectorAll("#front .plotly-graph-div")];
    const bars = (p) => p.querySelectorAll(".errorbar path.yerror").length;
    const band = (t) => t.fill === "toself" && t.name.startsWith("attained");
    const surfaces = (p) => p.data.filter(band).map((t) => t.opacity ?? 1);
    const shown = () => panels.map((p) => ({ bars: bars(p), surfaces: surfaces(p) }));
    found.brushed = shown();
    await Plotly.restyle(choices, { "dimensions[0].constraintrange": [null] });
    await new Promise((done) => setTimeout(done, 500));
    found.undone = shown();
  }
  parent.postMessage(JSON.stringify({ width: window.innerWidth, ...found }), "*");
}, 1500));
</script>"""
_FRAMES = """<!DOCTYPE html><meta charset="utf-8"><script>
window.addEventListener("message", (e) => {
  const line = document.createElement("pre");
  line.className = "answer";
  line.textContent = e.data;
  document.body.append(line);
});
</script><body>"""


def probe(page: Path, widths: Sequence[int]) -> dict[int, dict[str, Any]]:
    """Return by width what is wrong: `errors` of the console, `empty` panels, `overlaps` of text.

    sideways: by how many pixels the page is wider than its window. hovers: for each front and name
    of a trace with texts, whether a hover fits the panel. chosen, selected: what the page says, and
    which marks are shown, after the first method of the parallel coordinates was brushed; brushed,
    undone: by front the number of intervals and the opacities of surfaces, then and after that.
    """
    text = page.read_text()
    copy = page.with_name("probed.html")
    copy.write_text(text.replace("<head>", f"<head>{_ERRORS}", 1) + _PROBE)
    frames = "".join(
        f'<iframe src="probed.html" width="{w}" height="900"></iframe>' for w in widths
    )
    outer = page.with_name("frames.html")
    outer.write_text(_FRAMES + frames)
    command = [str(BROWSER), "--headless=new", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    command += [f"--user-data-dir={page.parent / 'browser'}", "--virtual-time-budget=40000"]
    done = subprocess.run([*command, outer.as_uri()], capture_output=True, text=True, timeout=300)
    answers = re.findall(r'<pre class="answer">(.*?)</pre>', done.stdout, flags=re.DOTALL)
    found = [json.loads(html.unescape(answer)) for answer in answers]
    return {one.pop("width"): one for one in found}
