// What all canvases share: colours of the theme, a canvas that repaints once a frame, numbers and messages.

const INK = {
  light: { accent: "#0b6e99", contrast: "#b8452b", muted: "#6b7280", green: "#2b7a4b", violet: "#7b4ea3", ink: "#1f2328", grid: "#d9dce1", paper: "#ffffff", void: "#c9ccd2" },
  dark: { accent: "#5bbfe6", contrast: "#f2906f", muted: "#a3acb8", green: "#74d19b", violet: "#c9a2f0", ink: "#e8eaed", grid: "#454a52", paper: "#111111", void: "#5b616b" },
};

function background(el) {
  for (let at = el; at; at = at.parentElement) {
    const found = getComputedStyle(at).backgroundColor.match(/[\d.]+/g)?.map(Number);
    if (found && (found.length < 4 || found[3] > 0.5)) return found;
  }
  return [255, 255, 255];
}

function colours(el) {
  const [r, g, b] = background(el);
  const ink = INK[0.299 * r + 0.587 * g + 0.114 * b < 128 ? "dark" : "light"];
  return { ...ink, paper: `rgb(${r}, ${g}, ${b})` };
}

const FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif";

function floats(view) {
  if (!view || !view.byteLength) return new Float32Array(0);
  return new Float32Array(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));
}

function bytes(view) {
  return view ? new Uint8Array(view.buffer, view.byteOffset, view.byteLength) : new Uint8Array(0);
}

function signed(value, digits = 3) {
  return Number.isFinite(value) ? (value < 0 ? "−" : "+") + Math.abs(value).toFixed(digits) : "unknown";
}

function plain(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  const text = size >= 1e5 || size < 1e-3 ? value.toExponential(0) : String(Number(value.toPrecision(3)));
  return text.replace("-", "−");
}

// Ticks at round numbers between low and high.
function ticks(low, high, most = 5) {
  const rough = (high - low) / most;
  if (!(rough > 0)) return [low];
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((k) => k * power).find((s) => s >= rough * 0.999);
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k++) found.push(k * step);
  return found;
}

// A canvas that fills `host`, is drawn in CSS pixels, and at most once a frame: of many changes only the last is painted.
// The count of paints stands in data-painted.
function scene(host, { label, height, draw }) {
  const canvas = document.createElement("canvas");
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", label);
  canvas.style.cssText = "display:block;width:100%;";
  host.append(canvas);
  const tip = document.createElement("div");
  tip.className = "cv-tip";
  tip.setAttribute("role", "status");
  host.append(tip);
  let waiting = 0;
  let painted = 0;
  const paint = () => {
    waiting = 0;
    const width = host.clientWidth;
    if (!width) return;
    const tall = height(width);
    const ratio = window.devicePixelRatio || 1;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(tall * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(tall * ratio);
      canvas.style.height = `${tall}px`;
    }
    const ctx = canvas.getContext("2d");
    ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
    ctx.clearRect(0, 0, width, tall);
    draw(ctx, width, tall, colours(host));
    canvas.dataset.painted = String(++painted);
  };
  const invalidate = () => {
    if (!waiting) waiting = requestAnimationFrame(paint);
  };
  const sizes = new ResizeObserver(invalidate);
  sizes.observe(host);
  const themes = new MutationObserver(invalidate);
  themes.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-name", "data-jp-theme-light", "class"] });
  invalidate();
  return {
    canvas,
    invalidate,
    tell(x, y, lines) {
      tip.replaceChildren(...lines.map((line) => Object.assign(document.createElement("div"), { textContent: line })));
      tip.style.display = lines.length ? "block" : "none";
      if (!lines.length) return;
      const left = Math.min(x + 14, host.clientWidth - tip.offsetWidth - 4);
      const below = y + 16 + tip.offsetHeight > host.clientHeight;
      tip.style.left = `${Math.max(2, left)}px`;
      tip.style.top = `${below ? Math.max(2, y - tip.offsetHeight - 10) : y + 16}px`;
    },
    at(event) {
      const box = canvas.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    },
    destroy() {
      cancelAnimationFrame(waiting);
      sizes.disconnect();
      themes.disconnect();
    },
  };
}

// JupyterLab takes arrow keys for its cells unless an element says that it wants them.
function ownKeys(el) {
  el.setAttribute("data-lm-suppress-shortcuts", "true");
}

function shorten(ctx, text, width) {
  if (ctx.measureText(text).width <= width) return text;
  let keep = text.length;
  while (keep > 1 && ctx.measureText(text.slice(0, keep) + "…").width > width) keep--;
  return text.slice(0, keep) + "…";
}

function listen(model, names, action) {
  for (const name of names) model.on(`change:${name}`, action);
  return () => names.forEach((name) => model.off(`change:${name}`, action));
}
