// Points drawn by the processor into a plain canvas. Where no graphics card draws, WebGL gives it the same work in a form
// that takes many times as long; see docs/decisions/0098.
import { CELLS, type Layer, cell } from "./data";

export interface View { x: number; y: number; scale: number; width: number; height: number }
export interface Points { layer: Layer; places: Float32Array; colours: Uint32Array }

// Dots may reach over the edge of what is seen by so much.
const MARGIN = 8;

let known: boolean | undefined;

/** Whether the browser draws WebGL with the processor, as far as it says so. */
export const drawsInSoftware = () => (known ??= /swiftshader|llvmpipe|softpipe|software|basic render/i.test(rendererName()));

function rendererName(): string {
  const context = document.createElement("canvas").getContext("webgl2");
  const about = context?.getExtension("WEBGL_debug_renderer_info");
  const name = context && about ? String(context.getParameter(about.UNMASKED_RENDERER_WEBGL)) : "";
  context?.getExtension("WEBGL_lose_context")?.loseContext();
  return name;
}

export class Raster {
  private readonly canvas = document.createElement("canvas");
  private readonly context = this.canvas.getContext("2d", { alpha: false })!;
  private image = new ImageData(1, 1);
  private pixels = new Uint32Array(this.image.data.buffer);

  constructor(element: HTMLElement) {
    this.canvas.className = "raster";
    element.prepend(this.canvas);
  }

  close(): void {
    this.canvas.remove();
  }

  /**
   * The points of some layers, those of later ones above; `radius` in pixels, `opacity` from 0 to 1. Of `step` points that lie side by
   * side one is drawn.
   */
  draw(points: Points[], view: View, radius: number, opacity: number, ground: number, step: number): void {
    const [width, height] = [Math.max(1, Math.round(view.width)) + 2 * MARGIN, Math.max(1, Math.round(view.height)) + 2 * MARGIN];
    if (this.image.width !== width || this.image.height !== height) {
      this.image = new ImageData(width, height);
      this.pixels = new Uint32Array(this.image.data.buffer);
      [this.canvas.width, this.canvas.height] = [width, height];
      Object.assign(this.canvas.style, { width: `${width}px`, height: `${height}px`, left: `${-MARGIN}px`, top: `${-MARGIN}px` });
    }
    this.pixels.fill(ground);
    const dot = dotOf(radius, width);
    for (const one of points) this.paint(one, view, dot, Math.round(256 * opacity), step);
    this.context.putImageData(this.image, 0, 0);
  }

  /** Blends every dot of a layer that is in sight into the picture: cells of the plane that are not are passed over. */
  private paint({ layer, places, colours }: Points, view: View, dot: Int32Array, alpha: number, step: number): void {
    const { pixels } = this;
    const { width, height } = this.image;
    const { starts } = layer.grid!;
    const { scale } = view;
    const [middle, centre] = [width / 2 - view.x * scale, height / 2 + view.y * scale];
    const [reachX, reachY] = [width / 2 / scale, height / 2 / scale];
    const [left, right] = [cell(view.x - reachX), cell(view.x + reachX)];
    const [most, last] = [width - MARGIN / 2, height - MARGIN / 2];
    for (let j = cell(view.y - reachY); j <= cell(view.y + reachY); j++) {
      const end = starts[j * CELLS + right + 1]!;
      for (let i = Math.ceil(starts[j * CELLS + left]! / step) * step; i < end; i += step) {
        const x = (middle + places[2 * i]! * scale) | 0;
        const y = (centre - places[2 * i + 1]! * scale) | 0;
        if (x < MARGIN / 2 || y < MARGIN / 2 || x >= most || y >= last) continue;
        const colour = colours[i]!;
        const [redBlue, green] = [colour & 0xff00ff, colour & 0x00ff00];
        const at = y * width + x;
        for (let k = 0; k < dot.length; k++) {
          const under = pixels[at + dot[k]!]!;
          const a = under & 0xff00ff;
          const b = under & 0x00ff00;
          // Two channels at once, each with room for the product above it.
          pixels[at + dot[k]!] = 0xff000000 | ((a + (Math.imul(redBlue - a, alpha) >>> 8)) & 0xff00ff) | ((b + (Math.imul(green - b, alpha) >>> 8)) & 0x00ff00);
        }
      }
    }
  }
}

/** Where the pixels of a dot lie from its own, in a picture so wide. */
function dotOf(radius: number, width: number): Int32Array {
  const reach = Math.ceil(radius);
  const offsets: number[] = [];
  for (let y = -reach; y <= reach; y++) {
    for (let x = -reach; x <= reach; x++) {
      if ((x + 0.5) ** 2 + (y + 0.5) ** 2 <= radius * radius) offsets.push(y * width + x);
    }
  }
  return Int32Array.from(offsets.length ? offsets : [0]);
}
