// Tables that sort, filter and open; buttons that copy; the contents' mark of where one is.

// Cells without a number come last in both directions; equal ones keep the graph's order.
function compare(first, second, sign) {
  if (first.missing || second.missing) return first.missing - second.missing || first.index - second.index;
  const order = typeof first.value === "number"
    ? Math.sign(first.value - second.value) || 0
    : first.value.localeCompare(second.value, "en", { numeric: true });
  return sign * order || first.index - second.index;
}

function sort(table, rows, column, isNumber, direction) {
  const sign = direction === "ascending" ? 1 : -1;
  const keys = rows.map((row, index) => {
    const cell = row.cells[column];
    const value = isNumber ? Number(cell.dataset.value) : cell.textContent.trim();
    const missing = isNumber ? !("value" in cell.dataset) : value === "-" || value === "";
    return { row, index, value, missing: Number(missing) };
  });
  keys.sort((first, second) => compare(first, second, sign));
  for (const { row } of keys) {
    table.tBodies[0].append(row);
    const detail = document.getElementById(row.dataset.detail ?? "");
    if (detail) table.tBodies[0].append(detail);
  }
}

function makeSortable(table, rows) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    head.querySelector(".sort").addEventListener("click", () => {
      const direction = head.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
      for (const other of heads) other.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", direction);
      sort(table, rows, column, head.classList.contains("number"), direction);
    });
  });
}

function makeFilter(box, rows) {
  const input = box.querySelector("input");
  const shown = box.querySelector("output");
  const texts = rows.map((row) =>
    [...row.cells].filter((cell) => !cell.classList.contains("number")).map((cell) => cell.textContent).join(" ").toLowerCase());
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    rows.forEach((row, index) => {
      row.hidden = !words.every((word) => texts[index].includes(word));
      const detail = document.getElementById(row.dataset.detail ?? "");
      if (detail) detail.hidden = row.hidden;
      count += !row.hidden;
    });
    shown.textContent = `${count} of ${rows.length} rows`;
  });
}

function setOpen(row, open) {
  const detail = document.getElementById(row.dataset.detail);
  row.classList.toggle("open", open);
  detail.classList.toggle("open", open);
  row.querySelector(".opener").setAttribute("aria-expanded", String(open));
  if (!open) return;
  drawIn(detail);
  // The table scrolls in its own box: show as much of what was opened as fits, the row included.
  const box = row.closest(".scroll");
  const below = detail.getBoundingClientRect().bottom - box.getBoundingClientRect().bottom;
  const above = row.getBoundingClientRect().top - row.closest("table").tHead.getBoundingClientRect().bottom;
  if (below > 0) box.scrollTop += Math.min(below, above);
}

function makeOpener(row) {
  row.addEventListener("click", () => {
    // Marking text to copy it is no click.
    if (getSelection().isCollapsed) setOpen(row, !row.classList.contains("open"));
  });
}

// Opens a layer's row and goes there; called by plots and by links of causes.
function openKey(key) {
  const row = [...document.querySelectorAll("tr.opens")].find((candidate) => candidate.dataset.key === key);
  if (!row) return;
  const input = row.closest(".table").querySelector(".filter input");
  if (row.hidden && input) {
    input.value = "";
    input.dispatchEvent(new Event("input"));
  }
  setOpen(row, true);
  row.querySelector(".opener").focus({ preventScroll: true });
  row.scrollIntoView({ block: "center" });
}

function makeCopy(button) {
  const code = button.parentElement.querySelector("code");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "copied";
    } catch {
      // Not allowed: mark the text instead, to be copied by hand.
      getSelection().selectAllChildren(code);
      button.textContent = "marked";
    }
    setTimeout(() => { button.textContent = "copy"; }, 2000);
  });
}

for (const table of document.querySelectorAll("table")) {
  const rows = [...table.querySelectorAll("tbody > tr.row")];
  if (table.querySelector(".sort")) makeSortable(table, rows);
  const box = table.closest(".table").querySelector(".filter");
  if (box) makeFilter(box, rows);
  rows.filter((row) => row.dataset.detail).forEach(makeOpener);
}
document.querySelectorAll(".copy").forEach(makeCopy);
for (const link of document.querySelectorAll("a[data-opens]")) {
  link.addEventListener("click", (event) => {
    event.preventDefault();
    openKey(link.dataset.opens);
  });
}

const links = new Map([...document.querySelectorAll(".contents a")].map((link) => [link.hash.slice(1), link]));
const seen = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (isIntersecting) links.forEach((link, name) => {
      if (name === target.id) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    });
  }
}, { rootMargin: "-20% 0px -75% 0px" });
document.querySelectorAll("main > section").forEach((section) => seen.observe(section));

// Last: what is closed is not drawn before it is opened.
for (const plot of document.querySelectorAll(".plot")) {
  if (!plot.closest(".detail")) draw(plot);
}
