"use strict";
const part = (id) => document.getElementById(id);
const go = (id) => { if (part(id)) part(id).click(); };
const links = () => [...document.querySelectorAll("#list .whole")];

// An address without what is not asked for can be read, and sent to others.
for (const form of document.forms) {
  form.addEventListener("submit", () => {
    for (const field of form.elements) if (field.name && !field.value) field.disabled = true;
    setTimeout(() => { for (const field of form.elements) field.disabled = false; });
  });
}

function move(by) {
  const every = links();
  if (!every.length) return go(by > 0 ? "next" : "previous");
  const at = every.indexOf(document.activeElement) + by;
  if (at >= every.length) return go("next");
  every[Math.max(0, at)].focus();
  every[Math.max(0, at)].closest(".card").scrollIntoView({ block: "nearest" });
}

const keys = {
  "/": () => { part("find").focus(); part("find").select(); }, "?": () => part("help").showModal(),
  j: () => move(1), k: () => move(-1), n: () => go("next"), p: () => go("previous"), r: () => go("anywhere"), u: () => go("up"),
};
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || part("help").open) return;
  if (event.target.matches("input, select, textarea")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const action = keys[event.key.toLowerCase()];
  if (!action) return;
  event.preventDefault();
  action();
});
part("help-open").addEventListener("click", () => part("help").showModal());

async function page(address) {
  const reply = await fetch(address);
  if (!reply.ok) throw new Error(String(reply.status));
  return new DOMParser().parseFromString(await reply.text(), "text/html");
}

// A search that takes long goes on by itself, until a page is full or everything was looked at.
async function searchOn() {
  const shown = part("shown"), most = Number(document.body.dataset.most) || 24;
  while (part("shown").dataset.next && links().length < most) {
    const more = await page(part("shown").dataset.next);
    part("list").append(...more.querySelectorAll("#list > li"));
    part("shown").replaceWith(more.getElementById("shown"));
    const pager = more.querySelector(".pager");
    if (pager) document.querySelector(".pager").replaceWith(pager);
    const count = links().length, searched = part("shown").dataset.next ? ", searching on" : "";
    part("shown").textContent = count ? `${count} shown${searched}` : searched ? "nothing yet, searching on" : "nothing is found";
  }
}

// Counts that are not at their end are shown as they grow.
async function countOn() {
  while (document.querySelector("[data-counting]")) {
    await new Promise((done) => setTimeout(done, 700));
    const open = [...document.querySelectorAll(".live details[open] .name")].map((each) => each.textContent);
    const next = (await page(location.href)).querySelector(".live");
    for (const each of next.querySelectorAll("details")) each.open = open.includes(each.querySelector(".name").textContent);
    document.querySelector(".live").replaceWith(next);
  }
}

if (part("shown") && part("shown").dataset.next) searchOn().catch(() => {});
if (document.querySelector("[data-counting]")) countOn().catch(() => {});
