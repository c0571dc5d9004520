// What somebody has, and who has something: counts by relation, and behind each the whole list.
import { useEffect, useState } from "preact/hooks";
import { type Edges, type Ends, type Entity, edgesOf } from "../api";
import { count } from "../format";
import { VirtualList } from "../virtual";
import { EntityLink, type Names } from "./links";

export const PAGE = 100;
const HEIGHT = 252; // seven rows
const NONE: Names = new Map();

/** Lists in one direction: `out`, what the entity has, or `in`, who has it. */
export function EdgeLists({ of, direction, title, userType }: { of: Edges; direction: Ends["direction"]; title: string; userType: string }) {
  const lists = of.relations.filter((one) => one.direction === direction);
  if (!lists.length) return null;
  return (
    <section class="card edges" id={`edges-${direction}`} aria-label={title}>
      <h2>{title}</h2>
      {lists.map((one) => one.count === 0
        ? <p key={one.relation} class="soft">{one.relation}: none</p>
        : (
          <details key={one.relation}>
            <summary>{one.relation}: <b>{count(one.count)}</b> <span class="soft">{one.type}</span></summary>
            <EndList entity={of} first={one} userType={userType} />
          </details>
        ))}
      {of.degraded.length > 0 && direction === "out" && <p class="note warn">The store of live engagements did not answer: what was done since the training is missing.</p>}
    </section>
  );
}

function EndList({ entity, first, userType }: { entity: Entity; first: Ends; userType: string }) {
  const [known, setKnown] = useState(() => new Map(first.ends.map((one, i) => [i, one])));
  const [wanted, setWanted] = useState(0);
  useEffect(() => {
    if (known.has(wanted)) return;
    let gone = false;
    const which = { relation: first.relation, direction: first.direction, offset: wanted, limit: PAGE };
    edgesOf(entity, which).then(({ relations: [page] }) => {
      if (!gone) setKnown((before) => new Map([...before, ...(page?.ends ?? []).map((one, i) => [wanted + i, one] as const)]));
    }).catch(() => undefined);
    return () => { gone = true; };
  }, [wanted]);

  function row(i: number) {
    const one = known.get(i);
    const page = Math.floor(i / PAGE) * PAGE;
    if (!one && page !== wanted) setTimeout(() => setWanted(page));
    if (!one) return <span class="soft">…</span>;
    return <EntityLink entity={{ type: first.type, ...one }} userType={userType} names={NONE} />;
  }
  return <VirtualList total={first.count} height={HEIGHT} label={`${first.relation}, ${first.count} of ${first.type}`} row={row} />;
}
