// Beside the map: one entity, or the list of those that were circled.
import { type Entity, type Item, items } from "../api";
import { address, follow } from "../address";
import { count } from "../format";
import { VirtualList, usePages } from "../virtual";
import type { Atlas, Spot } from "./data";

export interface Story {
  entity: Entity;
  item?: Item | undefined;
  isUser: boolean;
  interests?: number;
  examples?: number;
  candidates?: number;
  strategy?: string;
  problem?: string;
}

export function StoryPanel({ story }: { story: Story }) {
  const { entity, item } = story;
  const ask = story.isUser ? { view: "ask", user: entity.id, type: undefined, id: undefined } : { view: "ask", type: entity.type, id: entity.id, user: undefined };
  const off = { user: undefined, type: undefined, id: undefined };
  return (
    <section class="panel story" aria-labelledby="story-title">
      <div class="row spread">
        <h2 id="story-title"><bdi>{item?.label ?? entity.id}</bdi></h2>
        <a class="button quiet" href={address(off)} onClick={follow(off)} aria-label="Close">×</a>
      </div>
      <p class="soft small">{entity.type} <bdi>{entity.id}</bdi>
        {item?.cluster != null && <> · cluster {item.cluster}</>}
        {item?.in_degree != null && <> · {count(item.in_degree)} edges in</>}
      </p>
      {item?.status === "not_found" && <p>This version does not know it. A newcomer is answered all the same.</p>}
      {story.candidates !== undefined && (
        <ul class="legend" aria-label="What is lit up">
          {item?.status !== "not_found" && <li><i class="dot ring" /> the user</li>}
          {story.examples ? <li><i class="dot engaged" /> {story.examples} of the user's own, examples of {story.interests === 1 ? "1 interest" : `${story.interests} interests`}</li> : null}
          <li><i class="dot offered" /> {story.candidates} candidates, by {story.strategy}</li>
        </ul>
      )}
      {story.problem && <p class="problem" role="alert">{story.problem}</p>}
      <a class="button" href={address(ask)} onClick={follow(ask)}>{story.isUser ? "Ask for this user" : "More about it"}</a>
    </section>
  );
}

const PAGE = 100;

export function CircledPanel({ atlas, spots, onOpen, onClose }: {
  atlas: Atlas; spots: Spot[]; onOpen: (entity: Entity) => void; onClose: () => void;
}) {
  const at = usePages(spots, PAGE, async (from) => {
    const wanted = spots.slice(from, from + PAGE).map((spot, i) => ({ ...spot, at: from + i }));
    const found = atlas.layers.map(async ({ type }, layer) => {
      const own = wanted.filter((one) => one.layer === layer);
      const named = own.length ? await items(type, { rows: own.map((one) => one.row) }, atlas.version) : [];
      return own.map((one, i) => [one.at, named[i]!] as const);
    });
    return (await Promise.all(found)).flat();
  });

  function row(i: number) {
    const item = at(i);
    const type = atlas.layers[spots[i]!.layer]!.type;
    if (!item?.id) return <span class="soft">…</span>;
    return <button class="link" onClick={() => onOpen({ type, id: item.id! })}><bdi>{item.label ?? item.id}</bdi> <span class="soft">{type}</span></button>;
  }

  return (
    <section class="panel" aria-labelledby="circled-title">
      <div class="row spread">
        <h2 id="circled-title">{count(spots.length)} circled</h2>
        <button class="quiet" onClick={onClose} aria-label="Close the list">×</button>
      </div>
      {spots.length ? <VirtualList total={spots.length} height={360} label="Circled entities" row={row} /> : <p class="soft">Nothing lies there. Circle where points are.</p>}
    </section>
  );
}
