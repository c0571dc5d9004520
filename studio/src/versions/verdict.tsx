// Whether one version recommends better than another, and for whom: what each measured by its own best strategy.
import type { ComponentChildren } from "preact";
import type { Measured, VersionItem } from "../api";
import { fixed } from "../format";

interface Row { whom: string; then: number; now: number; users: number; outcome: Outcome }
type Outcome = "better" | "worse" | "about the same";
export const WHY_UNMEASURED = "Either it was built with --quick, which measures none, or its graph held no edges out: a [split] in graph.toml does.";
const MEASURE = "recall@10";
const ONE_WAY = "one_way_recall@10";

export function Verdict({ now, then }: { now: VersionItem; then: VersionItem }) {
  const rows = relationsOf(now).flatMap((relation) => rowsOf(relation, now, then));
  const whom = (outcome: Outcome) => rows.filter((row) => row.outcome === outcome).map((row) => row.whom);
  const said = (["better", "worse", "about the same"] as const).map((outcome) => ({ outcome, whom: whom(outcome) })).filter((one) => one.whom.length > 0);
  // The older one stands left.
  const ordered = (other: ComponentChildren, own: ComponentChildren) => (Date.parse(then.created ?? "") > Date.parse(now.created ?? "") ? [own, other] : [other, own]);
  return (
    <section class="card" id="verdict" aria-label="Is it better, and for whom">
      <h2>Is it better than {then.version}, and for whom?</h2>
      {rows.length === 0 && <p class="soft">That is not known: {unmeasured([then, now])}</p>}
      {said.length === 1 && <p><b>{said[0]!.outcome[0]!.toUpperCase() + said[0]!.outcome.slice(1)}</b> for everybody that was measured.</p>}
      {said.length > 1 && said.map(({ outcome, whom }) => <p key={outcome}><b>{outcome[0]!.toUpperCase() + outcome.slice(1)}</b> for {whom.join("; ")}.</p>)}
      {rows.length > 0 && now.graph_digest !== then.graph_digest && (
        <p class="note">The two were trained on different graphs, so they were measured on different edges: a small difference may come from those.</p>
      )}
      {rows.length > 0 && <>
        <table>
          <caption>{MEASURE}, each by its own best strategy</caption>
          <thead><tr><th>for whom</th>{ordered(<th class="number">{then.version}</th>, <th class="number">{now.version}, this one</th>)}<th class="number extra">difference</th><th>outcome</th></tr></thead>
          <tbody>{rows.map((row) => (
            <tr key={row.whom}><td>{row.whom}</td>{ordered(<td class="number">{fixed(row.then, 4)}</td>, <td class="number">{fixed(row.now, 4)}</td>)}
              <td class="number extra">{row.now >= row.then ? "+" : "−"}{fixed(Math.abs(row.now - row.then), 4)}</td>
              <td><span class={`badge ${row.outcome === "better" ? "up" : row.outcome === "worse" ? "down" : "same"}`}>{row.outcome}</span></td></tr>
          ))}</tbody>
        </table>
        <p class="soft small">“About the same”: a difference that chance alone makes in one of twenty comparisons of so many users, or smaller. Recall on held-out edges
          says how well old choices are foretold; whether people like what they get, an experiment says. <code>twhin compare</code> asks both the same questions, with an interval for every difference.</p>
      </>}
    </section>
  );
}

/** Why there is nothing to compare, by version. */
function unmeasured(both: VersionItem[]): string {
  const without = both.filter((one) => !Object.keys(one.evaluation?.strategies ?? {}).length).map((one) => one.version);
  return without.length ? `no strategies of ${without.join(" and ")} were measured. ${WHY_UNMEASURED}` : "no relation was measured in both.";
}

function relationsOf(one: VersionItem): string[] {
  const standard = spaceOf(one)?.default.relation;
  return standard ? [standard, ...Object.keys(one.evaluation?.relations ?? {})] : [];
}

const spaceOf = (one: VersionItem) => Object.values(one.spaces ?? {})[0];

export function measuredIn(one: VersionItem | undefined, relation: string): Measured | undefined {
  return one && spaceOf(one)?.default.relation === relation ? one.evaluation : one?.evaluation?.relations?.[relation];
}

function rowsOf(relation: string, now: VersionItem, then: VersionItem): Row[] {
  const row = (whom: string, newcomers: boolean, metric: string): Row[] => {
    const [a, b] = [valueOf(then, relation, newcomers, metric), valueOf(now, relation, newcomers, metric)];
    if (!a || !b) return [];
    const users = Math.min(a.users, b.users);
    return [{ whom: `${relation}: ${whom}`, then: a.value, now: b.value, users, outcome: outcomeOf(a.value, b.value, users) }];
  };
  return [
    ...row("users in training", false, MEASURE),
    ...row("users in training, edges that answer none", false, ONE_WAY),
    ...row("newcomers", true, MEASURE),
  ];
}

function valueOf(one: VersionItem, relation: string, newcomers: boolean, metric: string) {
  const [measured, chosen] = [measuredIn(one, relation), spaceOf(one)?.answers[relation]];
  const name = (newcomers ? chosen?.auto_newcomer : undefined) ?? chosen?.auto;
  const of = name === undefined ? undefined : (newcomers ? measured?.newcomers : measured?.strategies)?.[name];
  const value = of?.[metric];
  return value === undefined ? undefined : { value, users: of?.users ?? 0 };
}

/** A mean of n shares p has a standard error of √(p(1−p)/n) at most, and two means differ by chance by √2 of it. */
function outcomeOf(then: number, now: number, users: number): Outcome {
  const p = (then + now) / 2;
  const chance = users > 0 ? 1.96 * Math.sqrt((2 * p * (1 - p)) / users) : Infinity;
  return Math.abs(now - then) <= chance ? "about the same" : now > then ? "better" : "worse";
}
