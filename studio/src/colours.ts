// Colours: of clusters, as many as there are, and of the few types. Middle lightness stands out on light and dark.
export type Rgb = [number, number, number];

function hsl(hue: number, saturation: number, lightness: number): Rgb {
  const a = saturation * Math.min(lightness, 1 - lightness);
  const channel = (n: number) => {
    const k = (n + hue / 30) % 12;
    return Math.round(255 * (lightness - a * Math.max(-1, Math.min(k - 3, 9 - k, 1))));
  };
  return [channel(0), channel(8), channel(4)];
}

export const NONE: Rgb = [140, 146, 156];
const TYPES: Rgb[] = [[66, 120, 220], [230, 126, 34], [38, 160, 105], [175, 82, 200], [214, 69, 80], [0, 150, 170]];

/** Steps of the golden angle never meet again, so neighbours in number differ in hue; lightness turns besides. */
export function ofCluster(cluster: number): Rgb {
  return cluster < 0 ? NONE : hsl((cluster * 137.508) % 360, 0.62, [0.5, 0.42, 0.58][cluster % 3]!);
}

export function ofType(position: number): Rgb {
  return TYPES[position % TYPES.length]!;
}

export const css = ([r, g, b]: Rgb) => `rgb(${r} ${g} ${b})`;

/** As many hues as there are interests, no two alike. */
export function palette(clusters: number[]): Map<number, string> {
  const all = [...new Set(clusters)];
  return new Map(all.map((one, i) => [one, css(hsl((360 * i) / all.length, 0.6, i % 2 ? 0.42 : 0.56))]));
}
