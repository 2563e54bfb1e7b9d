// Brushing the parallel coordinates filters the fronts: by the names of trials that both figures
// hold, so that neither depends on how the other is drawn.
{
  const choices = document.querySelector("#parallel .plotly-graph-div");
  const chosen = document.getElementById("chosen");

  const kept = () => {
    const names = choices.layout.meta.trials;
    const ranges = choices.data[0].dimensions
      .filter((d) => d.constraintrange)
      .map((d) => [d.values, Array.isArray(d.constraintrange[0]) ? d.constraintrange : [d.constraintrange]]);
    if (!ranges.length) return null;
    const within = (v, parts) => parts.some(([low, high]) => low <= v && v <= high);
    return new Set(names.filter((_, i) => ranges.every(([values, parts]) => within(values[i], parts))));
  };

  // The best quality at or below every cost, as corners of a staircase.
  const staircase = (points, maximised, right) => {
    const xs = [], ys = [];
    let best = null;
    for (const [cost, quality] of points.toSorted((a, b) => a[0] - b[0])) {
      if (best !== null && (maximised ? quality <= best : quality >= best)) continue;
      if (best !== null) { xs.push(cost); ys.push(best); }
      xs.push(cost); ys.push(quality);
      best = quality;
    }
    if (best !== null) { xs.push(right); ys.push(best); }
    return [xs, ys];
  };

  choices.on("plotly_restyle", () => {
    const names = kept();
    for (const plot of document.querySelectorAll("#front .plotly-graph-div")) {
      const { eligible, maximised, right, front, attained } = plot.layout.meta;
      // Plotly fades marks alone: bars are taken out, and put back where their trace has them.
      const bars = plot.data.flatMap((t, i) => (t.customdata && t.meta?.costs ? [i] : []));
      const without = bars.map((i) => {
        const { customdata, meta } = plot.data[i];
        return meta.costs.map((cost, k) => (names && !names.has(customdata[k]) ? null : cost));
      });
      if (bars.length) Plotly.restyle(plot, { x: without }, bars);
      // What all confirmed models attain together says nothing of some of them.
      const surfaces = plot.data.flatMap((t, i) => (t.name === attained ? [i] : []));
      if (surfaces.length) Plotly.restyle(plot, { opacity: names ? 0 : 1 }, surfaces);
      const marks = plot.data.flatMap((t, i) => (t.customdata && !t.meta?.costs ? [i] : []));
      const places = marks.map((i) => names && plot.data[i].customdata.flatMap((n, k) => (names.has(n) ? [k] : [])));
      Plotly.restyle(plot, { selectedpoints: places }, marks);
      const line = plot.data.findIndex((t) => t.name === front);
      if (line < 0) continue;
      const points = Object.entries(eligible).flatMap(([n, p]) => (!names || names.has(n) ? [p] : []));
      const [xs, ys] = staircase(points, maximised, right);
      Plotly.restyle(plot, { x: [xs], y: [ys] }, [line]);
    }
    chosen.textContent = names ? `${names.size} of ${choices.layout.meta.trials.length} trials chosen` : "";
  });
}
