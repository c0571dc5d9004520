// Colours, marks and dashes of series: no two alike, and none told apart by its colour alone.
export const HUES = 12;
export const MARKS = ["circle", "square", "triangle", "diamond", "down", "bar"] as const;
const DASHES = [[6, 3], [2, 3], [8, 3, 2, 3], [1, 4], [10, 4], [4, 2]];

export type Mark = (typeof MARKS)[number];
export interface Look { colour: string; mark: Mark; dash: number[] }

/** A look for each series; `colour` is a property of the page's style. Baselines are grey and dashed. */
export function looks(baselines: boolean[]): Look[] {
  let ours = 0;
  let theirs = 0;
  return baselines.map((baseline) => {
    const i = baseline ? theirs++ : ours++;
    const turn = Math.floor(i / (baseline ? MARKS.length : HUES));
    if (baseline) return { colour: "--grey", mark: MARKS[i % MARKS.length]!, dash: DASHES[turn % DASHES.length]! };
    return { colour: `--hue-${i % HUES}`, mark: MARKS[(i + turn) % MARKS.length]!, dash: turn ? DASHES[turn % DASHES.length]! : [] };
  });
}

const CORNERS: Record<Exclude<Mark, "circle">, [number, number][]> = {
  square: [[-3.2, -3.2], [3.2, -3.2], [3.2, 3.2], [-3.2, 3.2]],
  triangle: [[0, -4.4], [4.2, 3.2], [-4.2, 3.2]],
  diamond: [[0, -4.8], [4.8, 0], [0, 4.8], [-4.8, 0]],
  down: [[0, 4.4], [4.2, -3.2], [-4.2, -3.2]],
  bar: [[-4.8, -1.7], [4.8, -1.7], [4.8, 1.7], [-4.8, 1.7]],
};

/** A mark at a place of a canvas, filled and edged by its styles; `scale` is device pixels to a pixel. */
export function paint(context: CanvasRenderingContext2D, mark: Mark, x: number, y: number, scale: number): void {
  context.beginPath();
  if (mark === "circle") context.arc(x, y, 3.6 * scale, 0, 2 * Math.PI);
  else for (const [dx, dy] of CORNERS[mark]) context.lineTo(x + dx * scale, y + dy * scale);
  context.closePath();
  context.fill();
  context.stroke();
}

/** The same mark for the legend. */
export function swatch({ colour, mark, dash }: Look, line: boolean): SVGElement {
  const svg = element("svg", { viewBox: "-12 -6 24 12", width: 24, height: 12, "aria-hidden": "true" });
  svg.style.color = `var(${colour})`;
  if (line) svg.append(element("path", { d: "M-12 0H12", stroke: "currentColor", "stroke-width": 1.6, "stroke-dasharray": dash.join(" ") }));
  svg.append(mark === "circle" ? element("circle", { r: 3.6, fill: "currentColor" })
    : element("polygon", { points: CORNERS[mark].map((one) => one.join()).join(" "), fill: "currentColor" }));
  return svg;
}

function element(name: string, attributes: Record<string, string | number>): SVGElement {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
  return made;
}
