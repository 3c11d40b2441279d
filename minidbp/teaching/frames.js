// Each slider chooses one of the pictures that were drawn beforehand; without this script a page shows the first choice.
for (const box of document.querySelectorAll("div.frames")) {
  const sliders = [...box.querySelectorAll("input")];
  const pictures = [...box.querySelectorAll("figure")];
  const show = () => {
    let chosen = 0;
    for (const slider of sliders) {
      const label = JSON.parse(slider.dataset.labels)[slider.value];
      slider.parentElement.querySelector("output").textContent = label;
      slider.setAttribute("aria-valuetext", label);
      chosen = chosen * (Number(slider.max) + 1) + Number(slider.value);
    }
    pictures.forEach((picture, k) => { picture.hidden = k !== chosen; });
  };
  for (const slider of sliders) {
    slider.hidden = false;
    slider.addEventListener("input", show);
  }
  show(); // a browser may remember where a slider was
}
