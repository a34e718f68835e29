"use strict";
// The titles of tables that sort become buttons: numbers the largest first, words by the alphabet, then the other way
// round, then as it was.
for (const table of document.querySelectorAll("table.sorts")) {
  const body = table.tBodies[0], before = [...body.rows], heads = [...table.tHead.rows[0].cells];
  const words = (row, place) => row.cells[place].firstChild?.textContent.trim() ?? "";
  const number = (row, place) => parseFloat(words(row, place).replaceAll(",", "").replace("−", "-"));
  const smaller = (place) => (one, other) => (number(one, place) || 0) - (number(other, place) || 0);
  const earlier = (place) => (one, other) =>
    words(one, place).localeCompare(words(other, place), "en", { numeric: true });
  heads.forEach((head, place) => {
    const counts = head.classList.contains("number"), compare = (counts ? smaller : earlier)(place);
    const orders = counts ? ["descending", "ascending", null] : ["ascending", "descending", null];
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const order = orders[(orders.indexOf(head.getAttribute("aria-sort")) + 1) % 3];
      for (const other of heads) other.removeAttribute("aria-sort");
      if (order) head.setAttribute("aria-sort", order);
      const turned = order === "descending" ? -1 : 1;
      body.append(...(order ? [...before].sort((one, other) => turned * compare(one, other)) : before));
    });
  });
}
