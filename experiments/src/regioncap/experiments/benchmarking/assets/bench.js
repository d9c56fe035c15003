// A run of the benchmarks: the pipeline as a stacked bar, ratios to peers, scaling curves, tables of the stages.

const digits = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
const percentage = new Intl.NumberFormat("en", { style: "percent", maximumSignificantDigits: 2 });

function showBench() {
  const bench = data.bench;
  if (!bench) return;
  show("bench", "Latency, memory, scale");
  byId("bench-machine").textContent = `${bench.started}, ${bench.set} set: ${bench.machine}`;
  const body = byId("bench-body");
  for (const text of bench.failed) body.append(make("p", { class: "warning" }, `Without results: ${text}`));
  if (bench.pipeline) body.append(title("The pipeline", "bench-pipeline"), ...pipelineParts(bench.pipeline));
  if (bench.ratios.length) body.append(title("Peers over ours", "bench-peers"), ratioChart(bench.ratios));
  if (bench.axes.length) body.append(title("Scale", "bench-scale"), ...scaleParts(bench.axes));
  if (bench.tables.length) body.append(title("Stages", "bench-stages"), ...bench.tables.flatMap(tableParts));
}

function title(text, id) {
  byId("contents").append(make("a", { href: `#${id}` }, text));
  return make("h3", { id }, text);
}

// The pipeline

function pipelineParts({ stages, rows, said, answer, images }) {
  const told = stages.map(({ name, ms, share }) => `${name} ${digits.format(ms)} ms, ${percentage.format(share)}`).join("; ");
  const caption = make("figcaption", {}, `Share of each stage in the time of a caption, batch ${images}`);
  const bars = chart(caption, told, 62 * rows.length + 8, (svg, width) => {
    rows.forEach(({ name, shares }, row) => {
      const y = 62 * row;
      svg.append(draw("text", { class: "row-name", x: 0, y: y + 14 }, name));
      let at = 0;
      shares.forEach((share, number) => {
        const part = draw("rect", { class: "part", x: at * width, y: y + 20, width: share * width, height: 34 });
        part.style.fill = `var(--p${stages[number].place})`;
        part.append(draw("title", {}, `${stages[number].name}: ${percentage.format(share)}`));
        svg.append(part);
        const text = draw("text", { class: "inside", x: (at + share / 2) * width, y: y + 41, "text-anchor": "middle" }, stages[number].name);
        svg.append(text);
        if (text.getComputedTextLength() > share * width - 6) text.remove();
        at += share;
      });
    });
  });
  const list = make("ul", { class: "stages" });
  for (const { name, ms, share, place } of stages) {
    const colour = make("i");
    colour.style.background = `var(--p${place})`;
    list.append(make("li", {}, colour, make("span", {}, name), make("span", {}, `${digits.format(ms)} ms, ${percentage.format(share)}`)));
  }
  bars.append(list);
  const parts = [bars, make("p", { class: "answer" }, answer)];
  if (said) parts.push(make("p", { class: "quiet" }, said));
  return parts;
}

// Ratios to peers

function ratioChart(ratios) {
  const told = ratios.map(({ name, median, low, high }) => `${name} ${digits.format(median)} (${digits.format(low)} to ${digits.format(high)})`);
  const caption = make("figcaption", {}, "Median over rounds in which both sides take turns, and quartiles; right of the line ours is the better");
  return chart(caption, told.join("; "), 40 * ratios.length + 26, (svg, width) => {
    const low = Math.log2(Math.min(0.5, ...ratios.map((ratio) => ratio.low)));
    const high = Math.log2(Math.max(2, ...ratios.map((ratio) => ratio.high)));
    const x = (ratio) => 8 + ((width - 60) * (Math.log2(ratio) - low)) / (high - low);
    const end = 40 * ratios.length + 4;
    for (let power = Math.ceil(low); power <= high; power += Math.ceil((high - low) / 8)) {
      svg.append(draw("line", { class: power ? "grid" : "even", x1: x(2 ** power), x2: x(2 ** power), y1: 0, y2: end }));
      svg.append(draw("text", { x: x(2 ** power), y: end + 16, "text-anchor": "middle" }, digits.format(2 ** power)));
    }
    svg.append(draw("line", { class: "even", x1: x(1), x2: x(1), y1: 0, y2: end }));
    ratios.forEach(({ name, median, low: from, high: to }, row) => {
      const y = 40 * row + 28;
      const label = draw("text", { class: "row-name", x: 0, y: y - 12 }, name);
      svg.append(label);
      fit(label, width);
      const group = draw("g", { class: median < 1 ? "lost" : "s0" });
      group.append(draw("path", { class: "rod", d: `M${x(from)} ${y - 4}v8M${x(from)} ${y}H${x(to)}M${x(to)} ${y - 4}v8` }));
      group.append(draw("circle", { class: "dot", cx: x(median), cy: y, r: 4 }));
      svg.append(group, draw("text", { x: x(to) + 7, y: y + 4 }, digits.format(median)));
    });
  });
}

/** Cut a text that is too wide; whoever points at it reads the whole. */
function fit(text, width) {
  const whole = text.textContent;
  for (let end = whole.length - 1; end > 0 && text.getComputedTextLength() > width; end--) {
    text.textContent = `${whole.slice(0, end).trimEnd()}…`;
  }
  if (text.textContent !== whole) text.append(draw("title", {}, whole));
}

// Scaling curves

function scaleParts(axes) {
  const select = make("select", { id: "bench-axis" });
  fill(select, axes.map(({ axis }, number) => [number, axis]), 0);
  const place = make("div");
  const paintAxis = () => {
    place.replaceChildren(...axes[Number(select.value)].quantities.map((own) => curveChart(axes[Number(select.value)].axis, own)));
    paint(place);
  };
  select.addEventListener("change", paintAxis);
  paintAxis();
  return [make("div", { class: "controls" }, make("label", {}, "Over ", select)), place];
}

function curveChart(axis, { quantity, curves }) {
  const named = ({ name, exponent }) =>
    exponent === null ? name : `${name}: exponent ${exponent.slope.toFixed(2)} ± ${exponent.error.toFixed(2)}`;
  const caption = make("figcaption", {}, `${quantity} over ${axis}, both axes logarithmic; the exponent is the slope`);
  const legend = make("ul", { class: "stages" });
  curves.forEach((curve, number) => legend.append(make("li", { class: `s${number % 8}` }, make("i", { class: "own" }), make("span", {}, named(curve)))));
  const figure = chart(caption, curves.map(named).join("; "), 300, (svg, width) => {
    const points = curves.flatMap((curve) => curve.points);
    const range = (values) => {
      const [low, high] = [Math.log10(Math.min(...values)), Math.log10(Math.max(...values))];
      return high > low ? [low, high] : [low - 0.5, high + 0.5];
    };
    const [left, right] = range(points.map(([value]) => value));
    const [bottom, top] = range(points.map(([, value]) => value));
    const x = (value) => 58 + ((width - 80) * (Math.log10(value) - left)) / (right - left);
    const y = (value) => 262 - (246 * (Math.log10(value) - bottom)) / (top - bottom);
    for (const at of decades(bottom, top)) {
      svg.append(draw("line", { class: "grid", x1: 58, x2: width - 16, y1: y(at), y2: y(at) }));
      svg.append(draw("text", { x: 52, y: y(at) + 4, "text-anchor": "end" }, digits.format(at)));
    }
    let free = -Infinity;
    for (const value of [...new Set(points.map(([value]) => value))].sort((a, b) => a - b)) {
      if (x(value) < free) continue;
      const text = draw("text", { x: x(value), y: 282, "text-anchor": "middle" }, count.format(value));
      svg.append(text);
      free = x(value) + text.getComputedTextLength() + 8;
    }
    curves.forEach(({ points: own, name }, number) => {
      const group = draw("g", { class: `s${number % 8}` });
      group.append(draw("path", { class: "curve", d: `M${own.map(([value, size]) => `${x(value)} ${y(size)}`).join("L")}` }));
      for (const [value, size] of own) {
        const dot = draw("circle", { class: "dot", cx: x(value), cy: y(size), r: 3.5 });
        dot.append(draw("title", {}, `${name}, ${axis} ${count.format(value)}: ${digits.format(size)}`));
        group.append(dot);
      }
      svg.append(group);
    });
  });
  figure.append(legend);
  return figure;
}

/** Powers of ten, or with less than two of them 1, 2 and 5 times these. */
function decades(bottom, top) {
  const factors = top - bottom < 2 ? [1, 2, 5] : [1];
  const values = [];
  for (let power = Math.floor(bottom); power <= Math.ceil(top); power++) values.push(...factors.map((factor) => factor * 10 ** power));
  return values.filter((value) => Math.log10(value) >= bottom - 1e-9 && Math.log10(value) <= top + 1e-9);
}
