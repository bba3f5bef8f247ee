"use strict";
// Tabs, zoom and pan of the pictures, the card of an operation, sorting and filtering of the tables. Without it all is there, still.
document.documentElement.classList.add("live");
const all = (selector, root = document) => [...root.querySelectorAll(selector)];

// -- pictures: the viewBox is what is seen ---------------------------------------------------------------------------
const views = new Map();

function look(svg) {
  const [, , width, height] = svg.getAttribute("viewBox").split(" ").map(Number);
  const view = { svg, whole: { width, height }, x: 0, y: 0, scale: 1, pointers: new Map(), moved: 0 };
  views.set(svg, view);
  svg.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    zoom(view, Math.exp(-event.deltaY / 300), event.clientX, event.clientY);
  }, { passive: false });
  svg.addEventListener("pointerdown", (event) => {
    view.pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    view.moved = 0;
  });
  svg.addEventListener("pointermove", (event) => drag(view, event));
  for (const name of ["pointerup", "pointercancel", "pointerleave"])
    svg.addEventListener(name, (event) => {
      view.pointers.delete(event.pointerId);
      svg.classList.remove("moving");
    });
}

function drag(view, event) {
  const before = view.pointers.get(event.pointerId);
  if (!before) return;
  const now = { x: event.clientX, y: event.clientY };
  const others = [...view.pointers].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
  view.pointers.set(event.pointerId, now);
  view.moved += Math.hypot(now.x - before.x, now.y - before.y);
  if (view.moved < 4) return;
  view.svg.classList.add("moving");
  if (others.length) {
    const other = others[0];
    const length = (at) => Math.max(1, Math.hypot(at.x - other.x, at.y - other.y));
    zoom(view, length(now) / length(before), (now.x + other.x) / 2, (now.y + other.y) / 2);
    return;
  }
  view.x -= (now.x - before.x) / view.scale;
  view.y -= (now.y - before.y) / view.scale;
  show(view);
}

function zoom(view, factor, clientX, clientY) {
  const box = view.svg.getBoundingClientRect();
  const [dx, dy] = [clientX - box.left, clientY - box.top];
  const scale = Math.min(4, Math.max(0.1, view.scale * factor));
  view.x += dx / view.scale - dx / scale;
  view.y += dy / view.scale - dy / scale;
  view.scale = scale;
  show(view);
}

function fitting(view) {
  const box = view.svg.getBoundingClientRect();
  return Math.min(box.width / view.whole.width, box.height / view.whole.height, 1.3);
}

// At first as much as can be read: all of it, or its top left at a size that can.
function start(view, whole) {
  const box = view.svg.getBoundingClientRect();
  if (!box.width) return;
  const wide = Math.min(box.width / view.whole.width, 1.3);
  view.scale = whole ? fitting(view) : Math.max(fitting(view), Math.min(wide, 1), 0.62);
  view.x = Math.min(0, (view.whole.width - box.width / view.scale) / 2);
  view.y = Math.min(0, (view.whole.height - box.height / view.scale) / 2);
  show(view);
}

function show(view) {
  const box = view.svg.getBoundingClientRect();
  const [width, height] = [box.width / view.scale, box.height / view.scale];
  view.x = Math.min(Math.max(view.x, -width * 0.8), view.whole.width - width * 0.2);
  view.y = Math.min(Math.max(view.y, -height * 0.8), view.whole.height - height * 0.2);
  view.svg.setAttribute("viewBox", [view.x, view.y, width, height].map((n) => n.toFixed(2)).join(" "));
  view.svg.classList.toggle("zoomed", view.scale > fitting(view) * 1.01);
}

all("svg.graph").forEach(look);
all("[data-zoom]").forEach((button) => button.addEventListener("click", () => {
  const view = views.get(button.closest(".part").querySelector("svg"));
  const box = view.svg.getBoundingClientRect();
  if (button.dataset.zoom === "fit") start(view, true);
  else zoom(view, button.dataset.zoom === "in" ? 1.3 : 1 / 1.3, box.left + box.width / 2, box.top + box.height / 2);
}));

// -- tabs: one part at a time ----------------------------------------------------------------------------------------
function choose(tab) {
  for (const other of all("[role=tab]", tab.parentElement)) {
    const part = document.getElementById("part-" + other.dataset.part);
    other.setAttribute("aria-selected", String(other === tab));
    part.hidden = other !== tab;
    if (other === tab) start(views.get(part.querySelector("svg")), false);
  }
}
all("[role=tablist]").forEach((list) => {
  all("[role=tab]", list).forEach((tab) => tab.addEventListener("click", () => choose(tab)));
  choose(list.querySelector(".first"));
});
window.addEventListener("resize", () => views.forEach((view) => start(view, false)));

// -- the card of an operation ----------------------------------------------------------------------------------------
const card = document.getElementById("card");

function tell(id, x, y, kept) {
  card.querySelector(".content").replaceChildren(...[...document.getElementById(id).childNodes].map((n) => n.cloneNode(true)));
  card.hidden = false;
  card.classList.toggle("kept", kept);
  const left = x + 16 + card.offsetWidth > innerWidth ? x - 16 - card.offsetWidth : x + 16;
  card.style.left = Math.max(10, left) + "px";
  card.style.top = Math.max(10, Math.min(y - 20, innerHeight - card.offsetHeight - 10)) + "px";
}

function untell() {
  card.hidden = true;
  card.classList.remove("kept");
  all(".chosen").forEach((box) => box.classList.remove("chosen"));
}

function mark(box, on) {
  for (const line of all(".line", box.ownerSVGElement))
    line.classList.toggle("near", on && (line.dataset.start === box.dataset.key || line.dataset.end === box.dataset.key));
}

for (const box of all(".box")) {
  const about = box.dataset.about;
  const kept = () => card.classList.contains("kept");
  const keep = (x, y) => {
    untell();
    box.classList.add("chosen");
    tell(about, x, y, true);
  };
  box.addEventListener("pointerenter", (event) => {
    mark(box, true);
    if (about && event.pointerType === "mouse" && !kept() && !event.buttons) tell(about, event.clientX, event.clientY, false);
  });
  box.addEventListener("pointerleave", () => {
    mark(box, false);
    if (!kept()) untell();
  });
  if (!about) continue;
  box.addEventListener("click", (event) => {
    if (views.get(box.ownerSVGElement).moved < 4) keep(event.clientX, event.clientY);
  });
  box.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    const at = box.getBoundingClientRect();
    keep(at.right, at.top);
  });
}
all("a[data-about]").forEach((link) => link.addEventListener("click", (event) => {
  event.preventDefault();
  untell();
  tell(link.dataset.about, event.clientX, event.clientY, true);
}));
card.querySelector(".close").addEventListener("click", untell);
document.addEventListener("keydown", (event) => { if (event.key === "Escape") untell(); });
document.addEventListener("click", (event) => {
  if (!event.target.closest("#card, .box, a[data-about]")) untell();
});

// -- tables ----------------------------------------------------------------------------------------------------------
const value = (row, column) => {
  const cell = row.cells[column];
  if (!cell) return "";
  return cell.dataset.value !== undefined ? Number(cell.dataset.value) : cell.textContent.trim();
};

for (const table of all("table.ops")) {
  const body = table.tBodies[0];
  const original = [...body.rows];
  all("th", table).forEach((head, column) => {
    head.tabIndex = 0;
    const sort = () => {
      const next = { none: "ascending", ascending: "descending", descending: "none" }[head.getAttribute("aria-sort") || "none"];
      all("th", table).forEach((other) => other.removeAttribute("aria-sort"));
      if (next !== "none") head.setAttribute("aria-sort", next);
      const order = { ascending: 1, descending: -1, none: 0 }[next];
      const compare = (a, b) => {
        const [one, two] = [value(a, column), value(b, column)];
        return typeof one === "number" ? one - two : String(one).localeCompare(String(two), "en", { numeric: true });
      };
      body.append(...(order ? [...original].sort((a, b) => order * compare(a, b)) : original));
    };
    head.addEventListener("click", sort);
    head.addEventListener("keydown", (event) => { if (event.key === "Enter") sort(); });
  });
}
for (const input of all("[data-filter]")) {
  const rows = [...document.getElementById(input.dataset.filter).tBodies[0].rows];
  const texts = rows.map((row) => row.textContent.toLowerCase());
  const count = input.closest("p").querySelector(".count");
  const filter = () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let left = 0;
    rows.forEach((row, index) => {
      row.hidden = !words.every((word) => texts[index].includes(word));
      left += row.hidden ? 0 : 1;
    });
    count.textContent = `${left} of ${rows.length} lines.`;
  };
  input.addEventListener("input", filter);
  filter();
}
