// Makes the table of the scorecard sortable: a button in each column's head, aria-sort, no data in code.
(() => {
  const VERDICTS = ["reproduced", "partly", "not reproduced", "not testable here"];

  // A verdict by its place in the list, a number by its value, anything else as text
  const key = (text) => {
    const verdict = VERDICTS.indexOf(text);
    if (verdict >= 0) return verdict;
    const number = /^-?\d+(\.\d+)?/.exec(text);
    return number ? Number(number[0]) : text;
  };

  const compare = (a, b) => {
    if (typeof a === typeof b) return typeof a === "number" ? a - b : a.localeCompare(b);
    return typeof a === "number" ? -1 : 1; // numbers before words
  };

  const sort = (table, head, headers, column) => {
    const descending = head.getAttribute("aria-sort") === "ascending";
    for (const other of headers) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row) => [key(row.cells[column].textContent.trim()), row]);
    rows.sort(([a], [b]) => (descending ? compare(b, a) : compare(a, b)));
    body.append(...rows.map(([, row]) => row));
  };

  for (const table of document.querySelectorAll("#scorecard table")) {
    const headers = [...table.tHead.rows[0].cells];
    table.classList.add("scorecard");
    headers.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent.trim();
      button.addEventListener("click", () => sort(table, head, headers, column));
      head.replaceChildren(button);
      head.scope = "col";
      // On a phone a row is a card, and each cell tells its column
      for (const row of table.tBodies[0].rows) {
        row.cells[column].dataset.column = button.textContent;
      }
    });
  }
})();
