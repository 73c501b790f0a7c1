"use strict";
for (const figure of document.querySelectorAll(".compare")) {
  const stack = figure.querySelector(".stack");
  const slider = figure.querySelector("input");
  const [left, right] = figure.querySelectorAll("select");

  function show() {
    for (const image of stack.children) {
      image.classList.toggle("left", image.dataset.name === left.value);
      image.classList.toggle("right", image.dataset.name === right.value);
    }
    stack.style.setProperty("--at", slider.value + "%");
    const names = [left, right].map((choice) => choice.selectedOptions[0].text);
    slider.setAttribute("aria-valuetext", `${slider.value} % ${names[0]}, then ${names[1]}`);
  }

  function drag(event) {
    if (event.type === "pointerdown") stack.setPointerCapture(event.pointerId);
    if (!event.buttons) return;
    const box = stack.getBoundingClientRect();
    slider.value = (100 * (event.clientX - box.left)) / box.width;
    show();
  }

  for (const control of [slider, left, right]) control.addEventListener("input", show);
  for (const kind of ["pointerdown", "pointermove"]) stack.addEventListener(kind, drag);
  show();  // a browser that goes back keeps what was chosen
}
