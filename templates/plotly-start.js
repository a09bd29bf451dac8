// Upgrades each static picture to an interactive one, in place. The picture stays in the page for
// printing and for whoever has no script. Nothing is requested from anywhere.
(() => {
  "use strict";
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const narrow = matchMedia("(max-width: 40rem)");
  const INK = "#1b1f24";
  const LIGHT_INK = "#e8eaed";
  const plots = [];

  const clean = (value) => (value === INK ? LIGHT_INK : value);

  function themed(spec) {
    const copy = JSON.parse(JSON.stringify(spec, (_key, value) => (dark.matches ? clean(value) : value)));
    const ink = dark.matches ? LIGHT_INK : INK;
    const rule = dark.matches ? "#3a4048" : "#d8dce1";
    const layout = copy.layout;
    layout.font = { ...layout.font, color: ink };
    delete layout.template;
    for (const key of Object.keys(layout)) {
      if (/^[xy]axis/.test(key)) {
        layout[key] = { linecolor: rule, zerolinecolor: rule, gridcolor: rule, ...layout[key] };
      }
    }
    if (narrow.matches) {
      squeeze(copy);
    }
    return copy;
  }

  // A phone has no room for long names: the table under the chart has them whole.
  function squeeze({ data: traces, layout }) {
    const named = layout.margin.l > 100;
    layout.font.size = 10;
    layout.margin = { ...layout.margin, l: named ? 92 : 44, r: 6 };
    for (const key of Object.keys(layout)) {
      if (/^yaxis/.test(key) && layout[key].ticktext) {
        layout[key].ticktext = layout[key].ticktext.map((text) => {
          const name = text.split(" \u00b7 ")[0];
          return name.length > 16 ? `\u2026${name.slice(-15)}` : name;
        });
      }
    }
    layout.xaxis.automargin = true;
    const marks = layout.annotations.filter((note) => note.xref === "x" && note.y === 1);
    layout.annotations = layout.annotations.filter((note) => !marks.slice(1).includes(note));
    for (const trace of traces) {
      if (trace.mode === "markers+text") {
        trace.mode = "markers";
      }
      trace.showscale = false;
    }
  }

  function upgrade(data) {
    const figure = data.closest("figure");
    const spec = JSON.parse(data.textContent);
    const target = document.createElement("div");
    target.className = "plot";
    target.setAttribute("aria-hidden", "true"); // the picture's words and table stand for it
    figure.querySelector(".picture").append(target);
    const { data: traces, layout } = themed(spec);
    return Plotly.newPlot(target, traces, layout, {
      displayModeBar: false,
      responsive: true,
      showLink: false,
    }).then(() => {
      figure.classList.add("upgraded");
      plots.push({ target, spec });
    });
  }

  async function upgradeAll() {
    for (const data of document.querySelectorAll("script[data-figure]")) {
      try {
        await upgrade(data);
      } catch (error) {
        // the static picture stays; the word is for whoever tests this page
        document.documentElement.dataset.chartError = String(error);
      }
      await new Promise((resolve) => setTimeout(resolve, 0));
    }
    document.documentElement.dataset.charts = String(plots.length);
  }

  dark.addEventListener("change", () => {
    for (const { target, spec } of plots) {
      const { data: traces, layout } = themed(spec);
      Plotly.react(target, traces, layout);
    }
  });

  function select(element) {
    const range = document.createRange();
    range.selectNodeContents(element);
    const selection = getSelection();
    selection.removeAllRanges();
    selection.addRange(range);
  }

  for (const command of document.querySelectorAll("pre.command")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    button.textContent = "Copy";
    button.addEventListener("click", async () => {
      select(command);
      try {
        await navigator.clipboard.writeText(command.textContent);
        button.textContent = "Copied";
      } catch {
        button.textContent = "Selected";
      }
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });
    command.after(button);
  }

  // paper cannot unfold anything
  addEventListener("beforeprint", () => {
    for (const folded of document.querySelectorAll("details")) {
      folded.open = true;
    }
  });
  addEventListener("load", upgradeAll);
})();
