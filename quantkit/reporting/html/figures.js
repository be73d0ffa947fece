// What each kind of plot shows: (data, colours) -> {data, layout} of plotly.js. Nothing is drawn
// here, and nothing is formatted: texts of numbers come with the data.

// Infinities are strings in JSON.
const numbers = (values) => values.map((value) => (value === null ? null : Number(value)));

const axis = (colours, more = {}) => ({
  gridcolor: colours.grid,
  zeroline: false,
  linecolor: colours.line,
  tickfont: { color: colours.muted, size: 11 },
  fixedrange: true,
  automargin: true,
  ...more,
});

const layout = (colours, more = {}) => ({
  paper_bgcolor: "rgba(0,0,0,0)",
  plot_bgcolor: "rgba(0,0,0,0)",
  font: { family: colours.font, size: 12, color: colours.text },
  margin: { l: 8, r: 12, t: 8, b: 8 },
  showlegend: false,
  dragmode: false,
  bargap: 0.25,
  hoverlabel: { bgcolor: colours.surface, bordercolor: colours.line, font: { color: colours.text } },
  ...more,
});

const label = (text, colours, more = {}) => ({
  text, showarrow: false, font: { color: colours.muted, size: 11 }, ...more,
});

// plotly.js reads some tags in texts; names must stay what they are.
const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const short = (text, length) => plain(text.length > length ? `${text.slice(0, length - 1)}…` : text);

// A tone is the name of a colour of the page's theme.
const tones = (data, colours, fallback) =>
  data.tones ? data.tones.map((tone) => colours[tone]) : colours[fallback];

// A few horizontal bars, each with its number at its end.
function bars(data, colours) {
  const values = numbers(data.values);
  const finite = values.filter((value) => Number.isFinite(value));
  const most = Math.max(0, ...finite) || 1;
  const least = Math.min(0, ...finite);
  const drawn = values.map((value) => (value === Infinity ? most : value));
  return {
    data: [{
      type: "bar", orientation: "h", x: drawn, y: data.labels.map((_, index) => index),
      text: data.texts.map(plain), textposition: "outside", cliponaxis: false,
      textfont: { color: colours.text }, marker: { color: tones(data, colours, "second") },
      hoverinfo: "skip",
    }],
    layout: layout(colours, {
      margin: { l: 8, r: 8, t: 4, b: 4 },
      // Room for the numbers at the ends of the bars.
      xaxis: axis(colours, { visible: false, range: [least * 1.3, most * 1.6] }),
      yaxis: axis(colours, {
        autorange: "reversed", showgrid: false, ticklabelstandoff: 6,
        tickvals: data.labels.map((_, index) => index),
        ticktext: data.labels.map((name) => short(name, 24)),
        tickfont: { color: colours.text, size: 12 },
      }),
    }),
  };
}

// An estimate and the interval that holds it, beside the line of no change.
function interval(data, colours) {
  const [low, middle, high] = numbers([data.low, data.middle, data.high]);
  const around = Math.max(Math.abs(low), Math.abs(high)) * 1.3 || 1;
  const colour = colours[data.tone];
  return {
    data: [
      {
        type: "scatter", mode: "lines", x: [low, high], y: [0, 0], hoverinfo: "skip",
        line: { color: colour, width: 10 }, opacity: 0.45,
      },
      {
        type: "scatter", mode: "markers", x: [middle], y: [0], hoverinfo: "skip",
        marker: { color: colour, size: 15, line: { color: colours.surface, width: 2 } },
      },
    ],
    layout: layout(colours, {
      margin: { l: 8, r: 8, t: 24, b: 8 },
      xaxis: axis(colours, { range: [-around, around], nticks: 7 }),
      yaxis: axis(colours, { visible: false, range: [-1, 1] }),
      shapes: [{
        type: "line", x0: 0, x1: 0, yref: "paper", y0: 0, y1: 1,
        line: { color: colours.text, width: 1.5 },
      }],
      annotations: [
        label(`← ${data.left}`, colours, { xref: "paper", x: 0, xanchor: "left", yref: "paper", y: 1, yanchor: "bottom" }),
        label("no change", colours, { x: 0, yref: "paper", y: 1, yanchor: "bottom" }),
        label(`${data.right} →`, colours, { xref: "paper", x: 1, xanchor: "right", yref: "paper", y: 1, yanchor: "bottom" }),
        label(plain(data.low_text), colours, { x: low, y: -0.3, yanchor: "top" }),
        label(plain(data.middle_text), colours, { x: middle, y: 0.3, yanchor: "bottom", bgcolor: colours.surface, font: { color: colours.text, size: 13 } }),
        label(plain(data.high_text), colours, { x: high, y: -0.3, yanchor: "top" }),
      ],
    }),
  };
}

// One bar per layer in the graph's order; every series has its own panel above the same axis.
function layers(data, colours) {
  const count = data.series.length;
  const position = data.names.map((_, index) => index + 1);
  const gap = 0.13;
  const figure = { data: [], layout: layout(colours, {
    bargap: 0.18, hovermode: "closest", annotations: [],
    margin: { l: 8, r: 8, t: 22, b: 8 },
    xaxis: axis(colours, {
      showgrid: false, range: [0.3, data.names.length + 0.7], anchor: count > 1 ? `y${count}` : "y",
      title: { text: data.axis, font: { size: 11, color: colours.muted } },
      ...(data.names.length < 13 ? { tickvals: position } : {}),
    }),
  }) };
  data.series.forEach((series, index) => {
    const suffix = index ? String(index + 1) : "";
    const top = 1 - index / count;
    const bottom = 1 - (index + 1) / count + (index < count - 1 ? gap : 0);
    const values = numbers(series.values);
    const finite = values.filter((value) => Number.isFinite(value));
    const most = Math.max(0, ...finite) || 1;
    const least = Math.min(0, ...finite);
    figure.data.push({
      type: "bar", x: position, xaxis: "x", yaxis: `y${suffix}`, name: plain(series.title),
      y: values.map((value) => (value === Infinity ? most * 1.08 : value)),
      text: values.map((value) => (value === Infinity ? "∞" : "")), textposition: "inside",
      textangle: 0, constraintext: "none", insidetextfont: { color: colours.surface },
      customdata: data.names.map((name, layer) => [short(name, 60), plain(series.texts[layer])]),
      hovertemplate: "%{customdata[0]}<br>%{customdata[1]}<extra></extra>",
      marker: { color: tones(series, colours, "second") },
    });
    figure.layout[`yaxis${suffix}`] = axis(colours, {
      domain: [Math.max(0, bottom), top], range: [least * 1.1, most * 1.12], nticks: 4, anchor: "x",
      ticksuffix: series.unit,
    });
    figure.layout.annotations.push(label(plain(series.title), colours, {
      xref: "paper", x: 0, xanchor: "left", yref: "paper", y: top, yanchor: "bottom",
      font: { color: colours.text, size: 12 },
    }));
  });
  return figure;
}

// How often values occur; what lies beyond the clip lines is cut off.
function histogram(data, colours, logarithmic) {
  const [low, high] = numbers([data.low, data.high]);
  const left = data.counts.map((_, index) => data.start + data.width * index);
  const middle = left.map((edge) => edge + data.width / 2);
  const right = data.start + data.width * data.counts.length;
  const line = (x) => ({
    type: "line", x0: x, x1: x, yref: "paper", y0: 0, y1: 1,
    line: { color: colours.bad, width: 1.5, dash: "dash" },
  });
  const start = Math.min(data.start, low);
  const span = Math.max(right, high) - start;
  const share = (x) => (x - start) / span;
  // Towards the middle where there is no room outside, and above each other where they would meet.
  const clip = (text, x, xanchor, yshift) => label(plain(text), colours, {
    x, xanchor, yshift, yref: "paper", y: 1, yanchor: "bottom", font: { color: colours.bad, size: 11 },
  });
  return {
    data: [{
      type: "bar", x: middle, y: data.counts, width: data.width,
      marker: { color: middle.map((x) => (x < low || x > high ? colours.bad : colours.second)), line: { width: 0 } },
      hovertemplate: "around %{x:.3g}: %{y} values<extra></extra>",
    }],
    layout: layout(colours, {
      bargap: 0,
      margin: { l: 8, r: 8, t: 34, b: 8 },
      xaxis: axis(colours, {
        showgrid: false, nticks: 7,
        range: [start - 0.03 * span, start + 1.03 * span],
      }),
      yaxis: axis(colours, { type: logarithmic ? "log" : "linear", nticks: 5 }),
      shapes: [line(low), line(high)],
      annotations: [
        clip(data.low_text, low, share(low) < 0.3 ? "left" : "right", 0),
        clip(data.high_text, high, share(high) > 0.7 ? "right" : "left", share(high) - share(low) < 0.55 ? 13 : 0),
      ],
    }),
  };
}

// Greatest magnitude per output channel, before and after every step that changes it.
function channels(data, colours, logarithmic) {
  const styles = { first: "dot", third: "dash", second: "solid" };
  return {
    data: data.lines.map((line) => ({
      type: "scatter", mode: line.values.length < 3 ? "markers" : "lines", name: plain(line.title),
      x: line.values.map((_, index) => index), y: numbers(line.values),
      line: { color: colours[line.tone], width: 1.5, dash: line.values.length > 64 ? "solid" : styles[line.tone] },
      marker: { color: colours[line.tone] },
      hovertemplate: "channel %{x}: %{y:.4g}<extra>%{fullData.name}</extra>",
    })),
    layout: layout(colours, {
      showlegend: true,
      legend: { orientation: "h", x: 0, y: 1, yanchor: "bottom", font: { size: 11 }, itemclick: "toggle" },
      margin: { l: 8, r: 8, t: 30, b: 8 },
      xaxis: axis(colours, { showgrid: false, nticks: 7, tickformat: "d", title: { text: "output channel", font: { size: 11, color: colours.muted } } }),
      yaxis: axis(colours, logarithmic ? { type: "log", nticks: 5 } : { rangemode: "tozero", nticks: 5 }),
    }),
  };
}

const figures = { bars, channels, histogram, interval, layers };
