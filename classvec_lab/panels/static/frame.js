// The last line of a panel: what it has to say, and a readable message once its kernel is gone.

const GONE =
  "The kernel behind this panel has stopped or was restarted, so its controls no longer answer. " +
  "Run this cell again (and those above it) to bring the panel back; kept edit cards and figures are on disk.";

function render({ model, el }) {
  const line = document.createElement("div");
  line.className = "cv-status";
  line.setAttribute("role", "status");
  line.setAttribute("aria-live", "polite");
  el.append(line);
  let panel = null;
  const show = () => {
    const text = model.get("message");
    line.textContent = text;
    line.classList.toggle("cv-problem", model.get("problem"));
  };
  // The widget manager marks the views of a kernel that is gone; what marked means is said here in words.
  const gone = () => {
    if (!panel.classList.contains("jupyter-widgets-disconnected") || panel.querySelector(":scope > .cv-gone")) return;
    const cover = Object.assign(document.createElement("div"), { className: "cv-gone", textContent: GONE });
    cover.setAttribute("role", "alert");
    panel.prepend(cover);
    panel.classList.add("cv-dead");
  };
  const watch = new MutationObserver(gone);
  const settle = () => {
    panel = el.closest(".cv-panel");
    if (!panel) return requestAnimationFrame(settle);
    ownKeys(panel);
    panel.dataset.ready = "true";
    watch.observe(panel, { attributes: true, attributeFilter: ["class"] });
    gone();
  };
  const stop = listen(model, ["message", "problem"], show);
  show();
  settle();
  return () => {
    stop();
    watch.disconnect();
  };
}

export default { render };
