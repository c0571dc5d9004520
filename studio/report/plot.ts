// One chart of a report: uPlot's axes, scales and lines; intervals, marks, hover and a legend of buttons over them.
import uPlot from "uplot";
import { type Look, looks, paint, swatch } from "./colours";

export interface Series { name: string; x: number[]; y: number[]; low: number[]; high: number[]; baseline: boolean }
/** `rows` has a line for each of `labels`, its value along x; the others have intervals along y. */
export interface Spec { kind: "lines" | "points" | "rows"; title: string; x: string; y: string; labels: string[]; zero: boolean; log: boolean; series: Series[] }
interface Point { series: number; x: number; y: number; low?: number; high?: number }

const NEAR = 28;
/** Pixels of a chart on paper. */
export const PAPER = 680;
const short = (value: number) => (value === 0 ? "0" : Math.abs(value) >= 100 ? value.toFixed(0) : String(Number(value.toPrecision(3))));

export class Plot {
  private readonly looks: Look[];
  private readonly points: Point[];
  /** Whether two series have a point in the same row. */
  private readonly shared: boolean;
  private readonly hidden = new Set<number>();
  private readonly colours = new Map<string, string>();
  private readonly probe = document.createElement("span");
  private readonly tip = document.createElement("div");
  private lit: number | null = null;
  private readonly chart: uPlot;
  private readonly place: HTMLElement;

  constructor(private readonly figure: HTMLElement, private readonly spec: Spec) {
    this.looks = looks(spec.series.map((one) => one.baseline));
    this.points = spec.series.flatMap((one, series) => one.x.map((x, i) => ({ series, x, y: one.y[i]!, ...(one.low.length ? { low: one.low[i]!, high: one.high[i]! } : {}) })));
    this.shared = new Set(this.points.map((one) => one.y)).size < this.points.length;
    this.place = figure.querySelector<HTMLElement>(".plot")!;
    this.place.textContent = "";
    this.place.setAttribute("role", "img");
    this.place.setAttribute("aria-label", `${spec.title}. The tables have its numbers.`);
    figure.append(this.probe);
    this.chart = new uPlot(this.options(), this.data(), this.place);
    this.tip.className = "tip";
    this.tip.hidden = true;
    this.chart.over.append(this.tip);
    this.chart.over.addEventListener("pointermove", (event) => this.hover(event));
    this.chart.over.addEventListener("pointerdown", (event) => this.hover(event));
    this.chart.over.addEventListener("pointerleave", () => { this.tip.hidden = true; });
    if (spec.series.length > 1) figure.append(this.legend());
    new ResizeObserver(() => this.resize()).observe(this.place);
  }

  /** Draw anew in the colours that hold now, `most` pixels wide at most. */
  redraw(most = Infinity): void {
    this.colours.clear();
    this.resize(most);
    this.chart.redraw(false, true);
  }

  private resize(most = Infinity): void {
    const width = Math.floor(Math.min(this.place.clientWidth, most));
    if (width > 0 && width !== this.chart.width) this.chart.setSize({ width, height: this.height() });
  }

  private height(): number {
    return this.spec.kind === "rows" ? 62 + Math.max(2, this.spec.labels.length) * (this.shared ? 14 + 8 * Math.min(this.spec.series.length, 4) : 24) : 330;
  }

  /** A property of the style as a colour that a canvas takes: what the browser makes of it here and now. */
  private colour(property: string): string {
    let found = this.colours.get(property);
    if (found === undefined) {
      this.probe.style.color = `var(${property})`;
      found = getComputedStyle(this.probe).color;
      this.colours.set(property, found);
    }
    return found;
  }

  private shown(): Point[] {
    const shown = this.points.filter((one) => !this.hidden.has(one.series));
    return shown.length ? shown : this.points;
  }

  private range(ends: (point: Point) => number[], zero: boolean): [number, number] {
    const values = this.shown().flatMap(ends);
    if (zero) values.push(0);
    if (!values.length) return [0, 1];
    const low = Math.min(...values);
    const high = Math.max(...values);
    const room = 0.05 * (high - low) || 0.05 * Math.abs(high) || 1;
    return [0 <= low && low < 0.4 * high ? Math.min(0, low) : low - room, high + room];
  }

  private ratios(): [number, number] {
    const values = this.shown().map((one) => one.x).filter((x) => x > 0);
    return values.length ? [Math.min(...values) / 1.2, Math.max(...values) * 1.2] : [1, 10];
  }

  private data(): uPlot.AlignedData {
    if (this.spec.kind !== "lines") return [[0, 1], ...this.spec.series.map(() => [null, null])];
    const xs = [...new Set(this.spec.series.flatMap((one) => one.x))].sort((a, b) => a - b);
    return [xs, ...this.spec.series.map((one) => xs.map((x) => one.y[one.x.indexOf(x)] ?? null))];
  }

  private options(): uPlot.Options {
    const { spec } = this;
    const rows = spec.kind === "rows";
    const along = (one: Point) => [one.x, ...(rows && one.low !== undefined ? [one.low, one.high!] : [])];
    const up = (one: Point) => [one.y, ...(!rows && one.low !== undefined ? [one.low, one.high!] : [])];
    const axis: uPlot.Axis = {
      stroke: () => this.colour("--ink"), font: "12px system-ui", labelFont: "12px system-ui", labelSize: 20, labelGap: 2,
      grid: { stroke: () => this.colour("--line"), width: 1 }, ticks: { stroke: () => this.colour("--line"), width: 1, size: 4 },
      values: (_, values) => values.map((one) => (one === null ? "" : String(Number(one.toPrecision(6))))),
    };
    const names: uPlot.Axis = {
      ...axis, splits: () => spec.labels.map((_, i) => i), grid: { show: false }, size: (u) => this.room(u),
      values: (u) => spec.labels.map((label) => fitted(u.ctx, label, this.room(u) - 16)),
    };
    return {
      width: Math.max(200, this.place.clientWidth), height: this.height(), padding: [10, 16, 0, rows ? 4 : 0],
      cursor: { show: false }, legend: { show: false },
      scales: {
        x: spec.log ? { time: false, distr: 3, range: () => this.ratios() } : { time: false, range: () => this.range(along, spec.zero && rows) },
        y: rows ? { dir: -1, range: () => [-0.6, spec.labels.length - 0.4] } : { range: () => this.range(up, spec.zero) },
      },
      axes: [{ ...axis, label: spec.x, size: 34, space: 60 }, rows ? names : { ...axis, label: spec.y, size: 50, space: 40 }],
      series: [{}, ...this.looks.map((look): uPlot.Series => ({
        spanGaps: true, width: 1.6, points: { show: false }, ...(spec.kind === "lines" ? {} : { paths: () => null }),
        stroke: () => this.colour(look.colour), ...(look.dash.length ? { dash: look.dash } : {}),
      }))],
      hooks: { drawAxes: [(u) => this.drawZero(u)], draw: [(u) => this.drawPoints(u)] },
    };
  }

  /** As wide as the longest label, and no more than two fifths of the chart. */
  private room(u: uPlot): number {
    const widest = Math.max(...this.spec.labels.map((label) => wide(u.ctx, label)));
    return Math.ceil(Math.min(widest + 18, 0.4 * u.width));
  }

  private drawZero(u: uPlot): void {
    if (!this.spec.zero || this.spec.kind !== "rows") return;
    const x = u.valToPos(0, "x", true);
    u.ctx.save(); // uPlot remembers what it has set
    u.ctx.setLineDash([]);
    u.ctx.strokeStyle = this.colour("--ink");
    u.ctx.lineWidth = uPlot.pxRatio;
    u.ctx.beginPath();
    u.ctx.moveTo(x, u.bbox.top);
    u.ctx.lineTo(x, u.bbox.top + u.bbox.height);
    u.ctx.stroke();
    u.ctx.restore();
  }

  /** Series a little apart where they share places, so that their intervals can be told apart; in device pixels. */
  private at(u: uPlot, one: Point): { x: number; y: number; from?: [number, number]; to?: [number, number] } {
    const rows = this.spec.kind === "rows";
    const order = one.series - (this.spec.series.length - 1) / 2;
    const apart = this.spec.kind === "points" ? 0 : rows ? (this.shared ? 8 : 0) : Math.min(2, 12 / this.spec.series.length);
    const step = apart * uPlot.pxRatio * order;
    const x = u.valToPos(one.x, "x", true) + (rows ? 0 : step);
    const y = u.valToPos(one.y, "y", true) + (rows ? step : 0);
    if (one.low === undefined) return { x, y };
    const [low, high] = [one.low, one.high!].map((value) => u.valToPos(value, rows ? "x" : "y", true)) as [number, number];
    return rows ? { x, y, from: [low, y], to: [high, y] } : { x, y, from: [x, low], to: [x, high] };
  }

  private drawPoints(u: uPlot): void {
    const { ctx } = u;
    ctx.save();
    ctx.setLineDash([]);
    const paper = this.colour("--paper");
    for (const one of this.points.filter((point) => !this.hidden.has(point.series))) {
      const { x, y, from, to } = this.at(u, one);
      const colour = this.colour(this.looks[one.series]!.colour);
      ctx.globalAlpha = this.lit === null || this.lit === one.series ? 1 : 0.2;
      if (from && to) {
        ctx.strokeStyle = colour;
        ctx.lineWidth = 1.6 * uPlot.pxRatio;
        ctx.beginPath();
        ctx.moveTo(...from);
        ctx.lineTo(...to);
        ctx.stroke();
      }
      ctx.fillStyle = colour;
      ctx.strokeStyle = paper;
      ctx.lineWidth = 0.8 * uPlot.pxRatio;
      paint(ctx, this.looks[one.series]!.mark, x, y, uPlot.pxRatio);
    }
    ctx.restore();
  }

  private hover(event: PointerEvent): void {
    const u = this.chart;
    const box = u.over.getBoundingClientRect();
    const near = (one: Point) => {
      const { x, y } = this.at(u, one);
      return Math.hypot((x - u.bbox.left) / uPlot.pxRatio - (event.clientX - box.left), (y - u.bbox.top) / uPlot.pxRatio - (event.clientY - box.top));
    };
    const [best] = this.points.filter((one) => !this.hidden.has(one.series)).map((one) => ({ one, distance: near(one) })).sort((a, b) => a.distance - b.distance);
    this.tip.hidden = !best || best.distance > NEAR;
    if (this.tip.hidden) return;
    const { x, y } = this.at(u, best!.one);
    this.tip.replaceChildren(...this.said(best!.one));
    const left = (x - u.bbox.left) / uPlot.pxRatio;
    const top = (y - u.bbox.top) / uPlot.pxRatio;
    this.tip.style.left = `${Math.max(0, Math.min(left + 10, box.width - this.tip.offsetWidth))}px`;
    this.tip.style.top = `${top > this.tip.offsetHeight + 12 ? top - this.tip.offsetHeight - 10 : top + 12}px`;
  }

  private said(one: Point): HTMLElement[] {
    const { spec } = this;
    const series = spec.series[one.series]!;
    const value = spec.kind === "rows" ? one.x : one.y;
    const interval = one.low === undefined ? "" : ` (${short(one.low)} to ${short(one.high!)})`;
    const head = document.createElement("b");
    head.textContent = spec.kind === "rows" ? [spec.labels[one.y], spec.series.length > 1 ? series.name : ""].filter(Boolean).join(" · ") : series.name;
    const body = document.createElement("div");
    body.textContent = spec.kind === "rows" ? `${spec.x}: ${short(value)}${interval}` : `${spec.y}: ${short(value)}${interval}`;
    const foot = document.createElement("div");
    foot.textContent = spec.kind === "rows" ? "" : `${spec.x}: ${short(one.x)}`;
    return [head, body, foot];
  }

  private legend(): HTMLElement {
    const list = document.createElement("div");
    list.className = "legend";
    list.setAttribute("role", "group");
    list.setAttribute("aria-label", `What is shown of: ${this.spec.title}`);
    const buttons = this.spec.series.map((one, i) => {
      const button = document.createElement("button");
      button.type = "button";
      const name = document.createElement("span");
      name.textContent = one.name;
      button.append(swatch(this.looks[i]!, this.spec.kind === "lines"), name);
      const light = (lit: number | null) => { this.lit = lit; this.chart.redraw(false); };
      button.addEventListener("pointerenter", () => light(i));
      button.addEventListener("pointerleave", () => light(null));
      button.addEventListener("click", () => this.toggle(i, buttons));
      button.addEventListener("dblclick", () => this.only(i, buttons));
      return button;
    });
    this.tell(buttons);
    list.append(...buttons);
    return list;
  }

  private toggle(i: number, buttons: HTMLButtonElement[]): void {
    if (this.hidden.has(i)) this.hidden.delete(i);
    else this.hidden.add(i);
    this.tell(buttons);
  }

  /** This one alone; everything again where it was alone before. */
  private only(i: number, buttons: HTMLButtonElement[]): void {
    const alone = this.hidden.size === buttons.length - 1 && !this.hidden.has(i);
    this.hidden.clear();
    if (!alone) buttons.forEach((_, other) => { if (other !== i) this.hidden.add(other); });
    this.tell(buttons);
  }

  private tell(buttons: HTMLButtonElement[]): void {
    this.chart.batch(() => {
      buttons.forEach((button, i) => {
        const shown = !this.hidden.has(i);
        button.setAttribute("aria-pressed", String(shown));
        if (this.chart.series[i + 1]!.show !== shown) this.chart.setSeries(i + 1, { show: shown });
      });
      this.chart.redraw(true, true);
    });
    this.figure.dataset.shown = String(buttons.length - this.hidden.size);
  }
}

/** Pixels that a label takes. */
function wide(context: CanvasRenderingContext2D, text: string): number {
  context.save();
  context.font = `${12 * uPlot.pxRatio}px system-ui`;
  const { width } = context.measureText(text);
  context.restore();
  return width / uPlot.pxRatio;
}

/** As much of a text as there is room for. */
function fitted(context: CanvasRenderingContext2D, text: string, room: number): string {
  if (wide(context, text) <= room) return text;
  const signs = [...text];
  while (signs.length > 1 && wide(context, `${signs.join("")}…`) > room) signs.pop();
  return `${signs.join("")}…`;
}

