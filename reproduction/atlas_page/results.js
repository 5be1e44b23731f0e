// What follows from a head: tables of accuracy and confusion, the pictured images, one in detail.
"use strict";

(() => {
  const { percent } = atlas;

  // An element with properties, attributes (`aria-label`, ...) and children; text is only text.
  function element(tag, properties = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(properties))
      if (name in made) made[name] = value;
      else made.setAttribute(name, value);
    made.append(...children);
    return made;
  }

  // The i-th picture of the sheet, as the background of an element of any size.
  function picture(target, i) {
    const { columns, pictured } = atlas.index;
    const rows = pictured.length / columns;
    target.classList.add("picture");
    target.style.backgroundSize = `${columns * 100}% ${rows * 100}%`;
    const [x, y] = [(i % columns) / (columns - 1), Math.floor(i / columns) / (rows - 1)];
    target.style.backgroundPosition = `${100 * x}% ${100 * y}%`;
    return target;
  }

  // Arrow keys, Home and End move the focus among the buttons of a container, as they lie.
  function arrowKeys(container) {
    container.addEventListener("keydown", (event) => {
      const buttons = [...container.querySelectorAll("button")];
      const at = buttons.indexOf(document.activeElement);
      const top = (button) => button.getBoundingClientRect().top;
      const second = buttons.findIndex((button) => top(button) > top(buttons[0]));
      const columns = second < 0 ? buttons.length : second;
      const moves = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns };
      const ends = { Home: 0, End: buttons.length - 1 };
      const next = buttons[event.key in ends ? ends[event.key] : at + moves[event.key]];
      if (at < 0 || !next) return;
      event.preventDefault();
      next.focus();
    });
  }

  function drawAccuracy(table, now, full) {
    const names = [...atlas.index.classes, "all images"];
    if (!table.rows.length) {
      const head = ["class", "", "now", "all filters"].map((name) => element("th", { scope: "col" }, name));
      const rows = names.map((name) =>
        element("tr", {}, element("th", { scope: "row" }, name),
          element("td", { "aria-hidden": "true" }, element("div", { className: "gauge" },
            element("div", { className: "fill" }), element("div", { className: "mark" }))),
          element("td", { className: "now" }), element("td")));
      table.append(element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...rows));
    }
    names.forEach((_, row) => {
      const [, gauge, shown, whole] = table.tBodies[0].rows[row].cells;
      gauge.querySelector(".fill").style.width = percent(now[row], 2).replace(" ", "");
      gauge.querySelector(".mark").style.left = percent(full[row], 2).replace(" ", "");
      shown.textContent = percent(now[row], 1);
      whole.textContent = percent(full[row], 1);
    });
  }

  function drawConfusion(table, now, before) {
    const names = atlas.index.classes;
    const C = names.length;
    if (!table.rows.length) {
      const head = names.map((name) => element("th", { scope: "col" }, element("span", {}, name)));
      const rows = names.map((name) =>
        element("tr", {}, element("th", { scope: "row" }, name), ...names.map(() => element("td"))));
      table.append(element("thead", {}, element("tr", {}, element("td"), ...head)),
        element("tbody", {}, ...rows));
    }
    now.forEach((number, i) => {
      const [c, decided] = [Math.floor(i / C), i % C];
      const cell = table.tBodies[0].rows[c].cells[decided + 1];
      const size = now.subarray(c * C, (c + 1) * C).reduce((a, b) => a + b);
      const more = number - before[i];
      cell.textContent = number || (more ? "0" : "");
      cell.style.setProperty("--share", number ? 0.08 + 0.72 * Math.sqrt(number / size) : 0);
      cell.className = `${c === decided ? "right" : "wrong"} ${more ? "changed" : ""}`;
      cell.title = `${number} ${names[c]} images decided ${names[decided]}` +
        (more ? `, ${Math.abs(more)} ${more > 0 ? "more" : "fewer"} than before the switches` : "");
    });
  }

  // A row of pictured images for each class; `select` is told which one was clicked.
  function makeImages(container, select) {
    const { classes, columns } = atlas.index;
    classes.forEach((name, c) => {
      const tiles = Array.from({ length: columns }, (_, i) => {
        const at = c * columns + i;
        const tile = element("button", { type: "button", tabIndex: at ? -1 : 0 });
        tile.addEventListener("click", () => select(at));
        return picture(tile, at);
      });
      container.append(element("div", { className: "row" },
        element("span", {}, name), element("div", { className: "tiles" }, ...tiles)));
    });
    container.addEventListener("focusin", (event) => {
      for (const tile of container.querySelectorAll("button"))
        tile.tabIndex = tile === event.target ? 0 : -1;
    });
    arrowKeys(container);
  }

  function drawImages(container, now, before, selected) {
    const { classes, labels, pictured } = atlas.index;
    let some = false;
    container.querySelectorAll("button").forEach((tile, i) => {
      const n = pictured[i];
      const changed = now[n] !== before[n];
      some ||= changed;
      tile.classList.toggle("wrong", now[n] !== labels[n]);
      tile.classList.toggle("changed", changed);
      tile.setAttribute("aria-current", i === selected);
      tile.title = `${classes[labels[n]]}, decided ${classes[now[n]]}` +
        (changed ? `, before the switches ${classes[before[n]]}` : "");
      tile.setAttribute("aria-label", `image ${n}: ${tile.title}`);
    });
    container.classList.toggle("some-changed", some);
  }

  // The sums behind one decision: the decided class's, and the true class's or the runner-up's.
  function drawDetail(container, { run, kept, i, decisions }) {
    const { classes, labels, pictured } = atlas.index;
    const n = pictured[i];
    const scores = atlas.logits(run, kept, n);
    const order = [...scores.keys()].sort((a, b) => scores[b] - scores[a] || a - b);
    const other = order[0] === labels[n] ? order[1] : labels[n];
    const sums = [order[0], other].map((c) => {
      const filters = [...Array(run.D).keys()].filter((j) => kept[c * run.D + j]);
      const part = (j) => run.weight[c * run.D + j] * run.features[n * run.D + j];
      const parts = filters.sort((a, b) => Math.abs(part(b)) - Math.abs(part(a)));
      const rest = parts.splice(5).reduce((sum, j) => sum + part(j), 0);
      const terms = parts.map((j) => `${signed(part(j))} (filter ${j})`);
      if (filters.length < kept.subarray(c * run.D, (c + 1) * run.D).reduce((a, b) => a + b))
        terms.push(`${signed(rest)} (the others)`);
      return element("li", {}, element("strong", {}, `${classes[c]} ${scores[c].toFixed(2)}`),
        ` = ${run.bias[c].toFixed(2)} (bias) ${terms.join(" ")}`);
    });
    const [now, before, full] = decisions.map((of_images) => classes[of_images[n]]);
    container.replaceChildren(
      picture(element("div", { className: "large" }), i),
      element("div", {},
        element("p", {}, `Test image ${n} shows: ${classes[labels[n]]}. Decided now: ${now}. ` +
          `Before the switches: ${before}. With all filters read: ${full}.`),
        element("ul", { "aria-label": "Scores of two classes as sums" }, ...sums)));
  }

  const signed = (number) => `${number < 0 ? "−" : "+"} ${Math.abs(number).toFixed(2)}`;

  Object.assign(atlas, {
    arrowKeys, drawAccuracy, drawConfusion, drawDetail, drawImages, element, makeImages, picture,
  });
})();
