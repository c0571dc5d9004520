// The experiments that run: how each arm answers, what was accepted, and how sure that is.
import { useEffect, useState } from "preact/hooks";
import { type Arm, type Experiments, Problem, call } from "../api";
import { compact, percent } from "../format";

const EVERY_MS = 10_000;

export function ExperimentsPanel() {
  const [known, setKnown] = useState<Experiments>();
  const [problem, setProblem] = useState("");
  useEffect(() => {
    let gone = false;
    const look = () => call<Experiments>("v1/experiments").then((one) => { if (!gone) { setKnown(one); setProblem(""); } },
      (error: Problem) => { if (!gone && error.status !== 404) setProblem(error.message); });
    void look();
    const timer = setInterval(() => { if (!document.hidden) void look(); }, EVERY_MS);
    return () => { gone = true; clearInterval(timer); };
  }, []);
  if (problem) return <p class="card problem" role="alert">Experiments: {problem}</p>;
  if (!known?.experiments.length && !known?.fault) return null;
  return (
    <section class="card experiments" id="experiments" aria-label="Experiments">
      <h2>Experiments</h2>
      {known.fault && <p class="note warn">The file of experiments cannot be read, so those that ran before go on: {known.fault}</p>}
      {known.experiments.map((one) => {
        const most = Math.max(...one.arms.map((arm) => arm.interval?.[1] ?? arm.rate ?? 0), 1e-9);
        return (
          <table key={one.name}>
            <caption>{one.name} <span class="soft small">{one.relations.length ? `splits the users of ${one.relations.join(", ")}` : "splits nobody now"}{one.reason && `: ${one.reason}`}</span></caption>
            <thead><tr><th>arm</th><th class="extra">strategy</th><th class="number extra">users</th><th class="number extra">shown</th><th class="number">clicked</th><th class="number">clicks an impression</th><th class="bar-column"><span class="unseen">interval of 95%</span></th></tr></thead>
            <tbody>{one.arms.map((arm) => <ArmRow key={arm.name} arm={arm} most={most} />)}</tbody>
          </table>
        );
      })}
      <p class="soft small">The bar is the interval in which the true rate lies with 95% certainty. Where the bars of two arms overlap, wait for more impressions.</p>
    </section>
  );
}

function ArmRow({ arm, most }: { arm: Arm; most: number }) {
  const [low, high] = arm.interval ?? [0, 0];
  const told = arm.interval ? `${percent(low, 1)} to ${percent(high, 1)}` : "";
  return (
    <tr>
      <td>{arm.name}</td><td class="extra">{arm.strategy}{arm.version && <span class="soft small"> of {arm.version}</span>}</td><td class="number extra">{percent(arm.share)}</td><td class="number extra">{compact(arm.impressions)}</td><td class="number">{compact(arm.clicks)}</td>
      <td class="number">{arm.rate === null ? "–" : percent(arm.rate, 1)}{told && <><br /><span class="soft small">{told}</span></>}</td>
      <td class="bar-column">{arm.interval && <div class="track interval" title={told}><i style={{ marginLeft: `${(100 * low) / most}%`, width: `${Math.max(1, (100 * (high - low)) / most)}%` }} />{arm.rate !== null && <s style={{ left: `calc(${(100 * arm.rate) / most}% - 1px)` }} />}</div>}</td>
    </tr>
  );
}
