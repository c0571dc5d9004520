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

const VALUES = 10;
const RAMP: Rgb[] = [[72, 60, 160], [46, 108, 170], [30, 150, 140], [96, 180, 80], [226, 190, 40]];

/** Of the most frequent values of an attribute, as many as one can tell apart; the others have none of their own. */
export function ofValues(values: string[]): Map<string, Rgb> {
  return new Map(values.slice(0, VALUES).map((value, i) => [value, i < TYPES.length ? TYPES[i]! : hsl((360 * i) / VALUES + 18, 0.55, i % 2 ? 0.38 : 0.62)]));
}

/** From low (0) to high (1), darker to lighter, so that those who see no hues see it too. */
export function ofShare(share: number): Rgb {
  const at = Math.min(0.9999, Math.max(0, share)) * (RAMP.length - 1);
  const [low, high] = [RAMP[Math.floor(at)]!, RAMP[Math.floor(at) + 1]!];
  return low.map((one, i) => Math.round(one + (high[i]! - one) * (at % 1))) as Rgb;
}

export const ramp = `linear-gradient(to right, ${RAMP.map(css).join(", ")})`;
