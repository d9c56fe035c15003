const state = {
  metric: data.metrics.includes("CIDEr") ? "CIDEr" : data.metrics[0],
  other: data.systems.findIndex((_, row) => row !== data.baseline),
  order: "",
  search: "",
  seed: 0,
  perPage: 12,
  page: 0,
};
const colour = (row) => `s${row % 8}`;
const label = (row) => make("span", { class: `system ${colour(row)}` }, data.systems[row].name);

// The table

function showSummary() {
  const several = data.systems.length > 1;
  byId("about").textContent =
    `${count.format(data.total)} images of ${data.references}; ` +
    data.systems.map((system) => (several ? `${system.name}: ${system.file}` : system.file)).join("; ");
  byId("summary").append(...rows(data.table));
  if (Object.keys(data.parts).length) {
    const region = { class: "scroll", tabindex: "0", role: "region", "aria-label": "SPICE by kind of tuple" };
    byId("parts").append(
      make("h3", {}, "SPICE by kind of tuple"),
      make("div", region, make("table", {}, ...rows(data.parts))),
    );
  }
  if (data.changes) showChanges(data.changes);
  byId("legend").append(
    ...data.warnings.map((line) => make("li", { class: "warning" }, line)),
    ...data.legend.map((line) => make("li", {}, line)),
  );
}

/** A table of text: how one system differs from the other. */
function showChanges({ title, head, rows }) {
  const line = (cells, tag) =>
    make("tr", {}, ...cells.map((cell, at) => make(at ? tag : "th", { scope: at ? "col" : "row" }, cell)));
  const table = make("table", {}, make("thead", {}, line(head, "th")), make("tbody", {}, ...rows.map((row) => line(row, "td"))));
  const region = { class: "scroll", tabindex: "0", role: "region", "aria-label": title };
  byId("parts").append(make("h3", {}, title), make("div", region, table));
}

/** Head and body of a table of measurements: a column a metric, a row a system. */
function rows(table) {
  const head = make("tr", {}, make("th", { scope: "col" }, "system"));
  for (const metric of Object.keys(table)) head.append(make("th", { scope: "col" }, metric));
  const body = make("tbody");
  data.systems.forEach((_, row) => {
    const line = make("tr", {}, make("th", { scope: "row" }, label(row)));
    for (const cells of Object.values(table)) {
      const cell = cells[row];
      line.append(
        make(
          "td",
          cell.best ? { class: "best" } : {},
          make("span", { class: "value" }, cell.value),
          make("small", {}, cell.interval),
          make("small", {}, cell.p),
        ),
      );
    }
    body.append(line);
  });
  return [make("thead", {}, head), body];
}

// Distributions

function showSpread() {
  const place = byId("spread");
  place.replaceChildren();
  const histogram = data.histograms[state.metric];
  byId("spread-note").textContent =
    `${state.metric} of single images: how many images (height) got which score, in percent. ` +
    "The line is the mean over images; the outermost bars hold what lies beyond them.";
  const tallest = Math.max(...histogram.counts.flat());
  data.systems.forEach((system, row) => {
    const mean = histogram.means[row];
    const caption = make("figcaption", {}, label(row), ` mean ${score.format(mean)}`);
    place.append(
      chart(caption, `${system.name}: ${state.metric}, mean ${score.format(mean)}`, {
        ...histogram,
        counts: histogram.counts[row],
        mean,
        tallest,
        colours: () => colour(row),
        text: score,
      }),
    );
  });
  data.differences[state.metric].forEach((difference, row) => {
    if (difference === null) return;
    const { better, worse } = difference;
    const told =
      ` better on ${count.format(better)}, worse on ${count.format(worse)}, ` +
      `equal on ${count.format(data.total - better - worse)} images; mean ${gain.format(difference.means[0])}`;
    const caption = make("figcaption", {}, label(row), " against ", label(data.baseline), `:${told}`);
    const middle = (difference.counts[0].length - 1) / 2;
    place.append(
      chart(caption, `${data.systems[row].name} against ${data.systems[data.baseline].name}:${told}`, {
        ...difference,
        counts: difference.counts[0],
        mean: difference.means[0],
        tallest: Math.max(...difference.counts[0]),
        colours: (bin) => (bin === middle ? "s5" : colour(bin < middle ? data.baseline : row)),
        text: gain,
      }),
    );
  });
}

function chart(caption, told, { from, to, counts, mean, tallest, colours, text }) {
  const figure = make("figure", {}, caption);
  const svg = draw("svg", { role: "img", "aria-label": told });
  figure.append(svg);
  const paint = () => {
    const width = svg.clientWidth || 400;
    const [left, right, top, bottom] = [2, width - 2, 18, 128];
    const x = (value) => left + ((right - left) * (value - from)) / (to - from);
    const step = (right - left) / counts.length;
    svg.replaceChildren(draw("line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom }));
    counts.forEach((number, bin) => {
      const height = ((bottom - top) * number) / (tallest || 1);
      const bar = { x: left + bin * step + 0.5, y: bottom - height, width: Math.max(0.5, step - 1), height };
      svg.append(draw("rect", { class: `bar ${colours(bin)}`, ...bar }));
    });
    if (from < 0) svg.append(draw("line", { class: "zero", x1: x(0), x2: x(0), y1: top, y2: bottom }));
    svg.append(draw("line", { class: "mean", x1: x(mean), x2: x(mean), y1: top - 4, y2: bottom }));
    const anchor = x(mean) < 40 ? "start" : x(mean) > width - 40 ? "end" : "middle";
    svg.append(draw("text", { class: "mean-text", x: x(mean), y: 11, "text-anchor": anchor }, text.format(mean)));
    for (const value of ticks(from, to)) {
      const side = x(value) < 20 ? "start" : x(value) > width - 20 ? "end" : "middle";
      svg.append(draw("text", { x: x(value), y: bottom + 15, "text-anchor": side }, whole.format(value)));
    }
  };
  sizes.observe(svg);
  painters.set(svg, paint);
  return figure;
}

// Captions

const orders = {
  gain: (image) => -difference(image),
  loss: (image) => difference(image),
  absolute: (image) => -Math.abs(difference(image)),
  best: (image) => -mean(image.scores[state.metric]),
  worst: (image) => mean(image.scores[state.metric]),
};

function difference(image) {
  const scores = image.scores[state.metric];
  return scores[state.other] - scores[data.baseline];
}

/** Images in the chosen order that hold what is searched for. */
function chosen() {
  const wanted = state.search.trim().toLowerCase();
  const found = data.images.filter((image) =>
    [image.name, ...image.captions, ...image.references].some((text) => text.toLowerCase().includes(wanted)),
  );
  if (state.order === "random") return shuffled(found, state.seed);
  const key = new Map(found.map((image) => [image, orders[state.order](image)]));
  return found.sort((a, b) => key.get(a) - key.get(b));
}

function showGallery() {
  const images = chosen();
  const pages = Math.max(1, Math.ceil(images.length / state.perPage));
  state.page = Math.min(state.page, pages - 1);
  const start = state.page * state.perPage;
  const visible = images.slice(start, start + state.perPage);
  byId("gallery").replaceChildren(...visible.map(card));
  byId("position").textContent = images.length
    ? `${start + 1}–${start + visible.length} of ${count.format(images.length)}`
    : "No caption, reference or name holds that.";
  for (const suffix of ["", "-below"]) {
    byId(`previous${suffix}`).disabled = state.page === 0;
    byId(`next${suffix}`).disabled = state.page === pages - 1;
  }
  byId("seed-label").hidden = state.order !== "random";
}

function card(image) {
  const title = make("h3", {}, make("span", {}, image.name));
  if (data.systems.length > 1) {
    const by = difference(image);
    const tone = by > 0 ? "gain" : by < 0 ? "loss" : "";
    const told = `${data.systems[state.other].name} ${gain.format(by)} ${state.metric}`;
    title.append(make("span", { class: tone }, told));
  }
  const text = make("div", {}, title);
  const known = new Set(image.references.flatMap((line) => line.toLowerCase().match(words) ?? []));
  image.captions.forEach((caption, row) => {
    text.append(
      make(
        "div",
        { class: `said ${colour(row)}` },
        make("span", { class: "score" }, score.format(image.scores[state.metric][row])),
        label(row),
        marked(caption, known),
      ),
    );
  });
  text.append(
    make("h4", {}, "References"),
    make("ul", {}, ...image.references.map((line) => make("li", {}, line))),
    everyScore(image),
  );
  if (!data.pictures) return make("article", { class: "card plain" }, text);
  return make("article", { class: "card" }, make("div", {}, picture(image)), text);
}

function picture(image) {
  if (!image.picture) return make("div", { class: "placeholder" }, `${image.name}: ${image.why}`);
  return make("img", { src: image.picture, alt: `Picture ${image.name}`, loading: "lazy" });
}

function everyScore(image) {
  const head = make("tr", {}, make("th", { scope: "col" }, "system"));
  for (const metric of data.metrics) head.append(make("th", { scope: "col" }, metric));
  const body = make("tbody");
  data.systems.forEach((_, row) => {
    const line = make("tr", {}, make("th", { scope: "row" }, label(row)));
    for (const metric of data.metrics) line.append(make("td", {}, score.format(image.scores[metric][row])));
    body.append(line);
  });
  const table = make("table", {}, make("thead", {}, head), body);
  const region = { class: "scroll", tabindex: "0", role: "region", "aria-label": `All scores of ${image.name}` };
  return make("details", {}, make("summary", {}, "All scores"), make("div", region, table));
}

// Controls

function connect(id, event, change) {
  byId(id).addEventListener(event, () => {
    state.page = 0;
    change(byId(id).value);
    showGallery();
  });
}

function turn(by) {
  state.page += by;
  showGallery();
  byId("gallery-title").scrollIntoView();
  byId("gallery").focus({ preventScroll: true });
}

function orderNames() {
  const kept = state.order;
  const several = data.systems.length > 1;
  const name = several ? data.systems[state.other].name : "";
  const entries = several
    ? [
        ["absolute", "largest difference"],
        ["gain", `largest gain of ${name}`],
        ["loss", `largest loss of ${name}`],
        ["best", "best on average"],
        ["worst", "worst on average"],
        ["random", "random"],
      ]
    : [
        ["worst", "worst"],
        ["best", "best"],
        ["random", "random"],
      ];
  byId("order").replaceChildren();
  state.order = kept || entries[0][0];
  fill(byId("order"), entries, state.order);
}

function showControls() {
  let chosenChoice;
  data.metrics.forEach((metric) => {
    const input = make("input", { type: "radio", name: "metric", value: metric });
    input.checked = metric === state.metric;
    input.addEventListener("change", () => {
      state.metric = metric;
      state.page = 0;
      showSpread();
      showGallery();
    });
    const choice = make("label", {}, input, make("span", {}, metric));
    byId("metrics").append(choice);
    if (input.checked) chosenChoice = choice;
  });
  byId("metrics").scrollLeft = chosenChoice.offsetLeft - byId("metrics").clientWidth / 2;
  byId("compare-label").hidden = data.systems.length < 3;
  fill(
    byId("compare"),
    data.systems.flatMap((system, row) => (row === data.baseline ? [] : [[row, system.name]])),
    state.other,
  );
  orderNames();
  fill(byId("per-page"), [6, 12, 24, 48].map((number) => [number, number]), state.perPage);
  byId("seed").value = state.seed;
  connect("compare", "change", (value) => {
    state.other = Number(value);
    orderNames();
  });
  connect("order", "change", (value) => (state.order = value));
  connect("seed", "input", (value) => (state.seed = Number(value)));
  connect("search", "input", (value) => (state.search = value));
  connect("per-page", "change", (value) => (state.perPage = Number(value)));
  for (const suffix of ["", "-below"]) {
    byId(`previous${suffix}`).addEventListener("click", () => turn(-1));
    byId(`next${suffix}`).addEventListener("click", () => turn(1));
  }
  const all = data.images.length === data.total;
  byId("shown").textContent =
    (all
      ? `All ${count.format(data.total)} images are here. `
      : `${count.format(data.images.length)} of ${count.format(data.total)} images are here: ` +
        (data.systems.length > 1 ? "for every metric those with the largest gains and losses, " : "for every metric ") +
        "the best and the worst, and a random sample. ") +
    "Words that no reference has are underlined.";
}

byId("made").textContent = `Made by RegionCap ${data.version}.`;
showSummary();
showControls();
showSpread();
byId("captions").hidden = !data.images.length;
showGallery();
