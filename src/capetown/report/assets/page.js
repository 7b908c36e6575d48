// Draws the charts, keeps the contents in step, lets figures be saved, and opens all for paper.
const read = id => JSON.parse(document.getElementById(id)?.textContent ?? "null");
const views = {};
for (const [id, spec] of Object.entries(read("specs"))) {
  views[id] = (await vegaEmbed("#" + id, spec, { actions: false, renderer: "svg" })).view;
}

// A figure as a file: its colours are names that the page resolves, so they are put in first.
const style = getComputedStyle(document.documentElement);
const resolved = text => text
  .replace(/var\(--(\w+)\)/g, (_, name) => style.getPropertyValue("--" + name).trim())
  .replace(/currentColor/g, style.getPropertyValue("--ink").trim());
function asFile(svg) {
  const copy = svg.cloneNode(true), { width, height } = svg.getBoundingClientRect();
  copy.querySelectorAll(".chosen").forEach(mark => mark.remove());
  for (const [name, value] of Object.entries({ width, height, xmlns: "http://www.w3.org/2000/svg" }))
    copy.setAttribute(name, value);
  copy.style.background = "var(--card)";
  copy.style.fontFamily = "sans-serif";
  return { text: resolved(new XMLSerializer().serializeToString(copy)), width, height };
}
function download(url, name) {
  Object.assign(document.createElement("a"), { href: url, download: name }).click();
}
async function save(svg, name, kind) {
  const { text, width, height } = asFile(svg);
  const url = URL.createObjectURL(new Blob([text], { type: "image/svg+xml" }));
  if (kind === "svg") return download(url, name + ".svg");
  const image = new Image();
  image.src = url;
  await image.decode();
  const canvas = Object.assign(document.createElement("canvas"), { width: 2 * width, height: 2 * height });
  canvas.getContext("2d").drawImage(image, 0, 0, 2 * width, 2 * height);
  download(canvas.toDataURL("image/png"), name + ".png");
}
for (const drawing of document.querySelectorAll("figure .chart, figure .map")) {
  const buttons = document.createElement("div");
  buttons.className = "save screen";
  for (const kind of ["svg", "png"]) {
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: "Save " + kind.toUpperCase() });
    button.setAttribute("aria-label", `Save the figure ${drawing.id} as ${kind.toUpperCase()}`);
    button.onclick = () => save(drawing.querySelector("svg"), drawing.id, kind);
    buttons.append(button);
  }
  drawing.closest("figure").append(buttons);
}

// Contents: the section in view is the current one; a link opens what is folded.
const links = new Map([...document.querySelectorAll("nav a")].map(a => [a.hash.slice(1), a]));
const seen = new IntersectionObserver(entries => {
  for (const { target, isIntersecting } of entries) {
    if (!isIntersecting) continue;
    links.forEach(a => a.removeAttribute("aria-current"));
    links.get(target.id)?.setAttribute("aria-current", "true");
  }
}, { rootMargin: "-20% 0px -70% 0px" });
document.querySelectorAll("section[id]").forEach(section => seen.observe(section));
const unfold = () => {
  const details = document.getElementById(location.hash.slice(1))?.querySelector("details");
  if (details) details.open = true;
};
addEventListener("hashchange", unfold);
unfold();

let folded = [];
addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll("details:not([open])")];
  folded.forEach(details => { details.open = true; });
});
addEventListener("afterprint", () => folded.forEach(details => { details.open = false; }));
