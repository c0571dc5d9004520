// The script of a report's page: draws its charts from the JSON that stands in it, in the colours that hold.
import "uplot/dist/uPlot.min.css";
import "./page.css";
import { PAPER, Plot, type Spec } from "./plot";

const specs: Spec[] = JSON.parse(document.getElementById("charts")!.textContent!);
const plots = specs.map((spec, i) => new Plot(document.getElementById(`chart-${i}`)!, spec));
document.documentElement.dataset.drawn = String(plots.length);

const redraw = () => plots.forEach((plot) => plot.redraw());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
matchMedia("print").addEventListener("change", redraw);
// A page on paper is light and narrow, and its style is not yet in force when the browser says that it will print.
addEventListener("beforeprint", () => {
  document.documentElement.classList.add("on-paper");
  plots.forEach((plot) => plot.redraw(PAPER));
});
addEventListener("afterprint", () => {
  document.documentElement.classList.remove("on-paper");
  redraw();
});
