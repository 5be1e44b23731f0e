// Two drawings as SVG, at the width they are given: accuracy by k, and the filters of a class.
"use strict";

(() => {
  const percent = (share, digits = 0) => `${(100 * share).toFixed(digits)} %`;

  const NARROWEST = 200; // pixels

  function shape(parent, tag, attributes, text = "") {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.textContent = text;
    return parent.appendChild(made);
  }

  // Horizontal rules at some values, named at the left.
  function rules(svg, values, left, width, y, name) {
    for (const value of values) {
      shape(svg, "line", { x1: left, x2: width, y1: y(value), y2: y(value), class: "rule" });
      shape(svg, "text", { x: left - 5, y: y(value) + 4, class: "end" }, name(value));
    }
  }

  // curve: for each k its accuracies [C + 1]; now: accuracies [C + 1] at k; full: of all filters.
  function drawCurve(svg, { curve, full, now, k, c, className }) {
    const width = Math.max(NARROWEST, svg.clientWidth); // 0 before the page is laid out
    const [left, right, top, bottom] = [42, width - 9, 8, 106];
    const all = full.length - 1;
    const lowest = Math.min(...curve.flatMap((row) => [row[c], row[all]]), now[c], now[all]);
    const floor = Math.min(0.9, Math.floor(10 * lowest) / 10);
    const x = (size) => left + ((size - 1) / (curve.length - 1)) * (right - left);
    const y = (share) => bottom - ((share - floor) / (1 - floor)) * (bottom - top);
    svg.replaceChildren();
    rules(svg, [floor, (1 + floor) / 2, 1], left, right, y, percent);
    for (const size of [1, 8, 16, 24, 32, 40, 48, 56, 64].filter((at) => at <= curve.length))
      shape(svg, "text", { x: x(size), y: bottom + 18, class: "middle" }, size);
    const line = (row) => curve.map((shares, i) => `${x(i + 1)},${y(shares[row])}`).join(" ");
    shape(svg, "line", { x1: left, x2: right, y1: y(full[all]), y2: y(full[all]), class: "line-full" });
    shape(svg, "polyline", { points: line(c), class: "line-class" });
    shape(svg, "polyline", { points: line(all), class: "line-all" });
    shape(svg, "line", { x1: x(k), x2: x(k), y1: top, y2: bottom, class: "line-now" });
    shape(svg, "circle", { cx: x(k), cy: y(now[c]), r: 4, class: "dot-class" });
    shape(svg, "circle", { cx: x(k), cy: y(now[all]), r: 4.5, class: "dot-all" });
    svg.setAttribute("aria-label",
      `With ${k} filters ${percent(now[all], 1)} of all test images are decided rightly and ` +
      `${percent(now[c])} of class ${className}; with all filters ${percent(full[all], 1)}.`);
  }

  // often, shares, state: [D]; state is "kept", "off" or "other".  A bar has its data-filter.
  function drawFilters(svg, { often, shares, state, k, className }) {
    const width = Math.max(NARROWEST, svg.clientWidth); // 0 before the page is laid out
    const left = 42;
    const step = (width - left) / state.length;
    const most = Math.max(...shares.map(Math.abs));
    const upper = (share) => 104 - share * 72;
    const lower = (share) => 166 - (share / most) * 26;
    svg.replaceChildren();
    shape(svg, "text", { x: left, y: 11, class: "title" },
      `${className} images with the filter in their top ${k}`);
    rules(svg, [0, 0.5, 1], left, width, upper, percent);
    shape(svg, "text", { x: left, y: 129, class: "title" },
      `its part of the score of ${className}, all filters read`);
    rules(svg, [-most, 0, most], left, width, lower, percent);
    state.forEach((of_filter, j) => {
      const bars = shape(svg, "g", { class: `bar-${of_filter}`, "data-filter": j });
      shape(bars, "title", {}, `Filter ${j}: ${percent(often[j])}; of the score ${percent(shares[j], 1)}`);
      const x = left + j * step;
      shape(bars, "rect", { x, y: 0, width: step, height: 200, class: "area" });
      for (const [scale, share] of [[upper, often[j]], [lower, shares[j]]]) {
        const [high, low] = [scale(share), scale(0)].sort((a, b) => a - b);
        shape(bars, "rect", { x: x + step * 0.1, y: high, width: step * 0.8, height: low - high });
      }
      const near = state.findIndex((s, i) => s !== "other" && i !== j && Math.abs(i - j) * step < 15);
      if (of_filter !== "other" && near < 0)
        shape(bars, "text", { x: x + step / 2, y: upper(often[j]) - 3, class: "middle" }, j);
      if (j % 8 === 0) shape(svg, "text", { x: x + step / 2, y: 211, class: "middle" }, j);
    });
    svg.setAttribute("aria-label",
      `Two bars for each of the ${state.length} filters of class ${className}: how often it is ` +
      "among the largest, and its share of the score. The buttons above say the same of those read.");
  }

  Object.assign(atlas, { drawCurve, drawFilters, percent });
})();
