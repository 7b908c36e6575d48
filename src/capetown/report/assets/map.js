// The map: a measure and a directorate are chosen above it; a hexagon tells its numbers when it is
// pointed at, tapped, or reached with the arrow keys.
const map = read("map-data");
if (map) {
  const $ = id => document.getElementById(id);
  const box = $("map"), svg = box.querySelector("svg"), tip = box.querySelector(".tip");
  const paths = [...svg.querySelectorAll(".hex")], count = paths.length;
  const mark = document.createElementNS("http://www.w3.org/2000/svg", "path");
  mark.setAttribute("class", "chosen");
  svg.querySelector(".hexes").append(mark);
  const whole = svg.getAttribute("viewBox"), near = map.near;
  const comma = value => value.toLocaleString("en");
  const by = map.by.map(pairs => {
    const numbers = new Array(count).fill(0);
    for (let k = 0; k < pairs.length; k += 2) numbers[pairs[k]] = pairs[k + 1];
    return numbers;
  });
  let chosen = -1;

  const numbers = () => by[$("map-directorate").value] ?? map.all;
  function value(n) {
    const measure = $("map-measure").value;
    if (measure === "count") return numbers()[n] || null;
    if (map.all[n] < map.fewest) return null;
    if (measure === "share") return numbers()[n] ? numbers()[n] / map.all[n] : null;
    return map[measure][n];
  }
  function colour() {
    const name = $("map-measure").value, { breaks, words, title } = map.measures[name];
    const letter = name === "change" ? "d" : "q";
    const allOnly = name === "days" || name === "change";
    $("map-directorate").disabled = allOnly;
    paths.forEach((path, n) => {
      const v = value(n);
      let step = -1;
      if (v !== null) while (step + 1 < breaks.length && v >= breaks[step + 1]) step++;
      path.setAttribute("class", step < 0 ? "hex none" : `hex ${letter}${step}`);
    });
    box.querySelector(".legend").replaceChildren(...[null, ...words].map((said, n) => {
      const item = document.createElement("li");
      if (said === null) {
        const who = allOnly || name === "count" && $("map-directorate").value === "" ? "" : `, ${$("map-directorate").selectedOptions[0].text}`;
        item.textContent = title + who + (name === "count" ? "" : ` (hexagons of ${map.fewest} requests or more)`);
        return item;
      }
      const patch = document.createElement("i");
      patch.style.background = `var(--${letter}${n - 1})`;
      item.append(patch, said);
      return item;
    }));
    if (chosen >= 0) tell(chosen);
  }
  function lines(n) {
    if (!map.all[n]) return [];
    const found = [["Requests", comma(map.all[n])]], who = $("map-directorate");
    if (who.value !== "") {
      const part = numbers()[n];
      found.push([who.selectedOptions[0].text, part ? `${comma(part)} (${Math.round(100 * part / map.all[n])} %)` : "none"]);
    }
    if (map.days[n] !== null) found.push(["Half completed in", `${map.days[n]} days`]);
    if (map.change) found.push(["Year before", map.change[n] === null ? "too few" : `${map.change[n] >= 1 ? "+" : "−"}${Math.abs(Math.round(100 * (map.change[n] - 1)))} %`]);
    return found;
  }
  function tell(n) {
    chosen = n;
    const name = map.suburbs[map.suburb[n]] ?? "Hexagon", found = lines(n);
    const head = document.createElement("b"), list = document.createElement("dl");
    head.textContent = name;
    for (const [what, said] of found) {
      const term = document.createElement("dt"), text = document.createElement("dd");
      term.textContent = what;
      text.textContent = said;
      list.append(term, text);
    }
    const cell = Object.assign(document.createElement("span"), { className: "quiet", textContent: found.length ? map.index[n] : `no requests · ${map.index[n]}` });
    tip.replaceChildren(head, list, cell);
    tip.hidden = false;
    mark.setAttribute("d", paths[n].getAttribute("d"));
    const at = new DOMPoint(map.x[n], map.y[n]).matrixTransform(svg.getScreenCTM());
    const frame = box.getBoundingClientRect(), x = at.x - frame.left, y = at.y - frame.top;
    const left = x + 14 + tip.offsetWidth > frame.width ? x - 14 - tip.offsetWidth : x + 14;
    tip.style.left = `${Math.max(0, Math.min(left, frame.width - tip.offsetWidth))}px`;
    tip.style.top = `${Math.max(0, y - tip.offsetHeight - 10)}px`;
    $("map-said").textContent = [name, ...(found.length ? found.map(pair => pair.join(" ")) : ["no requests"])].join(", ");
  }
  function hide() {
    chosen = -1;
    tip.hidden = true;
    mark.removeAttribute("d");
  }
  function under(event) {
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    let best = -1, least = near * near;
    for (let n = 0; n < count; n++) {
      const away = (map.x[n] - at.x) ** 2 + (map.y[n] - at.y) ** 2;
      if (away < least) [best, least] = [n, away];
    }
    return best;
  }
  const point = event => { const n = under(event); if (n < 0) hide(); else if (n !== chosen) tell(n); };
  svg.addEventListener("pointermove", event => { if (event.pointerType === "mouse") point(event); });
  svg.addEventListener("pointerdown", point);
  svg.addEventListener("pointerleave", event => { if (event.pointerType === "mouse" && document.activeElement !== svg) hide(); });

  const busiest = () => map.all.reduce((best, n, k) => n > map.all[best] ? k : best, 0);
  const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  svg.addEventListener("focus", () => { if (svg.matches(":focus-visible") && chosen < 0) tell(busiest()); });
  svg.addEventListener("blur", hide);
  svg.addEventListener("keydown", event => {
    if (event.key === "Escape") return hide();
    if (event.key === "Home") { event.preventDefault(); return tell(busiest()); }
    const way = ways[event.key];
    if (!way) return;
    event.preventDefault();
    if (chosen < 0) return tell(busiest());
    let best = -1, least = Infinity;
    for (let n = 0; n < count; n++) {
      const x = map.x[n] - map.x[chosen], y = map.y[n] - map.y[chosen];
      const along = x * way[0] + y * way[1], aside = Math.abs(x * way[1] + y * way[0]);
      if (along > 1 && aside <= 1.2 * along && along + 2 * aside < least) [best, least] = [n, along + 2 * aside];
    }
    if (best >= 0) tell(best);
  });

  // Nine in ten requests, with some ground around them.
  function dense() {
    const bounds = values => {
      const order = [...values.keys()].sort((a, b) => values[a] - values[b]);
      const total = map.all.reduce((a, b) => a + b, 0);
      let sum = 0, low, high;
      for (const n of order) {
        sum += map.all[n];
        if (low === undefined && sum >= total * .02) low = values[n];
        if (sum <= total * .98) high = values[n];
      }
      return [low, high];
    };
    const [left, right] = bounds(map.x), [top, bottom] = bounds(map.y), pad = 300;
    return `${left - pad} ${top - pad} ${right - left + 2 * pad} ${bottom - top + 2 * pad}`;
  }
  $("map-zoom").addEventListener("click", event => {
    const zoomed = svg.getAttribute("viewBox") === whole;
    svg.setAttribute("viewBox", zoomed ? dense() : whole);
    event.target.textContent = zoomed ? "Show the whole city" : "Zoom to the built-up area";
    event.target.setAttribute("aria-pressed", String(zoomed));
    hide();
  });
  $("map-measure").addEventListener("change", colour);
  $("map-directorate").addEventListener("change", colour);
  colour();
}
