// What somebody has, and who has something: counts by relation, and behind each the whole list.
import { type Edges, type Ends, edgesOf } from "../api";
import { count } from "../format";
import { VirtualList, usePages } from "../virtual";
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
            <EndList of={of} first={one} userType={userType} />
          </details>
        ))}
      {of.degraded.length > 0 && direction === "out" && <p class="note warn">The store of live engagements did not answer: what was done since the training is missing.</p>}
    </section>
  );
}

function EndList({ of, first, userType }: { of: Edges; first: Ends; userType: string }) {
  const at = usePages(first, PAGE, async (offset) => {
    // Of the version that counted them: the one that serves by now may have others.
    const which = { relation: first.relation, direction: first.direction, offset, limit: PAGE, version: of.version };
    const { relations: [page] } = await edgesOf(of, which);
    return (page?.ends ?? []).map((one, i) => [offset + i, one] as const);
  }, first.ends);

  function row(i: number) {
    const one = at(i);
    if (!one) return <span class="soft">…</span>;
    return <EntityLink entity={{ type: first.type, ...one }} userType={userType} names={NONE} />;
  }
  return <VirtualList total={first.count} height={HEIGHT} label={`${first.relation}, ${first.count} of ${first.type}`} row={row} />;
}
