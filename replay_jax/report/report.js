"use strict";
(() => {
  const page = JSON.parse(document.getElementById("charts").textContent);
  const root = document.documentElement;
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const select = document.getElementById("target");
  const shown = new Map();

  const theme = () => root.dataset.theme || (dark.matches ? "dark" : "light");

  // On a phone legends stand below each other.
  const configFor = (width) => {
    const config = structuredClone(page.themes[theme()]);
    if (width < 520) {
      config.legend.layout = {margin: 4, top: {direction: "vertical", anchor: "start"}};
      config.axis.labelFontSize = 11;
      config.axis.titleFontSize = 12;
    }
    return config;
  };

  // Of the columns that a legend has in a wide chart, as many as a narrow one has room for.
  const specFor = (id, width) => {
    const spec = structuredClone(page.charts[id]);
    for (const {encoding} of width < 700 ? spec.layer ?? [] : [])
      for (const {legend} of [encoding?.color ?? {}, encoding?.shape ?? {}])
        if (legend?.columns)
          legend.columns = Math.max(1, Math.floor(legend.columns * (width - 50) / 660));
    return spec;
  };

  const draw = async (place) => {
    const width = Math.floor(place.clientWidth);
    const look = theme() + (width < 520 ? " narrow" : " wide");
    if (width === 0 || shown.get(place.id) === look) return;
    shown.set(place.id, look);
    const picture = place.innerHTML;
    try {
      await vegaEmbed(place, specFor(place.id, width), {
        config: configFor(width), renderer: "svg",
        actions: {export: true, source: false, compiled: false, editor: false},
        downloadFileName: place.id,
      });
      place.dataset.drawn = look;
    } catch (error) {
      shown.delete(place.id);
      place.innerHTML = picture;  // drawn when the report was written
      console.error(place.id, error);
    }
  };

  const drawAll = () => document.querySelectorAll(".chart").forEach(draw);

  const choose = (target) => {
    document.querySelectorAll("[data-target]").forEach((element) => {
      element.hidden = element.dataset.target !== target;
    });
    drawAll();
  };

  document.getElementById("theme").addEventListener("click", () => {
    root.dataset.theme = theme() === "dark" ? "light" : "dark";
    drawAll();
  });
  dark.addEventListener("change", drawAll);
  window.addEventListener("resize", drawAll);
  if (select) {
    select.addEventListener("change", () => choose(select.value));
    choose(select.value);
  } else {
    drawAll();
  }
})();
