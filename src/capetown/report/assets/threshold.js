// One threshold for everything: charts, matrix and sentences follow the slider; costs choose it.
const tiles = read("tiles");
if (tiles) {
  const $ = id => document.getElementById(id);
  const at = threshold => {
    const sums = { found: 0, missed: 0, alarms: 0, left: 0 };
    for (const [probability, yes] of tiles.tiles)
      sums[probability >= threshold ? (yes ? "found" : "alarms") : (yes ? "missed" : "left")]++;
    return sums;
  };
  const ratio = (part, whole) => whole ? part / whole : NaN;
  const percent = value => Number.isFinite(value) ? `${Math.round(100 * value)} %` : "–";
  const hundred = value => Number.isFinite(value) ? `${Math.round(100 * value)}` : "–";
  const number = id => Math.max(0, Number($(id).value) || 0);
  let threshold = tiles.threshold;

  function elsewhere(sums) {
    const pools = Math.min(number("pools-in-100"), 100) / 100;
    const hits = pools * ratio(sums.found, sums.found + sums.missed);
    const alarms = (1 - pools) * ratio(sums.alarms, sums.alarms + sums.left);
    return { pools, hits, alarms };
  }
  function cost(sums) {
    const { pools, hits, alarms } = elsewhere(sums);
    return 100 * ((pools - hits) * number("cost-of-miss") + alarms * number("cost-of-alarm"));
  }
  function cheapest() {
    let best = [Infinity, 0];
    for (let step = 0; step <= 100; step++) {
      const value = cost(at(step / 100)), nearer = Math.abs(step - 50) < Math.abs(100 * best[1] - 50);
      if (value < best[0] - 1e-9 || (value < best[0] + 1e-9 && nearer)) best = [value, step / 100];
    }
    return best;
  }
  function show() {
    const sums = at(threshold), called = sums.found + sums.alarms, there = elsewhere(sums);
    const [least, best] = cheapest();
    const words = {
      threshold: percent(threshold), ...sums, called,
      precision: hundred(ratio(sums.found, called)),
      recall: hundred(ratio(sums.found, sums.found + sums.missed)),
      "called-of-100": hundred(there.hits + there.alarms),
      "right-elsewhere": hundred(ratio(there.hits, there.hits + there.alarms)),
      "missed-of-100": hundred(there.pools - there.hits),
      cost: cost(sums).toFixed(0), best: percent(best), least: least.toFixed(0),
    };
    for (const [name, text] of Object.entries(words))
      document.querySelectorAll(`[data-live="${name}"]`).forEach(e => { e.textContent = text; });
    $("use-best").dataset.value = best;
    for (const view of Object.values(views))
      if (view.signal && hasThreshold(view)) view.signal("threshold", threshold).runAsync();
  }
  function hasThreshold(view) {
    try { view.signal("threshold"); return true; } catch { return false; }
  }
  $("threshold").addEventListener("input", event => { threshold = Number(event.target.value); show(); });
  for (const id of ["cost-of-miss", "cost-of-alarm", "pools-in-100"]) $(id).addEventListener("input", show);
  $("use-best").addEventListener("click", event => {
    threshold = Number(event.target.dataset.value);
    $("threshold").value = threshold;
    show();
  });
  $("use-own").addEventListener("click", () => {
    threshold = tiles.threshold;
    $("threshold").value = threshold;
    show();
  });
  show();
}
