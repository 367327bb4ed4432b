// Dark or light: as the system, unless the button says otherwise. The choice is kept in this browser.

const NAME = "lane-theme";
const CHOICES = ["system", "light", "dark"];

// `redraw` is called whenever colours change.
export function draw_theme(button, redraw) {
  const apply = (choice) => {
    if (choice === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = choice;
    button.textContent = `Theme: ${choice}`;
    redraw();
  };
  const chosen = () => (CHOICES.includes(localStorage.getItem(NAME)) ? localStorage.getItem(NAME) : "system");
  button.addEventListener("click", () => {
    localStorage.setItem(NAME, CHOICES[(CHOICES.indexOf(chosen()) + 1) % CHOICES.length]);
    apply(chosen());
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  apply(chosen());
}
