"use strict";
// What the report can do beyond showing: theme, sorting, filtering, enlarging, tips. No data in here: it reads the page.
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const make = (name, properties = {}) => Object.assign(document.createElement(name), properties);

  // theme: the system's, until the reader chooses
  const root = document.documentElement;
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  const theme = document.querySelector(".theme");
  const current = () => root.dataset.theme || (prefersDark.matches ? "dark" : "light");
  const label = () => { theme.textContent = current() === "dark" ? "Light theme" : "Dark theme"; };
  try { // storage may be forbidden for files
    const kept = localStorage.getItem("subbyte-theme");
    if (kept === "dark" || kept === "light") root.dataset.theme = kept;
  } catch { /* the system's theme then */ }
  theme.hidden = false;
  theme.addEventListener("click", () => {
    root.dataset.theme = current() === "dark" ? "light" : "dark";
    try { localStorage.setItem("subbyte-theme", root.dataset.theme); } catch { /* not kept */ }
    label();
  });
  prefersDark.addEventListener("change", label);
  label();

  // sorting: up, down, as it was; what is not known stays last
  const value = (row, column, numeric) => {
    const cell = row.cells[column];
    const text = cell.dataset.value ?? cell.textContent.trim();
    return numeric ? (text === "" ? NaN : Number(text)) : text;
  };
  const compare = (a, b) => {
    if (typeof a === "string") return a.localeCompare(b, "en", { numeric: true });
    return a - b;
  };
  for (const table of all("table.sortable")) {
    const body = table.tBodies[0];
    const original = [...body.rows];
    const headings = [...table.tHead.rows[0].cells];
    for (const [column, heading] of headings.entries()) {
      if (!heading.dataset.sort) continue;
      const numeric = heading.dataset.sort === "number";
      const button = make("button", { type: "button", textContent: heading.textContent });
      heading.replaceChildren(button);
      button.addEventListener("click", () => {
        const first = numeric ? "descending" : "ascending";
        const second = numeric ? "ascending" : "descending";
        const state = heading.getAttribute("aria-sort");
        const next = state === null ? first : state === first ? second : null;
        headings.forEach((other) => other.removeAttribute("aria-sort"));
        if (next) heading.setAttribute("aria-sort", next);
        const sign = next === "descending" ? -1 : 1;
        const rows = next === null ? original : [...original].sort((x, y) => {
          const a = value(x, column, numeric), b = value(y, column, numeric);
          const missing = Number(Number.isNaN(a) || a === "") - Number(Number.isNaN(b) || b === "");
          return missing || sign * compare(a, b) || 0;
        });
        body.append(...rows);
      });
    }
  }

  // filtering: rows that hold every word
  for (const box of all(".filter")) {
    const rows = all("tbody tr", document.getElementById(box.dataset.table));
    const [input, count] = [box.querySelector("input"), box.querySelector("output")];
    const apply = () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      for (const row of rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
      }
      count.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} layers`;
    };
    input.addEventListener("input", apply);
    box.hidden = false;
    apply();
  }

  // enlarging images and histograms
  const dialog = document.body.appendChild(make("dialog"));
  const enlarge = (button) => {
    const drawing = button.firstElementChild.cloneNode(true);
    const parts = [drawing];
    if (button.dataset.low) {
      const ends = make("p", { className: "ends" });
      ends.append(make("span", { textContent: button.dataset.low }), make("span", { textContent: button.dataset.high }));
      parts.push(ends);
    }
    const close = make("button", { type: "button", textContent: "Close" });
    close.addEventListener("click", () => dialog.close());
    dialog.replaceChildren(...parts, make("p", { textContent: button.dataset.caption }), close);
    dialog.showModal();
  };
  document.addEventListener("click", (event) => {
    const button = event.target.closest(".zoom");
    if (button) enlarge(button);
    if (event.target === dialog) dialog.close();
  });

  // tips: at once, and on touch screens too
  const tip = make("div", { className: "tip", hidden: true });
  document.body.append(tip);
  for (const title of all("svg g > title")) {
    title.parentNode.dataset.tip = title.textContent;
    title.parentNode.setAttribute("aria-label", title.textContent);
    title.remove();
  }
  const point = (event) => {
    const target = event.target.closest?.("[data-tip]");
    tip.hidden = !target;
    if (!target) return;
    tip.textContent = target.dataset.tip;
    const box = tip.getBoundingClientRect();
    const left = Math.min(event.clientX + 14, innerWidth - box.width - 8);
    const below = event.clientY + 16;
    tip.style.left = `${Math.max(8, left)}px`;
    tip.style.top = `${below + box.height > innerHeight ? event.clientY - box.height - 12 : below}px`;
  };
  document.addEventListener("pointermove", point);
  document.addEventListener("pointerdown", point);
  document.addEventListener("scroll", () => { tip.hidden = true; }, true);

  // paper shows everything
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = all("details:not([open])");
    closed.forEach((details) => { details.open = true; });
  });
  addEventListener("afterprint", () => closed.forEach((details) => { details.open = false; }));
})();
