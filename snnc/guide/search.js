"use strict";
const field = document.getElementById("search");
const list = document.getElementById("found");

// All words have to be there; where they are in the heading, a place comes first.
function search() {
  const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
  const scored = [];
  for (const [page, place, heading, text] of words.length ? PLACES : []) {
    const title = heading.toLowerCase(), all = `${title} ${text.toLowerCase()}`;
    if (words.every((word) => all.includes(word))) {
      const score = words.filter((word) => title.includes(word)).length;
      scored.push({ score, page, place, heading });
    }
  }
  scored.sort((a, b) => b.score - a.score);
  list.replaceChildren(...scored.slice(0, 12).map(({ page, place, heading }) => {
    const item = document.createElement("li"), link = document.createElement("a");
    link.href = place ? `${page}.html#${place}` : `${page}.html`;
    link.textContent = `${heading} (${page})`;
    item.append(link);
    return item;
  }));
  if (words.length && !scored.length) {
    const item = document.createElement("li");
    item.textContent = "nothing found";
    list.append(item);
  }
  list.hidden = !words.length;
}

field.addEventListener("input", search);
search();
