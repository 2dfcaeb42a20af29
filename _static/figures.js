// On a phone a figure that is wider than the screen scrolls in a box of its own, which the keyboard reaches; CSS says how wide.
// So does a displayed formula.
"use strict";
document.addEventListener("DOMContentLoaded", () => {
  const boxes = [];
  for (const image of document.querySelectorAll(".bd-article div.cell_output img")) {
    const box = document.createElement("div");
    box.className = "figure-box";
    image.replaceWith(box);
    box.append(image);
    const number = box.parentElement.querySelector("figcaption .caption-number");
    boxes.push({ image, box, name: number ? number.textContent.trim() : "Figure" });
  }
  function check() {
    for (const { image, box, name } of boxes) {
      image?.style.setProperty("--own", (image.naturalWidth || 560) + "px");
      const scrolls = box.scrollWidth > box.clientWidth + 1;
      const attributes = { tabindex: "0", role: "region", "aria-label": name + ", scrolls sideways" };
      for (const [key, value] of Object.entries(attributes)) scrolls ? box.setAttribute(key, value) : box.removeAttribute(key);
    }
  }
  boxes.forEach(({ image }) => image.addEventListener("load", check));
  window.addEventListener("load", async () => {
    await window.MathJax?.startup?.promise;
    for (const box of document.querySelectorAll('mjx-container[display="true"]')) boxes.push({ box, name: "Formula" });
    check();
  });
  window.addEventListener("resize", check);
  check();
});
