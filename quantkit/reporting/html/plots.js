// Draws the plots of figures.js in the colours of the theme, and anew when the theme changes.

const page = document.documentElement;
const described = JSON.parse(document.getElementById("figures").textContent);
const drawn = new Set();

function theme() {
  const style = getComputedStyle(page);
  const names = ["text", "muted", "line", "grid", "surface", "first", "second", "third", "good", "bad", "accent"];
  const colours = Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
  return { ...colours, font: getComputedStyle(document.body).fontFamily };
}

function draw(element, colours = theme()) {
  const data = described[element.id];
  const { data: traces, layout: frame } = figures[data.kind](data, colours, element.dataset.log === "true");
  Plotly.react(element, traces, frame, { displayModeBar: false, responsive: true, doubleClick: false });
  if (!drawn.has(element) && data.opens) {
    // A bar leads to its layer's row.
    element.on("plotly_click", (event) => openKey(data.names[event.points[0].pointIndex]));
  }
  drawn.add(element);
}

function drawAnew() {
  const colours = theme();
  for (const element of drawn) draw(element, colours);
}

function drawIn(element) {
  for (const plot of element.querySelectorAll(".plot")) if (!drawn.has(plot)) draw(plot);
}

for (const box of document.querySelectorAll(".figure-tools input")) {
  const plot = box.closest("figure").querySelector(".plot");
  box.addEventListener("change", () => {
    plot.dataset.log = box.checked;
    draw(plot);
  });
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAnew);
// Paper is white.
addEventListener("beforeprint", () => { page.classList.add("printing"); drawAnew(); });
addEventListener("afterprint", () => { page.classList.remove("printing"); drawAnew(); });
