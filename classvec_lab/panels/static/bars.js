// Accuracy of each class before and after: a tick before, a bar to after, red where it falls.

function render({ model, el }) {
  const host = document.createElement("div");
  host.className = "cv-host cv-scroll";
  const inner = document.createElement("div");
  host.append(inner);
  el.append(host);
  const row = 17;
  const draw = (ctx, width, tall, ink) => {
    const names = model.get("names"), before = floats(model.get("before")), after = floats(model.get("after"));
    const edited = new Set(model.get("edited"));
    ctx.font = `11px ${FONT}`;
    const left = Math.min(120, Math.max(24, ...names.map((n) => ctx.measureText(n).width + 14))), right = width - 56, top = 22;
    const px = (v) => left + v * (right - left);
    ctx.textBaseline = "middle";
    ctx.fillStyle = ink.ink;
    ctx.textAlign = "center";
    for (const v of [0, 0.25, 0.5, 0.75, 1]) {
      ctx.fillText(`${100 * v} %`, px(v), 9);
      ctx.strokeStyle = ink.grid;
      ctx.lineWidth = 1;
      ctx.beginPath();
      ctx.moveTo(Math.round(px(v)) + 0.5, top - 5);
      ctx.lineTo(Math.round(px(v)) + 0.5, tall);
      ctx.stroke();
    }
    names.forEach((name, i) => {
      const y = top + row * i + row / 2, a = before[i], b = after[i];
      ctx.textAlign = "right";
      ctx.fillStyle = ink.ink;
      ctx.font = `${edited.has(i) ? "bold " : ""}11px ${FONT}`;
      ctx.fillText(shorten(ctx, name, left - 10), left - 6, y);
      if (Number.isNaN(a)) {
        ctx.textAlign = "left";
        ctx.fillText("no sample", left + 4, y);
        return;
      }
      ctx.fillStyle = ink.grid;
      ctx.fillRect(left, y - 4, px(Math.min(a, b)) - left, 8);
      ctx.fillStyle = b < a ? ink.contrast : ink.accent;
      ctx.fillRect(px(Math.min(a, b)), y - 4, Math.abs(px(b) - px(a)), 8);
      ctx.fillStyle = ink.ink;
      ctx.fillRect(px(a) - 1, y - 6, 2, 12);
      const change = 100 * (b - a);
      ctx.textAlign = "left";
      ctx.font = `${Math.abs(change) > 0.05 ? "bold " : ""}11px ${FONT}`;
      ctx.fillText(Math.abs(change) < 0.05 ? "0" : signed(change, 1), right + 8, y);
    });
  };
  const drawing = scene(inner, { label: model.get("label"), height: () => 26 + row * model.get("names").length, draw });
  host.addEventListener("pointermove", (event) => {
    const [x, y] = drawing.at(event), i = Math.floor((y - 22) / row);
    const name = model.get("names")[i];
    if (name === undefined) return drawing.tell(0, 0, []);
    const before = floats(model.get("before"))[i], after = floats(model.get("after"))[i];
    const percent = (v) => `${(100 * v).toFixed(1)} %`;
    drawing.tell(x, y, [`${name}, n = ${model.get("counts")[i]}`, `before ${percent(before)}`, `after ${percent(after)}`]);
  });
  host.addEventListener("pointerleave", () => drawing.tell(0, 0, []));
  const stop = listen(model, ["names", "before", "after", "edited"], drawing.invalidate);
  return () => {
    stop();
    drawing.destroy();
  };
}

export default { render };
