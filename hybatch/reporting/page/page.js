"use strict";

// Rows by a column; equal ones keep their order, empty ones stand last in either direction.
function sorted(rows, column, direction) {
  const sign = direction === "ascending" ? 1 : -1;
  const keyed = rows.map((row) => [key(row.cells[column]), row]);
  keyed.sort(([a], [b]) => {
    if (a === null || b === null) return (a === null) - (b === null);
    return sign * (typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true }));
  });
  return keyed.map(([, row]) => row);
}

function key(cell) {
  const value = cell.dataset.value;
  if (value === undefined) return cell.textContent;
  return value === "" ? null : Number(value);
}

for (const table of document.querySelectorAll("table")) {
  const blocks = [...table.tBodies].map((body) => ({ body, original: [...body.rows] }));
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    const first = heading.dataset.first;
    const second = first === "ascending" ? "descending" : "ascending";
    const next = { none: first, [first]: second, [second]: "none" };
    heading.querySelector("button").addEventListener("click", () => {
      const direction = next[heading.getAttribute("aria-sort")];
      for (const other of headings) other.setAttribute("aria-sort", "none");
      heading.setAttribute("aria-sort", direction);
      for (const { body, original } of blocks) {
        body.append(...(direction === "none" ? original : sorted([...body.rows], column, direction)));
      }
    });
  });
}
