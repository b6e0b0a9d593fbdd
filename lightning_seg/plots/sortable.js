"use strict";
/* Tables of the class `sortable`: a click on a heading sorts by that column, another one turns the
   order round. A cell sorts by its data-sort where it has one; `-` comes last in both orders.
   A heading with data-down sorts from the highest at the first click. Narrow pages choose from a list. */
const cellValue = (row, at) => {
  const cell = row.cells[at], given = cell.dataset.sort, text = cell.textContent.trim();
  return given !== undefined ? Number(given) : text !== "" && !isNaN(text) ? Number(text) : text;
};
const order = (a, b) => typeof a === typeof b
  ? (typeof a === "number" ? a - b : a.localeCompare(b)) : typeof a === "number" ? -1 : 1;

function sortBy(table, at, down) {
  const body = table.tBodies[0], empty = row => ["-", ""].includes(row.cells[at].textContent.trim());
  const rows = [...body.rows].sort((a, b) =>
    empty(a) - empty(b) || (down ? -1 : 1) * order(cellValue(a, at), cellValue(b, at)));
  body.append(...rows);
  [...table.tHead.rows[0].cells].forEach((head, place) => {
    if (place === at) head.setAttribute("aria-sort", down ? "descending" : "ascending");
    else head.removeAttribute("aria-sort");
  });
}

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells], select = document.createElement("select");
  heads.forEach((head, at) => {
    const button = document.createElement("button"), first = head.hasAttribute("data-down");
    button.type = "button";
    button.title = head.title;
    button.append(...head.childNodes);
    head.append(button);
    button.onclick = () => {
      const sorted = head.getAttribute("aria-sort");
      sortBy(table, at, sorted ? sorted === "ascending" : first);
    };
    select.add(new Option(head.textContent.trim(), at));
    if (head.hasAttribute("aria-sort")) select.value = at;
  });
  select.onchange = () =>
    sortBy(table, Number(select.value), heads[select.value].hasAttribute("data-down"));
  const chooser = document.createElement("label");
  chooser.className = "sorter";
  chooser.append("sorted by ", select);
  table.parentElement.before(chooser);
}
