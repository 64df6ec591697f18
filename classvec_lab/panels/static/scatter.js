// Points and class means on a plane, at one step of a film; between steps they glide.

function render({ model, el }) {
  const host = document.createElement("div");
  host.className = "cv-host";
  el.append(host);
  let points, means, labels, palette, at = model.get("step"), frame = 0, hovered = -1, place = null;
  const read = () => {
    points = floats(model.get("points"));
    means = floats(model.get("means"));
    labels = new Uint32Array(floats(model.get("labels")));
    palette = bytes(model.get("colours"));
    drawing.invalidate();
  };
  // Coordinate k of item i at a step between two frames; `count` items a frame.
  const between = (data, count, i, k) => {
    const steps = data.length / (2 * count);
    const s = Math.min(Math.max(at, 0), steps - 1), a = Math.floor(s), b = Math.min(a + 1, steps - 1);
    return data[2 * (a * count + i) + k] * (1 - (s - a)) + data[2 * (b * count + i) + k] * (s - a);
  };
  const draw = (ctx, width, tall, ink) => {
    const names = model.get("names");
    if (!means || !means.length) return;
    const box = model.get("box"); // [x low, x high, y low, y high]
    const left = 12, top = 10, right = width - 12, bottom = tall - 40;
    const scale = Math.min((right - left) / (box[1] - box[0] || 1), (bottom - top) / (box[3] - box[2] || 1));
    const middle = [(box[0] + box[1]) / 2, (box[2] + box[3]) / 2];
    const px = (v) => (left + right) / 2 + (v - middle[0]) * scale, py = (v) => (top + bottom) / 2 - (v - middle[1]) * scale;
    place = { px, py };
    ctx.strokeStyle = ink.muted;
    ctx.strokeRect(left - 0.5, top - 0.5, right - left + 1, bottom - top + 1);
    ctx.save();
    ctx.beginPath();
    ctx.rect(left, top, right - left, bottom - top);
    ctx.clip();
    const focus = model.get("focus");
    const colour = (c) => `rgb(${palette[3 * c]}, ${palette[3 * c + 1]}, ${palette[3 * c + 2]})`;
    const strong = (c) => (focus < 0 || focus === c) && (hovered < 0 || hovered === c);
    for (let i = 0; i < labels.length; i++) {
      ctx.globalAlpha = strong(labels[i]) ? 0.65 : 0.1;
      ctx.fillStyle = colour(labels[i]);
      ctx.beginPath();
      ctx.arc(px(between(points, labels.length, i, 0)), py(between(points, labels.length, i, 1)), 2.6, 0, 7);
      ctx.fill();
    }
    const few = names.length <= 60;
    ctx.font = `600 11px ${FONT}`;
    ctx.textAlign = "center";
    ctx.textBaseline = "bottom";
    for (let c = 0; c < names.length; c++) {
      const x = px(between(means, names.length, c, 0)), y = py(between(means, names.length, c, 1));
      ctx.globalAlpha = strong(c) ? 1 : 0.25;
      ctx.fillStyle = colour(c);
      ctx.strokeStyle = ink.ink;
      ctx.lineWidth = 1.4;
      ctx.beginPath();
      ctx.arc(x, y, few ? 6 : 3.5, 0, 7);
      ctx.fill();
      ctx.stroke();
      if (few || c === hovered || c === focus) {
        ctx.globalAlpha = 1; // a name is never faint
        ctx.strokeStyle = ink.paper;
        ctx.lineWidth = 3;
        ctx.strokeText(names[c], x, y - 8);
        ctx.fillStyle = ink.ink;
        ctx.fillText(names[c], x, y - 8);
      }
    }
    ctx.restore();
    ctx.globalAlpha = 1;
    ctx.fillStyle = ink.ink;
    ctx.font = `11px ${FONT}`;
    ctx.textAlign = "left";
    ctx.textBaseline = "top";
    ctx.fillText(shorten(ctx, model.get("caption"), width - 20), left, bottom + 8);
  };
  const drawing = scene(host, { label: model.get("label"), height: (w) => Math.round(Math.min(Math.max(w * 0.8, 260), 520)), draw });
  const glide = () => {
    cancelAnimationFrame(frame);
    const from = at, to = model.get("step"), began = performance.now();
    const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches || Math.abs(to - from) > 3;
    const move = (now) => {
      const share = still ? 1 : Math.min(1, (now - began) / 180);
      at = from + (to - from) * share;
      drawing.invalidate();
      if (share < 1) frame = requestAnimationFrame(move);
    };
    move(began);
  };
  const nearest = ([x, y]) => {
    if (!place) return -1;
    const n = model.get("names").length;
    let best = -1, least = 18;
    for (let c = 0; c < n; c++) {
      const d = Math.hypot(place.px(between(means, n, c, 0)) - x, place.py(between(means, n, c, 1)) - y);
      if (d < least) [best, least] = [c, d];
    }
    return best;
  };
  host.addEventListener("pointermove", (event) => {
    const found = nearest(drawing.at(event));
    drawing.tell(...drawing.at(event), found < 0 ? [] : [model.get("names")[found], "click: this class alone"]);
    if (found !== hovered) {
      hovered = found;
      drawing.invalidate();
    }
  });
  host.addEventListener("pointerleave", () => {
    hovered = -1;
    drawing.tell(0, 0, []);
    drawing.invalidate();
  });
  host.addEventListener("click", (event) => {
    const found = nearest(drawing.at(event));
    model.set("focus", found === model.get("focus") ? -1 : found);
    model.save_changes();
  });
  const silence = [
    listen(model, ["points", "means", "labels", "colours", "names", "box"], read),
    listen(model, ["step"], glide),
    listen(model, ["focus", "caption"], drawing.invalidate),
  ];
  read();
  return () => {
    silence.forEach((stop) => stop());
    cancelAnimationFrame(frame);
    drawing.destroy();
  };
}

export default { render };
