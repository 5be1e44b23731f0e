// The atlas's arithmetic, without a page: it runs in a browser and in node alike.
// N test images, C classes, D filters; matrices lie row by row in flat arrays.
"use strict";

globalThis.atlas = { index: null, runs: {} }; // filled by data/index.js and data/RUN.js

(() => {
  function bytes(base64) {
    return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0)).buffer;
  }

  // A float16 from its 16 bits: sign, 5 bits of exponent, 10 of fraction.  Stored ones are finite.
  function half(bits) {
    const exponent = (bits >> 10) & 31;
    const fraction = bits & 1023;
    const size = exponent ? 2 ** (exponent - 25) * (1024 + fraction) : 2 ** -24 * fraction;
    return bits >> 15 ? -size : size;
  }

  // The arrays of a run, from what data/RUN.js holds.
  function decode(record) {
    const bias = new Float32Array(bytes(record.bias));
    const weight = new Float32Array(bytes(record.weight));
    return {
      bias, // [C]
      weight, // [C, D]
      features: Float32Array.from(new Uint16Array(bytes(record.features)), half), // [N, D]
      histogram: new Uint16Array(bytes(record.histogram)), // [D, C, D]: H_k for k = 1..D
      place: new Uint8Array(bytes(record.place)), // [C, D]: by mean feature over the class
      shares: new Float32Array(bytes(record.shares)), // [C, D]: of the class's logit, signed
      images: record.images, // [C]: train images that were counted
      C: bias.length,
      D: weight.length / bias.length,
    };
  }

  // How many of the class's train images have each filter among their k largest: [D].
  function counts(run, c, k) {
    const start = ((k - 1) * run.C + c) * run.D;
    return run.histogram.subarray(start, start + run.D);
  }

  // The influential filters I_c(k): highest count first, ties by the mean feature of the class.
  function influential(run, c, k) {
    const often = counts(run, c, k);
    const place = run.place.subarray(c * run.D, (c + 1) * run.D);
    const filters = Array.from(often.keys());
    return filters.sort((i, j) => often[j] - often[i] || place[i] - place[j]).slice(0, k);
  }

  // Which weights the head keeps, [C, D] of 0 and 1: the influential ones that are not off.
  function keptWeights(run, k, off) {
    const kept = new Uint8Array(run.C * run.D);
    for (let c = 0; c < run.C; c++)
      for (const j of influential(run, c, k)) kept[c * run.D + j] = off[c * run.D + j] ? 0 : 1;
    return kept;
  }

  // logit_c = b_c + sum of W[c, j] x_j over the kept j, in float64: products are exact there.
  function logits(run, kept, n, out = new Float64Array(run.C)) {
    const { weight, bias, features, C, D } = run;
    for (let c = 0; c < C; c++) {
      let sum = bias[c];
      for (let j = 0; j < D; j++)
        if (kept[c * D + j]) sum += weight[c * D + j] * features[n * D + j];
      out[c] = sum;
    }
    return out;
  }

  // The class of the largest logit of every image, ties to the lower class: [N].
  function decide(run, kept) {
    const decisions = new Uint8Array(run.features.length / run.D);
    const of_image = new Float64Array(run.C);
    for (let n = 0; n < decisions.length; n++) {
      logits(run, kept, n, of_image);
      let best = 0;
      for (let c = 1; c < run.C; c++) if (of_image[c] > of_image[best]) best = c;
      decisions[n] = best;
    }
    return decisions;
  }

  // Images by true class (row) and decision (column): [C, C].
  function confusion(decisions, labels, C) {
    const table = new Int32Array(C * C);
    decisions.forEach((decided, n) => table[labels[n] * C + decided]++);
    return table;
  }

  // The share of each class's images that are decided rightly, and of all at the end: [C + 1].
  function accuracies(table, C) {
    const rows = Array.from({ length: C }, (_, c) => table.subarray(c * C, (c + 1) * C));
    const sizes = rows.map((row) => row.reduce((a, b) => a + b));
    const right = rows.map((row, c) => row[c]);
    const sum = (numbers) => numbers.reduce((a, b) => a + b);
    return [...right.map((number, c) => number / sizes[c]), sum(right) / sum(sizes)];
  }

  // Of some images, those with the largest feature of a filter, ties to the first.
  function exciting(run, filter, images, number) {
    const feature = (n) => run.features[n * run.D + filter];
    return [...images].sort((a, b) => feature(b) - feature(a)).slice(0, number);
  }

  Object.assign(atlas, {
    accuracies, confusion, counts, decide, decode, exciting, influential, keptWeights, logits,
  });
})();
