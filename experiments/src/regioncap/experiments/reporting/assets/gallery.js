// The gallery: pictures with what an arm saw in them, every arm's caption, filtered and sorted.

const looking = {
  metric: "CIDEr", order: "apart", arm: 0, other: 0, from: -Infinity, to: Infinity, words: "", perPage: 12, page: 0,
  layers: { regions: true, edges: true, words: true },
};

const scoresOf = (image) => image.scores[looking.metric];
const gained = (image) => scoresOf(image)[looking.arm] - scoresOf(image)[looking.other];
const apart = (image) => Math.max(...scoresOf(image)) - Math.min(...scoresOf(image));

const orders = {
  apart: ["arms disagree most", (image) => -apart(image)],
  alike: ["arms agree most", (image) => apart(image)],
  gain: ["arm gains most", (image) => -gained(image)],
  loss: ["arm loses most", (image) => gained(image)],
  best: ["arm's best", (image) => -scoresOf(image)[looking.arm]],
  worst: ["arm's worst", (image) => scoresOf(image)[looking.arm]],
  name: ["as in the data", () => 0],
};

/** Images in the chosen order whose score of the chosen arm and whose words are as wanted. */
function selected() {
  const wanted = looking.words.trim().toLowerCase();
  const holds = (image) => {
    const said = image.evidence.flatMap((evidence) => evidence?.words ?? []);
    return [image.name, ...image.captions, ...image.references, ...said].some((text) => text.toLowerCase().includes(wanted));
  };
  const within = (image) => {
    const own = scoresOf(image)[looking.arm];
    return own >= looking.from && own <= looking.to;
  };
  const [, key] = orders[looking.order];
  return data.gallery.images
    .filter((image) => within(image) && holds(image))
    .map((image) => [key(image), image])
    .sort(([a], [b]) => a - b)
    .map(([, image]) => image);
}

function showGallery() {
  const images = selected();
  const pages = Math.max(1, Math.ceil(images.length / looking.perPage));
  looking.page = Math.min(looking.page, pages - 1);
  const start = looking.page * looking.perPage;
  const visible = images.slice(start, start + looking.perPage);
  byId("gallery").replaceChildren(...visible.map(card));
  byId("position").textContent = images.length
    ? `${start + 1}–${start + visible.length} of ${count.format(images.length)}`
    : "No image is as wanted.";
  for (const suffix of ["", "-below"]) {
    byId(`previous${suffix}`).disabled = looking.page === 0;
    byId(`next${suffix}`).disabled = looking.page === pages - 1;
  }
  byId("other-label").hidden = !["gain", "loss"].includes(looking.order);
}

function card(image) {
  const place = make("div");
  const buttons = [];
  const look = (arm) => {
    place.replaceChildren(seen(image, arm), sceneWords(image.evidence[arm]));
    buttons.forEach((button, own) => button.setAttribute("aria-pressed", String(own === arm)));
  };
  const title = make("h3", {}, make("span", {}, image.name), make("span", {}, `${looking.metric} ${score.format(apart(image))} apart`));
  const text = make("div", {}, title);
  const known = new Set(image.references.flatMap((line) => line.toLowerCase().match(words) ?? []));
  image.captions.forEach((caption, arm) => {
    const button = make("button", { type: "button", "aria-pressed": "false" }, label(arm));
    button.title = image.evidence[arm] ? "show what this arm saw" : "this arm has no regions to show";
    button.addEventListener("click", () => look(arm));
    buttons.push(button);
    const own = make("span", { class: "score" }, score.format(scoresOf(image)[arm]));
    const line = image.references.length ? marked(caption, known) : make("p", {}, caption);
    text.append(make("div", { class: `said ${colour(arm)}` }, own, button, line));
  });
  if (image.references.length) {
    text.append(make("h4", {}, "References"), make("ul", {}, ...image.references.map((line) => make("li", {}, line))));
  }
  look(image.evidence[looking.arm] ? looking.arm : Math.max(0, image.evidence.findLastIndex(Boolean)));
  return make("article", { class: "card" }, place, text);
}

/** The picture with an arm's evidence over it. */
function seen(image, arm) {
  if (!image.picture) return make("div", { class: "placeholder" }, `${image.name}: ${image.why}`);
  const picture = make("img", { src: image.picture, alt: `Picture ${image.name}: ${image.captions[arm]}` });
  const place = make("div", { class: "seen" }, picture);
  const paint = () => {
    const svg = overlay(image.evidence[arm], picture.naturalHeight / picture.naturalWidth, looking.layers);
    if (svg) place.append(svg);
  };
  if (picture.complete && picture.naturalWidth) paint();
  else picture.addEventListener("load", paint);
  return place;
}

function look(id, event, change) {
  byId(id).addEventListener(event, () => {
    looking.page = 0;
    change(byId(id));
    showGallery();
  });
}

function turn(by) {
  looking.page += by;
  showGallery();
  byId("gallery-title").scrollIntoView();
  byId("gallery").focus({ preventScroll: true });
}

function showCaptions() {
  const gallery = data.gallery;
  if (!gallery || !gallery.images.length) return;
  show("captions", "Captions");
  if (!gallery.metrics.includes(looking.metric)) looking.metric = gallery.metrics[0];
  looking.arm = Math.max(0, data.arms.findIndex((_, arm) => gallery.images[0].evidence[arm]));
  const best = gallery.images[0].evidence.findLastIndex((evidence) => evidence?.scene?.length);
  if (best >= 0) looking.arm = best;
  looking.other = Math.max(0, armOf(data.arms[looking.arm].against));
  const names = data.arms.map((arm, row) => [row, arm.name]);
  fill(byId("gallery-metric"), gallery.metrics.map((metric) => [metric, metric]), looking.metric);
  fill(byId("order"), Object.entries(orders).map(([key, [name]]) => [key, name]), looking.order);
  fill(byId("arm"), names, looking.arm);
  fill(byId("other"), names, looking.other);
  fill(byId("per-page"), [6, 12, 24, 48].map((number) => [number, number]), looking.perPage);
  look("gallery-metric", "change", ({ value }) => (looking.metric = value));
  look("order", "change", ({ value }) => (looking.order = value));
  look("arm", "change", ({ value }) => (looking.arm = Number(value)));
  look("other", "change", ({ value }) => (looking.other = Number(value)));
  look("from", "input", ({ value }) => (looking.from = value === "" ? -Infinity : Number(value)));
  look("to", "input", ({ value }) => (looking.to = value === "" ? Infinity : Number(value)));
  look("words", "input", ({ value }) => (looking.words = value));
  look("per-page", "change", ({ value }) => (looking.perPage = Number(value)));
  for (const layer of Object.keys(looking.layers)) {
    byId(`layer-${layer}`).addEventListener("change", ({ target }) => {
      looking.layers[layer] = target.checked;
      showGallery();
    });
  }
  for (const suffix of ["", "-below"]) {
    byId(`previous${suffix}`).addEventListener("click", () => turn(-1));
    byId(`next${suffix}`).addEventListener("click", () => turn(1));
  }
  const [here, total] = [gallery.images.length, gallery.total];
  byId("shown").textContent =
    (here === total
      ? `All ${count.format(total)} dev images are here`
      : `${count.format(here)} of ${count.format(total)} dev images are here: those on which arms differ most, each arm's gains and losses, the best, the worst, and a random sample`) +
    ", with the first seed of every arm. An arm's name shows what that arm saw; words that no reference has are underlined.";
  showGallery();
}
