// The drawing itself: deck.gl with one layer of points for each type, and what is lit up above them.
import { Deck, type OrthographicViewState, OrthographicView } from "@deck.gl/core";
import { LineLayer, ScatterplotLayer } from "@deck.gl/layers";
import type { Rgb } from "../colours";
import type { Layer } from "./data";

/** The colour of each row of a layer: red, green, blue, opacity. */
export type Paint = (layer: Layer, position: number) => Uint8Array;
export interface Lit { x: number; y: number; colour: Rgb; size: number; hollow?: boolean; to?: [number, number] }
export interface Camera { x: number; y: number; zoom: number }

const MARGIN = 2.3;

export class Plane {
  private readonly deck: Deck<OrthographicView>;
  private layers: Layer[] = [];
  // Kept as they are: what is the same object is not sent to the graphics card again.
  private data: object[] = [];
  private hidden: ReadonlySet<string> = new Set();
  private lit: Lit[] = [];
  private dark = matchMedia("(prefers-color-scheme: dark)").matches;
  camera: Camera = { x: 0, y: 0, zoom: 8 };

  constructor(private readonly element: HTMLElement, onCamera: () => void, onError: (error: Error) => void) {
    this.camera = this.whole();
    this.deck = new Deck({
      parent: element as HTMLDivElement,
      views: new OrthographicView({ flipY: false }),
      initialViewState: this.viewState(),
      controller: { inertia: 250, doubleClickZoom: true, keyboard: true },
      getCursor: ({ isDragging }) => (isDragging ? "grabbing" : "crosshair"),
      onViewStateChange: ({ viewState }) => {
        this.camera = cameraOf(viewState as OrthographicViewState);
        onCamera();
        this.draw();
      },
      onError: (error) => onError(error),
      layers: [],
    });
  }

  close(): void {
    this.deck.finalize();
  }

  /** Everything in sight. */
  whole(): Camera {
    const size = Math.min(this.element.clientWidth, this.element.clientHeight) || 600;
    return { x: 0, y: 0, zoom: Math.log2(size / MARGIN) };
  }

  fly(to: Camera): void {
    this.camera = to;
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
    this.data = layers.map((layer, position) => ({
      length: layer.count,
      attributes: {
        getPosition: { value: layer.positions, size: 2 },
        getFillColor: { value: paint(layer, position), size: 4 },
      },
    }));
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

  private draw(): void {
    const total = this.layers.reduce((sum, layer) => sum + layer.count, 0);
    const grown = 2 ** ((this.camera.zoom - this.whole().zoom) / 3);
    const radius = Math.min(6, (total > 300_000 ? 1 : total > 30_000 ? 1.5 : total > 3000 ? 2 : 4) * grown);
    const opacity = this.lit.length ? 0.22 : total > 300_000 ? 0.5 : 0.8;
    const points = this.layers.map((layer, i) => new ScatterplotLayer({
      id: `points-${layer.type}`,
      data: this.data[i] as never,
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

function cameraOf(state: OrthographicViewState): Camera {
  const [x = 0, y = 0] = (state.target ?? [0, 0]) as number[];
  const zoom = Array.isArray(state.zoom) ? state.zoom[0] : state.zoom;
  return { x, y, zoom: Number(zoom ?? 8) };
}
