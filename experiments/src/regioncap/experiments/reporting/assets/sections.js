// What sections of reports are made of: their place in the contents, tables, figures.

function show(id, title) {
  byId(id).hidden = false;
  const link = make("a", { href: `#${id}` }, title);
  byId("contents").append(link);
}

/** A table with its title and what the reader must know. */
function tableParts({ title, head, rows, note }) {
  const heads = make("tr", {}, ...head.map((text) => make("th", { scope: "col" }, text)));
  const body = make("tbody");
  for (const row of rows) {
    const [name, ...cells] = row;
    body.append(make("tr", {}, make("th", { scope: "row" }, name), ...cells.map((text) => make("td", {}, text))));
  }
  const region = { class: "scroll", tabindex: "0", role: "region", "aria-label": title };
  const table = make("table", {}, make("thead", {}, heads), body);
  return [make("h3", {}, title), make("div", region, table), make("p", { class: "quiet" }, note)];
}

/** A figure that is painted anew whenever its width changes. */
function chart(caption, told, height, paint) {
  const svg = draw("svg", { role: "img", "aria-label": told, height });
  svg.style.height = `${height}px`;
  const figure = make("figure", {}, caption, svg);
  painters.set(svg, () => {
    svg.replaceChildren();
    paint(svg, svg.clientWidth || 400);
  });
  sizes.observe(svg);
  return figure;
}
