// Thumbnails with captions. Pictures that the browser has not seen yet are asked for, one request at a time.

const MOST = 2000; // pictures that are held

function render({ model, el }) {
  const host = document.createElement("div");
  host.className = "cv-gallery";
  el.append(host);
  const known = new Map();
  let asked = false;
  const show = () => {
    const groups = model.get("groups");
    host.replaceChildren(
      ...groups.map((group) => {
        const figure = document.createElement("div");
        figure.className = "cv-group";
        figure.append(Object.assign(document.createElement("div"), { className: "cv-title", textContent: group.title }));
        const strip = document.createElement("div");
        strip.className = "cv-strip";
        for (const item of group.items) {
          const cell = document.createElement("figure");
          const picture = document.createElement("img");
          picture.alt = item.caption;
          picture.title = item.title || item.caption;
          picture.width = picture.height = 48;
          if (known.get(item.key)) picture.src = known.get(item.key);
          if (model.get("has_images")) cell.append(picture);
          cell.append(Object.assign(document.createElement("figcaption"), { textContent: item.caption, title: picture.title }));
          if (item.tone) cell.className = `cv-${item.tone}`;
          strip.append(cell);
        }
        if (!group.items.length) strip.append(Object.assign(document.createElement("em"), { textContent: "none" }));
        figure.append(strip);
        return figure;
      }),
    );
    ask();
  };
  const ask = () => {
    if (asked || !model.get("has_images")) return;
    const missing = [...new Set(model.get("groups").flatMap((g) => g.items.map((i) => i.key)))].filter((key) => !known.has(key));
    if (!missing.length) return;
    asked = true;
    missing.forEach((key) => known.set(key, "")); // what can't be had is not asked for again
    model.send({ type: "images", keys: missing });
  };
  const answer = (message, buffers) => {
    if (message.type !== "images") return;
    message.keys.forEach((key, i) => {
      if (buffers[i].byteLength) known.set(key, URL.createObjectURL(new Blob([buffers[i]], { type: "image/png" })));
    });
    for (const [key, address] of known) {
      if (known.size <= MOST) break; // the oldest go first
      URL.revokeObjectURL(address);
      known.delete(key);
    }
    asked = false;
    show();
  };
  model.on("msg:custom", answer);
  const stop = listen(model, ["groups"], show);
  show();
  return () => {
    stop();
    model.off("msg:custom", answer);
    known.forEach((address) => URL.revokeObjectURL(address));
  };
}

export default { render };
