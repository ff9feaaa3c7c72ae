"use strict";
// Shows the report of one test. What objects, users and logs say is set as text, and
// as nothing else. Every page has an address of its own, behind the "#".

const data = JSON.parse(document.getElementById("data").textContent);
const entries = data.entries.map(([ms, kind, who, about, text, revision], index) => ({
  ms, kind, who, about, text, revision, index, row: null,
  words: `${about} ${text} ${who}`.toLowerCase(),
}));
const objects = data.objects.map(([ref, group, count, chunk, place]) => ({
  ref, group, count, chunk, place,
}));
const page = document.getElementById("page");
const form = document.querySelector("form");
const nav = document.querySelector("nav");

function el(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children.map((child) => (typeof child === "string" ? plain(child) : child)));
  return node;
}

// Colours of terminals are dropped; what else has no shape of its own is given one.
function plain(text) {
  return text
    .replace(/\x1b\[[0-9;]*m/g, "")
    .replace(/\r\n/g, "\n")
    .replace(/[\x00-\x08\x0b-\x1f]/g, (c) => String.fromCharCode(0x2400 + c.charCodeAt(0)))
    .replace(/[\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, (c) =>
      `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

const seconds = (ms) => (ms / 1000).toFixed(3);
const clock = (ms) => new Date(Date.parse(data.start) + ms).toISOString();
const counted = (n, word) => `${n.toLocaleString("en")} ${word}${n === 1 ? "" : "s"}`;
const link = (href, text, attributes = {}) => el("a", { href, ...attributes }, text);

function timelineAddress(filters) {
  const query = new URLSearchParams(filters).toString();
  return query ? `#/?${query}` : "#/";
}

function objectAddress(ref) {
  const [kind, ...rest] = ref.split(" ");
  const parts = [kind, ...rest.join(" ").split("/")];
  return `#/object/${parts.map(encodeURIComponent).join("/")}`;
}

// --- Lists -------------------------------------------------------------------

// Rows stand in blocks that the browser lays out when they come into view. The first
// are there at once, the others follow while nothing else is to be done.
const BLOCK = 100;
let filling = 0;

function fill(target, items, make) {
  const turn = ++filling;
  let next = 0;
  const more = (blocks) => {
    if (turn !== filling) return;
    for (; blocks > 0 && next < items.length; blocks -= 1, next += BLOCK) {
      const rows = items.slice(next, next + BLOCK).map(make);
      const block = el("div", { class: "block" }, ...rows);
      block.style.containIntrinsicBlockSize = `auto ${rows.length * 1.75}rem`;
      target.append(block);
    }
    if (next < items.length) setTimeout(more, 0, 10);
    else document.documentElement.dataset.complete = Math.round(performance.now());
  };
  target.replaceChildren();
  delete document.documentElement.dataset.complete;
  more(3);
}

// --- Timeline ----------------------------------------------------------------

function row(entry) {
  entry.row ??= el("details", { class: `entry ${entry.kind}`, "data-index": entry.index },
    el("summary", {},
      el("span", { class: "time" }, seconds(entry.ms)),
      el("span", { class: "kind" }, entry.kind),
      el("span", { class: "about" }, entry.about),
      el("span", { class: "text" }, entry.text),
      el("span", { class: "who" }, entry.who)));
  return entry.row;
}

async function open(details) {
  const entry = entries[details.dataset.index];
  const body = el("div", { class: "body" });
  const facts = el("p", { class: "facts" }, `${clock(entry.ms)} `);
  const known = objects.some((object) => object.ref === entry.about);
  if (known) facts.append(link(objectAddress(entry.about), `all versions of ${entry.about}`), " ");
  if (entry.about) facts.append(link(timelineAddress({ object: entry.about }), "only this object"), " ");
  if (entry.who) facts.append(link(timelineAddress({ who: entry.who }), `only ${entry.who}`), " ");
  if (entry.revision) facts.append(`revision ${entry.revision}`);
  body.append(facts, el("p", { class: "whole" }, entry.text));
  details.append(body);
  for (const object of objects.filter((each) => known && entry.revision && each.ref === entry.about)) {
    const versions = await versionsOf(object);
    const index = versions.findIndex((version) => version.revision === entry.revision);
    if (index >= 0) body.append(difference(versions[index].before, versions[index].object));
  }
}

function timeline(query) {
  const [text, object, who] = ["text", "object", "who"].map((name) => (query.get(name) ?? "").toLowerCase());
  const kinds = query.getAll("kind");
  for (const field of form.elements) {
    if (field.type === "checkbox") field.checked = kinds.includes(field.value);
    else if (field.name && field.value !== (query.get(field.name) ?? "")) field.value = query.get(field.name) ?? "";
  }
  const found = entries.filter((entry) =>
    (!kinds.length || kinds.includes(entry.kind)) &&
    entry.words.includes(text) &&
    entry.about.toLowerCase().includes(object) &&
    entry.who.toLowerCase().includes(who));
  const [missing] = data.leftOut;
  form.querySelector("output").textContent =
    `${found.length.toLocaleString("en")} of ${counted(entries.length, "line")}` +
    (missing ? `; ${missing.toLocaleString("en")} older ones had no room in this file` : "");
  const list = el("div", { class: "timeline" });
  list.addEventListener("toggle", (event) => {
    if (event.target.open && !event.target.querySelector(".body")) open(event.target);
  }, true);
  page.replaceChildren(
    el("div", { class: "head", "aria-hidden": "true" },
      ...["seconds", "kind", "object", "what", "who"].map((name) => el("span", {}, name))),
    list);
  if (!found.length) list.append(el("p", { class: "note" }, "Nothing here. Take a filter away to see more."));
  else fill(list, found, row);
}

form.addEventListener("input", () => {
  const filters = [...new FormData(form)].filter(([, value]) => value);
  history.replaceState(null, "", timelineAddress(filters));
  show();
});
form.addEventListener("submit", (event) => event.preventDefault());

// --- Objects -----------------------------------------------------------------

const unpacked = new Map();

function chunk(number) {
  if (!unpacked.has(number)) {
    const bytes = Uint8Array.from(atob(data.chunks[number]), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    unpacked.set(number, new Response(stream).json());
  }
  return unpacked.get(number);
}

async function versionsOf(object) {
  const [first, rows] = (await chunk(object.chunk))[object.place];
  let before = first;
  return rows.map(([revision, ms, who, verb, after]) => {
    const version = { revision, ms, who, verb, before, object: after };
    before = after;
    return version;
  });
}

function objectsPage() {
  const list = el("div", { class: "objects" });
  const sorted = [...objects].sort((a, b) => a.ref.localeCompare(b.ref, "en", { numeric: true }));
  page.replaceChildren(el("h2", {}, counted(sorted.length, "object") + " that changed"), list);
  if (data.leftOut[1]) list.before(el("p", { class: "note" }, `${counted(data.leftOut[1], "more object")} had no room in this file.`));
  fill(list, sorted, (object) => el("p", {},
    link(objectAddress(object.ref), object.ref), ` ${object.group} `,
    el("span", { class: "who" }, counted(object.count, "change"))));
}

async function objectPage(ref) {
  let turn = filling;
  const same = objects.filter((object) => object.ref === ref);
  page.replaceChildren(
    el("h2", {}, ref),
    el("p", {}, same.length
      ? link(timelineAddress({ object: ref }), "in the timeline")
      : "Of this object there are no versions here: it did not change, or had no room in this file."));
  for (const object of same) {
    const versions = await versionsOf(object);
    if (turn !== filling) return; // another page is shown by now
    const texts = new Map(entries.filter((e) => e.about === ref && e.revision).map((e) => [e.revision, e.text]));
    const few = versions.length <= 20;
    const list = el("div", { class: "versions" });
    list.addEventListener("toggle", ({ target }) => {
      if (target.open && target.version) whole(target);
    }, true);
    page.append(el("h3", {}, `${object.group || "core"}: ${counted(versions.length, "change")}`), list);
    if (versions[0].before) list.append(el("details", {}, el("summary", {}, "before the test"), el("pre", {}, yaml(versions[0].before).join("\n"))));
    fill(list.appendChild(el("div")), versions, (version) => {
      const text = texts.get(version.revision) ?? "";
      const details = el("details", { class: "version" },
        el("summary", {},
          el("span", { class: "time" }, seconds(version.ms)), " ",
          el("b", {}, `revision ${version.revision}`), ` ${version.verb} by ${version.who || "an unknown user"} `,
          el("span", { class: "text" }, text)));
      details.version = version;
      details.open = few;
      return details;
    });
    turn = filling;
  }
}

function whole(details) {
  const { before, object } = details.version;
  details.version = null; // once is enough
  details.append(difference(before, object));
  if (!object || !before) return;
  const all = el("details", { class: "whole" }, el("summary", {}, "the whole object"));
  all.append(el("pre", {}, yaml(object).join("\n")));
  details.append(all);
}

// --- YAML, and what differs in it --------------------------------------------

const PLAIN = /^[A-Za-z_\/][\w.\/@+=-]*( [\w.\/@+=-]+)*$/;
const WORDS = /^(true|false|null|yes|no|on|off|y|n)$/i;

function scalar(value, indent) {
  if (typeof value !== "string") return JSON.stringify(value);
  if (PLAIN.test(value) && !WORDS.test(value)) return value;
  const lines = value.replace(/\n$/, "").split("\n");
  if (lines.length < 2 || !/^\S/.test(value) || /\n\n$|\r/.test(value)) return JSON.stringify(value);
  return [value.endsWith("\n") ? "|" : "|-", ...lines.map((line) => indent + line)].join("\n");
}

function yaml(value, indent = "") {
  const list = Array.isArray(value);
  return Object.entries(value).flatMap(([key, item]) => {
    const start = list ? "-" : `${PLAIN.test(key) && !WORDS.test(key) ? key : JSON.stringify(key)}:`;
    const empty = item === null || typeof item !== "object" || !Object.keys(item).length;
    if (empty) return `${indent}${start} ${scalar(item, `${indent}  `)}`.split("\n");
    const inner = yaml(item, list || !Array.isArray(item) ? `${indent}  ` : indent);
    if (list) return [`${indent}- ${inner[0].slice(indent.length + 2)}`, ...inner.slice(1)];
    return [`${indent}${start}`, ...inner];
  });
}

// The longest common subsequence of what differs; where that is too much, all of it.
function compared(before, after) {
  let [from, end] = [0, 0];
  while (from < before.length && from < after.length && before[from] === after[from]) from += 1;
  while (end < before.length - from && end < after.length - from && before.at(-1 - end) === after.at(-1 - end)) end += 1;
  const [a, b] = [before.slice(from, before.length - end), after.slice(from, after.length - end)];
  const found = before.slice(0, from).map((line) => [" ", line]);
  let [i, j] = [0, 0];
  if (a.length * b.length <= 1e6) {
    const common = Array.from({ length: a.length + 1 }, () => new Uint32Array(b.length + 1));
    for (i = a.length - 1; i >= 0; i -= 1)
      for (j = b.length - 1; j >= 0; j -= 1)
        common[i][j] = a[i] === b[j] ? common[i + 1][j + 1] + 1 : Math.max(common[i + 1][j], common[i][j + 1]);
    [i, j] = [0, 0];
    while (i < a.length && j < b.length)
      if (a[i] === b[j]) [i, j] = (found.push([" ", a[i]]), [i + 1, j + 1]);
      else if (common[i + 1][j] >= common[i][j + 1]) found.push(["-", a[i++]]);
      else found.push(["+", b[j++]]);
  }
  found.push(...a.slice(i).map((line) => ["-", line]), ...b.slice(j).map((line) => ["+", line]));
  return found.concat(before.slice(before.length - end).map((line) => [" ", line]));
}

// Changed lines, two around them, and the keys that they are below.
function difference(before, after) {
  if (!after) return el("p", {}, "deleted");
  if (!before) return el("pre", { class: "diff" }, yaml(after).join("\n"));
  const lines = compared(yaml(before), yaml(after));
  const depth = ([, line]) => line.search(/[^ -]|$/);
  const kept = new Set();
  lines.forEach(([sign], i) => {
    if (sign === " ") return;
    for (let k = Math.max(i - 2, 0); k <= Math.min(i + 2, lines.length - 1); k += 1) kept.add(k);
    for (let k = i, least = depth(lines[i]); k >= 0 && least; k -= 1)
      if (lines[k][0] === " " && depth(lines[k]) < least) least = depth(lines[kept.add(k) && k]);
  });
  if (!kept.size) return el("p", { class: "note" }, "No difference can be shown: values of Secrets, managed fields and the resource version are left out.");
  const pre = el("pre", { class: "diff" });
  let last = -1;
  for (const k of [...kept].sort((x, y) => x - y)) {
    if (k > last + 1) pre.append(el("span", { class: "gap" }, "⋯\n"));
    const [sign, line] = lines[last = k];
    pre.append(el(sign === "-" ? "del" : sign === "+" ? "ins" : "span", {}, `${sign} ${line}\n`));
  }
  return pre;
}

// --- Logs, and which page is shown -------------------------------------------

function logsPage(name) {
  const names = Object.keys(data.logs);
  const shown = names.includes(name) ? name : names[0];
  const links = names.map((each) => link(`#/logs/${encodeURIComponent(each)}`, each, each === shown ? { "aria-current": "page" } : {}));
  page.replaceChildren(el("p", { class: "choice" }, ...links),
    names.length ? el("pre", { class: "log", tabindex: "0" }, data.logs[shown] || "(empty)") : el("p", { class: "note" }, "There are no logs."));
}

function decoded(part) {
  try { return decodeURIComponent(part); } catch { return part; }
}

function show() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split(/\?(.*)/s);
  const [kind, ...rest] = path.split("/").map(decoded);
  const filters = new URLSearchParams(query);
  filling += 1; // whatever list was being filled is no longer there
  form.hidden = Boolean(kind);
  const requests = !kind && filters.getAll("kind").join() === "request";
  const current = { "": requests ? "Requests" : "Timeline", object: "Objects", objects: "Objects", logs: "Logs" }[kind];
  for (const each of nav.children) {
    if (each.textContent === current) each.setAttribute("aria-current", "page");
    else each.removeAttribute("aria-current");
  }
  if (kind === "object") objectPage(`${rest[0]} ${rest.slice(1).join("/")}`);
  else if (kind === "objects") objectsPage();
  else if (kind === "logs") logsPage(rest.join("/"));
  else timeline(filters);
}

for (const [name, href] of [["Timeline", "#/"], ["Requests", "#/?kind=request"], ["Objects", "#/objects"], ["Logs", "#/logs"]]) nav.append(link(href, name));
nav.hidden = false;
for (const [id, key] of [["objects", "about"], ["users", "who"]]) {
  const values = [...new Set(entries.map((entry) => entry[key]))].filter(Boolean).sort();
  document.getElementById(id).append(...values.slice(0, 500).map((value) => el("option", { value })));
}
addEventListener("hashchange", () => { show(); scrollTo(0, 0); });
show();
requestAnimationFrame(() => setTimeout(() => {
  document.documentElement.dataset.rendered = Math.round(performance.now()); // painted
}));
