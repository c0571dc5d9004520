// One version: its gates, what its strategies recall, what its indexes cost; beside another one where that is asked.
import type { Measures, VersionItem } from "../api";
import { address, follow } from "../address";
import { compact, fixed, megabytes, percent } from "../format";
import { Tradeoff } from "./tradeoff";

const METRICS = ["recall@10", "recall@50", "ndcg@10", "coverage"];

export function metricsOf(measures: Measures): string[] {
  const all = new Set(Object.values(measures).flatMap((one) => Object.keys(one)));
  all.delete("users");
  return [...all].sort((a, b) => (METRICS.indexOf(a) + 99) % 99 - (METRICS.indexOf(b) + 99) % 99 || a.localeCompare(b));
}

export function Gates({ of }: { of: VersionItem }) {
  const gates = of.evaluation?.gates ?? [];
  if (!gates.length) return <p class="soft">No gates: nothing was measured when it was built.</p>;
  return (
    <table class="gates">
      <caption>Gates</caption>
      <thead><tr><th>what</th><th class="number">measured</th><th class="number">floor</th><th>outcome</th></tr></thead>
      <tbody>{gates.map((gate) => {
        const passed = gate.measured >= gate.floor;
        return (
          <tr key={gate.metric}><td>{gate.metric}</td><td class="number">{fixed(gate.measured, 4)}</td><td class="number">{Number(gate.floor.toFixed(4))}</td>
            <td><span class={`badge ${passed ? "up" : "down"}`}>{passed ? "passed" : "missed"}</span>{gate.forced && ` published nevertheless: ${gate.forced}`}</td></tr>
        );
      })}
      {!isMeasured(of) && <tr><td>recall of the answers</td><td class="number">not measured</td><td class="number">–</td><td><span class="badge same">unknown</span></td></tr>}</tbody>
    </table>
  );
}

/** Bars of one measure, best first; baselines are told apart, and `before` is another version's value. */
export function Bars({ title, measures, baselines, metric, auto, before }: {
  title: string; measures: Measures; baselines: Measures; metric: string; auto: string | null; before?: Measures | undefined;
}) {
  const rows = [
    ...Object.entries(measures).map(([name, one]) => ({ name, value: one[metric], kind: "strategy" })),
    ...Object.entries(baselines).map(([name, one]) => ({ name, value: one[metric], kind: "baseline" })),
  ].filter((row): row is typeof row & { value: number } => row.value !== undefined).sort((a, b) => b.value - a.value);
  if (!rows.length) return null;
  const most = Math.max(...rows.map((row) => row.value), ...Object.values(before ?? {}).map((one) => one[metric] ?? 0), 1e-9);
  return (
    <table class="bars">
      <caption>{title}</caption>
      <thead><tr><th>by</th><th class="number">{metric}</th><th class="bar-column"><span class="unseen">bar</span></th>{before && <th class="number">difference</th>}</tr></thead>
      <tbody>{rows.map(({ name, value, kind }, i) => {
        const was = before?.[name]?.[metric];
        return (
          <tr key={`${kind} ${name}`} class={kind}>
            <td>{name}{name === auto && kind === "strategy" && <span class="badge same">auto</span>}{kind === "baseline" && <span class="soft small"> baseline</span>}</td>
            <td class="number">{i === 0 ? <b>{fixed(value, 4)}</b> : fixed(value, 4)}{i === 0 && <span class="unseen"> (best)</span>}</td>
            <td class="bar-column"><div class="track"><i style={{ width: `${(100 * value) / most}%` }} />{was !== undefined && <s style={{ left: `calc(${(100 * was) / most}% - 1px)` }} />}</div></td>
            {before && <td class={`number ${was === undefined ? "" : value >= was ? "better" : "worse"}`}>{was === undefined ? "–" : `${value >= was ? "+" : "−"}${fixed(Math.abs(value - was), 4)}`}</td>}
          </tr>
        );
      })}</tbody>
    </table>
  );
}

export function Indexes({ of }: { of: VersionItem }) {
  const space = Object.values(of.spaces ?? {})[0];
  if (!space) return null;
  return (
    <>
      <table>
        <caption>Indexes: what a search finds, and what it costs</caption>
        <thead><tr><th>type</th><th>kind</th><th class="number extra">entities</th><th class="number">recall</th><th class="number">CPU µs a query</th><th class="number">bytes a vector</th></tr></thead>
        <tbody>{Object.entries(space.indexes).map(([type, one]) => (
          <tr key={type}><td>{type}</td><td>{one.kind}</td><td class="number extra">{compact(space.entities[type] ?? 0)}</td>
            <td class="number">{fixed(Object.values(one.recall)[0], 4)}</td><td class="number">{fixed(one.cpu_us_per_query, 0)}</td><td class="number">{fixed(one.bytes_per_vector, 0)}</td></tr>
        ))}</tbody>
      </table>
      <div class="charts">{Object.entries(space.indexes).map(([type, one]) => <Tradeoff key={type} type={type} index={one} />)}</div>
    </>
  );
}

/** Whether what the strategies answer was measured: without held-out edges, or with --quick, it was not. */
export const isMeasured = (one: VersionItem) => Object.keys(one.evaluation?.strategies ?? {}).length > 0;

export function Facts({ of, before, versions }: { of: VersionItem; before?: VersionItem | undefined; versions: VersionItem[] }) {
  const space = Object.values(of.spaces ?? {})[0];
  const older = Object.values(before?.spaces ?? {})[0];
  if (!space) return null;
  const total = (counts: Record<string, number>) => Object.values(counts).reduce((sum, n) => sum + n, 0);
  const grown = (now: number, then: number | undefined) => (then && now !== then ? ` (${now >= then ? "+" : "−"}${percent(Math.abs(now / then - 1), 1)})` : "");
  const entities = total(space.entities);
  const edges = total(space.relations);
  return (
    <dl class="facts">
      <div><dt>entities</dt><dd>{compact(entities)}{older && grown(entities, total(older.entities))}</dd></div>
      <div><dt>edges</dt><dd>{compact(edges)}{older && grown(edges, total(older.relations))}</dd></div>
      <div><dt>dimensions</dt><dd>{space.dim}</dd></div>
      <div><dt>clusters</dt><dd>{space.clusters}</dd></div>
      <div><dt>default</dt><dd>{space.default.relation}, by {space.auto}</dd></div>
      <div><dt>on disk</dt><dd>{megabytes(of.size_bytes ?? 0)}</dd></div>
      {of.parent && <div><dt>warm start from</dt><dd><Parent name={of.parent} versions={versions} /></dd></div>}
      {of.code_revision && <div><dt>code</dt><dd>{of.code_revision.slice(0, 10)}</dd></div>}
    </dl>
  );
}

/** What the training began from: a version, or a run, of which a version may have been built. */
function Parent({ name, versions }: { name: string; versions: VersionItem[] }) {
  const link = (version: string) => <a href={address({ view: "versions", version })} onClick={follow({ view: "versions", version })}>{version}</a>;
  const built = versions.find((one) => one.run === name);
  if (versions.some((one) => one.version === name)) return link(name);
  return built ? <>the run of {link(built.version)}</> : <>{name} <span class="soft">(no version here is of it)</span></>;
}
