// Prometheus' text format, read; and what two readings say of the time between them.
export interface Sample { name: string; labels: Record<string, string>; value: number }
export interface Reading { at: number; samples: Sample[] }
export interface Moment {
  at: number; requests: number; errors: number; refused: number; shed: number; p50: number | null; p99: number | null; inflight: number; lag: number;
}

const LINE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/;
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g;

export function parse(text: string): Sample[] {
  const samples: Sample[] = [];
  for (const line of text.split("\n")) {
    const found = line.startsWith("#") ? null : LINE.exec(line);
    if (!found) continue;
    const labels = Object.fromEntries([...(found[2] ?? "").matchAll(LABEL)].map((one) => [one[1], one[2]]));
    samples.push({ name: found[1]!, labels, value: Number(found[3]!.replace("+Inf", "Infinity")) });
  }
  return samples;
}

export function sum(samples: Sample[], name: string, wanted: (labels: Record<string, string>) => boolean = () => true): number {
  return samples.reduce((total, one) => (one.name === name && wanted(one.labels) ? total + one.value : total), 0);
}

const product = (labels: Record<string, string>) => !/^\/(metrics|livez|readyz|startupz|studio|v1\/(info|map|map:entities|attributes|search|manifests|experiments))?(\/|$)/.test(labels.route ?? "");

/** The quantile of a histogram's growth, in milliseconds, interpolated within its bucket; null without growth. */
function quantile(before: Sample[], after: Sample[], share: number): number | null {
  const buckets = new Map<number, number>();
  for (const [samples, sign] of [[after, 1], [before, -1]] as const) {
    for (const one of samples) {
      if (one.name !== "twhin_http_request_duration_seconds_bucket" || !product(one.labels)) continue;
      const edge = Number(one.labels.le!.replace("+Inf", "Infinity"));
      buckets.set(edge, (buckets.get(edge) ?? 0) + sign * one.value);
    }
  }
  const edges = [...buckets].sort((a, b) => a[0] - b[0]);
  const total = edges.at(-1)?.[1] ?? 0;
  if (total <= 0) return null;
  let [low, below] = [0, 0];
  for (const [edge, count] of edges) {
    if (count >= share * total) {
      if (!Number.isFinite(edge)) return 1000 * low;
      return 1000 * (low + ((edge - low) * (share * total - below)) / Math.max(1e-9, count - below));
    }
    [low, below] = [edge, count];
  }
  return 1000 * low;
}

export function between(before: Reading, after: Reading): Moment {
  const seconds = Math.max(0.001, (after.at - before.at) / 1000);
  const rate = (name: string, wanted?: (labels: Record<string, string>) => boolean) =>
    Math.max(0, sum(after.samples, name, wanted) - sum(before.samples, name, wanted)) / seconds;
  const requests = "twhin_http_requests_total";
  return {
    at: after.at / 1000,
    requests: rate(requests, product),
    errors: rate(requests, (labels) => product(labels) && labels.status_class === "5xx"),
    refused: rate(requests, (labels) => product(labels) && labels.status_class === "4xx"),
    shed: rate("twhin_shed_total"),
    p50: quantile(before.samples, after.samples, 0.5),
    p99: quantile(before.samples, after.samples, 0.99),
    inflight: sum(after.samples, "twhin_http_inflight_requests"),
    lag: 1000 * sum(after.samples, "twhin_event_loop_lag_seconds"),
  };
}
