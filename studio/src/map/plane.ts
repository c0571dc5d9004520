// The drawing itself: deck.gl with one layer of points for each type, and what is lit up above them.
import { Deck, type OrthographicViewState, OrthographicView } from "@deck.gl/core";
import { LineLayer, ScatterplotLayer } from "@deck.gl/layers";
import type { Rgb } from "../colours";
import type { Layer } from "./data";
import { type Points, Raster } from "./raster";

/** The colour of each point of a layer, in the order in which they are drawn: red, green, blue, opacity. */
export type Paint = (layer: Layer, position: number) => Uint8Array;
export interface Lit { x: number; y: number; colour: Rgb; size: number; hollow?: boolean; to?: [number, number] }
export interface Camera { x: number; y: number; zoom: number }

const MARGIN = 2.3;
// While the camera moves so many points are drawn as keep it smooth, and some times as many when it rests, until a frame
// takes longer. Frames of 20 to 40 ms leave the number as it is.
const [FIRST_BUDGET, LEAST_BUDGET, AT_REST] = [100_000, 20_000, 8];
const [FAST_MS, SLOW_MS, REST_MS] = [20, 40, 180];
// What a picture that the processor draws may take while the camera moves: the rest of a frame is the browser's.
const RASTER_MS = 12;

export class Plane {
  private readonly deck: Deck<OrthographicView>;
  private layers: Layer[] = [];
  // Kept as they are: what is the same object is not sent to the graphics card again.
  private data: object[] = [];
  private points: Points[] = [];
  private hidden: ReadonlySet<string> = new Set();
  private lit: Lit[] = [];
  private dark = matchMedia("(prefers-color-scheme: dark)").matches;
  private drawn = false;
  private budget = FIRST_BUDGET;
  private moving = true; // the first picture comes at once, and is completed
  private rest = 0;
  private judging = false;
  private readonly raster: Raster | undefined;
  private pending = 0;
  private step = 1;
  camera: Camera = { x: 0, y: 0, zoom: 8 };

  /** `software`: the points are drawn by the page itself, and the library draws what is lit up. */
  constructor(private readonly element: HTMLElement, software: boolean, onCamera: () => void, private readonly onRest: () => void, onError: (error: Error) => void) {
    this.camera = this.whole();
    if (software) this.raster = new Raster(element);
    this.deck = new Deck({
      parent: element as HTMLDivElement,
      views: new OrthographicView({ flipY: false }),
      initialViewState: this.viewState(),
      controller: { inertia: 250, doubleClickZoom: true, keyboard: true },
      getCursor: ({ isDragging }) => (isDragging ? "grabbing" : "crosshair"),
      onViewStateChange: ({ viewState }) => {
        this.camera = cameraOf(viewState as OrthographicViewState);
        this.moves();
        onCamera();
        this.draw();
      },
      onResize: () => this.draw(),
      onError: (error) => onError(error),
      onAfterRender: () => this.adapt(),
      layers: [],
    });
  }

  close(): void {
    clearTimeout(this.rest);
    cancelAnimationFrame(this.pending);
    this.raster?.close();
    this.deck.finalize();
  }

  /** How many points are drawn now, of how many. */
  shown(): [number, number] {
    const total = this.layers.reduce((sum, layer) => sum + (this.hidden.has(layer.type) ? 0 : layer.count), 0);
    if (this.raster) return [total, total];
    return [Math.min(total, this.moving ? this.budget : AT_REST * this.budget), total];
  }

  get isMoving(): boolean {
    return this.moving;
  }

  private moves(): void {
    this.moving = true;
    clearTimeout(this.rest);
    this.rest = setTimeout(() => {
      if (this.judging) return this.moves(); // how fast this machine is, is known first
      this.moving = false;
      this.draw();
      this.onRest();
    }, REST_MS) as unknown as number;
  }

  private adapt(): void {
    if (!this.layers.length || this.raster) return;
    if (!this.drawn) performance.mark("map drawn"); // for measurements: tests/browser/large_map.py
    this.drawn = true;
    if (this.judging) return;
    const moving = this.moving;
    this.judging = true;
    requestAnimationFrame((first) => requestAnimationFrame((second) => this.judge(second - first, moving)));
  }

  /** More points or fewer, by the time from one frame to the next, however slowly somebody moves. */
  private judge(ms: number, moving: boolean): void {
    this.judging = false;
    const [few, many] = this.shown();
    if (ms > SLOW_MS && moving) this.budget = Math.max(LEAST_BUDGET, this.budget * Math.max(1 / 8, FAST_MS / ms));
    else if (ms < FAST_MS && few < many) {
      this.budget *= 1.5;
      if (!this.moving) this.draw();
    }
  }

  /** Everything in sight. */
  whole(): Camera {
    const size = Math.min(this.element.clientWidth, this.element.clientHeight) || 600;
    return { x: 0, y: 0, zoom: Math.log2(size / MARGIN) };
  }

  fly(to: Camera): void {
    this.camera = to;
    this.moves();
    this.deck.setProps({ initialViewState: this.viewState() });
    this.draw();
  }

  private viewState() {
    const { x, y, zoom } = this.camera;
    return { target: [x, y, 0] as [number, number, number], zoom, minZoom: 6, maxZoom: 18 };
  }

  toScreen(x: number, y: number): [number, number] {
    const scale = 2 ** this.camera.zoom;
    const { clientWidth, clientHeight } = this.element;
    return [clientWidth / 2 + (x - this.camera.x) * scale, clientHeight / 2 - (y - this.camera.y) * scale];
  }

  toPlane(left: number, top: number): [number, number] {
    const scale = 2 ** this.camera.zoom;
    const { clientWidth, clientHeight } = this.element;
    return [this.camera.x + (left - clientWidth / 2) / scale, this.camera.y - (top - clientHeight / 2) / scale];
  }

  show(layers: Layer[], paint: Paint): void {
    this.layers = layers;
    this.points = !this.raster ? [] : layers.map((layer, position) => ({ layer, places: inOrder(layer), colours: new Uint32Array(paint(layer, position).buffer) }));
    this.data = this.raster ? [] : layers.map((layer, position) => ({
      length: layer.count,
      attributes: {
        getPosition: { value: inOrder(layer), size: 2 },
        getFillColor: { value: paint(layer, position), size: 4 },
      },
    }));
    this.moves();
    this.draw();
  }

  hide(hidden: ReadonlySet<string>): void {
    this.hidden = hidden;
    this.draw();
  }

  light(lit: Lit[]): void {
    this.lit = lit;
    this.draw();
  }

  /** Draws the points before the next picture of the browser: all of them at rest, and while the camera moves as many as there is time for. */
  private later(radius: number, opacity: number): void {
    cancelAnimationFrame(this.pending);
    this.pending = requestAnimationFrame(() => {
      const { x, y, zoom } = this.camera;
      const { clientWidth: width, clientHeight: height } = this.element;
      const shown = this.points.filter(({ layer }) => !this.hidden.has(layer.type));
      const ordered = [...shown.filter(({ layer }) => layer.kind === "unknown"), ...shown.filter(({ layer }) => layer.kind !== "unknown")];
      const step = this.moving ? this.step : 1;
      const began = performance.now();
      this.raster!.draw(ordered, { x, y, scale: 2 ** zoom, width, height }, radius, opacity, pixelOf(getComputedStyle(document.body).backgroundColor), step);
      this.step = Math.max(1, Math.round(((performance.now() - began) * step) / RASTER_MS));
      if (!this.drawn && ordered.length) performance.mark("map drawn"); // for measurements: tests/browser/large_map.py
      this.drawn ||= ordered.length > 0;
    });
  }

  private draw(): void {
    const total = this.layers.reduce((sum, layer) => sum + layer.count, 0);
    const grown = 2 ** ((this.camera.zoom - this.whole().zoom) / 3);
    const radius = Math.min(6, (total > 300_000 ? 1 : total > 30_000 ? 1.5 : total > 3000 ? 2 : 4) * grown);
    const opacity = this.lit.length ? 0.22 : total > 300_000 ? 0.5 : 0.8;
    if (this.raster) this.later(radius, opacity);
    const [few, many] = this.shown();
    const points = this.raster ? [] : this.layers.map((layer, i) => new ScatterplotLayer({
      id: `points-${layer.type}`,
      data: this.data[i] as never,
      numInstances: Math.ceil((layer.count * few) / Math.max(1, many)),
      radiusUnits: "pixels",
      getRadius: 1,
      radiusScale: radius,
      opacity,
      visible: !this.hidden.has(layer.type),
    }));
    const ground: Rgb = this.dark ? [16, 20, 26] : [255, 255, 255];
    const lines = this.lit.filter((one) => one.to);
    const above = [
      new LineLayer<Lit>({
        id: "lines", data: lines, getSourcePosition: (one) => [...one.to!, 0], getTargetPosition: (one) => [one.x, one.y, 0],
        getColor: (one) => [...one.colour, 106], getWidth: 1,
      }),
      new ScatterplotLayer<Lit>({
        id: "lit", data: this.lit, getPosition: (one) => [one.x, one.y], radiusUnits: "pixels", getRadius: (one) => one.size,
        stroked: true, lineWidthUnits: "pixels", getLineWidth: 2,
        getFillColor: (one) => (one.hollow ? [...ground, 255] : [...one.colour, 255]),
        getLineColor: (one) => (one.hollow ? [...one.colour, 255] : [...ground, 255]),
      }),
    ];
    // What has a colour of its own lies above what has none.
    const below = points.filter((_, i) => this.layers[i]!.kind === "unknown");
    this.deck.setProps({ layers: [...below, ...points.filter((one) => !below.includes(one)), ...above] });
  }
}

/** A colour of the style as the pixel that an image has. */
function pixelOf(colour: string): number {
  const [red = 255, green = 255, blue = 255] = (colour.match(/[\d.]+/g) ?? []).map(Number);
  return (0xff000000 | (blue << 16) | (green << 8) | red) >>> 0;
}

const places = new WeakMap<Layer, Float32Array>();

/** The places of a layer's points in the order in which they are drawn; made once. */
function inOrder(layer: Layer): Float32Array {
  let made = places.get(layer);
  if (!made) {
    made = new Float32Array(2 * layer.count);
    for (let i = 0; i < layer.count; i++) {
      made[2 * i] = layer.positions[2 * layer.order[i]!]!;
      made[2 * i + 1] = layer.positions[2 * layer.order[i]! + 1]!;
    }
    places.set(layer, made);
  }
  return made;
}

function cameraOf(state: OrthographicViewState): Camera {
  const [x = 0, y = 0] = (state.target ?? [0, 0]) as number[];
  const zoom = Array.isArray(state.zoom) ? state.zoom[0] : state.zoom;
  return { x, y, zoom: Number(zoom ?? 8) };
}
