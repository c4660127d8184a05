"use strict";
const part = (id) => document.getElementById(id);
const keys = { r: "right", w: "wrong", u: "unsure" };
const state = { labels: [], whys: [], at: 0, busy: false };

async function ask(path, body) {
  const options = body ? { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" } } : {};
  const reply = await fetch(path, options);
  if (!reply.ok) throw new Error(await reply.text());
  return reply.json();
}

function guarded(action) {
  return async (...given) => {
    if (state.busy) return;
    state.busy = true;
    try {
      part("trouble").textContent = "";
      await action(...given);
    } catch (error) {
      part("trouble").textContent = `This was not stored: ${error.message}. Is synth audit still at work?`;
    }
    state.busy = false;
  };
}

function write(id, text) {
  part(id).textContent = text || "";
  part(id).hidden = !text;
}

function press(label) {
  for (const button of document.querySelectorAll("[data-label]")) {
    button.setAttribute("aria-pressed", String(button.dataset.label === label));
  }
}

async function show(at) {
  state.at = Math.min(Math.max(at, 0), state.labels.length - 1);
  const pair = await ask(`pairs/${state.at}`);
  part("whys").hidden = true;
  write("kind", `${pair.type}, ${pair.form}, ${pair.language}, ${pair.place}`);
  write("before", pair.before ? `goes on from: ${pair.before[0]} ${pair.before[1]}` : "");
  write("question", pair.question);
  write("answer", pair.answer);
  part("options").replaceChildren(...pair.options.map((text) => Object.assign(document.createElement("li"), { textContent: text, dir: "auto" })));
  part("picture").hidden = !pair.picture;
  if (pair.picture) part("picture").src = pair.picture;
  write("missing", pair.missing && `no picture: ${pair.missing}`);
  press(pair.label);
  const done = state.labels.filter(Boolean).length;
  part("progress").max = state.labels.length;
  part("progress").value = done;
  part("count").textContent = done === state.labels.length ? `all ${done} labelled: stop synth audit, and read the results with --results` : `pair ${state.at + 1} of ${state.labels.length}, ${done} labelled`;
}

function nextOpen() {
  const later = state.labels.findIndex((label, at) => !label && at > state.at);
  return later >= 0 ? later : state.labels.findIndex((label) => !label);
}

async function give(label, why) {
  await ask(`pairs/${state.at}`, { label, why: why || null });
  state.labels[state.at] = label;
  const open = nextOpen();
  await show(open >= 0 ? open : state.at);
}

const label = guarded(async (value) => {
  if (value !== "wrong") return give(value);
  press(value);
  part("whys").hidden = false;
  part("whys").querySelector("button").focus();
});
const because = guarded((why) => give("wrong", why));
const move = guarded((at) => show(at));

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const key = event.key.toLowerCase(), why = state.whys[Number(key) - 1];
  if (!part("whys").hidden && why) because(why);
  else if (keys[key]) label(keys[key]);
  else if (key === "arrowleft") move(state.at - 1);
  else if (key === "arrowright") move(state.at + 1);
  else if (key === "n" && nextOpen() >= 0) move(nextOpen());
  else return;
  event.preventDefault();
});
for (const button of document.querySelectorAll("[data-label]")) button.addEventListener("click", () => label(button.dataset.label));
part("back").addEventListener("click", () => move(state.at - 1));
part("next").addEventListener("click", () => move(state.at + 1));
part("open").addEventListener("click", () => nextOpen() >= 0 && move(nextOpen()));

guarded(async () => {
  const sample = await ask("sample");
  state.labels = sample.labels;
  state.whys = sample.whys;
  part("who").textContent = `labels of ${sample.who}`;
  part("whys").append(...sample.whys.map((why, at) => {
    const button = document.createElement("button"), key = document.createElement("kbd");
    button.type = "button";
    key.textContent = at + 1;
    button.append(key, why);
    button.addEventListener("click", () => because(why));
    return button;
  }));
  const open = nextOpen();
  await show(state.labels[0] && open >= 0 ? open : 0);
})();
