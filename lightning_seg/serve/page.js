// The page: a picture goes to /api/predict; its masks are drawn, and thresholded anew, here.
"use strict";

const DRAWN = 1600; // pixels of the canvas's longer side at most
const CONTOURS = { outer: "#ffffa0", inner: "#280078" }; // of a guarantee, as in the overlays of predict
const LOCAL = ["image/png", "image/jpeg"]; // shown from the user's own file
const byId = (id) => document.getElementById(id);
const canvas = byId("canvas"), stage = byId("stage"), opacity = byId("opacity"), threshold = byId("threshold");

// after the #, which a browser sends to nobody
const token = new URLSearchParams(location.hash.slice(1)).get("token");
const headers = token ? { Authorization: `Bearer ${token}` } : {};

let model = null;
let found = null; // what is shown: {name, width, height, picture, classes: [{..., mask, levels, layer, row}]}
let asked = null; // the AbortController of the request under way

// ---------------------------------------------------------------- the model

const element = (tag, text, attributes = {}) => {
  const made = Object.assign(document.createElement(tag), attributes);
  if (text !== undefined) made.textContent = text;
  return made;
};

const megabytes = (count) => `${+(count / 1e6).toFixed(1)} MB`;

async function showModel() {
  const answer = await fetch("/api/model", { headers });
  if (!answer.ok) {
    say("", (await answer.json()).error);
    return;
  }
  model = await answer.json();
  document.title = `${model.name}: lightning_seg`;
  byId("title").textContent = model.name;
  byId("notice").textContent = model.notice;
  byId("cautions").append(...model.cautions.map((text) => element("li", text)));
  byId("cautions").hidden = !model.cautions.length;
  byId("version").textContent = `lightning_seg ${model.version}`;
  const pixels = Math.floor(model.limits.pixels / 1e6) || 1;
  byId("limits").textContent = `PNG, JPEG, TIFF, BMP, GIF or WebP, up to ${megabytes(model.limits.bytes)} and ${pixels} megapixels. It stays on the computer that runs the server.`;
  const options = Object.entries(model.options).map(([key, value]) => `${key} ${JSON.stringify(value)}`);
  // of exclusive classes a pixel is of the most probable one, and no threshold moves it
  threshold.disabled = Boolean(model.exclusive);
  const use = [model.exclusive ? "the most probable class of each pixel" : `threshold ${model.threshold}`, model.tta !== "none" && `test-time augmentation ${model.tta}`,
    model.postprocess, model.precision !== "32" && `precision ${model.precision}`, `on ${model.device}`];
  const facts = {
    architecture: [model.architecture, ...options].join(", "),
    encoder: model.encoder,
    classes: model.classes.map((each) => each.name).join(", "),
    input: `${model.channels === 1 ? "grey" : "RGB"}, ${model.size ? `scaled to ${model.size} x ${model.size} pixels` : "at its own size"}${model.crop ? `, in windows of ${model.crop} pixels` : ""}`,
    "data set": model.dataset,
    protocol: model.protocol && `${model.protocol}${model.trained_on ? `, trained on ${model.trained_on} images` : ""}`,
    "used with": use.filter(Boolean).join(", "),
    [model.checkpoints.length > 1 ? "ensemble of" : "checkpoint"]: model.checkpoints.join(", "),
  };
  for (const [name, text] of Object.entries(facts).filter(([, text]) => text)) {
    const pair = element("div");
    pair.append(element("dt", name), element("dd", text));
    byId("facts").append(pair);
  }
  byId("guarantee").hidden = !model.guarantee.length;
  byId("promises").append(...model.guarantee.map((text) => element("li", text)));
  showScores(model.scores);
}

function showScores(scores) {
  const place = byId("scores");
  if (!scores.length) {
    place.append(element("p", "There are no scores of this model as it is used here; lightning-seg test makes them.", { className: "note" }));
    return;
  }
  for (const split of new Set(scores.map((each) => each.split))) {
    const rows = scores.filter((each) => each.split === split), first = rows[0];
    const table = element("table", undefined, { className: "scores" });
    const kind = first.synthetic ? " synthetic" : "";
    table.append(element("caption", `Scores on the ${first.images}${kind} ${split === "test" ? "test" : "validation"} images of ${first.protocol}, at ${first.scored_at}${first.leaks ? `. LEAKS: ${first.leaks}` : ""}`));
    const head = table.createTHead().insertRow();
    for (const [text, name] of [["class", ""], ["score", ""], ["value", "number"], ["95 % interval", ""]]) head.append(element("th", text, { scope: "col", className: name }));
    const body = table.createTBody();
    for (const each of rows) {
      const row = body.insertRow(), how = each.convention === "image" ? "mean over images" : "pooled pixels";
      row.append(element("th", each.class, { scope: "row" }), element("td", `${each.score === "iou" ? "IoU" : "Dice"}, ${how}`));
      row.append(element("td", each.value === null ? "-" : each.value.toFixed(3), { className: "number" }));
      row.append(element("td", each.interval ? each.interval.map((bound) => bound.toFixed(3)).join(" to ") : ""));
    }
    place.append(table);
  }
}

// ---------------------------------------------------------------- a picture

function say(status, error = "") {
  byId("status").textContent = status;
  byId("error").textContent = error;
  byId("error").hidden = !error;
}

async function predict(file) {
  asked?.abort();
  const mine = (asked = new AbortController());
  if (model && file.size > model.limits.bytes) {
    say("", `${file.name} is ${megabytes(file.size)}; the server takes up to ${megabytes(model.limits.bytes)}.`);
    return;
  }
  stage.classList.add("busy");
  say(`Predicting ${file.name} ...`);
  try {
    // Of other pictures the server sends a copy: browsers show no TIFF, and WebP without the turn of its EXIF orientation.
    const local = LOCAL.includes(file.type) ? await decoded(file).catch(() => null) : null;
    const body = new FormData();
    body.append("file", file, file.name);
    const include = local ? "probability" : "probability,picture";
    const answer = await fetch(`/api/predict?include=${include}`, { method: "POST", body, headers, signal: mine.signal });
    const content = await answer.json().catch(() => ({ error: `The server answers "${answer.status} ${answer.statusText}"; try again soon.` }));
    if (!answer.ok) throw new Error(content.error);
    await take(content, local, mine);
  } catch (error) {
    if (mine === asked) say("", error instanceof TypeError ? "The server does not answer; see whether lightning-seg serve is still running." : error.message);
  } finally {
    if (mine === asked) stage.classList.remove("busy");
  }
}

const decoded = (blob) => createImageBitmap(blob, { colorSpaceConversion: "none" });

const blobOf = async (base64, type) => new Blob([Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0))], { type });

// The grey values of a PNG, width x height bytes.
async function greys(blob, width, height) {
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  const bitmap = await decoded(blob);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const pixels = context.getImageData(0, 0, width, height).data, values = new Uint8Array(width * height);
  for (let place = 0; place < values.length; place++) values[place] = pixels[4 * place];
  return values;
}

async function take(content, local, mine) {
  const { width, height } = content;
  const fits = local && local.width === width && local.height === height;
  const picture = content.picture ? await decoded(await blobOf(content.picture, "image/jpeg")) : local;
  const classes = [];
  for (const each of content.classes) {
    const file = await blobOf(each.mask, "image/png");
    const levels = await greys(await blobOf(each.probability, "image/png"), width, height);
    const served = { ...each, expected: each.expected_dice, mask: await greys(file, width, height) };
    const outlines = [];
    for (const [kind, colour] of Object.entries(CONTOURS)) {
      if (each[kind]) outlines.push(outline(await greys(await blobOf(each[kind], "image/png"), width, height), colour, width, height));
    }
    classes.push({ name: each.name, colour: each.colour, file, levels, served, outlines, shown: true });
  }
  if (mine !== asked) return;
  found?.picture.close();
  found = { name: content.file, width, height, picture, classes, postprocess: content.postprocess, threshold: content.threshold };
  threshold.value = percentServed();
  const scale = Math.min(1, DRAWN / Math.max(width, height));
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  canvas.style.width = `${Math.max(canvas.width, Math.min(480, canvas.width * 6))}px`; // small pictures are enlarged
  canvas.style.imageRendering = scale === 1 && Math.max(width, height) <= 80 ? "pixelated" : "auto";
  stage.classList.add("filled");
  canvas.hidden = false;
  byId("invitation").hidden = true;
  byId("findings").hidden = false;
  byId("choose").textContent = "Choose another picture";
  makeRows();
  cut();
  const odd = (local && !fits ? " The browser shows it at another size than the server read it." : "") +
    (content.note ? ` Note: ${content.note}.` : "");
  say(`${content.file}: ${width} x ${height} pixels, ${content.seconds < 0.1 ? "under 0.1" : content.seconds.toFixed(1)} s.${odd}`);
}

// ---------------------------------------------------------------- masks at a threshold

const percentServed = () => Math.min(99, Math.max(1, Math.round(100 * found.threshold))); // within the slider
const isServed = () => Number(threshold.value) === percentServed();

function cut() {
  const level = Number(threshold.value), served = isServed();
  for (const each of found.classes) {
    const mask = served ? each.served.mask : each.levels.map((value) => (value > level ? 255 : 0));
    each.mask = mask;
    each.numbers = served ? each.served : measured(mask, each.levels, each.served.expected_area, found.width, found.height);
    each.layer = layer(mask, each.colour, found.width, found.height);
    const [area, parts, confidence, expected] = each.cells;
    area.textContent = percent(each.numbers.share);
    parts.textContent = each.numbers.components;
    confidence.textContent = each.numbers.confidence.toFixed(2);
    expected.textContent = each.numbers.expected.toFixed(2);
  }
  byId("threshold-value").textContent = (served ? found.threshold : level / 100).toFixed(2);
  byId("reset").disabled = served;
  byId("moved").hidden = served || !found.postprocess;
  byId("moved").textContent = `Post-processing (${found.postprocess}) is done at the model’s threshold only.`;
  draw();
}

const percent = (share) => (share > 0 && share < 0.0005 ? "< 0.1 %" : `${(100 * share).toFixed(1)} %`);

function measured(mask, levels, expectedArea, width, height) {
  let area = 0, sum = 0, highest = 0;
  for (let place = 0; place < mask.length; place++) {
    if (levels[place] > highest) highest = levels[place];
    if (mask[place]) { area++; sum += levels[place] - 0.5; } // a level is rounded up
  }
  const confidence = area ? sum / area / 100 : 1 - Math.max(0, highest - 0.5) / 100;
  const expected = area ? (2 * sum) / 100 / (expectedArea + area) : confidence;
  return { share: area / mask.length, components: components(mask, width, height), confidence, expected };
}

// The connected parts of a mask, by union-find over the runs of its rows; pixels that touch at a corner are connected.
function components(mask, width, height) {
  const roots = [];
  const root = (node) => {
    while (roots[node] !== node) node = roots[node] = roots[roots[node]];
    return node;
  };
  let count = 0, before = [];
  for (let y = 0; y < height; y++) {
    const runs = [];
    let first = 0;
    for (let x = 0; x < width; x++) {
      if (!mask[y * width + x]) continue;
      const start = x;
      while (x < width && mask[y * width + x]) x++;
      const node = roots.push(roots.length) - 1;
      count++;
      while (first < before.length && before[first].end < start) first++;
      for (let i = first; i < before.length && before[i].start <= x; i++) {
        const one = root(before[i].node), other = root(node);
        if (one !== other) { roots[other] = one; count--; }
      }
      runs.push({ start, end: x, node });
    }
    before = runs;
  }
  return count;
}

function layer(mask, colour, width, height) {
  const made = new OffscreenCanvas(width, height), context = made.getContext("2d");
  const image = context.createImageData(width, height), words = new Uint32Array(image.data.buffer);
  const [red, green, blue] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  const word = ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
  for (let place = 0; place < mask.length; place++) if (mask[place]) words[place] = word;
  context.putImageData(image, 0, 0);
  return made;
}

// The dotted outline of a mask: its pixels beside one that does not belong to it.
function outline(mask, colour, width, height) {
  const edge = new Uint8Array(mask.length), wide = Math.max(1, Math.round(Math.max(width, height) / 500));
  const inside = (x, y) => x >= 0 && y >= 0 && x < width && y < height && mask[y * width + x];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (!inside(x, y) || Math.floor((x + y) / (4 * wide)) % 2) continue;
      const near = [[wide, 0], [-wide, 0], [0, wide], [0, -wide]];
      if (near.some(([right, down]) => !inside(x + right, y + down))) edge[y * width + x] = 255;
    }
  }
  return layer(edge, colour, width, height);
}

function draw() {
  const context = canvas.getContext("2d");
  context.globalAlpha = 1;
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.drawImage(found.picture, 0, 0, canvas.width, canvas.height);
  context.globalAlpha = Number(opacity.value) / 100;
  for (const each of found.classes) if (each.shown) context.drawImage(each.layer, 0, 0, canvas.width, canvas.height);
  context.globalAlpha = 1;
  if (byId("contours").checked) for (const each of found.classes) if (each.shown) for (const line of each.outlines) context.drawImage(line, 0, 0, canvas.width, canvas.height);
  byId("opacity-value").textContent = `${opacity.value} %`;
  const parts = found.classes.map(({ name, numbers }) => `${name} ${percent(numbers.share)} of it in ${numbers.components} ${numbers.components === 1 ? "component" : "components"}`);
  canvas.setAttribute("aria-label", `${found.name}, with ${parts.join(", ")}`);
}

function makeRows() {
  byId("classes").replaceChildren(...found.classes.map((each) => {
    const row = element("tr"), head = element("th", undefined, { scope: "row" }), label = element("label");
    const box = element("input", undefined, { type: "checkbox", checked: true });
    box.setAttribute("aria-label", `show ${each.name}`);
    box.addEventListener("change", () => { each.shown = box.checked; draw(); });
    const swatch = element("span", undefined, { className: "swatch" });
    swatch.style.backgroundColor = each.colour;
    label.append(box, swatch, element("span", each.name));
    head.append(label);
    each.cells = [0, 1, 2, 3].map(() => element("td", "", { className: "number" }));
    const save = element("button", "Mask", { type: "button", title: "Download the mask as PNG" });
    save.setAttribute("aria-label", `Download the mask of ${each.name} as PNG`);
    save.addEventListener("click", () => download(each));
    const last = element("td");
    last.append(save);
    row.append(head, ...each.cells, last);
    return row;
  }));
}

async function download(each) {
  const stem = found.name.replace(/\.[^.]*$/, "");
  const blob = isServed() ? each.file : await layerFile(each.mask, found.width, found.height);
  const more = [found.classes.length > 1 && each.name, !isServed() && `threshold-${threshold.value}`].filter(Boolean);
  const link = element("a", "", { href: URL.createObjectURL(blob), download: [stem, ...more, "mask.png"].join("_") });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

function layerFile(mask, width, height) {
  const made = new OffscreenCanvas(width, height), context = made.getContext("2d");
  context.fillRect(0, 0, width, height);
  context.drawImage(layer(mask, "#ffffff", width, height), 0, 0);
  return made.convertToBlob({ type: "image/png" });
}

// ---------------------------------------------------------------- what the user does

let waiting = 0;
const soon = (work) => { cancelAnimationFrame(waiting); waiting = requestAnimationFrame(() => found && work()); };
byId("contours").addEventListener("change", () => soon(draw));
opacity.addEventListener("input", () => soon(draw));
threshold.addEventListener("input", () => soon(cut));
byId("reset").addEventListener("click", () => { threshold.value = percentServed(); cut(); threshold.focus(); });
byId("file").addEventListener("change", (event) => { if (event.target.files[0]) predict(event.target.files[0]); event.target.value = ""; });
for (const kind of ["dragenter", "dragover"]) addEventListener(kind, (event) => { event.preventDefault(); stage.classList.add("over"); });
addEventListener("dragleave", (event) => { if (!event.relatedTarget) stage.classList.remove("over"); });
addEventListener("drop", (event) => {
  event.preventDefault();
  stage.classList.remove("over");
  const [file] = event.dataTransfer.files;
  if (file) predict(file);
  else say("", "What was dropped is no file; save the picture first, then drop it.");
});
addEventListener("paste", (event) => { const [file] = event.clipboardData.files; if (file) predict(file); });

showModel().catch(() => say("", "The server does not answer; see whether lightning-seg serve is still running."));
