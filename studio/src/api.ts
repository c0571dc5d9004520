// The service's answers: their types, as far as the page reads them, and how they are asked for.
export interface Entity { type: string; id: string; label?: string }
export interface Relation { name: string; source: string; target: string; edges: number; strategies: string[] }
export interface Strategy { merge: string; rescoring?: unknown }
export interface SpaceInfo {
  dim: number;
  entities: Record<string, { id: string; count: number }>;
  relations: Relation[];
  default: { relation: string; user_type: string; candidate_type: string };
  strategies: Record<string, Strategy>;
  auto: string;
  auto_newcomer: string | null;
  clusters: number;
  modes: number;
}
export interface Info {
  version: string;
  created: string;
  service: { release: string; uptime_seconds: number; draining: boolean };
  limits: Record<string, number>;
  state: { kind?: string; healthy: boolean; reason?: string | null };
  versions: { serving: string; published: string | null; kept: string[]; refused: Record<string, string> };
  self_test_recall: number;
  spaces: Record<string, SpaceInfo>;
}
export interface Interest { cluster: number; weight: number; size: number; medoid: Entity; examples: Entity[] }
export interface Interests { user: string; known: boolean; interests: Interest[]; degraded: string[] }
export interface Reason { kind: string; share: number; because?: (Entity & { share: number })[]; count?: number; via?: string }
export interface Candidate {
  id: string;
  score: number;
  mode: number | null;
  why?: { rank: number; score: number; source: string; reasons?: Reason[] };
  label?: string;
}
export interface Mode { cluster: number; weight: number; medoid_type: string; medoid: string; candidates: number }
export interface Answer {
  version: string;
  candidates: Candidate[];
  strategy: string;
  known: boolean;
  fallback: string | null;
  degraded: string[];
  experiment?: { name: string; arm: string };
  explain: { relation: string; candidate_type: string; weights: Record<string, number>; modes: Mode[]; excluded: number };
}
export interface Outline { version: string; types: { type: string; count: number; clusters: string }[] }
export interface Attribute {
  name: string; kind: "category" | "number" | "boolean" | "timestamp" | "label"; present: number;
  values?: { value: string; count: number }[]; distinct?: number; quantiles?: number[];
}
export interface Attributes { version: string; types: Record<string, Attribute[]> }
export interface Item {
  id: string | null; status: string; label?: string; row?: number; x?: number; y?: number; cluster?: number; in_degree?: number;
  attributes?: Record<string, number | boolean | string[]>;
}
export interface Ends { relation: string; direction: "out" | "in"; type: string; count: number; ends: { id: string; label?: string }[] }
export interface Edges { version: string; type: string; id: string; known: boolean; relations: Ends[]; degraded: string[] }
export interface Neighbours { candidate_type: string; neighbours: { id: string; score: number }[] }
export type Measures = Record<string, Record<string, number>>;
export interface Index {
  kind: string; depth: number; parameters: Record<string, unknown>; recall: Record<string, number>;
  cpu_us_per_query: number | null; bytes_per_vector: number | null; tried?: Tried[];
}
/** A searcher that a build tried on its queries; `taken` is the one that the version has. */
export interface Tried { kind: string; depth: number; recall: number; cpu_us_per_query: number; bytes_per_vector: number; taken: boolean }
/** What one size or form of a vector loses, as the build measured it on a sample: `neighbours` is the share of the ten nearest that stay. */
export interface Point { kind: "pq" | "float16" | "int8"; bytes_per_vector: number; cosine: number; neighbours: number; taken: boolean }
export interface Compression { subquantizers: number; rotated: boolean; ratio: number; mse: number; cosine: number; tried: Point[] }
export interface Moved { kept: number; added: number; removed: number; cosine: number; distance: number; neighbours: number; clusters: number }
export interface Gate { metric: string; floor: number; measured: number; forced: string | null }
export interface Measured { strategies: Measures; baselines: Measures; newcomers: Measures }
export interface VersionItem {
  version: string; serving: boolean; published: boolean; refused?: string; fault?: string; created?: string;
  parent?: string; run?: string; size_bytes?: number; code_revision?: string; graph_digest?: string;
  evaluation?: Measured & { gates: Gate[]; relations?: Record<string, Measured>; drift?: { since: string; types: Record<string, Moved> } | null };
  spaces?: Record<string, {
    dim: number; entities: Record<string, number>; relations: Record<string, number>; auto: string;
    auto_newcomer: string | null; answers: Record<string, { auto: string; auto_newcomer: string | null }>;
    default: SpaceInfo["default"]; clusters: number; indexes: Record<string, Index>;
    compression: Record<string, Compression>;
  }>;
}
export interface Arm { name: string; strategy: string; version?: string | null; share: number; impressions: number; clicks: number; rate: number | null; interval: [number, number] | null }
export interface Experiments { experiments: { name: string; relation: string | null; relations: string[]; reason: string | null; arms: Arm[] }[]; fault: string | null }

const PACKING_SECONDS = 10;
const KEY = "twhin-key";
let key = sessionStorage.getItem(KEY) ?? "";
let askForKey: (why: string) => void = () => {};

export const currentKey = () => key;
export function useKey(next: string): void {
  key = next;
  if (next) sessionStorage.setItem(KEY, next);
  else sessionStorage.removeItem(KEY);
}
export function onKeyNeeded(handler: (why: string) => void): void {
  askForKey = handler;
}

/** What went wrong, in a sentence for people; `status` is 0 where nothing answered. */
export class Problem extends Error {
  constructor(readonly status: number, readonly code: string, message: string) { super(message); }
}

async function ask(path: string, body?: unknown, seconds?: number): Promise<Response> {
  const headers: Record<string, string> = seconds ? { "x-request-timeout-ms": String(1000 * seconds) } : {};
  if (key) headers["x-api-key"] = key;
  if (body !== undefined) headers["content-type"] = "application/json";
  let response: Response;
  try {
    const content = body === undefined ? undefined : JSON.stringify(body);
    response = await fetch(path, { method: body === undefined ? "GET" : "POST", headers, body: content });
  } catch {
    throw new Problem(0, "unreachable", "The service does not answer. Is it running? The page asks again when you do.");
  }
  if (response.ok) return response;
  const problem = await response.json().catch(() => ({}));
  // How a program sends a key is nothing to whom a box asks for one.
  if (response.status === 401) problem.detail = key ? "the service does not know the one that was given." : "type it here. It is kept in this tab alone, until that is closed.";
  if (response.status === 401 || response.status === 403) askForKey(`${problem.title}: ${problem.detail}`);
  throw new Problem(response.status, problem.code ?? "", `${problem.title ?? response.status}: ${problem.detail ?? ""}`);
}

// Paths are relative, so that the page works under a proxy's prefix.
/** An answer of the API; a body makes it a POST, and `seconds` is how long it may take where that is more than usual. */
export async function call<T>(path: string, body?: unknown, seconds?: number): Promise<T> {
  return (await ask(path, body, seconds)).json() as Promise<T>;
}
/** Places and attributes of all entities: the first who asks for a million waits until they are packed. */
export async function bytes(path: string): Promise<ArrayBuffer> {
  return (await ask(path, undefined, PACKING_SECONDS)).arrayBuffer();
}
export async function text(path: string): Promise<string> {
  return (await ask(path)).text();
}

export const segment = encodeURIComponent;

/** The interests of a user. Browsers take an id of dots for a way up, however it is written: of such one none are known. */
export async function interestsOf(user: string, relation: string): Promise<Interests> {
  if (/^\.{1,2}$/.test(user)) return { user, known: false, interests: [], degraded: [] };
  return call<Interests>(`v1/users/${segment(user)}/interests?relation=${segment(relation)}`);
}

export function items(type: string, which: { ids?: string[]; rows?: number[]; attributes?: boolean }, version?: string): Promise<Item[]> {
  return call<{ items: Item[] }>("v1/map:entities", { type, ...which, ...(version ? { version } : {}) }).then((one) => one.items);
}
export function edgesOf(entity: Entity, which: { relation?: string; direction?: "out" | "in"; offset?: number; limit: number; version?: string }): Promise<Edges> {
  return call<Edges>("v1/edges", { type: entity.type, id: entity.id, ...which });
}
export function search(q: string, type: string | undefined, k: number): Promise<Entity[]> {
  const query = new URLSearchParams({ q, k: String(k), ...(type ? { type } : {}) });
  return call<{ matches: Entity[] }>(`v1/search?${query}`).then((one) => one.matches);
}
