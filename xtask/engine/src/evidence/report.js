"use strict";

// Timelines: zoom by buttons or by + - 0, and read what a bar says beside it; SVG titles alone need a mouse.
for (const figure of document.querySelectorAll(".timeline")) {
  const scroll = figure.querySelector(".scroll");
  const output = figure.querySelector("output");
  let zoom = 1;
  const set = (next) => {
    const middle = (scroll.scrollLeft + scroll.clientWidth / 2) / scroll.scrollWidth;
    zoom = Math.min(12, Math.max(1, next));
    figure.style.setProperty("--zoom", zoom);
    scroll.scrollLeft = middle * scroll.scrollWidth - scroll.clientWidth / 2;
  };
  const steps = { in: () => set(zoom * 1.5), out: () => set(zoom / 1.5), reset: () => set(1) };
  for (const button of figure.querySelectorAll("button")) {
    button.addEventListener("click", steps[button.dataset.zoom]);
  }
  scroll.addEventListener("keydown", (event) => {
    const step = { "+": "in", "=": "in", "-": "out", "0": "reset" }[event.key];
    if (step && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      steps[step]();
    }
  });
  const read = (event) => {
    const said = event.target.closest(":has(> title):not(svg)");
    if (said) output.textContent = said.querySelector(":scope > title").textContent;
  };
  scroll.addEventListener("pointerover", read);
  scroll.addEventListener("click", read);
}

// Search: what doesn't match hides, what matches unfolds; an empty search folds again what it unfolded.
const search = document.getElementById("search");
const found = document.getElementById("found");
const items = [...document.querySelectorAll(".experiment [data-search]")];
const texts = items.map((item) => item.textContent.toLowerCase());
const opened = new Set();
search.addEventListener("input", () => {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  items.forEach((item, at) => {
    const matches = words.every((word) => texts[at].includes(word));
    item.classList.toggle("unfound", !matches);
    if (!matches || !words.length) return;
    count += 1;
    for (let fold = item.closest("details"); fold; fold = fold.parentElement.closest("details")) {
      if (!fold.open) {
        fold.open = true;
        opened.add(fold);
      }
    }
  });
  for (const group of document.querySelectorAll(".step, .experiment")) {
    group.classList.toggle("unfound", words.length > 0 && !group.querySelector("[data-search]:not(.unfound)"));
  }
  if (!words.length) {
    opened.forEach((fold) => (fold.open = false));
    opened.clear();
  }
  found.textContent = words.length ? `${count} of ${items.length} match` : "";
});

// Paper can't unfold.
const folds = [...document.querySelectorAll("details")];
let before = [];
addEventListener("beforeprint", () => {
  before = folds.map((fold) => fold.open);
  folds.forEach((fold) => (fold.open = true));
});
addEventListener("afterprint", () => folds.forEach((fold, at) => (fold.open = before[at])));
