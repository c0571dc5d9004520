// Links to entities, by what they are called: a user is somebody to ask for, whatever else there is has neighbours.
import { type Entity, type Item, items } from "../api";
import { address, follow } from "../address";

export type Names = Map<string, Item>;
export const nameOf = (names: Names, entity: Entity) => entity.label ?? names.get(`${entity.type} ${entity.id}`)?.label ?? entity.id;

function openFor(entity: Entity, userType: string) {
  return entity.type === userType
    ? { view: "ask", user: entity.id, engaged: [], type: undefined, id: undefined }
    : { view: "ask", type: entity.type, id: entity.id, user: undefined, engaged: [] };
}

export function EntityLink({ entity, userType, names }: { entity: Entity; userType: string; names: Names }) {
  const to = openFor(entity, userType);
  const name = nameOf(names, entity);
  return <a href={address(to)} onClick={follow(to)} title={name === entity.id ? undefined : entity.id}><bdi>{name}</bdi></a>;
}

/** What entities are called; an answer without names is better than none. */
export async function namesOf(entities: Entity[]): Promise<Names> {
  const names: Names = new Map();
  const types = new Set(entities.map((one) => one.type));
  await Promise.all([...types].map(async (type) => {
    const ids = [...new Set(entities.filter((one) => one.type === type).map((one) => one.id))];
    const found: Item[] = await items(type, { ids }).catch(() => []);
    found.forEach((item, i) => names.set(`${type} ${ids[i]}`, item));
  }));
  return names;
}
