// Numbers and times as people read them.
const whole = new Intl.NumberFormat("en");
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

export const count = (n: number) => whole.format(n);
export const compact = (n: number) => short.format(n);
export const percent = (share: number, digits = 0) => `${(100 * share).toFixed(digits)}%`;
export const fixed = (n: number | null | undefined, digits = 3) => (n == null ? "–" : n.toFixed(digits));
export const megabytes = (n: number) => (n >= 1e9 ? `${(n / 1e9).toFixed(1)} GB` : `${(n / 1e6).toFixed(1)} MB`);

const LATEST = 8.64e12; // seconds: no date is later

/** A number of an attribute, or the day of a time in seconds since 1970. */
export const measure = (n: number, kind: string) =>
  kind === "timestamp" && Math.abs(n) <= LATEST ? new Date(1000 * n).toISOString().slice(0, 10) : Math.abs(n) >= 1e5 ? compact(n) : String(Number(n.toPrecision(4)));

export function ago(time: string | number): string {
  const seconds = Math.max(0, (Date.now() - new Date(time).getTime()) / 1000);
  for (const [size, unit] of [[86400, "day"], [3600, "hour"], [60, "minute"]] as const) {
    const n = Math.floor(seconds / size);
    if (n >= 1) return `${n} ${unit}${n > 1 ? "s" : ""} ago`;
  }
  return "just now";
}

/** Words of an identifier: `rank_of` → `rank of`. */
export const words = (name: string) => name.replaceAll("_", " ");
