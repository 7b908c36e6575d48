// Maps: the menu chooses a layer; a hexagon shows its details when it is pointed at, tapped, or
// reached with the arrow keys.
function startMap(box) {
  const map = read(box.id + "-data"), figure = box.closest("figure");
  const [svg, tip, legend, said] = ["svg", ".tip", ".legend", "[aria-live]"].map(s => box.querySelector(s));
  const menu = figure.querySelector("select"), zoom = figure.querySelector("form button");
  const paths = [...svg.querySelectorAll(".hex")], numbers = new Map(paths.map((path, n) => [path, n]));
  const mark = document.createElementNS("http://www.w3.org/2000/svg", "path");
  mark.setAttribute("class", "chosen");
  svg.querySelector(".hexes").append(mark);
  const special = new Set(map.layers.map(layer => layer.detail));
  const layer = () => map.layers[menu?.value ?? 0];
  let chosen = -1;

  const element = (tag, ...content) => {
    const made = document.createElement(tag);
    made.append(...content);
    return made;
  };
  function colour() {
    const { classes, palette, title, words } = layer();
    paths.forEach((path, n) => path.setAttribute("class", classes[n] === "-" ? "hex none" : `hex ${palette}${classes[n]}`));
    legend.replaceChildren(element("li", title), ...words.map((text, n) => {
      const patch = element("i");
      patch.style.background = `var(--${palette}${n})`;
      return element("li", patch, text);
    }));
    if (chosen >= 0) show(chosen);
  }
  function details(n) {
    const { detail } = layer();
    const found = Object.entries(map.details)
      .filter(([label, texts]) => n in texts && !special.has(label)).map(([label, texts]) => [label, texts[n]]);
    if (found.length && detail) found.splice(1, 0, [detail, map.details[detail][n] ?? "none"]);
    return found;
  }
  function show(n) {
    chosen = n;
    const name = map.names[n] || "Hexagon", found = details(n);
    const none = found.length ? "" : `no ${map.counted} · `;
    const cell = element("span", none + map.index[n]);
    cell.className = "quiet";
    tip.replaceChildren(element("b", name),
      element("dl", ...found.flatMap(([label, text]) => [element("dt", label), element("dd", text)])), cell);
    tip.hidden = false;
    mark.setAttribute("d", paths[n].getAttribute("d"));
    const at = mark.getBoundingClientRect(), frame = box.getBoundingClientRect();
    const x = (at.left + at.right) / 2 - frame.left, y = at.top - frame.top;
    const left = x + 14 + tip.offsetWidth > frame.width ? x - 14 - tip.offsetWidth : x + 14;
    tip.style.left = `${Math.max(0, Math.min(left, frame.width - tip.offsetWidth))}px`;
    tip.style.top = `${Math.max(0, y - tip.offsetHeight)}px`;
    said.textContent = [name, ...(found.length ? found.map(pair => pair.join(" ")) : [`no ${map.counted}`])].join(", ");
  }
  function hide() {
    chosen = -1;
    tip.hidden = true;
    mark.removeAttribute("d");
  }
  const point = event => {
    const n = numbers.get(event.target) ?? -1;
    if (n < 0) hide(); else if (n !== chosen) show(n);
  };
  svg.addEventListener("pointermove", event => { if (event.pointerType === "mouse") point(event); });
  svg.addEventListener("pointerdown", point);
  svg.addEventListener("pointerleave", event => { if (event.pointerType === "mouse" && document.activeElement !== svg) hide(); });
  svg.addEventListener("focus", () => { if (svg.matches(":focus-visible") && chosen < 0) show(map.start); });
  svg.addEventListener("blur", hide);

  const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  function neighbour([right, down]) {
    const centres = paths.map(path => { const b = path.getBBox(); return [b.x + b.width / 2, b.y + b.height / 2]; });
    let best = chosen, least = Infinity;
    centres.forEach(([x, y], n) => {
      const dx = x - centres[chosen][0], dy = y - centres[chosen][1];
      const along = dx * right + dy * down, aside = Math.abs(dx * down + dy * right);
      if (along > 1 && aside <= 1.2 * along && along + 2 * aside < least) [best, least] = [n, along + 2 * aside];
    });
    return best;
  }
  svg.addEventListener("keydown", event => {
    const way = ways[event.key];
    if (event.key === "Escape") return hide();
    if (!way && event.key !== "Home") return;
    event.preventDefault();
    show(way && chosen >= 0 ? neighbour(way) : map.start);
  });

  const whole = svg.getAttribute("viewBox");
  zoom.addEventListener("click", () => {
    const close = svg.getAttribute("viewBox") === whole;
    svg.setAttribute("viewBox", close ? map.close : whole);
    zoom.textContent = close ? "Zoom out" : "Zoom in";
    zoom.setAttribute("aria-pressed", String(close));
    hide();
  });
  menu?.addEventListener("change", colour);
  colour();
}
document.querySelectorAll(".map").forEach(startMap);
