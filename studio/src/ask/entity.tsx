// An entity that is no user of the relation: what it is, who has it, who may want it, and what is like it.
import type { ComponentChildren } from "preact";
import { type Attribute, type Edges, type Entity, type Item, type Neighbours, type Relation, call, edgesOf, items } from "../api";
import { address, follow } from "../address";
import { fixed } from "../format";
import { EdgeLists, PAGE } from "./edges";
import { EntityLink, type Names, namesOf } from "./links";
import { Who } from "./who";

const K = 20;

export interface About { entity: Entity; item: Item | undefined; edges: Edges | undefined; similar: Neighbours; wanted: { relation: string; by: Neighbours } | undefined; names: Names }

/** `relations` are those of the version, the one that is asked for first. Without its neighbours there is nothing to tell of an entity. */
export async function about(entity: Entity, relations: Relation[]): Promise<About> {
  const leading = relations.find((one) => one.target === entity.type);
  const [similar, [item], edges, by] = await Promise.all([
    call<Neighbours>("v1/similar", { ...entity, k: K }),
    items(entity.type, { ids: [entity.id], attributes: true }).catch(() => []),
    edgesOf(entity, { limit: PAGE }).catch(() => undefined),
    leading && call<Neighbours>("v1/similar", { ...entity, k: K, sources_of: leading.name }).catch(() => undefined),
  ]);
  const found = [similar, ...(by ? [by] : [])];
  const names = await namesOf(found.flatMap((one) => one.neighbours.map(({ id }) => ({ type: one.candidate_type, id }))));
  return { entity, item, edges, similar, wanted: leading && by ? { relation: leading.name, by } : undefined, names };
}

export function EntityPage({ of, userType, attributes }: { of: About; userType: string; attributes: Attribute[] }) {
  const name = of.item?.label ?? of.entity.id;
  const toMap = { view: "map", ...of.entity, user: undefined };
  const shared = { names: of.names, userType };
  return (
    <div class="answer">
      <div class="side">
        {of.item && <Who item={of.item} type={of.entity.type} interests={undefined} attributes={attributes} />}
        {of.edges && <EdgeLists key={`in ${of.entity.id}`} of={of.edges} direction="in" title="Who has it" userType={userType} />}
        {of.edges && <EdgeLists key={`out ${of.entity.id}`} of={of.edges} direction="out" title="What it has" userType={userType} />}
        <a class="button quiet" href={address(toMap)} onClick={follow(toMap)}>Show on the map</a>
      </div>
      <div class="side">
        <Nearest id="similar" title={<>{of.entity.type} <bdi>{name}</bdi>: similar</>} what="Nearest in the space; the number is the inner product." of={of.similar} {...shared} />
        {of.wanted && <Nearest id="wanted" title={<>Who may want it: {of.wanted.relation}</>}
          what="Nearest to what the relation makes of it, without those that have it already. It orders people, and is no recommendation to each of them." of={of.wanted.by} {...shared} />}
      </div>
    </div>
  );
}

function Nearest({ id, title, what, of, names, userType }: {
  id: string; title: ComponentChildren; what: string; of: Neighbours; names: Names; userType: string;
}) {
  return (
    <section class="card" id={id} aria-labelledby={`${id}-title`}>
      <h2 id={`${id}-title`}>{title}</h2>
      <p class="soft small">{what}</p>
      <ol class="list">
        {of.neighbours.map((one, i) => (
          <li key={one.id} class="candidate"><span class="rank">{i + 1}</span>
            <span class="body row spread"><EntityLink entity={{ type: of.candidate_type, id: one.id }} userType={userType} names={names} /><span class="score">{fixed(one.score)}</span></span></li>
        ))}
      </ol>
      {of.neighbours.length === 0 && <p>Nobody else is left.</p>}
    </section>
  );
}
