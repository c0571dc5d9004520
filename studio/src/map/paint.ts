// What the points' colours say: clusters, types, or an attribute of the entities; and what stands in the legend.
import type { Attribute, Attributes } from "../api";
import { NONE, type Rgb, css, ofCluster, ofShare, ofType, ofValues } from "../colours";
import { type Atlas, type Layer, loadAttribute } from "./data";
import type { Paint } from "./plane";

/** Bytes of `/v1/map/{type}/attribute`: the highest rank, and no value. */
const [HIGHEST, ABSENT] = [252, 255];

export interface Scale { type: string; kind: Attribute["kind"]; quantiles: number[] }
export interface Colouring { paint: Paint; values: { value: string; colour: string; count: number }[]; other: number; none: boolean; scales: Scale[] }
const plain = (paint: Paint): Colouring => ({ paint, values: [], other: 0, none: false, scales: [] });

/** Attributes that have colours, by name: several types may have one of the same name and kind. */
export function colourable(attributes: Attributes): Map<string, Attribute["kind"]> {
  const all = Object.values(attributes.types).flat().filter((one) => one.kind !== "label" && one.present > 0);
  return new Map(all.map((one) => [one.name, one.kind]));
}

export async function colouring(by: string, atlas: Atlas, attributes: Attributes | undefined): Promise<Colouring> {
  if (by === "cluster") return plain(byCluster);
  if (by === "type") return plain((layer, position) => filled(layer, () => ofType(position)));
  return byAttribute(by.replace(/^\./, ""), atlas, attributes);
}

const byCluster: Paint = (layer) => {
  const known = new Map<number, Rgb>();
  return filled(layer, (row) => {
    const cluster = layer.clusters[row]!;
    let colour = known.get(cluster);
    if (!colour) known.set(cluster, (colour = ofCluster(cluster)));
    return colour;
  });
};

async function byAttribute(name: string, atlas: Atlas, attributes: Attributes | undefined): Promise<Colouring> {
  const own = new Map<string, { about: Attribute; bytes: Uint8Array }>();
  await Promise.all(atlas.layers.map(async ({ type }) => {
    const about = attributes?.types[type]?.find((one) => one.name === name && one.kind !== "label");
    if (about) own.set(type, { about, bytes: await loadAttribute(atlas, type, name) });
  }));
  const counts = new Map<string, number>();
  for (const { about } of own.values()) for (const { value, count } of about.values ?? []) counts.set(value, (counts.get(value) ?? 0) + count);
  const values = [...counts].sort((a, b) => b[1] - a[1]);
  const colours = ofValues(values.map(([value]) => value));
  const tables = new Map([...own].map(([type, { about }]) => [type, tableOf(about, colours)]));
  const most = Math.max(0, ...[...own.values()].map(({ about }) => about.distinct ?? 0));
  return {
    paint: (layer) => {
      const [bytes, table] = [own.get(layer.type)?.bytes, tables.get(layer.type)];
      return filled(layer, bytes && table ? (row) => table[bytes[row]!]! : () => NONE);
    },
    values: values.filter(([value]) => colours.has(value)).map(([value, count]) => ({ value, colour: css(colours.get(value)!), count })),
    other: Math.max(most, values.length) - colours.size,
    none: atlas.layers.some(({ type, count }) => (own.get(type)?.about.present ?? 0) < count),
    scales: [...own].filter(([, { about }]) => about.quantiles?.length).map(([type, { about }]) => ({ type, kind: about.kind, quantiles: about.quantiles! })),
  };
}

/** The colour that each byte stands for. */
function tableOf(about: Attribute, colours: Map<string, Rgb>): Rgb[] {
  return Array.from({ length: 256 }, (_, byte) => {
    if (byte === ABSENT) return NONE;
    if (about.quantiles?.length) return ofShare(byte / HIGHEST);
    return colours.get(about.values?.[byte]?.value ?? "") ?? NONE;
  });
}

function filled(layer: Layer, colourOf: (row: number) => Rgb): Uint8Array {
  const colours = new Uint8Array(4 * layer.count);
  for (let i = 0; i < layer.count; i++) {
    const colour = colourOf(layer.order[i]!);
    colours[4 * i] = colour[0];
    colours[4 * i + 1] = colour[1];
    colours[4 * i + 2] = colour[2];
    colours[4 * i + 3] = 255;
  }
  return colours;
}
