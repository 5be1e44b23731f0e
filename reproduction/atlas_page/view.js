// The state of the page and what the reader does with it; the state is kept in the address.
"use strict";

(() => {
  const { element, index, percent } = atlas;
  const byId = (id) => document.getElementById(id);
  const state = { name: "", c: 0, k: 5, off: new Uint8Array(), selected: -1 };
  const EXCITING = 6; // images shown of each filter
  const decoded = new Map();
  let run = null; // the decoded one that is shown
  let before = null; // decisions at this k with everything on
  let cardsShown = ""; // for which run, class and k

  // A run's arrays, and what its head does at every k with nothing switched off.
  async function load(name) {
    if (!decoded.has(name)) {
      await new Promise((resolve, reject) => {
        const script = element("script", { src: index.runs[name].script });
        script.onload = resolve;
        script.onerror = () => reject(new Error(`${index.runs[name].script} cannot be read`));
        document.head.append(script);
      });
      const made = atlas.decode(atlas.runs[name]);
      const none = new Uint8Array(made.C * made.D);
      const table = (kept) => atlas.confusion(atlas.decide(made, kept), index.labels, made.C);
      const share = (kept) => atlas.accuracies(table(kept), made.C);
      made.curve = Array.from({ length: made.D }, (_, i) => share(atlas.keptWeights(made, i + 1, none)));
      made.fullDecisions = atlas.decide(made, none.map(() => 1));
      made.full = share(none.map(() => 1));
      decoded.set(name, made);
    }
    return decoded.get(name);
  }

  async function choose(name, off = "") {
    state.name = name;
    byId("run").value = name;
    try {
      const loaded = await load(name);
      if (state.name !== name) return; // another was chosen meanwhile
      run = loaded;
    } catch (error) {
      byId("status").textContent = error.message;
      return;
    }
    byId("k").max = run.D;
    state.k = Math.min(state.k, run.D);
    state.off = new Uint8Array(run.C * run.D);
    for (const pair of off.split(",").filter(Boolean)) {
      const [name, j] = pair.split(".");
      const c = index.classes.indexOf(name);
      if (c >= 0 && /^\d+$/.test(j) && j < run.D) state.off[c * run.D + Number(j)] = 1;
    }
    const origin = index.runs[name];
    byId("origin").textContent = `Network shown: ${title(name)}, of github.com/${origin.repository}, ` +
      `licence: ${origin.licence}.`;
    show();
  }

  const title = (name) => {
    const { depth, author, paper } = index.runs[name];
    return `ResNet-${depth} by ${author}${paper ? " (the paper's)" : ""}`;
  };

  // Everything that depends on the state, computed and drawn anew.
  function show() {
    const { c, k, off } = state;
    const kept = atlas.keptWeights(run, k, off);
    before = atlas.decide(run, atlas.keptWeights(run, k, new Uint8Array(off.length)));
    const now = atlas.decide(run, kept);
    const [table, earlier] = [now, before].map((d) => atlas.confusion(d, index.labels, run.C));
    const shares = atlas.accuracies(table, run.C);
    const className = index.classes[c];

    byId("k").value = k;
    byId("k-shown").textContent = `${k} of ${run.D}`;
    byId(`class-${c}`).checked = true;
    byId("curve-class").textContent = className;
    byId("scope-class").textContent = `${className} only`;
    atlas.drawCurve(byId("curve"), { ...run, now: shares, k, c, className });
    drawFilters(kept);
    atlas.drawAccuracy(byId("accuracy"), shares, run.full);
    atlas.drawConfusion(byId("confusion"), table, earlier);
    atlas.drawImages(byId("images"), now, before, state.selected);
    if (state.selected >= 0)
      atlas.drawDetail(byId("detail"), {
        run, kept, i: state.selected, decisions: [now, before, run.fullDecisions],
      });
    byId("status").textContent = summary(now, shares, atlas.accuracies(earlier, run.C));
    byId("reset").disabled = !off.includes(1);
    keep();
  }

  function drawFilters(kept) {
    const { c, k } = state;
    const className = index.classes[c];
    const filters = atlas.influential(run, c, k);
    const often = [...atlas.counts(run, c, k)].map((number) => number / run.images[c]);
    const shares = [...run.shares.subarray(c * run.D, (c + 1) * run.D)];
    const isOn = (j) => kept[c * run.D + j] === 1;
    const stateOf = (j) => (isOn(j) ? "kept" : filters.includes(j) ? "off" : "other");
    const bars = { often, shares, k, className, state: often.map((_, j) => stateOf(j)) };
    atlas.drawFilters(byId("histogram"), bars);
    byId("cards-text").textContent =
      `What ${className} reads, most often in the top ${k} of its images first. Pictures: what excites the ` +
      `filter most, ${className} in a blue frame. Score: its part of ${className}'s score, all filters read.`;
    const shown = `${state.name} ${c} ${k}`;
    if (shown !== cardsShown)
      byId("cards").replaceChildren(...filters.map((j) => card(j, often[j], shares[j])));
    cardsShown = shown;
    for (const button of byId("cards").children) {
      const on = isOn(Number(button.dataset.filter));
      button.setAttribute("aria-pressed", on);
      button.querySelector(".switch").textContent = on ? "on" : "off";
    }
  }

  // The switch of one filter: how often it is among the largest, its share, what excites it.
  function card(j, often, share) {
    const { c, k } = state;
    const others = index.classes.filter((_, d) => d !== c && atlas.influential(run, d, k).includes(j));
    const images = atlas.exciting(run, j, index.pictured, EXCITING);
    const isOwn = (n) => index.labels[n] === c;
    const thumbnails = images.map((n) => {
      const thumbnail = element("span", { className: isOwn(n) ? "own" : "" });
      return atlas.picture(thumbnail, index.pictured.indexOf(n));
    });
    const shared = others.length > 3 ? `${others.length} other classes` : others.join(", ");
    const text = [
      `top ${k} in ${percent(often)}`,
      `score ${share < 0 ? "−" : "+"}${percent(Math.abs(share))}`,
      others.length ? `also ${shared}` : `${index.classes[c]} alone`,
    ];
    const label = `Filter ${j}: ${text.join("; ")}; of the ${EXCITING} images that excite it most ` +
      `${images.filter(isOwn).length} are of class ${index.classes[c]}`;
    const button = element("button", { type: "button", className: "card", "aria-label": label },
      element("span", { className: "head" }, element("strong", {}, `Filter ${j}`),
        element("span", { className: "switch" })),
      element("span", { className: "thumbnails" }, ...thumbnails),
      ...text.map((line) => element("span", {}, line)));
    button.dataset.filter = j;
    return button;
  }

  function toggle(j) {
    const { c, off } = state;
    const next = 1 - off[c * run.D + j];
    const everywhere = byId("scope").querySelector(":checked").value === "all";
    const classes = everywhere ? index.classes.keys() : [c];
    for (const d of classes) off[d * run.D + j] = next;
    show();
  }

  // What changed, in a sentence or two; screen readers are told.
  function summary(now, shares, sharesBefore) {
    const { labels, pictured } = index;
    const { k, off } = state;
    const all = shares.length - 1;
    const silent = switchedOff();
    const full = `with all ${run.D} filters ${percent(run.full[all], 1)}`;
    if (!silent.length)
      return `With ${k} of ${run.D} filters per class, ${percent(shares[all], 1)} of ${labels.length} test ` +
        `images are decided rightly, ${full}. ` +
        (off.includes(1) ? "What is switched off is not read at this k." : "Nothing is switched off.");
    const changed = [...labels.keys()].filter((n) => now[n] !== before[n]);
    const lost = changed.filter((n) => before[n] === labels[n]).length;
    const won = changed.filter((n) => now[n] === labels[n]).length;
    const shown = pictured.filter((n) => now[n] !== before[n]).length;
    return `Off: ${silent.join("; ")}. ${changed.length} of ${labels.length} test images change their ` +
      `class, ${shown} of the ${pictured.length} pictured: ${lost} right ones become wrong, ${won} wrong ones ` +
      `right. Decided rightly: ${percent(sharesBefore[all], 1)} before, ${percent(shares[all], 1)} now, ${full}.`;
  }

  // Filters that would be read but are off, those that the same classes miss together.
  function switchedOff() {
    const append = (map, key, value) => map.set(key, [...(map.get(key) ?? []), value]);
    const missing = new Map();
    index.classes.forEach((className, c) => {
      for (const j of atlas.influential(run, c, state.k))
        if (state.off[c * run.D + j]) append(missing, j, className);
    });
    const byClasses = new Map();
    for (const [j, classes] of missing) append(byClasses, classes.join(", "), j);
    return [...byClasses].map(([classes, filters]) =>
      `filter${filters.length > 1 ? "s" : ""} ${filters.join(", ")} for ${classes}`);
  }

  function keep() {
    const off = [...state.off.keys()].filter((i) => state.off[i]);
    const pairs = off.map((i) => `${index.classes[Math.floor(i / run.D)]}.${i % run.D}`);
    const kept = { run: state.name, class: index.classes[state.c], k: state.k };
    if (pairs.length) kept.off = pairs.join(",");
    history.replaceState(null, "", `#${new URLSearchParams(kept)}`);
  }

  // The state that an address asks for; what it does not name validly is the default.
  function restore() {
    const asked = new URLSearchParams(location.hash.slice(1));
    const names = Object.keys(index.runs);
    const paper = names.find((name) => index.runs[name].paper) ?? names[0];
    const oneOf = (choices, key, otherwise) => choices.includes(asked.get(key)) ? asked.get(key) : otherwise;
    state.c = index.classes.indexOf(oneOf(index.classes, "class", "cat"));
    const k = Number(asked.get("k"));
    state.k = Number.isInteger(k) && k >= 1 ? k : 5;
    return choose(oneOf(names, "run", paper), asked.get("off") ?? "");
  }

  function start() {
    byId("run").append(...Object.keys(index.runs).map((name) =>
      element("option", { value: name }, title(name))));
    byId("run").addEventListener("change", (event) => choose(event.target.value));
    index.classes.forEach((name, c) => {
      const input = element("input", { type: "radio", name: "class", id: `class-${c}` });
      input.addEventListener("change", () => { state.c = c; show(); });
      byId("classes").append(element("label", {}, input, element("span", {}, name)));
    });
    byId("k").addEventListener("input", (event) => { state.k = Number(event.target.value); show(); });
    const filterAt = (event) => event.target.closest("[data-filter]")?.dataset.filter;
    byId("cards").addEventListener("click", (event) => filterAt(event) && toggle(Number(filterAt(event))));
    byId("histogram").addEventListener("click", (event) => {
      const bar = event.target.closest(".bar-kept, .bar-off");
      if (bar) toggle(Number(bar.dataset.filter));
    });
    byId("reset").addEventListener("click", () => { state.off.fill(0); show(); });
    atlas.arrowKeys(byId("cards"));
    byId("images-title").textContent = `The ${index.columns} pictured test images of each class; ` +
      "click one to see why it is decided so";
    atlas.makeImages(byId("images"), (i) => {
      state.selected = i;
      show();
      byId("detail").scrollIntoView({ block: "nearest" });
    });
    window.addEventListener("hashchange", restore);
    new ResizeObserver(() => run && show()).observe(byId("curve"));
    return restore();
  }

  atlas.ready = start();
})();
