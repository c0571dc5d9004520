// The versions on disk: which one serves, what each measured, and how two of them differ.
import { useEffect, useState } from "preact/hooks";
import { type Info, type VersionItem, call } from "../api";
import { address, follow, go } from "../address";
import { ago } from "../format";
import { Administration } from "./admin";
import { CompressionCurves } from "./compression";
import { Bars, Facts, Gates, Indexes, isMeasured, metricsOf } from "./detail";
import { Drift } from "./moved";
import { Timeline } from "./timeline";
import { Verdict, WHY_UNMEASURED, measuredIn } from "./verdict";

const NO_OTHER = "none";

/** The version to compare with: the one asked for, else the one that this was warm started from, or the one before it. */
function beside(versions: VersionItem[], shown: VersionItem, asked: string | null): VersionItem | undefined {
  if (asked === NO_OTHER) return undefined;
  const others = versions.filter((one) => one !== shown && one.evaluation);
  const earlier = versions.slice(versions.indexOf(shown) + 1);
  return others.find((one) => one.version === asked) ?? others.find((one) => one.version === shown.parent || one.run === shown.parent) ?? others.find((one) => earlier.includes(one));
}

export function VersionsView({ info, query, onChanged }: { info: Info; query: URLSearchParams; onChanged: () => void }) {
  const [versions, setVersions] = useState<VersionItem[]>();
  const [problem, setProblem] = useState("");
  const [again, setAgain] = useState(0);
  useEffect(() => {
    setProblem("");
    call<{ versions: VersionItem[] }>("v1/manifests").then((one) => setVersions(one.versions), (error: Error) => setProblem(error.message));
  }, [info.version, again]);

  if (problem) return <div class="card problem" role="alert"><p>{problem}</p><button onClick={() => setAgain(again + 1)}>Try again</button></div>;
  if (!versions) return <p class="soft" role="status">Reading the versions…</p>;
  const shown = versions.find((one) => one.version === query.get("version")) ?? versions.find((one) => one.serving) ?? versions[0];
  if (!shown) return <p>There is no version on disk any more.</p>;
  const gone = [...new Set(["version", "before"].map((name) => query.get(name)))].filter((name) => name && name !== NO_OTHER && !versions.some((one) => one.version === name));
  const before = beside(versions, shown, query.get("before"));
  const standard = Object.values(shown.spaces ?? {})[0]?.default.relation ?? "";
  const relations = [standard, ...Object.keys(shown.evaluation?.relations ?? {})];
  const relation = relations.find((one) => one === query.get("of")) ?? standard;
  const evaluation = measuredIn(shown, relation);
  const earlier = measuredIn(before, relation);
  const metrics = metricsOf({ ...evaluation?.strategies, ...evaluation?.baselines, ...evaluation?.newcomers });
  const metric = metrics.find((one) => one === query.get("metric")) ?? metrics[0];
  const users = Object.values(evaluation?.strategies ?? {})[0]?.users;
  const chosen = Object.values(shown.spaces ?? {})[0]?.answers[relation];

  return (
    <div class="versions">
      <h1 class="unseen">Versions</h1>
      <nav class="card" aria-label="Versions on disk">
        <ol class="list">
          {versions.map((one) => {
            const to = { view: "versions", version: one.version };
            const missed = one.evaluation?.gates.filter((gate) => gate.measured < gate.floor).length ?? 0;
            return (
              <li key={one.version}>
                <a class="version" href={address(to)} onClick={follow(to)} aria-current={one === shown ? "true" : undefined}>
                  <b>{one.version}</b>
                  <span class="soft small">{one.created ? ago(one.created) : "unreadable"}</span>
                  <span class="badges">
                    {one.serving && <span class="badge up">serving</span>}
                    {one.published && !one.serving && <span class="badge same">published</span>}
                    {one.refused && <span class="badge down">refused</span>}
                    {one.fault && <span class="badge down">{one.fault}</span>}
                    {one.evaluation && !isMeasured(one) && <span class="badge same">recall not measured</span>}
                    {missed > 0 && <span class="badge down">{missed} gates missed</span>}
                  </span>
                </a>
              </li>
            );
          })}
        </ol>
      </nav>
      <div class="detail">
        {gone.length > 0 && <p class="card problem" role="alert">Not on disk: {gone.join(", ")}. Shown is {shown.version}{before ? ` beside ${before.version}` : ""}.</p>}
        <section class="card" aria-labelledby="version-title">
          <div class="row spread">
            <h2 id="version-title">{shown.version}</h2>
            <label>Compare with<select value={before?.version ?? NO_OTHER} onChange={(event) => go({ before: event.currentTarget.value })}>
              <option value={NO_OTHER}>no other</option>
              {versions.filter((one) => one !== shown && one.evaluation).map((one) => <option key={one.version} value={one.version}>{one.version}</option>)}
            </select></label>
          </div>
          {shown.refused && <p class="problem">Refused: {shown.refused}</p>}
          {shown.fault ? <p class="problem">It cannot be read ({shown.fault}). `twhin bundle verify` says where it is damaged.</p> : <Facts of={shown} before={before} versions={versions} />}
          <Administration key={shown.version} of={shown} onChanged={() => { setAgain(again + 1); onChanged(); }} />
        </section>
        {before && !shown.fault && !before.fault && <Verdict now={shown} then={before} />}
        {!shown.fault && <section class="card"><Gates of={shown} /></section>}
        {evaluation && metric && (
          <section class="card" aria-label="What the strategies find">
            <div class="row spread">
              <p class="soft small">Measured on held-out edges{users ? ` of ${users} users` : ""} when it was built{before && `; the mark is ${before.version}`}.</p>
              {relations.length > 1 && <label>Relation<select value={relation} onChange={(event) => go({ of: event.currentTarget.value })}>
                {relations.map((one) => <option key={one} value={one}>{one}</option>)}</select></label>}
              <label>Measure<select value={metric} onChange={(event) => go({ metric: event.currentTarget.value })}>
                {metrics.map((one) => <option key={one} value={one}>{one}</option>)}</select></label>
            </div>
            <Bars title="Users in training, against baselines" measures={evaluation.strategies} baselines={evaluation.baselines} metric={metric}
              auto={chosen?.auto ?? null} before={earlier && { ...earlier.baselines, ...earlier.strategies }} />
            <Bars title="Newcomers: users shown with a few engagements alone" measures={evaluation.newcomers} baselines={{}} metric={metric}
              auto={chosen?.auto_newcomer ?? chosen?.auto ?? null} before={earlier?.newcomers} />
            <Timeline versions={versions} relation={relation} metric={metric} />
          </section>
        )}
        {shown.evaluation && !metric && <section class="card"><p class="soft">No strategies were measured. {WHY_UNMEASURED}</p></section>}
        {!shown.fault && <Drift of={shown} />}
        {!shown.fault && <section class="card"><Indexes of={shown} /></section>}
        {!shown.fault && <CompressionCurves of={shown} />}
      </div>
    </div>
  );
}
