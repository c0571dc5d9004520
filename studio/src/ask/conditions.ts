// Conditions on candidates as a tree that a form can show, and the same as the JSON of a filter. See docs/recommending.md.
import type { Attribute } from "../api";

export type Op = "is" | "in" | "gt" | "gte" | "lt" | "lte" | "exists";
export interface Group { kind: "group"; how: "all" | "any"; not: boolean; parts: Condition[] }
export interface Comparison { kind: "comparison"; not: boolean; attribute: string; op: Op; value: string; values: string[] }
export interface Degree { kind: "degree"; not: boolean; least: string }
export type Condition = Group | Comparison | Degree;

export const OPS: Record<Attribute["kind"], [Op, string][]> = {
  category: [["is", "is"], ["in", "is one of"], ["exists", "is known"]],
  boolean: [["is", "is"], ["exists", "is known"]],
  number: [["gte", "is at least"], ["lte", "is at most"], ["gt", "is above"], ["lt", "is below"], ["is", "is"], ["exists", "is known"]],
  timestamp: [["gte", "is since"], ["lte", "is until"], ["gt", "is after"], ["lt", "is before"], ["exists", "is known"]],
  label: [["exists", "is known"]],
};
export const nothing = (): Group => ({ kind: "group", how: "all", not: false, parts: [] });
export const fresh = (of: Attribute): Comparison => ({ kind: "comparison", not: false, attribute: of.name, op: OPS[of.kind][0]![0], value: "", values: [] });

type Json = Record<string, unknown>;
type Kinds = Map<string, Attribute["kind"]>;

/** The JSON of a condition; undefined for one that says nothing yet, which asks for nothing. */
export function jsonOf(one: Condition, kinds: Kinds): Json | undefined {
  const said = one.kind === "group" ? ofGroup(one, kinds) : one.kind === "degree" ? ofDegree(one) : ofComparison(one, kinds);
  return said && one.not ? { not: said } : said;
}

function ofGroup(one: Group, kinds: Kinds): Json | undefined {
  const parts = one.parts.map((part) => jsonOf(part, kinds)).filter((part) => part !== undefined);
  return parts.length === 0 ? undefined : parts.length === 1 ? parts[0] : { [one.how]: parts };
}

const ofDegree = (one: Degree): Json | undefined => (/^\d+$/.test(one.least) ? { min_in_degree: Number(one.least) } : undefined);

function ofComparison({ attribute, op, value, values }: Comparison, kinds: Kinds): Json | undefined {
  if (op === "exists") return { attribute, exists: true };
  if (op === "in") return values.length ? { attribute, in: values } : undefined;
  const kind = kinds.get(attribute);
  if (value === "") return undefined;
  if (kind === "boolean") return { attribute, [op]: value === "true" };
  if (kind === "number") return Number.isFinite(Number(value)) ? { attribute, [op]: Number(value) } : undefined;
  return { attribute, [op]: value };
}

/** The tree of a filter, with a group at its root; undefined where a form has no place for something it says. */
export function treeOf(json: unknown, kinds: Kinds): Group | undefined {
  const one = conditionOf(json, kinds);
  return one && (one.kind === "group" && !one.not ? one : { ...nothing(), parts: [one] });
}

function conditionOf(json: unknown, kinds: Kinds): Condition | undefined {
  if (json === null || typeof json !== "object" || Array.isArray(json)) return undefined;
  const said = json as Json;
  const names = Object.keys(said);
  const [only] = names;
  if (names.length === 1 && only === "not") {
    const inner = conditionOf(said.not, kinds);
    return inner && !inner.not ? { ...inner, not: true } : undefined;
  }
  if (names.length === 1 && (only === "all" || only === "any")) {
    const parts = Array.isArray(said[only]) ? said[only].map((part) => conditionOf(part, kinds)) : [undefined];
    return parts.every((part) => part !== undefined) ? { kind: "group", how: only, not: false, parts } : undefined;
  }
  if (names.length === 1 && only === "min_in_degree") return { kind: "degree", not: false, least: String(said[only]) };
  return comparisonOf(said, names, kinds);
}

function comparisonOf(said: Json, names: string[], kinds: Kinds): Comparison | undefined {
  const kind = typeof said.attribute === "string" ? kinds.get(said.attribute) : undefined;
  const op = names.find((name) => name !== "attribute") as Op | undefined;
  if (!kind || names.length !== 2 || !OPS[kind].some(([known]) => known === op)) return undefined;
  const value = said[op!];
  const one: Comparison = { kind: "comparison", not: false, attribute: said.attribute as string, op: op!, value: "", values: [] };
  if (op === "exists") return value === true ? one : undefined;
  if (op === "in") return Array.isArray(value) ? { ...one, values: value.map(String) } : undefined;
  return typeof value === "object" ? undefined : { ...one, value: String(value) };
}
