// Who somebody is: name, id, and what the graph says of them besides edges.
import type { Attribute, Interests, Item } from "../api";
import { count, measure } from "../format";

export function Who({ item, type, interests, attributes }: {
  item: Item; type: string; interests: Interests | undefined; attributes: Attribute[];
}) {
  const said = Object.entries(item.attributes ?? {});
  const kindOf = (name: string) => attributes.find((one) => one.name === name)?.kind ?? "number";
  return (
    <section class="card" id="who" aria-label="Who this is">
      <h2><bdi>{item.label ?? item.id}</bdi></h2>
      <p class="soft small">{type} <bdi>{item.id}</bdi>
        {item.in_degree !== undefined && <> · {count(item.in_degree)} edges in</>}
        {interests && <> · {interests.interests.length === 1 ? "1 interest" : `${interests.interests.length} interests`}</>}</p>
      {said.length > 0 && (
        <dl class="facts">
          {said.map(([name, value]) => (
            <div key={name}><dt>{name}</dt><dd><bdi>{Array.isArray(value) ? value.join(", ") : typeof value === "boolean" ? (value ? "yes" : "no") : measure(value, kindOf(name))}</bdi></dd></div>
          ))}
        </dl>
      )}
    </section>
  );
}
