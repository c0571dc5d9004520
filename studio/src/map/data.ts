// The places of all entities as the map draws them, and which one lies nearest a point.
import { type Outline, bytes, call, segment } from "../api";

export interface Layer {
  type: string;
  count: number;
  kind: string; // what the clusters are: own, heaviest_interest, unknown
  positions: Float32Array; // x, y of each row
  clusters: Int32Array;
  order: Uint32Array; // rows in the order in which they are drawn: by chance, so that any beginning of it is a fair sample, or by place
  grid?: Grid; // whose order that is
}
export interface Atlas { version: string; layers: Layer[] }
export interface Spot { layer: number; row: number }

const STEPS = 65535;

/** `byPlace`: in the order of a grid, for whom what lies side by side is best drawn one after the other. */
export async function loadAtlas(byPlace: boolean): Promise<Atlas> {
  const outline = await call<Outline>("v1/map");
  const version = `?version=${segment(outline.version)}`;
  const layers = await Promise.all(outline.types.map(async ({ type, count, clusters }) => {
    const content = await bytes(`v1/map/${segment(type)}${version}`);
    const whole = new Uint16Array(content, 0, 2 * count);
    const positions = new Float32Array(2 * count);
    for (let i = 0; i < positions.length; i++) positions[i] = (whole[i]! / STEPS) * 2 - 1;
    const layer = { type, count, kind: clusters, positions, clusters: new Int32Array(content, 4 * count, count) };
    if (!byPlace) return { ...layer, order: shuffled(count) };
    const grid = new Grid(positions);
    return { ...layer, order: grid.rows, grid };
  }));
  return { version: outline.version, layers };
}

/** The numbers below n in an order that looks like chance, and is the same every time. */
function shuffled(n: number): Uint32Array {
  const order = Uint32Array.from({ length: n }, (_, i) => i);
  let state = 1;
  for (let i = n - 1; i > 0; i--) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const j = Math.floor((state / 2 ** 32) * (i + 1));
    [order[i], order[j]] = [order[j]!, order[i]!];
  }
  return order;
}

/** A byte for each entity of a layer: which value of an attribute it has. See docs/api.md. */
export async function loadAttribute(atlas: Atlas, type: string, name: string): Promise<Uint8Array> {
  return new Uint8Array(await bytes(`v1/map/${segment(type)}/attribute?${new URLSearchParams({ name, version: atlas.version })}`));
}

export const CELLS = 256;
export const cell = (value: number) => Math.min(CELLS - 1, Math.max(0, Math.floor(((value + 1) / 2) * CELLS)));

/** Rows by cell of a grid, so that the nearest to a point is found without asking the graphics card. */
export class Grid {
  readonly starts = new Uint32Array(CELLS * CELLS + 1);
  readonly rows: Uint32Array;

  constructor(private readonly positions: Float32Array) {
    const n = positions.length / 2;
    const cells = new Uint32Array(n);
    for (let i = 0; i < n; i++) {
      cells[i] = cell(positions[2 * i + 1]!) * CELLS + cell(positions[2 * i]!);
      this.starts[cells[i]! + 1]!++;
    }
    for (let i = 0; i < CELLS * CELLS; i++) this.starts[i + 1]! += this.starts[i]!;
    this.rows = new Uint32Array(n);
    const next = this.starts.slice(0, -1);
    for (let i = 0; i < n; i++) this.rows[next[cells[i]!]!++] = i;
  }

  /** The row nearest (x, y) within `reach`, and how far it is. */
  nearest(x: number, y: number, reach: number): [row: number, apart: number] | undefined {
    let best = -1;
    let apart = reach * reach;
    for (let j = cell(y - reach); j <= cell(y + reach); j++) {
      for (let at = this.starts[j * CELLS + cell(x - reach)]!; at < this.starts[j * CELLS + cell(x + reach) + 1]!; at++) {
        const row = this.rows[at]!;
        const squared = (this.positions[2 * row]! - x) ** 2 + (this.positions[2 * row + 1]! - y) ** 2;
        if (squared <= apart) [best, apart] = [row, squared];
      }
    }
    return best < 0 ? undefined : [best, Math.sqrt(apart)];
  }
}

/** Rows of a layer inside a closed line of x, y, x, y, …: a ray to the right crosses it an odd number of times. */
export function inside(positions: Float32Array, line: number[]): number[] {
  const rows: number[] = [];
  const xs = line.filter((_, i) => i % 2 === 0);
  const ys = line.filter((_, i) => i % 2 === 1);
  const [left, right, low, high] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  for (let row = 0; row < positions.length / 2; row++) {
    const [x, y] = [positions[2 * row]!, positions[2 * row + 1]!];
    if (x < left || x > right || y < low || y > high) continue;
    let odd = false;
    for (let i = 0, j = xs.length - 1; i < xs.length; j = i++) {
      if (ys[i]! > y !== ys[j]! > y && x < ((xs[j]! - xs[i]!) * (y - ys[i]!)) / (ys[j]! - ys[i]!) + xs[i]!) odd = !odd;
    }
    if (odd) rows.push(row);
  }
  return rows;
}
