// How the best strategy and the best baseline measured from version to version.
import type { Measures, VersionItem } from "../api";
import { Chart } from "../chart";

const best = (measures: Measures | undefined, metric: string) =>
  Math.max(...Object.values(measures ?? {}).map((one) => one[metric] ?? -Infinity));
const orNull = (n: number) => (Number.isFinite(n) ? n : null);

export function Timeline({ versions, metric }: { versions: VersionItem[]; metric: string }) {
  const measured = versions.filter((one) => one.created && orNull(best(one.evaluation?.strategies, metric)) !== null).reverse();
  if (measured.length < 2) return null;
  return (
    <Chart title={`${metric} from version to version`} points times={measured.map((one) => new Date(one.created!).getTime() / 1000)} lines={[
      { label: "best strategy", colour: "#3d7de0", values: measured.map((one) => orNull(best(one.evaluation?.strategies, metric))) },
      { label: "best baseline", colour: "#c2741f", values: measured.map((one) => orNull(best(one.evaluation?.baselines, metric))) },
    ]} />
  );
}
