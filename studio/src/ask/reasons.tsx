// Why a candidate is there: what speaks for it, the user's own engagements by name, and the interest it fits.
import type { Answer, Candidate, Entity, Reason } from "../api";
import { percent, words } from "../format";
import { EntityLink, type Names } from "./links";

const SHOWN = 3;
/** A share of the score that is worth a figure. */
export const LEAST = 0.005;

export function Reasons({ candidate, answer, names, userType }: { candidate: Candidate; answer: Answer; names: Names; userType: string }) {
  const reasons = candidate.why?.reasons ?? [];
  if (!reasons.length) return <>{placeOf(candidate, answer)}</>;
  return <>
    {reasons.slice(0, SHOWN).map((one, i) => (
      <span key={i}>{i > 0 && " · "}<Told reason={one} relation={answer.explain.relation} names={names} userType={userType} />{one.share >= LEAST && <span class="share" title={`${percent(one.share)} of the score come from this`}> {percent(one.share)}</span>}</span>
    ))}
  </>;
}

function Told({ reason, relation, names, userType }: { reason: Reason; relation: string; names: Names; userType: string }) {
  const because = (reason.because ?? []).map((one: Entity, i) => (
    <span key={one.id}>{i > 0 && ", "}<EntityLink entity={one} userType={userType} names={names} /></span>
  ));
  const more = reason.count && reason.count > because.length ? ", …" : "";
  switch (reason.kind) {
    case "near": return <>near the user's own {because}</>;
    case "followed_by": return reason.count ? <>{reason.count} that the user {reason.via} {reason.count === 1 ? "has" : "have"} it ({because}{more})</> : <>engaged with by those followed</>;
    case "follows_you": return <>{words(relation)} the user</>;
    case "elsewhere": return <>the user {words(reason.via ?? "engages with")} it</>;
    case "near_followers": return <>near those who follow the user</>;
    case "taste": return <>near the user's own vector</>;
    case "popular": return <>popular</>;
    default: return <>{words(reason.kind)} {because}</>;
  }
}

/** Where it came from, for answers that name no reasons. */
function placeOf(candidate: Candidate, answer: Answer): string {
  const { why } = candidate;
  if (why?.source === "popular") return "popular with everybody";
  const mode = answer.explain.modes.find((one) => one.cluster === candidate.mode);
  const from = mode ? `fits interest ${mode.cluster} (${percent(mode.weight)} of the user)` : "fits all that the user likes together";
  return why ? `${from} · ${why.source === "search" ? "found by search" : words(why.source)}, place ${why.rank + 1}` : from;
}

export type Change = { kind: "new" | "gone" | "same" | "had" } | { kind: "moved"; by: number };

/**
 * How the list `after` differs from `before`, by id: a positive `by` is nearer the top. What the user would have leaves the list by that
 * alone: it is `had`, and that the others close up is no move.
 */
export function changes(before: Candidate[], after: Candidate[], had: string[] = []): Map<string, Change> {
  const listed = new Set(after.map((one) => one.id));
  const left = new Set(had.filter((id) => !listed.has(id)));
  const places = new Map(before.filter((one) => !left.has(one.id)).map((one, i) => [one.id, i]));
  const made = new Map<string, Change>(after.map((one, i) => {
    const was = places.get(one.id);
    return [one.id, was === undefined ? { kind: "new" } : was === i ? { kind: "same" } : { kind: "moved", by: was - i }];
  }));
  for (const one of before) if (!made.has(one.id)) made.set(one.id, { kind: left.has(one.id) ? "had" : "gone" });
  return made;
}
