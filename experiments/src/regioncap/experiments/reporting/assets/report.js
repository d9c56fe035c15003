// The report above its gallery: scores, bars, learning curves, plots of a search, tables.

const colour = (arm) => `s${arm % 8}`;
const armOf = (name) => data.arms.findIndex((arm) => arm.name === name);
const label = (arm) => make("span", { class: `system ${colour(arm)}` }, data.arms[arm].name);
const short = new Intl.NumberFormat("en", { maximumSignificantDigits: 4 });
const state = { metric: data.metrics.includes("CIDEr") ? "CIDEr" : data.metrics[0], curve: "", log: false, hidden: new Set() };

// Scores

function showScores() {
  if (!data.arms.length) return;
  show("scores", "Scores");
  const head = make("tr", {}, make("th", { scope: "col" }, "arm"), make("th", { scope: "col" }, "seeds"));
  for (const metric of data.metrics) head.append(make("th", { scope: "col" }, metric));
  head.append(make("th", { scope: "col" }, "p"));
  const body = make("tbody");
  data.arms.forEach((arm, row) => {
    const line = make("tr", {}, make("th", { scope: "row" }, label(row)), make("td", {}, String(arm.seeds)));
    for (const metric of data.metrics) {
      const cell = data.table[metric][row];
      const [value, spread] = cell.value.split(" ± ");
      const below = spread ? make("small", {}, `± ${spread}`) : "";
      line.append(make("td", cell.best ? { class: "best" } : {}, make("span", { class: "value" }, value), below));
    }
    const against = arm.against ? make("small", {}, `against ${arm.against}`) : "";
    line.append(make("td", {}, arm.p, against));
    body.append(line);
  });
  byId("summary").append(make("thead", {}, head), body);
  byId("legend").append(...data.legend.map((text) => make("li", {}, text)));
  chooseMetric();
  showBars();
}

function chooseMetric() {
  for (const metric of data.metrics) {
    const input = make("input", { type: "radio", name: "metric", value: metric });
    input.checked = metric === state.metric;
    input.addEventListener("change", () => {
      state.metric = metric;
      showBars();
    });
    byId("metrics").append(make("label", {}, input, make("span", {}, metric)));
  }
}

function showBars() {
  const bars = data.bars[state.metric];
  const told = data.arms.map((arm, row) => `${arm.name} ${data.table[state.metric][row].value}`).join("; ");
  const several = data.arms.some((arm) => arm.seeds > 1);
  const caption = make("figcaption", {}, `${state.metric} of each arm, in percent` + (several ? ": mean, standard deviation over seeds, and a dot a seed" : ""));
  byId("bars").replaceChildren(chart(caption, `${state.metric}: ${told}`, 30 * bars.length + 34, (svg, width) => {
    const names = Math.min(160, width * 0.36);
    const top = Math.max(1, ...bars.filter(Boolean).map((bar) => Math.max(bar.mean + bar.std, ...bar.values)));
    const x = (value) => names + ((width - names - 52) * value) / top;
    const end = 30 * bars.length + 8;
    for (const value of ticks(0, top)) {
      svg.append(draw("line", { class: "grid", x1: x(value), x2: x(value), y1: 4, y2: end }));
      svg.append(draw("text", { x: x(value), y: end + 16, "text-anchor": "middle" }, whole.format(value)));
    }
    bars.forEach((bar, row) => {
      const y = 30 * row + 20;
      const name = draw("text", { class: "arm", x: names - 8, y: y + 4, "text-anchor": "end" }, data.arms[row].name);
      svg.append(name);
      if (name.getComputedTextLength() > names - 10) name.setAttribute("textLength", names - 10);
      if (!bar) return;
      const group = draw("g", { class: colour(row) });
      group.append(draw("rect", { class: "bar", x: x(0), y: y - 9, width: Math.max(0, x(bar.mean) - x(0)), height: 18, rx: 2 }));
      if (bar.values.length > 1) {
        const [low, high] = [x(Math.max(0, bar.mean - bar.std)), x(bar.mean + bar.std)];
        group.append(draw("path", { class: "rod", d: `M${low} ${y - 5}v10M${low} ${y}H${high}M${high} ${y - 5}v10` }));
        // A thousand seeds are a cloud: a few dozen dots say as much.
        const every = Math.ceil(bar.values.length / 40);
        bar.values.forEach((value, seed) => {
          if (seed % every === 0) group.append(draw("circle", { class: "dot", cx: x(value), cy: y, r: 3 }));
        });
      }
      svg.append(group);
      const reach = Math.max(bar.mean + (bar.values.length > 1 ? bar.std : 0), ...bar.values);
      svg.append(draw("text", { class: "number", x: x(reach) + 7, y: y + 4 }, score.format(bar.mean)));
    });
  }));
}

// Learning curves

const CURVES = {
  "dev.cider": "CIDEr on the curve's dev images (%)",
  "dev.distinct": "distinct captions on dev (share)",
  "loss.total": "loss, total (eq. 19)",
  "loss.generation": "loss, generation (eq. 16)",
  "loss.alignment": "loss, alignment (eq. 17)",
  "loss.gate": "loss, gate (eq. 18)",
  gate_mean: "gate, mean",
  gate_closed: "gates closed (share)",
  scene_entropy: "scene words, entropy (nats)",
  gradient_norm: "gradient norm",
  lr: "learning rate",
  images_per_cpu_s: "images per CPU second",
};

function showLearning() {
  const names = Object.keys(data.curves);
  if (!names.length) return;
  show("learning", "Learning curves");
  state.curve = names[0];
  fill(byId("curve"), names.map((name) => [name, CURVES[name] ?? name]), state.curve);
  byId("curve").addEventListener("change", () => {
    state.curve = byId("curve").value;
    showCurves();
  });
  byId("curve-scale").addEventListener("change", () => {
    state.log = byId("curve-scale").value === "log";
    showCurves();
  });
  data.arms.forEach((arm, row) => {
    if (!names.some((name) => arm.name in data.curves[name])) return;
    const button = make("button", { type: "button", "aria-pressed": "true" }, label(row));
    button.addEventListener("click", () => {
      if (!state.hidden.delete(row)) state.hidden.add(row);
      button.setAttribute("aria-pressed", String(!state.hidden.has(row)));
      showCurves();
    });
    byId("curve-arms").append(button);
  });
  showCurves();
}

function showCurves() {
  const own = Object.entries(data.curves[state.curve]).map(([name, curve]) => ({ arm: armOf(name), ...curve }));
  const shown = own.filter(({ arm }) => !state.hidden.has(arm));
  const last = shown.map(({ arm, mean }) => `${data.arms[arm].name} ${short.format(mean.at(-1))}`).join("; ");
  const title = CURVES[state.curve] ?? state.curve;
  byId("curves").replaceChildren(chart(make("figcaption", {}, title), `${title}, at the end: ${last}`, 320, (svg, width) => {
    if (!shown.length) return;
    const positive = shown.flatMap(({ low }) => low).filter((value) => value > 0);
    const log = state.log && positive.length > 0;
    const floor = log ? Math.min(...positive) : 0;
    const place = (value) => (log ? Math.log10(Math.max(value, floor)) : value);
    const values = shown.flatMap(({ low, high }) => [...low, ...high].map(place));
    const steps = shown.flatMap((curve) => curve.steps);
    let [bottom, top] = [Math.min(...values), Math.max(...values)];
    if (top === bottom) [bottom, top] = [bottom - 0.5, top + 0.5];
    const [first, end] = [Math.min(...steps), Math.max(...steps)];
    const x = (step) => 58 + ((width - 74) * (step - first)) / (end - first || 1);
    const y = (value) => 286 - (270 * (place(value) - bottom)) / (top - bottom);
    for (const value of ticks(bottom, top)) {
      const at = 286 - (270 * (value - bottom)) / (top - bottom);
      svg.append(draw("line", { class: "grid", x1: 58, x2: width - 16, y1: at, y2: at }));
      svg.append(draw("text", { x: 52, y: at + 4, "text-anchor": "end" }, short.format(log ? 10 ** value : value)));
    }
    for (const step of end > first ? ticks(first, end) : [first]) {
      svg.append(draw("text", { x: x(step), y: 304, "text-anchor": "middle" }, count.format(step)));
    }
    svg.append(draw("text", { x: width - 16, y: 318, "text-anchor": "end" }, "step"));
    for (const { arm, steps: at, mean, low, high } of shown) {
      const group = draw("g", { class: colour(arm) });
      const path = (line) => line.map((value, i) => `${x(at[i])} ${y(value)}`);
      group.append(draw("path", { class: "band", d: `M${path(high).join("L")}L${path(low).reverse().join("L")}Z` }));
      group.append(draw("path", { class: "curve", d: `M${path(mean).join("L")}` }));
      if (at.length <= 40) {
        mean.forEach((value, i) => {
          const dot = draw("circle", { class: "dot", cx: x(at[i]), cy: y(value), r: 3.5 });
          dot.append(draw("title", {}, `${data.arms[arm].name}, step ${count.format(at[i])}: ${short.format(value)}`));
          group.append(dot);
        });
      }
      svg.append(group);
    }
  }), numbersOf(shown));
  paint(byId("curves"));
}

/** The same curves as numbers, for whoever reads or hears a page. */
function numbersOf(curves) {
  const steps = [...new Set(curves.flatMap((curve) => curve.steps))].sort((a, b) => a - b);
  const every = Math.ceil(steps.length / 20);
  const head = make("tr", {}, make("th", { scope: "col" }, "step"));
  for (const { arm } of curves) head.append(make("th", { scope: "col" }, label(arm)));
  const body = make("tbody");
  steps.filter((_, i) => (steps.length - 1 - i) % every === 0).forEach((step) => {
    const line = make("tr", {}, make("th", { scope: "row" }, count.format(step)));
    for (const { steps: at, mean } of curves) {
      const i = at.indexOf(step);
      line.append(make("td", {}, i < 0 ? "–" : short.format(mean[i])));
    }
    body.append(line);
  });
  const region = { class: "scroll", tabindex: "0", role: "region", "aria-label": "The curves as numbers" };
  const table = make("table", {}, make("thead", {}, head), body);
  return make("details", {}, make("summary", {}, "As numbers"), make("div", region, table));
}

// Plots of a search, and tables

function showSearch() {
  if (!data.tuning) return;
  show("search", "Search");
  for (const { title, picture } of data.tuning.figures) {
    byId("plots").append(make("figure", {}, make("figcaption", {}, title), make("img", { src: picture, alt: `${title} of ${data.tuning.name}`, loading: "lazy" })));
  }
}

function showTables() {
  if (!data.tables.length) return;
  show("costs", "Tables");
  byId("tables").append(...data.tables.flatMap(tableParts));
}
