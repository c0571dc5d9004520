// How the best strategy and the best baseline measured from version to version.
import type { Measures, VersionItem } from "../api";
import { Chart } from "../chart";
import { measuredIn } from "./verdict";

const best = (measures: Measures | undefined, metric: string) =>
  Math.max(...Object.values(measures ?? {}).map((one) => one[metric] ?? -Infinity));
const orNull = (n: number) => (Number.isFinite(n) ? n : null);

export function Timeline({ versions, relation, metric }: { versions: VersionItem[]; relation: string; metric: string }) {
  const of = (one: VersionItem, kind: "strategies" | "baselines") => orNull(best(measuredIn(one, relation)?.[kind], metric));
  const measured = versions.filter((one) => one.created && of(one, "strategies") !== null).reverse();
  if (measured.length < 2) return null;
  return (
    <Chart title={`${metric} from version to version`} points times={measured.map((one) => new Date(one.created!).getTime() / 1000)} lines={[
      { label: "best strategy", colour: "#3d7de0", values: measured.map((one) => of(one, "strategies")) },
      { label: "best baseline", colour: "#c2741f", values: measured.map((one) => of(one, "baselines")) },
    ]} />
  );
}
