// A matrix as a heat map: hover, select, zoom, pan. Values come as raw float32, rows first.

function render({ model, el }) {
  const host = document.createElement("div");
  host.className = "cv-host cv-matrix";
  host.tabIndex = 0;
  host.setAttribute("role", "group");
  host.setAttribute("aria-label", model.get("label"));
  ownKeys(host);
  el.append(host);
  const image = document.createElement("canvas");
  let values, low, high, estimates, marked, rows, columns, palette, widths, fresh = "", stale = true;
  let view = null; // { x, y, span }: first column and row shown, and how many cells each way
  let frame = { x: 0, y: 0, side: 1 };
  let drag = null;

  // Of many changes that come before the next frame only the last is read.
  const changed = () => {
    stale = true;
    drawing.invalidate();
  };
  const widest = (names) => {
    const ctx = image.getContext("2d");
    ctx.font = `11px ${FONT}`;
    return Math.min(110, Math.max(20, ...names.slice(0, 400).map((n) => ctx.measureText(n).width)));
  };
  const read = () => {
    if (!stale) return;
    stale = false;
    const known = rows?.join() === model.get("row_names").join() && columns?.join() === model.get("column_names").join();
    rows = model.get("row_names");
    columns = model.get("column_names");
    values = floats(model.get("values"));
    low = floats(model.get("low"));
    high = floats(model.get("high"));
    estimates = floats(model.get("estimates"));
    marked = bytes(model.get("marked"));
    palette = bytes(model.get("palette"));
    fresh = "";
    if (!known) {
      widths = [widest(rows), widest(columns)];
      drawing.tell(0, 0, []); // what it told of is no longer there
    }
    if (!view || view.of !== rows.length * 1e6 + columns.length) home();
  };
  const longest = () => Math.max(rows.length, columns.length, 1);
  const home = () => {
    view = { x: 0, y: 0, span: longest(), of: rows.length * 1e6 + columns.length };
  };
  const clampView = () => {
    view.span = Math.min(Math.max(view.span, Math.min(4, longest())), longest());
    view.x = Math.min(Math.max(view.x, 0), Math.max(0, columns.length - view.span));
    view.y = Math.min(Math.max(view.y, 0), Math.max(0, rows.length - view.span));
  };

  // Where a value lies in the palette; -1 for NaN, which is grey.
  const entry = (v, limit, centred, last) =>
    v !== v ? -1 : Math.min(Math.max(Math.round((centred ? (v / limit + 1) / 2 : v / limit) * last), 0), last);
  const settings = () => [model.get("limit") || 1, model.get("centred"), palette.length / 3 - 1];
  // Relative luminance (WCAG): above .179 black can be read on a colour, below it white, at 4.5 to 1 or more.
  const luminance = (rgb) => {
    const [r, g, b] = [...rgb].map((c) => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const grey = (ink) => ink.void.match(/\w\w/g).map((h) => parseInt(h, 16));

  const paintImage = (ink) => {
    const [limit, centred, last] = settings();
    image.width = Math.max(columns.length, 1);
    image.height = Math.max(rows.length, 1);
    const pixels = new ImageData(image.width, image.height), cells = new Uint32Array(pixels.data.buffer);
    const pixel = (r, g, b) => (255 << 24) | (b << 16) | (g << 8) | r; // as one little-endian number
    const table = Array.from({ length: last + 1 }, (_, k) => pixel(palette[3 * k], palette[3 * k + 1], palette[3 * k + 2]));
    const empty = pixel(...grey(ink));
    for (let i = 0; i < values.length; i++) {
      const k = entry(values[i], limit, centred, last);
      cells[i] = k < 0 ? empty : table[k];
    }
    image.getContext("2d").putImageData(pixels, 0, 0);
  };

  const draw = (ctx, width, tall, ink) => {
    read();
    const [limit, centred, last] = settings();
    const key = `${limit}${centred}${ink.void}`;
    if (fresh !== key) paintImage(ink);
    fresh = key;
    const left = widths[0] + 26, bottom = widths[1] + 30, right = 88, top = 8;
    const side = Math.max(60, Math.min(width - left - right, tall - top - bottom));
    frame = { x: left, y: top, side };
    const cell = side / view.span;
    ctx.imageSmoothingEnabled = false;
    drawing.canvas.dataset.cells = JSON.stringify({ left, top, cell, x: view.x, y: view.y });
    const shown = { w: Math.min(view.span, columns.length - view.x), h: Math.min(view.span, rows.length - view.y) };
    ctx.drawImage(image, view.x, view.y, shown.w, shown.h, left, top, shown.w * cell, shown.h * cell);
    ctx.strokeStyle = ink.muted;
    ctx.lineWidth = 1;
    ctx.strokeRect(left - 0.5, top - 0.5, shown.w * cell + 1, shown.h * cell + 1);

    ctx.save();
    ctx.beginPath();
    ctx.rect(left, top, shown.w * cell, shown.h * cell);
    ctx.clip();
    const each = (action) => {
      for (let r = Math.floor(view.y); r < Math.min(rows.length, view.y + view.span); r++)
        for (let c = Math.floor(view.x); c < Math.min(columns.length, view.x + view.span); c++)
          action(r, c, left + (c - view.x) * cell, top + (r - view.y) * cell, values[r * columns.length + c]);
    };
    const over = (v) => {
      const k = entry(v, limit, centred, last);
      return luminance(k < 0 ? grey(ink) : palette.subarray(3 * k, 3 * k + 3)) > 0.179 ? "#000000" : "#ffffff";
    };
    if (cell >= 34) {
      ctx.textAlign = "center";
      ctx.textBaseline = "middle";
      ctx.font = `${cell >= 44 ? 11 : 9.5}px ${FONT}`;
      each((r, c, x, y, v) => {
        ctx.fillStyle = over(v);
        ctx.fillText(Number.isFinite(v) ? v.toFixed(2).replace("-", "−") : "–", x + cell / 2, y + cell / 2);
      });
    }
    if (marked.length && cell >= 5) {
      each((r, c, x, y, v) => {
        if (!marked[r * columns.length + c]) return;
        ctx.fillStyle = over(v);
        ctx.beginPath();
        const big = cell >= 34;
        ctx.arc(x + (big ? cell - 6 : cell / 2), y + (big ? 6 : cell / 2), Math.min(2.6, Math.max(1, cell * 0.14)), 0, 7);
        ctx.fill();
      });
    }
    const picked = model.get("selected");
    if (picked.length === 2) {
      const x = left + (picked[1] - view.x) * cell, y = top + (picked[0] - view.y) * cell, pad = Math.max(0, (8 - cell) / 2);
      for (const [colour, thick] of [["#ffffff", 5], ["#000000", 2.4]]) {
        ctx.strokeStyle = colour;
        ctx.lineWidth = thick;
        ctx.strokeRect(x - pad, y - pad, cell + 2 * pad, cell + 2 * pad);
      }
    }
    ctx.restore();

    ctx.font = `11px ${FONT}`;
    ctx.fillStyle = ink.ink;
    const every = Math.max(1, Math.ceil(12 / cell));
    ctx.textBaseline = "middle";
    ctx.textAlign = "right";
    for (let r = Math.ceil(view.y / every) * every; r < Math.min(rows.length, view.y + view.span); r += every) {
      const y = top + (r - view.y + 0.5) * cell;
      if (y > top && y < top + side) ctx.fillText(shorten(ctx, rows[r], 110), left - 5, y);
    }
    const upright = cell * every >= 14 && Math.max(...columns.slice(0, 400).map((n) => n.length)) <= 3;
    for (let c = Math.ceil(view.x / every) * every; c < Math.min(columns.length, view.x + view.span); c += every) {
      const x = left + (c - view.x + 0.5) * cell;
      if (x <= left || x >= left + side) continue;
      ctx.save();
      ctx.translate(x, top + shown.h * cell + 5);
      if (upright) {
        ctx.textAlign = "center";
        ctx.textBaseline = "top";
      } else {
        ctx.rotate(-Math.PI / 2);
        ctx.textAlign = "right";
      }
      ctx.fillText(shorten(ctx, columns[c], 110), 0, 0);
      ctx.restore();
    }
    ctx.textAlign = "center";
    ctx.textBaseline = "bottom";
    const under = upright ? 36 : bottom - 4;
    ctx.font = `12px ${FONT}`;
    ctx.fillText(shorten(ctx, model.get("column_label"), side), left + (shown.w * cell) / 2, top + shown.h * cell + under);
    ctx.save();
    ctx.translate(4, top + (shown.h * cell) / 2);
    ctx.rotate(-Math.PI / 2);
    ctx.textBaseline = "top";
    ctx.fillText(model.get("row_label"), 0, 0);
    ctx.restore();
    drawBar(ctx, left + side + 14, top, Math.min(side, shown.h * cell), ink);
  };

  const drawBar = (ctx, x, y, length, ink) => {
    const limit = model.get("limit") || 1;
    const centred = model.get("centred");
    const n = palette.length / 3;
    const from = centred ? -limit : 0;
    const place = (v) => y + length - ((v - from) / (limit - from)) * length;
    for (let k = 0; k < n; k++) {
      ctx.fillStyle = `rgb(${palette[3 * k]}, ${palette[3 * k + 1]}, ${palette[3 * k + 2]})`;
      ctx.fillRect(x, y + length - ((k + 1) * length) / n, 14, length / n + 1);
    }
    ctx.strokeStyle = ink.muted;
    ctx.lineWidth = 1;
    ctx.strokeRect(x - 0.5, y - 0.5, 15, length + 1);
    ctx.font = `11px ${FONT}`;
    ctx.fillStyle = ink.ink;
    ctx.textAlign = "left";
    ctx.textBaseline = "middle";
    const given = model.get("marks"), marks = given.filter((v) => v >= from && v <= limit);
    const near = (v) => marks.some((mark) => Math.abs(place(v) - place(mark)) < 12);
    for (const v of ticks(from, limit, 6)) if (!near(v)) ctx.fillText(plain(v), x + 19, place(v));
    for (const mark of marks) {
      ctx.strokeStyle = "#000000";
      ctx.lineWidth = 2.5;
      ctx.beginPath();
      ctx.moveTo(x - 3, place(mark));
      ctx.lineTo(x + 17, place(mark));
      ctx.stroke();
      ctx.font = `bold 11px ${FONT}`;
      ctx.fillText(`${signed(mark, 2)}`, x + 19, place(mark));
    }
    if (given.length) {
      const text = model.get("marks_label"), middle = given.reduce((a, b) => a + b) / given.length;
      ctx.save();
      ctx.font = `11px ${FONT}`;
      const half = ctx.measureText(text).width / 2;
      ctx.translate(x + 62, Math.min(Math.max(place(middle), y + half), y + length - half));
      ctx.rotate(-Math.PI / 2);
      ctx.textAlign = "center";
      ctx.fillText(text, 0, 0);
      ctx.restore();
    }
  };

  const drawing = scene(host, {
    label: model.get("label"),
    height: (width) => Math.round(Math.min(Math.max(width * 0.92, 300), 620)),
    draw,
  });

  const cellAt = ([x, y]) => {
    read();
    const cell = frame.side / view.span;
    const c = Math.floor(view.x + (x - frame.x) / cell), r = Math.floor(view.y + (y - frame.y) / cell);
    const inside = x >= frame.x && y >= frame.y && x < frame.x + frame.side && y < frame.y + frame.side;
    return inside && r >= 0 && c >= 0 && r < rows.length && c < columns.length ? [r, c] : null;
  };
  const describe = ([r, c]) => {
    const i = r * columns.length + c;
    const say = (v) => (model.get("centred") || !Number.isFinite(v) ? signed(v) : plain(v));
    const lines = [`${rows[r]} → ${columns[c]}`, `${model.get("value_label")} ${say(values[i])}`];
    if (low.length && Number.isFinite(low[i])) {
      if (estimates.length) lines.push(`free of noise ${say(estimates[i])}`);
      lines[lines.length - 1] += ` [${say(low[i])}, ${say(high[i])}]`;
    } else if (low.length) lines.push("no interval");
    const [a, b] = [model.get("row_counts")[r], model.get("column_counts")[c]];
    if (a !== undefined) lines.push(b === undefined ? `n = ${a}` : a === b ? `n = ${a} each` : `n = ${a} and ${b}`);
    if (marked[i]) lines.push(model.get("marked_label"));
    return lines;
  };
  const select = (cell, name = "selected") => {
    model.set(name, cell);
    model.save_changes();
    drawing.invalidate();
  };
  const zoom = (factor, x, y) => {
    const cell = frame.side / view.span;
    const [c, r] = [view.x + (x - frame.x) / cell, view.y + (y - frame.y) / cell];
    view.span *= factor;
    clampView();
    const now = frame.side / view.span;
    view.x = c - (x - frame.x) / now;
    view.y = r - (y - frame.y) / now;
    clampView();
    drawing.invalidate();
  };
  const reveal = ([r, c]) => {
    if (c < view.x) view.x = c;
    if (r < view.y) view.y = r;
    if (c + 1 > view.x + view.span) view.x = c + 1 - view.span;
    if (r + 1 > view.y + view.span) view.y = r + 1 - view.span;
    clampView();
    drawing.invalidate();
  };

  host.addEventListener("pointerdown", (event) => {
    if (event.target !== drawing.canvas) return;
    host.focus({ preventScroll: true });
    const [x, y] = drawing.at(event);
    drag = { x, y, from: { ...view }, moved: false };
    drawing.canvas.setPointerCapture(event.pointerId);
  });
  host.addEventListener("pointermove", (event) => {
    if (event.target !== drawing.canvas) return;
    const [x, y] = drawing.at(event);
    if (drag) {
      drag.moved ||= Math.hypot(x - drag.x, y - drag.y) > 4;
      if (drag.moved && view.span < longest()) {
        const cell = frame.side / view.span;
        view.x = drag.from.x - (x - drag.x) / cell;
        view.y = drag.from.y - (y - drag.y) / cell;
        clampView();
        drawing.invalidate();
      }
      return;
    }
    const cell = cellAt([x, y]);
    drawing.tell(x, y, cell ? describe(cell) : []);
  });
  host.addEventListener("pointerup", (event) => {
    const cell = drag && !drag.moved ? cellAt(drawing.at(event)) : null;
    drag = null;
    if (cell) select(cell);
  });
  host.addEventListener("pointerleave", () => drawing.tell(0, 0, []));
  host.addEventListener("dblclick", (event) => {
    const cell = cellAt(drawing.at(event));
    if (model.get("opens") && cell) select(cell, "opened");
    else home();
    drawing.invalidate();
  });
  // A wheel belongs to the page until the map is clicked or Ctrl is held.
  const wheel = (event) => {
    if (!event.ctrlKey && document.activeElement !== host) return;
    event.preventDefault();
    zoom(event.deltaY > 0 ? 1.18 : 1 / 1.18, ...drawing.at(event));
  };
  host.addEventListener("wheel", wheel, { passive: false });
  host.addEventListener("keydown", (event) => {
    read();
    const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    const middle = [frame.x + frame.side / 2, frame.y + frame.side / 2];
    const picked = model.get("selected");
    if (event.key in steps && event.shiftKey) {
      const by = Math.max(1, Math.round(view.span / 8));
      view.y += steps[event.key][0] * by;
      view.x += steps[event.key][1] * by;
      clampView();
      drawing.invalidate();
    } else if (event.key in steps) {
      const from = picked.length === 2 ? picked : [Math.floor(view.y) - steps[event.key][0], Math.floor(view.x) - steps[event.key][1]];
      const to = from.map((v, k) => Math.min(Math.max(v + steps[event.key][k], 0), (k ? columns : rows).length - 1));
      select(to);
      reveal(to);
    } else if (event.key === "+" || event.key === "=") zoom(1 / 1.5, ...middle);
    else if (event.key === "-") zoom(1.5, ...middle);
    else if (event.key === "0") home();
    else if (event.key === "Enter" && model.get("opens") && picked.length === 2) select(picked, "opened");
    else if (event.key === "Escape") select([], "opened");
    else return;
    event.preventDefault();
    event.stopPropagation();
    drawing.invalidate();
  });

  const tools = document.createElement("div");
  tools.className = "cv-tools";
  for (const [text, title, action] of [
    ["+", "zoom in (+)", () => zoom(1 / 1.5, frame.x + frame.side / 2, frame.y + frame.side / 2)],
    ["−", "zoom out (-)", () => zoom(1.5, frame.x + frame.side / 2, frame.y + frame.side / 2)],
    ["⤢", "show all (0)", () => (home(), drawing.invalidate())],
  ]) {
    const button = Object.assign(document.createElement("button"), { textContent: text, title, type: "button" });
    button.setAttribute("aria-label", title);
    button.addEventListener("click", action);
    tools.append(button);
  }
  host.append(tools);

  const onSelected = () => {
    read();
    const picked = model.get("selected");
    if (picked.length === 2) reveal(picked);
    drawing.invalidate();
  };
  const silence = [
    listen(model, ["values", "row_names", "column_names", "marked", "low", "high", "estimates", "palette"], changed),
    listen(model, ["limit", "marks", "marks_label", "row_label", "column_label", "centred"], drawing.invalidate),
    listen(model, ["selected"], onSelected),
  ];
  return () => {
    silence.forEach((stop) => stop());
    drawing.destroy();
  };
}

export default { render };
