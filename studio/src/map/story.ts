// What is told of one entity on the map: a user's interests, engagements and candidates, or the entity alone.
import { type Answer, type Entity, type Info, type Item, Problem, call, interestsOf, items } from "../api";
import type { Rgb } from "../colours";
import type { Story } from "./panel";
import type { Lit } from "./plane";

export const CANDIDATE: Rgb = [230, 92, 0];
export const EXAMPLE: Rgb = [20, 140, 110];
export const SELF: Rgb = [200, 30, 90];
const K = 25;

export interface Told { story: Story; lit: Lit[]; labels: { x: number; y: number; text: string; kind: string }[] }
type Labels = Told["labels"];

const placed = (item: Item | undefined): item is Item & { x: number; y: number } => item?.x !== undefined && item.y !== undefined;

export async function tell(entity: Entity, info: Info, relation: string | null): Promise<Told> {
  const space = Object.values(info.spaces)[0]!;
  const isUser = space.relations.some((one) => one.source === entity.type && (!relation || one.name === relation));
  const [item] = await items(entity.type, { ids: [entity.id] });
  const story: Story = { entity, item, isUser };
  const self: Lit[] = placed(item) ? [{ x: item.x, y: item.y, colour: SELF, size: 8, hollow: true }] : [];
  const own: Labels = placed(item) ? [{ x: item.x, y: item.y, text: item.label ?? entity.id, kind: "self" }] : [];
  if (!isUser) return { story, lit: self, labels: own };
  const chosen = relation ?? (space.default.user_type === entity.type ? space.default.relation
    : space.relations.find((one) => one.source === entity.type)!.name);
  try {
    const question = { user: entity.id, relation: chosen, k: K, explain: true };
    const [interests, answer] = await Promise.all([interestsOf(entity.id, chosen), call<Answer>("recommend", question)]);
    const examples = await lookUp(interests.interests.flatMap((one) => one.examples));
    const candidates = await lookUp(answer.candidates.map((one) => ({ type: answer.explain.candidate_type, id: one.id })));
    const to = placed(item) ? ([item.x, item.y] as [number, number]) : undefined;
    const shown = (list: Item[], colour: Rgb, size: number): Lit[] =>
      list.filter(placed).map((one) => ({ x: one.x, y: one.y, colour, size, ...(to ? { to } : {}) }));
    const labels: Labels = [];
    for (const [i, one] of candidates.filter(placed).slice(0, 5).entries()) {
      labels.push({ x: one.x, y: one.y, text: `${i + 1} ${one.label ?? one.id}`, kind: "best" });
    }
    const numbers = { interests: interests.interests.length, examples: examples.length, candidates: candidates.length };
    const lit = [...shown(examples, EXAMPLE, 5), ...shown(candidates, CANDIDATE, 6), ...self];
    return { story: { ...story, ...numbers, strategy: answer.strategy }, lit, labels: [...labels, ...own] };
  } catch (error) {
    return { story: { ...story, problem: error instanceof Problem ? error.message : String(error) }, lit: self, labels: own };
  }
}

/** Places of entities of several types; each once. */
async function lookUp(entities: Entity[]): Promise<Item[]> {
  const byType = new Map<string, Set<string>>();
  for (const { type, id } of entities) byType.set(type, (byType.get(type) ?? new Set()).add(id));
  const parts = await Promise.all([...byType].map(([type, ids]) => items(type, { ids: [...ids] })));
  return parts.flat().filter((one) => one.status === "found");
}
