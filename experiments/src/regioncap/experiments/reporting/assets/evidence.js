// What a caption rests on, drawn over its picture: regions, edges, words.

/** The overlay of one arm's evidence, in units of a thousandth of the picture's width; null where there is none. */
function overlay(evidence, ratio, layers) {
  if (!evidence) return null;
  const height = 1000 * ratio;
  const svg = draw("svg", { viewBox: `0 0 1000 ${height}`, "aria-hidden": "true", preserveAspectRatio: "none" });
  const boxes = evidence.boxes.map(([x0, y0, x1, y1]) => [1000 * x0, height * y0, 1000 * x1, height * y1]);
  if (layers.regions) boxes.forEach((box, i) => svg.append(...outline(box, i, evidence.shown)));
  if (layers.edges) svg.append(...edges(evidence.edges, boxes));
  if (layers.words) svg.append(...regionWords(evidence, boxes, height));
  return svg;
}

function outline([x0, y0, x1, y1], rank, shown) {
  const at = { x: x0, y: y0, width: Math.max(0, x1 - x0), height: Math.max(0, y1 - y0), rx: 6 };
  if (rank >= shown) return [draw("rect", { class: "region", stroke: "#ffffff", "stroke-opacity": 0.4, ...at })];
  return [draw("rect", { class: "shadow", ...at }), draw("rect", { class: "region", stroke: data.palette[rank], ...at })];
}

/** Arcs: straight lines would run into each other on a grid. The heavier an edge, the wider and the brighter. */
function edges(pairs, boxes) {
  const heaviest = Math.max(...pairs.map(([, , weight]) => weight), 1e-9);
  const middle = ([x0, y0, x1, y1]) => [(x0 + x1) / 2, (y0 + y1) / 2];
  return pairs.map(([i, j, weight]) => {
    const [[ax, ay], [bx, by]] = [middle(boxes[i]), middle(boxes[j])];
    const [cx, cy] = [(ax + bx) / 2 + (ay - by) / 6, (ay + by) / 2 + (bx - ax) / 6];
    const share = weight / heaviest;
    const how = { "stroke-width": 0.8 + 2 * share, "stroke-opacity": 0.3 + 0.65 * share };
    return draw("path", { class: "edge", d: `M${ax} ${ay}Q${cx} ${cy} ${bx} ${by}`, ...how });
  });
}

/** A region's word in its upper left corner, unless an earlier word is there. */
function regionWords({ words: said, shown }, boxes, height) {
  const size = 46; // as the style sheet has it
  const taken = [];
  const found = [];
  for (let rank = 0; rank < shown; rank++) {
    if (!said[rank]) continue;
    const width = said[rank].length * size * 0.58;
    const [x0, y0, , y1] = boxes[rank];
    const x = Math.max(4, Math.min(x0 + 8, 1000 - width - 4));
    const free = (y) =>
      y > size * 0.8 && y < height - 4 &&
      taken.every(([tx, ty, tw]) => x + width < tx || tx + tw < x || Math.abs(ty - y) > size);
    const y = [y0 + size, y0 - 8, y1 - 8, y1 + size, (y0 + y1) / 2].find(free);
    if (y === undefined) continue;
    taken.push([x, y, width]);
    const word = draw("text", { class: "word", x, y }, said[rank]);
    word.style.fill = data.palette[rank];
    found.push(word);
  }
  return found;
}

/** The scene words with their weights. */
function sceneWords(evidence) {
  const list = make("div", { class: "scene" });
  for (const [word, weight] of evidence?.scene ?? []) {
    const meter = make("meter", { min: 0, max: 1, value: weight, "aria-label": `weight of ${word}` });
    list.append(make("span", {}, word), meter, make("span", {}, weight.toFixed(2)));
  }
  return list;
}
