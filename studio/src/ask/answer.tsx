// One answer: how it came about, and its candidates with reasons; beside another one with what changed.
import type { Answer } from "../api";
import { fixed, percent, words } from "../format";
import { EntityLink, type Names } from "./links";
import type { Other } from "./question";
import { type Change, LEAST, Reasons } from "./reasons";

const FALLBACKS: Record<string, string> = {
  deeper_search: "Exclusions had emptied the stored lists, so the interests were searched live.",
  fold_in: "The user has no trained vector: engagements stand in for it.",
  user_vector: "The user has no engagements: the trained vector stands in for them.",
  popular: "Places were filled with popular candidates.",
};
const DEGRADED: Record<string, string> = {
  reduced_depth: "The service is busy and searched less deeply.",
  engagements_unavailable: "The store of live engagements did not answer in time.",
  short: "Fewer candidates are eligible than were asked for.",
};

function howOf(answer: Answer, asked: string): string {
  const { experiment } = answer;
  const by = experiment ? ` (experiment ${experiment.name}, arm ${experiment.arm})` : asked === "auto" ? " (chosen by auto)" : "";
  const parts = [`Strategy ${answer.strategy}${by}`];
  if (answer.candidates.length && answer.candidates.every((one) => one.mode === null)) parts.push("one ranking for all interests");
  parts.push(`${answer.explain.excluded} excluded as seen`);
  return parts.join(" · ");
}

function Badge({ change }: { change: Change | undefined }) {
  if (!change || change.kind === "same") return null;
  if (change.kind !== "moved") return <span class={`badge ${change.kind}`}>{change.kind}</span>;
  const up = change.by > 0;
  return <span class={`badge ${up ? "up" : "down"}`}><span aria-hidden="true">{up ? "↑" : "↓"}</span>
    <span class="unseen">{up ? "up " : "down "}</span>{Math.abs(change.by)}</span>;
}

export function Candidates({ answer, asked, colours, names, userType, changed, title, onEngage }: {
  answer: Answer; asked: string; colours: Map<number, string>; names: Names; userType: string;
  changed?: Map<string, Change> | undefined; title: string; onEngage?: ((id: string) => void) | undefined;
}) {
  const type = answer.explain.candidate_type;
  const scores = answer.candidates.map((one) => one.score);
  const [low, high] = [Math.min(0, ...scores), Math.max(...scores, 1e-9)];
  return (
    <section class="card candidates" aria-label={title}>
      <h2>{title}</h2>
      <p class="soft small how">{howOf(answer, asked)}</p>
      {answer.candidates.some((one) => one.why?.reasons?.some((reason) => reason.share >= LEAST)) &&
        <p class="soft small">Below each name: why it is here. A percentage is that reason's share of the score, the number at the right.</p>}
      {!answer.known && <p class="note">The training does not know this user. Candidates come from engagements, or from popularity.</p>}
      {answer.fallback && <p class="note">{FALLBACKS[answer.fallback] ?? words(answer.fallback)}</p>}
      {answer.degraded.map((one) => <p key={one} class="note warn">{DEGRADED[one] ?? words(one)}</p>)}
      {answer.candidates.length === 0 && <p>No candidate is eligible. Let what was seen back in, or ask for another relation.</p>}
      <ol class="list">
        {answer.candidates.map((one, i) => (
          <li key={one.id} class="candidate">
            <span class="rank">{i + 1}</span>
            <span class="body">
              <span class="row spread">
                <span class="id"><EntityLink entity={{ type, id: one.id, ...(one.label ? { label: one.label } : {}) }} userType={userType} names={names} /> <Badge change={changed?.get(one.id)} /></span>
                <span class="score" title="score"><i style={{ width: `${(100 * Math.max(0, one.score - low)) / (high - low)}%` }} />{fixed(one.score)}</span>
              </span>
              <span class="why small">
                {one.mode !== null && <i class="dot" style={{ background: colours.get(one.mode) }} />}
                <Reasons candidate={one} answer={answer} names={names} userType={userType} />
              </span>
              {onEngage && <button class="link small" onClick={() => onEngage(one.id)}>What if the user had this?</button>}
            </span>
          </li>
        ))}
      </ol>
    </section>
  );
}

export function Gone({ before, changed, type, userType, names }: {
  before: Answer; changed: Map<string, Change>; type: string; userType: string; names: Names;
}) {
  const gone = before.candidates.filter((one) => changed.get(one.id)?.kind === "gone");
  if (!gone.length) return null;
  return (
    <p class="small soft gone">Gone: {gone.map((one, i) => (
      <span key={one.id}>{i > 0 && ", "}<EntityLink entity={{ type, id: one.id }} userType={userType} names={names} /></span>
    ))} ({percent(gone.length / before.candidates.length)} of the first list)</p>
  );
}

/** In a sentence what changed from one list to the other, and which interests weigh more or less. */
export function Changes({ of, before, after, beside, names, userType, colours }: {
  of: Map<string, Change>; before: Answer; after: Answer; beside: Other; names: Names; userType: string; colours: Map<number, string>;
}) {
  const number = (kind: Change["kind"]) => [...of.values()].filter((one) => one.kind === kind).length;
  const [fresh, gone, moved, same] = [number("new"), number("gone"), number("moved"), number("same")];
  const had = before.candidates.filter((one) => of.get(one.id)?.kind === "had");
  const others = had.length ? "The others: " : "";
  const shares = (answer: Answer) => new Map(answer.explain.modes.map((one) => [one.cluster, one]));
  const [then, now] = [shares(before), shares(after)];
  // Clusters of two versions have nothing to do with each other, and strategies take some of the interests or none.
  const shifted = !beside.whatIf ? [] : [...new Set([...then.keys(), ...now.keys()])].map((cluster) => ({
    cluster, was: then.get(cluster)?.weight ?? 0, is: now.get(cluster)?.weight ?? 0, mode: (now.get(cluster) ?? then.get(cluster))!,
  })).filter((one) => Math.abs(one.is - one.was) >= 0.005).sort((a, b) => Math.abs(b.is - b.was) - Math.abs(a.is - a.was));
  return (
    <section class="card" id="changes" aria-label="What changes" aria-live="polite">
      <h2>What changes</h2>
      {had.length > 0 && <p>{had.map((one, i) => (
        <span key={one.id}>{i > 0 && ", "}<EntityLink entity={{ type: before.explain.candidate_type, id: one.id }} userType={userType} names={names} /></span>
      ))} {had.length > 1 ? "leave" : "leaves"} the list: what the user has is not recommended.</p>}
      <p>{fresh + gone + moved + had.length === 0 ? "Nothing: both lists are the same." : `${others}${fresh} new, ${gone} gone, ${moved} moved, ${same} in the same place.`}</p>
      {shifted.length > 0 && (
        <ul class="list small" aria-label="Interests that weigh more or less">
          {shifted.map(({ cluster, was, is, mode }) => (
            <li key={cluster}><i class="dot" style={{ background: colours.get(cluster) }} />like <EntityLink entity={{ type: mode.medoid_type, id: mode.medoid }} userType={userType} names={names} />: {percent(was)} → <b>{percent(is)}</b></li>
          ))}
        </ul>
      )}
    </section>
  );
}
