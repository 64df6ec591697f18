// One or more line charts in a grid, each with bands, marks, flagged ranges and a moving marker.

function render({ model, el }) {
  const host = document.createElement("div");
  host.className = "cv-host";
  el.append(host);
  let boxes = [];
  const columnsFor = (width) => Math.max(1, Math.min(model.get("columns"), Math.floor(width / 180)));
  const rowsFor = (width) => Math.ceil(model.get("charts").length / columnsFor(width));

  const limits = (chart, axis) => {
    if (chart[`${axis}lim`]) return chart[`${axis}lim`];
    const found = chart.series.flatMap((s) => (axis === "x" ? s.x : [...s.y, ...(s.low || []), ...(s.high || [])]))
      .filter((v) => v !== null && (!chart.log || axis === "x" || v > 0));
    if (!found.length) return [0, 1];
    let [low, high] = [Math.min(...found), Math.max(...found)];
    if (axis === "x") return low === high ? [low - 0.5, high + 0.5] : [low, high];
    if (chart.log) return [low / 1.15, high * 1.15];
    const room = (high - low || Math.abs(high) || 1) * 0.06;
    return [low - room, high + room];
  };

  const draw = (ctx, width, tall, ink) => {
    const charts = model.get("charts"), n = columnsFor(width), w = width / n, h = model.get("height");
    boxes = charts.map((chart, i) => drawChart(ctx, chart, (i % n) * w, Math.floor(i / n) * h, w, h, ink, i));
    ctx.font = `11px ${FONT}`;
    drawLegend(ctx, wrap(ctx, model.get("key"), width - 20), 10, h * rowsFor(width) + 10, width - 10, ink);
  };

  const drawChart = (ctx, chart, x0, y0, w, h, ink, index) => {
    const legend = chart.series.filter((s) => s.name && s.legend !== false);
    ctx.font = `11px ${FONT}`;
    const lines = wrap(ctx, legend, w - 52);
    const left = x0 + 44, right = x0 + w - 10, top = y0 + (chart.title ? 24 : 8), bottom = y0 + h - 34 - 15 * lines.length;
    const [xl, xh] = limits(chart, "x"), [yl, yh] = limits(chart, "y");
    const up = chart.log ? Math.log : (v) => v;
    const px = (v) => left + ((v - xl) / (xh - xl || 1)) * (right - left);
    const py = (v) => bottom - ((up(v) - up(yl)) / (up(yh) - up(yl) || 1)) * (bottom - top);
    const colour = (name) => ink[name] || name;

    ctx.textBaseline = "alphabetic";
    ctx.textAlign = "left";
    ctx.fillStyle = ink.ink;
    ctx.font = `600 12px ${FONT}`;
    if (chart.title) ctx.fillText(shorten(ctx, chart.title, w - 12), x0 + 6, y0 + 14);
    for (const span of chart.spans || []) {
      ctx.fillStyle = colour(span.colour || "contrast");
      ctx.globalAlpha = 0.16;
      ctx.fillRect(px(span.from), top, Math.max(2, px(span.to) - px(span.from)), bottom - top);
      ctx.globalAlpha = 1;
    }
    ctx.font = `11px ${FONT}`;
    const yTicks = chart.log ? decades(yl, yh) : ticks(yl, yh, Math.max(2, Math.round((bottom - top) / 34)));
    ctx.textAlign = "right";
    ctx.textBaseline = "middle";
    for (const v of yTicks) {
      ctx.strokeStyle = ink.grid;
      ctx.lineWidth = 1;
      ctx.beginPath();
      ctx.moveTo(left, Math.round(py(v)) + 0.5);
      ctx.lineTo(right, Math.round(py(v)) + 0.5);
      ctx.stroke();
      ctx.fillStyle = ink.ink;
      ctx.fillText(chart.percent ? `${plain(100 * v)} %` : plain(v), left - 5, py(v));
    }
    ctx.textAlign = "center";
    ctx.textBaseline = "top";
    const xTicks = ticks(xl, xh, Math.max(2, Math.round((right - left) / 62))).filter((v) => !chart.whole || Number.isInteger(v));
    for (const v of xTicks) ctx.fillText(plain(v), px(v), bottom + 5);
    ctx.fillText(shorten(ctx, chart.xlabel || "", right - left + 40), (left + right) / 2, bottom + 19);
    ctx.strokeStyle = ink.muted;
    ctx.strokeRect(left - 0.5, top - 0.5, right - left + 1, bottom - top + 1);

    ctx.save();
    ctx.beginPath();
    ctx.rect(left - 1, top - 1, right - left + 2, bottom - top + 2);
    ctx.clip();
    for (const s of chart.series) {
      const known = s.x.map((v, i) => [v, s.y[i], s.low?.[i] ?? null, s.high?.[i] ?? null]).filter(([, y]) => y !== null);
      ctx.fillStyle = ctx.strokeStyle = colour(s.colour);
      const band = known.filter(([, , a, b]) => a !== null && b !== null);
      if (band.length > 1) {
        ctx.globalAlpha = 0.18;
        ctx.beginPath();
        band.forEach(([x, , a], i) => ctx[i ? "lineTo" : "moveTo"](px(x), py(a)));
        [...band].reverse().forEach(([x, , , b]) => ctx.lineTo(px(x), py(b)));
        ctx.fill();
        ctx.globalAlpha = 1;
      }
      ctx.lineWidth = s.width || 2;
      ctx.setLineDash(s.dash || []);
      ctx.beginPath();
      known.forEach(([x, y], i) => ctx[i ? "lineTo" : "moveTo"](px(x), py(y)));
      ctx.stroke();
      ctx.setLineDash([]);
      if (s.dots) for (const [x, y] of known) dot(ctx, px(x), py(y), 2.5);
    }
    for (const mark of chart.marks || []) {
      ctx.strokeStyle = ink.ink;
      ctx.lineWidth = 1;
      ctx.setLineDash([3, 3]);
      ctx.beginPath();
      ctx.moveTo(px(mark.x), top);
      ctx.lineTo(px(mark.x), bottom);
      ctx.stroke();
      ctx.setLineDash([]);
    }
    const marker = model.get("markers")[index] ?? null;
    if (marker !== null) {
      ctx.strokeStyle = ink.ink;
      ctx.lineWidth = 1.6;
      ctx.beginPath();
      ctx.moveTo(px(marker), top);
      ctx.lineTo(px(marker), bottom);
      ctx.stroke();
      for (const s of chart.series) {
        const y = reading(s, marker);
        if (y === null) continue;
        ctx.fillStyle = ink.paper;
        dot(ctx, px(marker), py(y), 5);
        ctx.fillStyle = colour(s.colour);
        dot(ctx, px(marker), py(y), 3.6);
      }
    }
    drawLabels(ctx, chart, px, { left, right, top, bottom }, ink);
    ctx.restore();
    drawLegend(ctx, lines, left - 34, bottom + 40, right, ink);
    return { left, right, top, bottom, xl, xh };
  };

  // Names of spans, and of marks one above the other, over the lines and legible there.
  const drawLabels = (ctx, chart, px, box, ink) => {
    const write = (text, x, y, align, baseline) => {
      Object.assign(ctx, { textAlign: align, textBaseline: baseline, strokeStyle: ink.paper, fillStyle: ink.ink, lineWidth: 3, lineJoin: "round" });
      ctx.strokeText(text, x, y);
      ctx.fillText(text, x, y);
    };
    for (const span of chart.spans || []) {
      const room = px(span.to) - px(span.from) - 6;
      if (span.label && room > 24) write(shorten(ctx, span.label, room), (px(span.from) + px(span.to)) / 2, box.top + 4, "center", "top");
    }
    (chart.marks || []).filter((mark) => mark.label).forEach((mark, k) => {
      const late = px(mark.x) > (box.left + box.right) / 2, y = mark.high ? box.top + 4 + 13 * k : box.bottom - 4 - 13 * k;
      write(mark.label, px(mark.x) + (late ? -4 : 4), y, late ? "right" : "left", mark.high ? "top" : "bottom");
    });
  };

  // Lines of series names with a stroke of each, the first of them at height `at`.
  const drawLegend = (ctx, lines, from, at, right, ink) => {
    ctx.textAlign = "left";
    ctx.textBaseline = "middle";
    lines.forEach((line, k) => {
      let x = from;
      const y = at + 15 * k;
      for (const s of line) {
        ctx.strokeStyle = ink[s.colour] || s.colour;
        ctx.lineWidth = 2.5;
        ctx.setLineDash(s.dash || []);
        ctx.beginPath();
        ctx.moveTo(x, y);
        ctx.lineTo(x + 18, y);
        ctx.stroke();
        ctx.setLineDash([]);
        ctx.fillStyle = ink.ink;
        ctx.fillText(shorten(ctx, s.name, right - x - 22), x + 22, y);
        x += 36 + ctx.measureText(s.name).width;
      }
    });
  };

  const wrap = (ctx, legend, width) => {
    const lines = [[]];
    let used = 0;
    for (const s of legend) {
      const needs = 36 + ctx.measureText(s.name).width;
      if (used + needs > width && lines.at(-1).length) {
        lines.push([]);
        used = 0;
      }
      lines.at(-1).push(s);
      used += needs;
    }
    return legend.length ? lines : [];
  };
  const dot = (ctx, x, y, r) => {
    ctx.beginPath();
    ctx.arc(x, y, r, 0, 7);
    ctx.fill();
  };
  const decades = (low, high) => {
    const found = [];
    for (let p = Math.floor(Math.log10(low)); p <= Math.ceil(Math.log10(high)); p++)
      for (const k of high / low < 60 ? [1, 2, 5] : [1]) if (k * 10 ** p >= low && k * 10 ** p <= high) found.push(k * 10 ** p);
    return found;
  };
  // The value of a series at x, linearly between its points.
  const reading = (s, x) => {
    for (let i = 0; i < s.x.length; i++) {
      if (s.y[i] === null) continue;
      if (s.x[i] === x) return s.y[i];
      if (i && s.x[i - 1] < x && x < s.x[i] && s.y[i - 1] !== null)
        return s.y[i - 1] + ((s.y[i] - s.y[i - 1]) * (x - s.x[i - 1])) / (s.x[i] - s.x[i - 1]);
    }
    return null;
  };

  const keyHeight = (width) => {
    if (!model.get("key").length) return 0;
    const ctx = drawing.canvas.getContext("2d");
    ctx.font = `11px ${FONT}`;
    return 6 + 15 * wrap(ctx, model.get("key"), width - 20).length;
  };
  const drawing = scene(host, {
    label: model.get("label"),
    height: (width) => model.get("height") * Math.max(1, rowsFor(width)) + keyHeight(width),
    draw,
  });
  const chartAt = ([x, y]) => boxes.findIndex((b) => x >= b.left && x <= b.right && y >= b.top && y <= b.bottom);
  const valueAt = ([x], i) => boxes[i].xl + ((x - boxes[i].left) / (boxes[i].right - boxes[i].left)) * (boxes[i].xh - boxes[i].xl);
  host.addEventListener("pointermove", (event) => {
    const at = drawing.at(event), i = chartAt(at);
    if (event.buttons && i >= 0) return pick(at, i);
    if (i < 0) return drawing.tell(0, 0, []);
    const chart = model.get("charts")[i], x = valueAt(at, i);
    const nearest = chart.series.flatMap((s) => s.x).reduce((a, b) => (Math.abs(b - x) < Math.abs(a - x) ? b : a), Infinity);
    const lines = chart.series.filter((s) => s.name).map((s) => {
      const k = s.x.indexOf(nearest);
      if (k < 0 || s.y[k] === null) return null;
      const interval = s.low && s.low[k] !== null ? ` [${plain(s.low[k])}, ${plain(s.high[k])}]` : "";
      return `${s.name}: ${plain(s.y[k])}${interval}`;
    });
    const flags = (chart.spans || []).filter((f) => f.label && nearest >= f.from && nearest <= f.to).map((f) => f.label);
    drawing.tell(...at, [`${chart.xlabel || "x"} = ${plain(nearest)}`, ...lines.filter(Boolean), ...flags]);
  });
  const pick = (at, i) => {
    model.set("picked", [i, valueAt(at, i)]);
    model.save_changes();
  };
  host.addEventListener("pointerdown", (event) => {
    const at = drawing.at(event), i = chartAt(at);
    if (i >= 0) pick(at, i);
  });
  host.addEventListener("pointerleave", () => drawing.tell(0, 0, []));
  const stop = listen(model, ["charts", "markers", "height", "columns", "key"], drawing.invalidate);
  return () => {
    stop();
    drawing.destroy();
  };
}

export default { render };
