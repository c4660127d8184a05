"use strict";
// J and K go from one change to the next.
const every = [...document.querySelectorAll(".change")];
let at = -1;
addEventListener("keydown", (event) => {
  const by = { j: 1, k: -1 }[event.key.toLowerCase()];
  if (!by || event.ctrlKey || event.metaKey || event.altKey || !every.length) return;
  at = Math.min(Math.max(at + by, 0), every.length - 1);
  every[at].tabIndex = -1;
  every[at].focus({ preventScroll: true });
  every[at].scrollIntoView({ block: "start" });
});
