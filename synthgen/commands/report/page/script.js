"use strict";
const cards = [...document.querySelectorAll(".card")];
const form = document.querySelector(".filter");
const shown = document.getElementById("shown");
const more = document.getElementById("more");
const step = matchMedia("(max-width: 40rem)").matches ? 8 : 24;
let most = step;
const chosen = (id) => document.getElementById(id).value;

function filter() {
  const outcome = chosen("by-outcome"), type = chosen("by-type"), reason = chosen("by-reason");
  const words = chosen("by-words").toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  for (const card of cards) {
    const text = words.length ? card.textContent.toLowerCase() : "";
    const fits = (!outcome || card.dataset.outcome === outcome) && (!type || card.dataset.type === type) &&
      (!reason || card.dataset.reason === reason) && words.every((word) => text.includes(word));
    count += fits;
    card.hidden = !fits || count > most;
  }
  more.hidden = count <= most;
  shown.textContent = `${Math.min(count, most)} of ${count} shown` + (count < cards.length ? `, which fit of ${cards.length}` : "");
}

function restart() {
  most = step;
  filter();
}

form.addEventListener("input", restart);
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("reset", () => setTimeout(restart));
more.addEventListener("click", () => {
  most += step;
  filter();
  const first = cards.filter((card) => !card.hidden)[most - step];
  first.tabIndex = -1;
  first.focus({ preventScroll: true });
});
filter();

for (const score of document.querySelectorAll(".score")) {
  const slider = score.querySelector("input"), line = score.querySelector(".moved"), text = score.querySelector("output");
  const [values, kept, places] = ["values", "kept", "places"].map((name) => slider.dataset[name].split(" "));
  const word = score.querySelector(".move span").textContent;
  slider.addEventListener("input", () => {
    const at = Number(slider.value), count = Number(kept[at]), change = count - Number(slider.dataset.now);
    line.setAttribute("x1", places[at]);
    line.setAttribute("x2", places[at]);
    line.setAttribute("visibility", "visible");
    const sign = change > 0 ? "+" : change < 0 ? "−" : "±";
    text.textContent = `${word} ${Number(values[at])} keeps ${count.toLocaleString("en")} (${sign}${Math.abs(change).toLocaleString("en")})`;
    slider.setAttribute("aria-valuetext", text.textContent);
  });
}
